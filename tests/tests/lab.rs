//! The lab itself: it stands, it carries traffic as a plain kernel would, and nothing is left.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::{IpAddr, SocketAddr},
    path::Path,
    process::Stdio,
    sync::mpsc::channel,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use netroute_tests::{
    capture::{Counters, Tcpdump},
    lab::{self, Lab, Vm, plan},
    netns::Netns,
    peer::{Server, Service},
    traffic::{Connection, http_get, ping, rtsp_options},
};

const SOON: Duration = Duration::from_secs(3);

/// A prefix that is taken down also when the test fails.
struct Prefix(String);

impl Prefix {
    fn new(letter: char) -> Self {
        Self(format!("{letter}{}", std::process::id()))
    }
}

impl Drop for Prefix {
    fn drop(&mut self) {
        lab::down(&self.0).unwrap();
    }
}

/// Every host that traffic can begin at: both VMs and their pods, with their own address.
fn sources(lab: &Lab) -> Vec<(Netns, plan::Dual)> {
    lab.vms()
        .iter()
        .flat_map(|vm| {
            let pods = vm.pods().into_iter().map(|pod| (pod.ns, pod.address));
            std::iter::once((vm.ns().clone(), vm.port("Port3").address)).chain(pods)
        })
        .collect()
}

fn add_camera_routes(vm: &Vm) -> Result<()> {
    let [v4, v6] = plan::CAMERA_GATEWAY.both();
    for (network, gateway) in plan::CAMERA_NETWORK.into_iter().zip([v4, v6]) {
        vm.ns().ip(&format!("route add {network} via {gateway} dev eth1 onlink"))?;
    }
    Ok(())
}

#[test]
fn up_twice_is_harmless() -> Result<()> {
    let prefix = Prefix::new('u');
    let first = Lab::up(&prefix.0)?.status()?;
    assert!(first.is_complete(), "{first}");
    let lab = Lab::up(&prefix.0)?;
    assert_eq!(lab.status()?, first, "the second up changed something");
    Lab::attach(&prefix.0)?;
    http_get(&lab.vm("master").pods()[0].ns, plan::INTERNET.v4.into(), SOON)?;
    Ok(())
}

/// Also after a run that was killed, with a process in a group.
#[test]
fn control_groups_go_with_the_lab() -> Result<()> {
    let prefix = Prefix::new('g');
    for _ in 0..2 {
        let lab = Lab::up(&prefix.0)?;
        if !lab.serve_sockets()? {
            println!("SKIP control_groups_go_with_the_lab: no control groups of version 2 are mounted");
            return Ok(());
        }
        let groups = lab.vms().map(|vm| vm.group().unwrap_or_default());
        assert!(groups.iter().all(|group| group.is_dir()), "{groups:?}");
        let mut process = std::process::Command::new("sleep").arg("60").spawn()?;
        fs::write(groups[0].join("cgroup.procs"), process.id().to_string())?;
        fs::remove_file(lab.dir().join("complete"))?;
        lab::down(&prefix.0)?;
        assert!(!process.wait()?.success(), "it was not killed");
        assert!(!groups.iter().any(|group| group.exists()), "{groups:?}");
    }
    Ok(())
}

#[test]
fn what_an_interrupted_up_left_is_built_anew() -> Result<()> {
    let prefix = Prefix::new('i');
    let lab = Lab::up(&prefix.0)?;
    fs::remove_file(lab.dir().join("complete"))?;
    lab.ns("gw").delete()?;
    assert!(Lab::attach(&prefix.0).is_err());
    let lab = Lab::up(&prefix.0)?;
    http_get(lab.vm("worker").ns(), plan::INTERNET.v6.into(), SOON)?;
    Ok(())
}

#[test]
fn a_damaged_lab_is_named_not_touched_and_can_be_removed() -> Result<()> {
    let prefix = Prefix::new('d');
    let lab = Lab::up(&prefix.0)?;
    let server = lab.ns("cam").processes()?;
    let [(pid, _)] = server.as_slice() else { bail!("not one server: {server:?}") };
    // The server lives on in a namespace that has no name any more.
    lab.ns("cam").delete()?;
    let error = Lab::up(&prefix.0).err().context("a damaged lab passed")?.to_string();
    assert!(error.contains(lab.ns("cam").name()) && error.contains("lab down"), "{error}");
    assert!(lab.ns("gw").exists());
    drop(prefix);
    let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // This process started it and has not reaped it: a zombie is all that may be left.
    assert!(state.is_empty() || state.contains(") Z "), "the server is left: {state}");
    Ok(())
}

