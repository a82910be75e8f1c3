//! The appliance's egress case in a lab: cameras are asked by Port3 with the pods' own addresses, everything else
//! leaves by Port2 with the node's, one namespace has no internet, and one pod has an address of its own.
//!
//! Its objects are those of `examples/manifests`, as an operator would write them.

mod sniffer;
mod talk;

pub use sniffer::Sniffer;
pub use talk::{Talk, Talked, Talker};

use std::{net::IpAddr, time::Duration};

use anyhow::Result;

use crate::{
    lab::{Lab, Pod, Vm, plan, plan::Dual},
    peer::{Server, Service},
    traffic::{Target, reason},
};

/// Pods of both VMs, and their namespaces.
pub const PODS: &str = include_str!("../../../examples/manifests/pods.yaml");
pub const POLICIES: &str = include_str!("../../../examples/manifests/egress.yaml");

/// What a sealed pod hears of the internet.
pub const REFUSED: &str = "refused";

/// What the policies make of what a pod sends to the internet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    Masqueraded,
    Fixed,
    Sealed,
}

/// A pod, and what is said of it.
#[derive(Clone, Debug)]
pub struct Sender {
    pub name: String,
    pub vm: Vm,
    pub pod: Pod,
    pub rule: Rule,
}

/// Gives a VM its second address, and its agent the pods and the policies.
///
/// # Errors
/// When the VM is gone.
pub fn deploy(vm: &Vm) -> Result<()> {
    let (Dual { v4, v6 }, device) = (vm.second_address(), vm.port("Port2").device);
    vm.ns().ip_script(&format!("addr add {v4}/24 dev {device}\naddr add {v6}/64 dev {device}\n"))?;
    vm.publish("pods", PODS)?;
    vm.publish("egress", POLICIES)
}

/// Has `Target::Uplink` answer, until the value is dropped.
///
/// # Errors
/// When the port is taken.
pub fn serve_uplink(lab: &Lab) -> Result<Server> {
    Server::start(&lab.ns("intsw"), Service::Http, plan::HTTP_PORT)
}

/// All pods of the lab.
pub fn senders(lab: &Lab) -> Vec<Sender> {
    lab.vms().iter().flat_map(of_vm).collect()
}

/// The pods of one VM.
pub fn of_vm(vm: &Vm) -> Vec<Sender> {
    let rules = match vm.name() {
        "master" => [Rule::Fixed, Rule::Sealed],
        _ => [Rule::Masqueraded, Rule::Sealed],
    };
    let sender = |(number, (pod, rule))| Sender {
        name: format!("{}-pod{number}", vm.name()),
        vm: vm.clone(),
        pod,
        rule,
    };
    (1..).zip(vm.pods().into_iter().zip(rules)).map(sender).collect()
}

impl Sender {
    /// The address that it has behind the VM's NICs; `None` where it has nothing to look for.
    pub fn seen_as(&self, target: Target) -> Option<Dual> {
        match (target, self.rule) {
            (Target::Camera, _) => Some(self.pod.address),
            (_, Rule::Masqueraded) => Some(self.vm.port("Port2").address),
            (_, Rule::Fixed) => Some(self.vm.second_address()),
            (_, Rule::Sealed) => None,
        }
    }

    /// The same of the IP version of `server`.
    pub fn seen_at(&self, target: Target, server: IpAddr) -> Option<IpAddr> {
        self.seen_as(target).map(|Dual { v4, v6 }| if server.is_ipv4() { v4.into() } else { v6.into() })
    }

    /// Whether the policies are in force for it: asks the uplink, by both IP versions.
    pub fn is_judged(&self, timeout: Duration) -> bool {
        Target::Uplink.addresses().both().into_iter().all(|server| {
            let client = Target::Uplink.ask(&self.pod.ns, server, timeout);
            match (client, self.seen_at(Target::Uplink, server)) {
                (Ok(client), Some(own)) => client.ip() == own,
                (Err(error), None) => reason(&error) == REFUSED,
                _ => false,
            }
        })
    }
}
