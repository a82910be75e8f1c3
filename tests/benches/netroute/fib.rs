//! The kernel as a router: its own FIB, its own neighbours, asked by XDP programs.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};
use aya::maps::xdp::DevMap;
use ipnet::Ipv4Net;
use netroute_tests::namespace::{enter, ifindex, sh};
use netroute_tests::netns::ip_batch;

use crate::probe::{self, Flows, Kind, Probe};

/// A namespace with routes.
pub struct Router {
    /// Interface index of the NIC that all routes lead to.
    out: u32,
}

impl Router {
    /// Moves the calling thread into a new namespace that forwards by these routes.
    pub fn build(prefixes: &[Ipv4Net]) -> Result<Self> {
        enter()?;
        sh("echo 1 > /proc/sys/net/ipv4/ip_forward
            ip link add out index 40 type veth peer name out-peer
            ip link set out-peer up
            ip link set out up
            ip address add 198.18.0.1/24 dev out
            ip neighbour add 198.18.0.2 lladdr 02:00:00:00:01:00 nud permanent dev out")?;
        let mut script = String::new();
        for prefix in prefixes {
            writeln!(script, "route add {prefix} via 198.18.0.2 dev out")?;
        }
        ip_batch(&script).with_context(|| format!("{} routes for the kernel", prefixes.len()))?;
        Ok(Self { out: ifindex("out")? })
    }
}

/// A program that asks the FIB, in the calling thread's namespace.
pub fn probe(path: &Path, router: &Router, name: &'static str, flows: &Flows) -> Result<Probe> {
    let mut object = probe::load(&mut probe::small(), path, &[name])?;
    let exits = object.map_mut("EXITS").context("no map EXITS")?;
    DevMap::try_from(exits)?.set(router.out, router.out, None, 0)?;
    let program = object.program(name).with_context(|| format!("no program {name}"))?;
    let expected = if name == "fib_forward" { probe::XDP_REDIRECT } else { probe::XDP_TX };
    let probe = Probe::restored(path, program.fd()?, Kind::Xdp, flows, expected)?;
    // The last packet says whether the kernel knew the way: all others are of the same table.
    probe.run(1000).with_context(|| format!("{name}: the kernel's FIB has no answer"))?;
    Ok(probe)
}