#[test]
fn after_down_nothing_is_left() -> Result<()> {
    let lab = Lab::temporary()?;
    let (dir, namespaces, vms) = (lab.dir(), lab.namespaces(), lab.vms());
    for vm in &vms {
        fs::create_dir_all(vm.bpffs().join("v4"))?;
    }
    let mut foreign = vms[0].ns().command("sleep").arg("1000").spawn()?;
    let mut pids = vec![foreign.id()];
    for namespace in &namespaces {
        pids.extend(namespace.processes()?.into_iter().map(|(pid, _)| pid));
    }
    assert!(pids.len() >= 3, "two servers and the sleeper ran: {pids:?}");

    lab.down()?;

    assert!(!foreign.wait()?.success(), "the sleeper was not killed");
    for pid in pids {
        assert!(!Path::new(&format!("/proc/{pid}")).exists(), "process {pid} is left");
    }
    for namespace in namespaces {
        assert!(!namespace.exists(), "namespace {namespace} is left");
    }
    assert!(!dir.exists() && vms.iter().all(|vm| !vm.bpffs().exists() && !vm.dir().exists()));
    Ok(())
}

#[test]
fn two_labs_stand_side_by_side() -> Result<()> {
    let (one, other) = (Lab::temporary()?, Lab::temporary()?);
    let before = Counters::read(&other.ns("inet"), "eth0")?;
    for (ns, _) in sources(&one) {
        http_get(&ns, plan::INTERNET.v4.into(), SOON)?;
    }
    let moved = Counters::read(&other.ns("inet"), "eth0")? - before;
    assert!(moved.rx_packets < 10, "traffic of one lab went to the other: {moved:?}");
    drop(one);
    http_get(&other.vm("worker").pods()[1].ns, plan::INTERNET.v4.into(), SOON)?;
    Ok(())
}

#[test]
fn vms_and_pods_reach_the_internet_through_nat() -> Result<()> {
    let lab = Lab::temporary()?;
    for (ns, _) in sources(&lab) {
        for (server, uplink) in plan::INTERNET.both().into_iter().zip(plan::UPLINK.both()) {
            let seen = http_get(&ns, server, SOON)?;
            assert_eq!(seen.ip(), uplink, "{ns} to {server}");
            let ping = ping(&ns, server, &["-c", "1"])?;
            assert!(ping.answered(), "{ns}: {}", ping.output);
        }
    }
    Ok(())
}

#[test]
fn pods_reach_each_other_with_their_own_addresses() -> Result<()> {
    let lab = Lab::temporary()?;
    let pods: Vec<_> = lab.vms().iter().flat_map(Vm::pods).collect();
    for server in &pods {
        let service = Server::start(&server.ns, Service::Http, plan::HTTP_PORT)?;
        let echo = Server::start(&server.ns, Service::Echo, 0)?;
        for client in pods.iter().filter(|client| client.ns != server.ns) {
            for (to, from) in server.address.both().into_iter().zip(client.address.both()) {
                assert_eq!(http_get(&client.ns, to, SOON)?.ip(), from, "seen at {}", server.ns);
                let address = SocketAddr::new(to, echo.port());
                Connection::open(&client.ns, address, SOON)?.exchange(300_000)?;
            }
        }
        drop(service);
    }
    Ok(())
}

#[test]
fn without_a_route_cameras_are_unreachable_by_port2() -> Result<()> {
    let lab = Lab::temporary()?;
    let before = Counters::read(&lab.ns("cam"), "eth0")?;
    for camera in plan::CAMERA.both() {
        for (ns, _) in sources(&lab) {
            let ping = ping(&ns, camera, &["-c", "1"])?;
            let told = ping.output.to_lowercase().contains("unreachable");
            assert!(!ping.answered() && told, "{ns}: {}", ping.output);
        }
        let pod = &lab.vm("worker").pods()[0].ns;
        let error = rtsp_options(pod, camera, SOON).err().context("it was reachable")?;
        assert!(format!("{error:#}").contains("unreachable"), "{error:#}");
    }
    let got = Counters::read(&lab.ns("cam"), "eth0")? - before;
    assert!(got.rx_packets < 10, "the camera was reached: {got:?}");
    Ok(())
}

