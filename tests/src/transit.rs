//! A node between hosts, with an agent and a flow through it: what most tests of the agent's
//! comings and goings need.
//!
//! ```text
//!  left ── Port2 [node] Port3 ── right, and 10.9.0.0/24 behind it
//!                       Port4 ── third, and 10.8.0.0/24 behind it (if asked)
//! ```

use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Result, ensure};
use tempfile::TempDir;

use crate::{
    agent::{Agent, Node},
    router::Router,
    traffic::{StreamSpec, UdpStream},
};

/// What lies behind the right host, and an address there.
pub const BEYOND: &str = "10.9.0.0/24";
pub const TARGET: &str = "10.9.0.1:7000";
/// What lies behind the third host, and an address there.
pub const ASIDE: &str = "10.8.0.0/24";
pub const TARGET_ASIDE: &str = "10.8.0.1:7000";

/// Streams that must lose nothing need the processor for themselves.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Router, hosts, and where the agent's files are. Dropping it removes all of it.
#[derive(Debug)]
pub struct Transit {
    pub router: Router,
    pub folder: TempDir,
    pub node: Node,
    third: bool,
    _alone: MutexGuard<'static, ()>,
}

impl Transit {
    /// left - node - right.
    pub fn pair() -> Result<Self> {
        Self::new(false)
    }

    /// With a third host, for a flow that the right one's trouble does not concern.
    pub fn triple() -> Result<Self> {
        Self::new(true)
    }

    fn new(third: bool) -> Result<Self> {
        let alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let router = if third { Router::triple()? } else { Router::pair()? };
        let folder = tempfile::tempdir()?;
        let node = Node::beside(&router, folder.path())?;
        router.right().ns.ip("addr add 10.9.0.1/32 dev lo")?;
        if third {
            node.reconfigure("source:", "  - {alias: Port4, device: eth2, role: external}\nsource:")?;
            router.third().ns.ip("addr add 10.8.0.1/32 dev lo")?;
        }
        Ok(Self { router, folder, node, third, _alone: alone })
    }

    /// An agent with the routes, and from then on a kernel that forwards nothing: what arrives
    /// came through the programs.
    pub fn agent(&self) -> Result<Agent> {
        let agent = self.routed()?;
        self.kernel_forwards(false)?;
        Ok(agent)
    }

    /// An agent with the routes.
    pub fn routed(&self) -> Result<Agent> {
        let agent = Agent::start(self.node.clone())?;
        let mut routes = vec![(BEYOND, "10.0.2.2", "Port3")];
        if self.third {
            routes.push((ASIDE, "10.0.3.2", "Port4"));
        }
        for (destination, via, dev) in routes {
            agent.cli(&["route", "add", destination, "--via", via, "--dev", dev])?.succeeded()?;
            agent.await_state(destination, dev, "active")?;
        }
        Ok(agent)
    }

    /// Whether the node's kernel forwards what the programs leave to it.
    pub fn kernel_forwards(&self, forwards: bool) -> Result<()> {
        let value = if forwards { "1" } else { "0" };
        self.router.ns().sysctl(&[("ipv4/ip_forward", value), ("ipv6/conf/all/forwarding", value)])
    }

    /// From left to behind the right host, 50 000 datagrams a second.
    pub fn stream(&self) -> Result<UdpStream> {
        UdpStream::start(&self.spec()?)
    }

    /// The same flow, to be changed.
    pub fn spec(&self) -> Result<StreamSpec> {
        Ok(StreamSpec::new(&self.router.left().ns, &self.router.right().ns, TARGET.parse()?))
    }

    /// From left to behind the third host.
    pub fn spec_aside(&self) -> Result<StreamSpec> {
        ensure!(self.third, "there is no third host");
        Ok(StreamSpec::new(&self.router.left().ns, &self.router.third().ns, TARGET_ASIDE.parse()?))
    }
}
