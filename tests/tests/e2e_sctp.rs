//! SCTP from pods to a ClusterIP, over both families (S10). Needs a kernel with SCTP.

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    os::fd::{AsRawFd, OwnedFd},
    process::Command,
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use netroute_tests::{
    agent::{Agent, eventually},
    appliance::Appliance,
    lab::plan::Dual,
    netns::Netns,
    objects::Service,
};
use nix::{
    errno::Errno,
    sys::socket::{
        AddressFamily, Backlog, SockFlag, SockProtocol, SockType, SockaddrStorage, bind, connect, listen,
        socket,
    },
};

const PATIENCE: Duration = Duration::from_secs(15);
const TIMEOUT: Duration = Duration::from_secs(3);
/// The port stays: the checksum, which is no sum, is over it.
const SERVICE: Service = Service {
    name: "diameter",
    cluster_ip: Dual::new([10, 96, 0, 40], [0xfd96, 0, 0, 0, 0, 0, 0, 0x40]),
    balancer: None,
    protocol: "SCTP",
    port: PORT,
    target_port: PORT,
};
const PORT: u16 = 3868;

fn open(address: IpAddr) -> nix::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, SockProtocol::Sctp)
}

/// Whether the kernel has it, also as a module.
fn has_sctp() -> Result<bool> {
    // What matters is whether there are such sockets afterwards.
    let _ = Command::new("modprobe").arg("sctp").status();
    match open(Ipv6Addr::UNSPECIFIED.into()) {
        Ok(_) => Ok(true),
        Err(Errno::EPROTONOSUPPORT | Errno::ESOCKTNOSUPPORT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Sends back what it gets, at one address of a pod: associations then have one path.
fn serve(ns: &Netns, address: IpAddr) -> Result<()> {
    let listener = ns.run(|| {
        let socket = open(address)?;
        bind(socket.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(address, PORT)))?;
        listen(&socket, Backlog::new(16)?)?;
        Ok(TcpListener::from(socket))
    })?;
    thread::spawn(move || -> Result<()> {
        loop {
            let (mut stream, _) = listener.accept()?;
            let mut buffer = [0; 2048];
            while let Ok(length @ 1..) = stream.read(&mut buffer) {
                stream.write_all(&buffer[..length])?;
            }
        }
    });
    Ok(())
}

/// One association and a few messages; the client is bound to its own address.
fn exchange(ns: &Netns, own: IpAddr, to: IpAddr) -> Result<()> {
    ns.run(|| {
        let socket = open(own)?;
        bind(socket.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(own, 0)))?;
        let mut stream = TcpStream::from(socket);
        // Linux limits the connect by it too.
        stream.set_write_timeout(Some(TIMEOUT))?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        connect(stream.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(to, PORT)))?;
        for number in 0..20_u8 {
            let message = [number; 1000];
            stream.write_all(&message)?;
            let mut answer = [0; 1000];
            stream.read_exact(&mut answer)?;
            ensure!(answer == message, "message {number} came back as another one");
        }
        Ok(())
    })
    .with_context(|| format!("{ns} to {to}"))
}

#[test]
fn s10_pods_reach_an_sctp_service() -> Result<()> {
    if !has_sctp()? {
        println!("SKIP s10_pods_reach_an_sctp_service: this kernel has no SCTP");
        return Ok(());
    }
    let on = Appliance::new()?;
    let vms = on.lab.vms();
    let [master, worker] = &vms;
    let (client, server) = (&master.pods()[0], &worker.pods()[0]);
    server.address.both().into_iter().try_for_each(|address| serve(&server.ns, address))?;
    for vm in &vms {
        std::fs::write(vm.manifests().join("sctp.yaml"), SERVICE.manifest(&[(worker, 0)]))?;
    }
    let agents = vms.iter().map(Agent::start).collect::<Result<Vec<_>>>()?;
    for (own, to) in client.address.both().into_iter().zip(SERVICE.cluster_ip.both()) {
        let mut last = Ok(());
        eventually("the Service to answer", PATIENCE, || {
            last = exchange(&client.ns, own, to);
            Ok(last.is_ok())
        })
        .with_context(|| format!("{last:?}\n{:?}", agents[0].cli(&["drops"])))?;
    }
    Ok(())
}
