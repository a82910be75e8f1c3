//! The wires of one path, and the router between them.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ipnet::Ipv4Net;
use netroute_tests::namespace::{Namespace, ifindex, mac, sh};

use super::router::{Kind, Ports};
use crate::generator::Generator;
use crate::sink::Sink;

/// Where all paths begin and end.
pub struct Scene {
    pub generator: Generator,
    pub sink: Sink,
    end: Namespace,
    object: PathBuf,
    lanes: u32,
}

/// Goes with its value; the wires go with the namespace of the router.
pub struct Lane {
    /// Slot of the generator.
    pub slot: u32,
    /// Where the packets of the generator go to.
    pub mac: [u8; 6],
    pub router: Option<Namespace>,
}

impl Scene {
    /// In the calling thread's namespace, which sends.
    pub fn new(generator: Generator, object: &Path) -> Result<Self> {
        sh("sysctl -qw net.ipv6.conf.default.disable_ipv6=1")?;
        let end = Namespace::new()?;
        end.sh("sysctl -qw net.ipv6.conf.default.disable_ipv6=1")?;
        let sink = Sink::load(object)?;
        Ok(Self { generator, sink, end, object: object.to_owned(), lanes: 0 })
    }

    /// A path by a router of this kind that has these routes.
    pub fn lane(&mut self, kind: Kind, prefixes: &[Ipv4Net]) -> Result<Lane> {
        let slot = self.lanes;
        self.lanes += 1;
        let (near, far) = (format!("g{slot}"), format!("s{slot}"));
        let end = self.end.path().display().to_string();
        if kind == Kind::Direct {
            sh(&format!(
                "ip link add {near} type veth peer name {far} netns {end}
                 ip link set {near} up"
            ))?;
            let mac = self.arrive(&far)?;
            self.generator.connect(slot, ifindex(&near)?)?;
            return Ok(Lane { slot, mac, router: None });
        }
        let router = Namespace::new()?;
        let at = router.path().display();
        sh(&format!("ip link add {near} type veth peer name eth0 netns {at}; ip link set {near} up"))?;
        router.sh(&format!("ip link add eth1 type veth peer name {far} netns {end}"))?;
        let next_mac = self.arrive(&far)?;
        let prefixes = prefixes.to_vec();
        let object = self.object.clone();
        let mac = router.run(move || {
            let ports = Ports::build(next_mac)?;
            kind.install(&ports, &prefixes, &object).context("cannot set up the router")?;
            mac("eth0")
        })?;
        self.generator.connect(slot, ifindex(&near)?)?;
        Ok(Lane { slot, mac, router: Some(router) })
    }

    fn arrive(&mut self, far: &str) -> Result<[u8; 6]> {
        let name = far.to_owned();
        let (index, mac) = self.end.run(move || -> Result<_> {
            sh(&format!("ip link set {name} up"))?;
            Ok((ifindex(&name)?, mac(&name)?))
        })?;
        let sink = &mut self.sink;
        // The program is attached from a thread inside of the interface's namespace.
        std::thread::scope(|scope| {
            let namespace = self.end.path();
            let attaching = scope.spawn(move || {
                let file = std::fs::File::open(namespace)?;
                nix::sched::setns(&file, nix::sched::CloneFlags::CLONE_NEWNET)?;
                sink.attach(index)
            });
            attaching.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })?;
        Ok(mac)
    }
}
