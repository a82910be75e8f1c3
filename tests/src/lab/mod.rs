//! The lab: the appliance in network namespaces, as a value.
//!
//! One prefix names everything a lab owns: the namespaces `PREFIX-ROLE`, the folder
//! `/run/netroute-lab/PREFIX`, the bpffs folders `/sys/fs/bpf/PREFIX-VM` and the control groups
//! `netroute-lab-PREFIX-VM`. Whatever runs in a lab's namespaces and groups ends with it. The lab knows nothing of agents beyond where they live.

mod build;
pub mod plan;
mod servers;
mod status;
mod vm;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Child,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context, Result, bail, ensure};

pub use build::as_a_wire;
pub(crate) use build::{namespaces, wires};
pub use plan::{Dual, VmPlan};
pub use servers::{build as build_servers, program as server_program};
pub use status::{Row, Status};
pub use vm::{Pod, Port, Vm};

use crate::{
    cgroup,
    netns::{Netns, delete_all, kill_all},
};

/// The prefix of the lab that a person looks around in.
pub const DEFAULT_PREFIX: &str = "nr";

const RUN: &str = "/run/netroute-lab";
/// Written last: a lab without it was never finished.
const COMPLETE: &str = "complete";

const ROLES: [&str; 12] = [
    "inet",
    "gw",
    "intsw",
    "extsw",
    "camgw",
    "cam",
    "master",
    "worker",
    "master-pod1",
    "master-pod2",
    "worker-pod1",
    "worker-pod2",
];
const ROUTERS: [&str; 5] = ["gw", "intsw", "camgw", "master", "worker"];

/// A lab that is up.
#[derive(Debug)]
pub struct Lab {
    prefix: String,
    temporary: bool,
    /// Servers started by this process, which has to reap them.
    servers: Vec<Child>,
}

impl Lab {
    /// Builds the lab, or finds it as it is. What an interrupted `up` left is built anew.
    pub fn up(prefix: &str) -> Result<Self> {
        check_prefix(prefix)?;
        let mut lab = Self { prefix: prefix.to_owned(), temporary: false, servers: Vec::new() };
        if lab.dir().join(COMPLETE).exists() {
            lab.check()?;
            return Ok(lab);
        }
        lab.remove()?;
        lab.build().with_context(|| format!("cannot build lab {prefix}"))?;
        Ok(lab)
    }

    /// The lab of this prefix, which must be up.
    pub fn attach(prefix: &str) -> Result<Self> {
        check_prefix(prefix)?;
        let lab = Self { prefix: prefix.to_owned(), temporary: false, servers: Vec::new() };
        ensure!(
            lab.dir().join(COMPLETE).exists(),
            "lab {prefix} is not up: run `cargo xtask lab up --name {prefix}`"
        );
        lab.check()?;
        Ok(lab)
    }

