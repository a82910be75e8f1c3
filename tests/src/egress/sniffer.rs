//! What pods send out of the cluster by Port2 under their own addresses, seen at the far end of the wire.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::{
    capture::{Frame, Tcpdump},
    lab::{Vm, VmPlan, plan},
    traffic::ping,
};

const TIMEOUT: Duration = Duration::from_secs(5);

/// At the switch's port, and not at the VM's NIC: there, what XDP sends is not seen.
#[derive(Debug)]
pub struct Sniffer {
    frames: Tcpdump,
    vm: Vm,
}

impl Sniffer {
    /// Returns when it sees.
    ///
    /// # Errors
    /// When the lab is gone, or `tcpdump` missing.
    pub fn start(vm: &Vm) -> Result<Self> {
        let port = vm.port("Port2");
        let nodes = VmPlan::all().into_iter().flat_map(|vm| vm.port2().both());
        let nodes = nodes.map(|node| format!("dst host {node}"));
        let pods = plan::POD_NETWORK.map(|net| format!("dst net {net}"));
        let cluster: Vec<String> = pods.into_iter().chain(nodes).collect();
        let pods = plan::POD_NETWORK.map(|net| format!("src net {net}")).join(" or ");
        let last =
            format!("icmp and src host {} and dst host {}", port.address.v4, plan::INTERNAL_GATEWAY.v4);
        let filter = format!("(({pods}) and not ({})) or ({last})", cluster.join(" or "));
        Ok(Self { frames: Tcpdump::start(&port.switch, port.switch_device, &filter)?, vm: vm.clone() })
    }

    /// What came since it was asked last, or began. The VM has a last word to the switch by the same wire: what is
    /// not seen before it was not sent.
    ///
    /// # Errors
    /// When that word does not come.
    pub fn seen(&self) -> Result<Vec<Frame>> {
        let (own, switch) = (self.vm.port("Port2").address.v4, plan::INTERNAL_GATEWAY.v4);
        ensure!(ping(self.vm.ns(), switch.into(), &["-c", "1"])?.answered(), "the switch is gone");
        let last = format!("{own} > {switch}: ICMP echo request");
        let mut frames = self.frames.until(|frame| frame.text.contains(&last), TIMEOUT)?;
        frames.pop();
        Ok(frames)
    }

    /// # Errors
    /// When a packet of a pod was seen.
    pub fn saw_nothing(&self) -> Result<()> {
        let seen = self.seen()?;
        ensure!(seen.is_empty(), "{} packets of pods left by Port2: {}", seen.len(), seen[0].text);
        Ok(())
    }
}