#[test]
fn with_a_plain_route_cameras_are_reached_by_port3() -> Result<()> {
    let lab = Lab::temporary()?;
    lab.vms().iter().try_for_each(add_camera_routes)?;
    let ports = lab.vms().map(|vm| (vm.port("Port3").switch, vm.name()));
    for (ns, own) in sources(&lab) {
        for (camera, own) in plan::CAMERA.both().into_iter().zip(own.both()) {
            let before = ports.clone().map(|(ns, port)| Counters::read(&ns, port).unwrap());
            let seen = rtsp_options(&ns, camera, SOON)?;
            assert_eq!(seen.ip(), own, "{ns} to {camera}");
            let after = ports.clone().map(|(ns, port)| Counters::read(&ns, port).unwrap());
            let vm = usize::from(ns.name().contains("worker"));
            let (there, back) =
                (after[vm].rx_packets - before[vm].rx_packets, after[vm].tx_packets - before[vm].tx_packets);
            assert!(there >= 3 && back >= 2, "{ns}: {there} and {back} packets on Port3");
        }
    }
    http_get(lab.vm("master").ns(), plan::INTERNET.v4.into(), SOON)?;
    Ok(())
}

#[test]
fn the_camera_streams_and_echoes_udp() -> Result<()> {
    let lab = Lab::temporary()?;
    let vm = lab.vm("worker");
    add_camera_routes(&vm)?;
    for camera in plan::CAMERA.both() {
        vm.pods()[0].ns.run(|| {
            let any: IpAddr = if camera.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
            let socket = std::net::UdpSocket::bind((any, 0))?;
            socket.set_read_timeout(Some(SOON))?;
            socket.connect((camera, plan::CAMERA_UDP_PORT))?;
            let mut buffer = [0; 2000];
            socket.send(b"hello")?;
            let length = socket.recv(&mut buffer)?;
            ensure!(&buffer[..length] == b"hello");
            socket.send(b"PLAY 20 1000")?;
            for number in 0..20_u32 {
                let length = socket.recv(&mut buffer)?;
                ensure!(length == 1200 && buffer[..4] == number.to_be_bytes());
            }
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn an_unplugged_port_loses_its_carrier_at_once_and_regains_it() -> Result<()> {
    let lab = Lab::temporary()?;
    let vm = lab.vm("worker");
    let mut command = vm.ns().command("ip");
    let mut monitor = command.args(["-o", "monitor", "link"]).stdout(Stdio::piped()).spawn()?;
    let lines = BufReader::new(monitor.stdout.take().context("no output")?).lines();
    let (send, events) = channel();
    thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| send.send(line)));
    // The monitor says nothing at its start: a change that it sees tells that it listens.
    let mut number = 0;
    while events.recv_timeout(Duration::from_millis(20)).is_err() {
        number += 1;
        vm.ns().ip(&format!("link set eth1 alias try{number}"))?;
    }
    let wait_for = |what: &str| -> Result<()> {
        while !events.recv_timeout(SOON)?.contains(what) {}
        Ok(())
    };
    for _ in 0..3 {
        let begin = Instant::now();
        vm.unplug("Port3")?;
        wait_for("NO-CARRIER")?;
        vm.plug("Port3")?;
        wait_for("state UP")?;
        let took = begin.elapsed();
        assert!(took < Duration::from_millis(500), "carrier events came after {took:?}");
    }
    monitor.kill()?;
    monitor.wait()?;
    Ok(())
}

#[test]
fn captures_show_packets_and_their_ttl() -> Result<()> {
    let lab = Lab::temporary()?;
    let vm = lab.vm("master");
    add_camera_routes(&vm)?;
    let pod = &vm.pods()[0];
    for (camera, own, echo) in [
        (plan::CAMERA.v4.into(), IpAddr::from(pod.address.v4), "icmp[0] == 8"),
        (plan::CAMERA.v6.into(), IpAddr::from(pod.address.v6), "icmp6 and ip6[40] == 128"),
    ] {
        let capture = Tcpdump::start(&lab.ns("cam"), "eth0", echo)?;
        assert!(ping(&pod.ns, camera, &["-c", "2", "-i", "0.1"])?.answered());
        let frames = capture.wait_for(2, SOON)?;
        for frame in &frames {
            // Two routers on the way: the VM and the camera gateway.
            assert_eq!(frame.ttl, Some(62), "{frame:?}");
            assert!(frame.text.contains(&format!("{own} > {camera}")), "{frame:?}");
        }
        assert!(capture.stop()?.is_empty());
    }
    Ok(())
}