    /// A lab for one test, with a prefix of its own; dropping it removes it.
    pub fn temporary() -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        remove_abandoned();
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let mut lab =
            Self { prefix: format!("t{}n{count}", std::process::id()), temporary: true, servers: Vec::new() };
        lab.build().with_context(|| format!("cannot build lab {}", lab.prefix))?;
        Ok(lab)
    }

    /// Removes the lab and all that runs in it. Harmless where there is none.
    pub fn down(mut self) -> Result<()> {
        self.temporary = false;
        self.remove()
    }

    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The lab's state folder; each VM has its own below it.
    pub fn dir(&self) -> PathBuf {
        Path::new(RUN).join(&self.prefix)
    }

    /// The namespace of a role: `inet gw intsw extsw camgw cam`, a VM, or a pod `VM-podN`.
    pub fn ns(&self, role: &str) -> Netns {
        debug_assert!(ROLES.contains(&role), "the lab has no {role}");
        Netns::named(format!("{}-{role}", self.prefix))
    }

    /// `master` or `worker`.
    pub fn vm(&self, name: &str) -> Vm {
        let plan = VmPlan::all().into_iter().find(|plan| plan.name == name);
        Vm::new(self, plan.unwrap_or_else(|| panic!("the lab has no VM {name}")))
    }

    pub fn vms(&self) -> [Vm; 2] {
        VmPlan::all().map(|plan| Vm::new(self, plan))
    }

    pub fn namespaces(&self) -> Vec<Netns> {
        ROLES.iter().map(|role| self.ns(role)).collect()
    }

    pub fn status(&self) -> Result<Status> {
        status::read(self)
    }

    /// Gives each VM a control group of its own, whose processes its agent serves at their sockets from its next
    /// start. `false` where no groups of version 2 are mounted.
    pub fn serve_sockets(&self) -> Result<bool> {
        let served = self.vms().iter().map(Vm::serve_sockets).collect::<Result<Vec<_>>>()?;
        Ok(served.into_iter().all(|served| served))
    }

    fn build(&mut self) -> Result<()> {
        fs::create_dir_all(self.dir())?;
        namespaces(&self.namespaces(), &ROUTERS.map(|role| self.ns(role)))?;
        build::all(&|role| self.ns(role))?;
        for vm in self.vms() {
            vm.make_folders()?;
        }
        self.servers = servers::start(self)?;
        fs::write(self.dir().join(COMPLETE), "")?;
        Ok(())
    }

    fn check(&self) -> Result<()> {
        let prefix = &self.prefix;
        let repair = format!("run `cargo xtask lab down --name {prefix}`, then `up` again");
        for ns in self.namespaces() {
            ensure!(ns.exists(), "lab {prefix} is damaged: namespace {ns} is missing; {repair}");
        }
        for role in servers::HOSTS {
            let ns = self.ns(role);
            let serves = ns.processes()?.iter().any(|(_, name)| servers::is_server(name));
            ensure!(serves, "lab {prefix} is damaged: no server runs in {ns}; {repair}");
        }
        Ok(())
    }

    fn remove(&mut self) -> Result<()> {
        let namespaces = self.namespaces();
        kill_all(&namespaces)?;
        servers::kill(self)?;
        for mut server in self.servers.drain(..) {
            server.wait()?;
        }
        delete_all(&namespaces)?;
        for vm in self.vms() {
            remove_folder(&vm.bpffs())?;
            if let Some(group) = vm.group() {
                cgroup::remove(&group)?;
            }
        }
        remove_folder(&self.dir())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.temporary
            && let Err(error) = self.remove()
        {
            eprintln!("lab {} was not removed: {error:#}", self.prefix);
        }
    }
}

/// Removes the lab of this prefix, whole, half-built or absent.
pub fn down(prefix: &str) -> Result<()> {
    check_prefix(prefix)?;
    Lab { prefix: prefix.to_owned(), temporary: false, servers: Vec::new() }.down()
}

/// What is there of the lab of this prefix, also of none or half of one.
pub fn status(prefix: &str) -> Result<Status> {
    check_prefix(prefix)?;
    Lab { prefix: prefix.to_owned(), temporary: false, servers: Vec::new() }.status()
}

/// Namespace names are file names, and they begin with the prefix.
fn check_prefix(prefix: &str) -> Result<()> {
    let fits = (1..=24).contains(&prefix.len())
        && prefix.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    if !fits {
        bail!("{prefix:?} cannot name a lab: use 1 to 24 letters a-z and digits");
    }
    Ok(())
}

/// Removes temporary labs whose process was killed before it could do so.
fn remove_abandoned() {
    let Ok(entries) = fs::read_dir(RUN) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix('t').and_then(|rest| rest.split_once('n'));
        let Some((pid, _)) = owner.filter(|(pid, _)| pid.parse::<u32>().is_ok()) else {
            continue;
        };
        if !Path::new("/proc").join(pid).exists() {
            // Another test may be at it too; what it has removed is no longer there to remove.
            let _ = down(&name);
        }
    }
}

pub(crate) fn remove_folder(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}
