//! Hosts around one router, for data-plane tests: left - router - right, and a third if asked.
//!
//! ```text
//!  left 10.0.1.2 ── eth0 10.0.1.1 [router] 10.0.2.1 eth1 ── right 10.0.2.2
//!                        10.0.3.1 eth2 ── third 10.0.3.2
//! ```
//! IPv6 likewise: fd01::/64, fd02::/64, fd03::/64. Nothing but traffic makes neighbours known.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context, Result};

use crate::{
    lab::{Dual, as_a_wire, namespaces, remove_folder, wires},
    netns::{Netns, delete_all, ip_batch, kill_all},
};

const NAMES: [&str; 3] = ["left", "right", "third"];
const DEVICES: [&str; 3] = ["eth0", "eth1", "eth2"];

/// A host at the end of one of the router's wires; its NIC is `eth0`, its default route the
/// router.
#[derive(Clone, Debug)]
pub struct Host {
    pub ns: Netns,
    pub address: Dual,
    /// The router's NIC on this wire, and its address there.
    pub router_device: &'static str,
    pub router_address: Dual,
}

/// The router and its hosts; dropping it removes all of it.
#[derive(Debug)]
pub struct Router {
    prefix: String,
    ns: Netns,
    hosts: Vec<Host>,
}

impl Router {
    /// Two hosts.
    pub fn pair() -> Result<Self> {
        Self::with_hosts(2)
    }

    /// Three hosts.
    pub fn triple() -> Result<Self> {
        Self::with_hosts(3)
    }

    fn with_hosts(count: u8) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("r{}n{number}", std::process::id());
        let hosts = (0..count).map(|index| Host::new(&prefix, index)).collect();
        let router = Self { ns: Netns::named(format!("{prefix}-router")), prefix, hosts };
        router.build().with_context(|| format!("cannot build router {}", router.prefix))?;
        Ok(router)
    }

    /// The router's namespace; its NICs are `eth0`, `eth1`, and `eth2` with three hosts.
    pub fn ns(&self) -> &Netns {
        &self.ns
    }

    pub fn left(&self) -> &Host {
        &self.hosts[0]
    }

    pub fn right(&self) -> &Host {
        &self.hosts[1]
    }

    /// Panics on a router of two hosts.
    pub fn third(&self) -> &Host {
        &self.hosts[2]
    }

    /// A folder in the machine's bpffs for this router alone; whoever pins makes it.
    pub fn bpffs(&self) -> PathBuf {
        PathBuf::from(format!("/sys/fs/bpf/{}", self.ns))
    }

    fn namespaces(&self) -> Vec<Netns> {
        let hosts = self.hosts.iter().map(|host| host.ns.clone());
        std::iter::once(self.ns.clone()).chain(hosts).collect()
    }

    fn build(&self) -> Result<()> {
        namespaces(&self.namespaces(), std::slice::from_ref(&self.ns))?;
        let wire = |host: &Host| {
            let (host_end, device) = ((host.ns.clone(), "eth0".to_owned()), host.router_device);
            (host_end, (self.ns.clone(), device.to_owned()))
        };
        ip_batch(&wires(&self.hosts.iter().map(wire).collect::<Vec<_>>()))?;
        let mut script = String::from("link set lo up\n");
        for Host { router_device, router_address: Dual { v4, v6 }, .. } in &self.hosts {
            script += &format!(
                "addr add {v4}/24 dev {router_device}
                 addr add {v6}/64 dev {router_device}
                 link set {router_device} up\n"
            );
        }
        self.ns.ip_script(&script)?;
        self.hosts.iter().try_for_each(Host::build)
    }

    fn remove(&self) -> Result<()> {
        kill_all(&self.namespaces())?;
        delete_all(&self.namespaces())?;
        remove_folder(&self.bpffs())
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            eprintln!("router {} was not removed: {error:#}", self.prefix);
        }
    }
}

impl Host {
    fn new(prefix: &str, index: u8) -> Self {
        let (net, place) = (index + 1, usize::from(index));
        let address = |host: u8| {
            let v6 = [0xfd00 + u16::from(net), 0, 0, 0, 0, 0, 0, u16::from(host)];
            Dual::new([10, 0, net, host], v6)
        };
        Self {
            ns: Netns::named(format!("{prefix}-{}", NAMES[place])),
            address: address(2),
            router_device: DEVICES[place],
            router_address: address(1),
        }
    }

    fn build(&self) -> Result<()> {
        let (Dual { v4, v6 }, via) = (self.address, self.router_address);
        self.ns.ip_script(&format!(
            "link set lo up
             addr add {v4}/24 dev eth0
             addr add {v6}/64 dev eth0
             link set eth0 up
             route add default via {}
             route add default via {}\n",
            via.v4, via.v6
        ))?;
        as_a_wire(&self.ns, &["eth0"])
    }
}
