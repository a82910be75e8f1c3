//! A VM of the lab: its namespace, NICs, pods and the folder its agent lives in.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result};

use super::{
    Lab,
    plan::{Dual, POD_NETWORK, PODS_PER_VM, PORTS, VmPlan},
};
use crate::{cgroup, netns::Netns};

/// One VM. A value that can outlive nothing: it only knows names.
#[derive(Clone, Debug)]
pub struct Vm {
    plan: VmPlan,
    prefix: String,
    dir: PathBuf,
    ns: Netns,
}

/// A NIC of a VM and the port of the switch that it is plugged into.
#[derive(Clone, Debug)]
pub struct Port {
    pub alias: &'static str,
    pub device: &'static str,
    pub address: Dual,
    pub role: &'static str,
    pub switch: Netns,
    pub switch_device: &'static str,
}

/// A pod: its namespace, its address, and the host end of its veth in the VM.
#[derive(Clone, Debug)]
pub struct Pod {
    pub ns: Netns,
    pub address: Dual,
    pub host_device: String,
}

impl Vm {
    pub(super) fn new(lab: &Lab, plan: VmPlan) -> Self {
        let (prefix, dir) = (lab.prefix().to_owned(), lab.dir().join(plan.name));
        Self { plan, prefix, dir, ns: lab.ns(plan.name) }
    }

    pub fn name(&self) -> &'static str {
        self.plan.name
    }

    pub fn ns(&self) -> &Netns {
        &self.ns
    }

    /// `Port2` (eth0, internal switch) or `Port3` (eth1, external switch).
    pub fn port(&self, alias: &str) -> Port {
        let role = PORTS.iter().position(|known| *known == alias);
        let (device, address, role, switch) = match role {
            Some(0) => ("eth0", self.plan.port2(), "internal", "intsw"),
            Some(1) => ("eth1", self.plan.port3(), "external", "extsw"),
            _ => panic!("VM {} has no {alias}", self.plan.name),
        };
        Port {
            alias: PORTS[usize::from(role == "external")],
            device,
            address,
            role,
            switch: Netns::named(format!("{}-{switch}", self.prefix)),
            switch_device: self.plan.name,
        }
    }

    /// The second address of its Port2, which `egress::deploy` gives it.
    pub fn second_address(&self) -> Dual {
        self.plan.second()
    }

    pub fn pods(&self) -> Vec<Pod> {
        (1..=PODS_PER_VM)
            .map(|number| Pod {
                ns: Netns::named(format!("{}-pod{number}", self.ns.name())),
                address: self.plan.pod(number),
                host_device: format!("vethpod{number}"),
            })
            .collect()
    }

    /// Takes the cable out at the switch: the VM's NIC loses its carrier and keeps its addresses.
    pub fn unplug(&self, alias: &str) -> Result<()> {
        self.set_switch_port(alias, "down")
    }

    /// Puts the cable back.
    pub fn plug(&self, alias: &str) -> Result<()> {
        self.set_switch_port(alias, "up")
    }

    fn set_switch_port(&self, alias: &str, state: &str) -> Result<()> {
        let port = self.port(alias);
        port.switch.ip(&format!("link set dev {} {state}", port.switch_device))
    }

    /// The folder that holds all of this VM's files.
    pub fn dir(&self) -> PathBuf {
        self.dir.clone()
    }

    pub fn manifests(&self) -> PathBuf {
        self.dir.join("manifests")
    }

    /// Writes the manifest `NAME.yaml` in one step: the agent never sees half a file.
    pub fn publish(&self, name: &str, text: &str) -> Result<()> {
        let staged = self.manifests().join(format!(".{name}"));
        fs::write(&staged, text)?;
        Ok(fs::rename(staged, self.manifests().join(format!("{name}.yaml")))?)
    }

    pub fn state_dir(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// The agent's configuration file.
    pub fn config(&self) -> PathBuf {
        self.dir.join("agent.yaml")
    }

    /// Where the agent listens: it does so when started with `--socket` or `NETROUTE_SOCKET`.
    pub fn socket(&self) -> PathBuf {
        self.dir.join("netroute.sock")
    }

    pub fn log(&self) -> PathBuf {
        self.dir.join("agent.log")
    }

    /// Process id of the agent, as its log's only writer; whoever starts it keeps it here.
    pub fn pid_file(&self) -> PathBuf {
        self.dir.join("agent.pid")
    }

    /// The VM's own folder in the machine's bpffs. The agent makes it.
    pub fn bpffs(&self) -> PathBuf {
        PathBuf::from(format!("/sys/fs/bpf/{}-{}", self.prefix, self.plan.name))
    }

    /// The VM's own control group; `None` where no groups of version 2 are mounted. It exists while
    /// sockets are served.
    pub fn group(&self) -> Option<PathBuf> {
        let root = cgroup::root().ok().flatten()?;
        Some(root.join(format!("netroute-lab-{}-{}", self.prefix, self.plan.name)))
    }

    /// Has the agent serve the sockets of processes in the VM's own group, from its next start. Whether there
    /// can be one.
    pub(super) fn serve_sockets(&self) -> Result<bool> {
        let Some(group) = self.group() else { return Ok(false) };
        fs::create_dir_all(&group).with_context(|| format!("cannot make {}", group.display()))?;
        let text = fs::read_to_string(self.config())?;
        let own = format!("sockets: {{cgroup: {}}}", group.display());
        fs::write(self.config(), text.replace("sockets: null", &own))?;
        Ok(true)
    }

    pub(super) fn make_folders(&self) -> Result<()> {
        for folder in [self.manifests(), self.state_dir()] {
            fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        fs::write(self.config(), self.agent_yaml())
            .with_context(|| format!("cannot write {}", self.config().display()))
    }

    /// Sockets are left alone until they are asked for: a lab must not reach into the machine's other processes.
    fn agent_yaml(&self) -> String {
        let interfaces: String = PORTS
            .iter()
            .map(|alias| {
                let Port { alias, device, role, .. } = self.port(alias);
                format!("  - {{alias: {alias}, device: {device}, role: {role}}}\n")
            })
            .collect();
        format!(
            "nodeName: {name}\n\
             interfaces:\n{interfaces}\
             source: {{manifests: {manifests}}}\n\
             stateDir: {state}\n\
             socket: {socket}\n\
             bpffs: {bpffs}\n\
             podInterfaces: [\"vethpod*\"]\n\
             sockets: null\n\
             clusterCidrs: {{pods: [\"{pods4}\", \"{pods6}\"], services: [10.96.0.0/12, \"fd96::/112\"], nodes: []}}\n",
            name = self.plan.name,
            manifests = self.manifests().display(),
            state = self.state_dir().display(),
            socket = self.socket().display(),
            bpffs = self.bpffs().display(),
            pods4 = POD_NETWORK[0],
            pods6 = POD_NETWORK[1],
        )
    }
}
