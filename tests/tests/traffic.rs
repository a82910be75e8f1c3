//! The measuring tools: they find no fault where there is none, and the fault where there is one.

use std::{net::SocketAddr, time::Duration};

use anyhow::Result;
use netroute_tests::{
    capture::Tcpdump,
    peer::{Server, Service},
    router::Router,
    traffic::{Connection, StreamSpec, UdpStream, ping},
};

const SOON: Duration = Duration::from_secs(5);

#[test]
fn a_stream_of_50k_a_second_loses_nothing_on_a_good_path() -> Result<()> {
    let router = Router::pair()?;
    let (left, right) = (router.left(), router.right());
    for address in right.address.both() {
        let spec = StreamSpec::new(&left.ns, &right.ns, SocketAddr::new(address, 6000));
        let stream = UdpStream::start(&spec)?;
        stream.wait_for(50_000, SOON)?;
        let report = stream.stop()?;
        assert_eq!((report.lost, report.duplicated, report.reordered), (0, 0, 0), "{report}");
        assert!(report.sent >= 50_000 && report.received == report.sent, "{report}");
    }
    Ok(())
}

#[test]
fn a_cut_path_is_reported_as_loss_with_its_length() -> Result<()> {
    let router = Router::pair()?;
    let (left, right) = (router.left(), router.right());
    let target = SocketAddr::new(right.address.v4.into(), 6000);
    let stream = UdpStream::start(&StreamSpec::new(&left.ns, &right.ns, target).rate(10_000))?;
    stream.wait_for(1000, SOON)?;
    router.ns().ip("route add blackhole 10.0.2.2/32")?;
    let sent = stream.sent();
    while stream.sent() < sent + 1000 {
        std::thread::yield_now();
    }
    router.ns().ip("route del blackhole 10.0.2.2/32")?;
    stream.wait_for(1000, SOON)?;
    let report = stream.stop()?;
    assert!(report.lost >= 900 && report.received >= 2000, "{report}");
    assert_eq!(report.sent, report.received + report.lost, "{report}");
    assert!(report.longest_outage >= Duration::from_millis(80), "{report}");
    Ok(())
}

#[test]
fn a_stream_without_a_path_does_not_start() -> Result<()> {
    let router = Router::pair()?;
    let (left, right) = (router.left(), router.right());
    router.ns().ip("route add blackhole 10.0.2.2/32")?;
    let target = SocketAddr::new(right.address.v4.into(), 6000);
    let error = UdpStream::start(&StreamSpec::new(&left.ns, &right.ns, target));
    assert!(error.is_err_and(|error| error.to_string().contains("no datagram")));
    Ok(())
}

#[test]
fn a_connection_compares_every_byte_and_notices_a_cut() -> Result<()> {
    let router = Router::pair()?;
    let (left, right) = (router.left(), router.right());
    let server = Server::start(&right.ns, Service::Echo, 0)?;
    for address in right.address.both() {
        let target = SocketAddr::new(address, server.port());
        let mut connection = Connection::open(&left.ns, target, Duration::from_secs(1))?;
        assert_eq!(connection.exchange(5_000_000)?.bytes, 5_000_000);
        connection.exchange(1)?;
        router.ns().ip(&format!("route add blackhole {address}"))?;
        assert!(connection.exchange(100_000).is_err());
    }
    Ok(())
}

#[test]
fn hosts_reach_each_other_through_the_router() -> Result<()> {
    let router = Router::triple()?;
    let hosts = [router.left(), router.right(), router.third()];
    for from in hosts {
        for to in hosts.into_iter().filter(|to| to.ns != from.ns) {
            for address in to.address.both() {
                let ping = ping(&from.ns, address, &["-c", "1"])?;
                assert!(ping.answered(), "{}", ping.output);
                assert!(ping.output.contains("ttl=63"), "{}", ping.output);
            }
        }
    }
    Ok(())
}

#[test]
fn hosts_send_what_a_wire_would_carry() -> Result<()> {
    let router = Router::pair()?;
    let (left, right) = (router.left(), router.right());
    let server = Server::start(&right.ns, Service::Echo, 0)?;
    let filter = format!("tcp dst port {} and tcp[tcpflags] & tcp-push != 0", server.port());
    let capture = Tcpdump::start(router.ns(), "eth0", &filter)?;
    let target = SocketAddr::new(right.address.v4.into(), server.port());
    Connection::open(&left.ns, target, SOON)?.exchange(200_000)?;
    for frame in capture.wait_for(3, SOON)? {
        assert!(frame.text.contains("(correct)"), "checksum left to a NIC: {frame:?}");
        assert!(frame.length <= 1514, "longer than a wire takes: {frame:?}");
    }
    Ok(())
}
