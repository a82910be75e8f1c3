//! Which programs run where, and changing that. Holds the lock on the folder as long as it lives;
//! dropping it leaves every program running.

use std::collections::BTreeMap;
use std::path::PathBuf;

use aya::Ebpf;
use netroute_common::abi;
use netroute_common::layout::config::Nic;
use netroute_common::verdict::Hook;

use super::error::{AttachError, LoadError};
use super::lock::Lock;
use super::memory::{self, MapMemory};
use super::pins::{Hold, Pins};
use super::program::{self, Source};
use super::sockets::Group;
use super::tc::{self, Place};
use super::{definition, filter, release, xdp};

/// A NIC to serve by XDP and TC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NicDevice {
    pub ifindex: u32,
    pub name: String,
    /// All zero on links without Ethernet addresses.
    pub mac: [u8; 6],
}

/// The host end of a pod's veth, to serve by TC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodDevice {
    pub ifindex: u32,
    pub name: String,
}

/// How a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// XDP in the driver.
    Native,
    /// XDP in the network stack: works everywhere, and is slower.
    Generic,
    /// TC by a TCX link.
    Tcx,
    /// TC by a filter on the clsact qdisc (kernels before Linux 6.6).
    Clsact,
}

/// One running program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    pub hook: Hook,
    pub ifindex: u32,
    pub interface: String,
    pub mode: Mode,
}

/// The agent's hold on the running programs.
pub struct Attachments {
    pub(super) pins: Pins,
    pub(super) source: Source,
    pub(super) maps: PathBuf,
    /// The control group whose sockets are served.
    pub(super) sockets: Option<Group>,
    classifiers: Ebpf,
    attached: BTreeMap<(u32, Hook), Attached>,
    _lock: Lock,
}

impl Attachments {
    pub(super) fn new(pins: Pins, source: Source, maps: PathBuf, classifiers: Ebpf, lock: Lock) -> Self {
        Self { pins, source, maps, sockets: None, classifiers, attached: BTreeMap::new(), _lock: lock }
    }

    /// Serves a NIC; if it is served already, puts a fresh program with these constants in the
    /// place of the running one. TC is attached first: should XDP fail, TC serves the NIC alone.
    ///
    /// # Errors
    /// [`AttachError::ForeignXdp`] if somebody else's XDP program is there; it is left alone.
    pub fn attach_nic(&mut self, nic: &NicDevice) -> Result<Mode, AttachError> {
        self.switch_nic(nic, |attachments| attachments.load_nic(nic))
    }

    /// Its XDP program, which runs nowhere yet.
    pub(super) fn load_nic(&self, nic: &NicDevice) -> Result<Ebpf, LoadError> {
        let constants = Nic { ifindex: nic.ifindex, mac: nic.mac, zero: 0 };
        self.source.xdp(&self.maps, &constants)
    }

    /// [`Attachments::attach_nic`] with a program from elsewhere.
    pub(super) fn switch_nic(
        &mut self,
        nic: &NicDevice,
        load: impl FnOnce(&Self) -> Result<Ebpf, LoadError>,
    ) -> Result<Mode, AttachError> {
        // First what keeps packets in that must not leave as they are.
        self.attach_tc(Hook::TcOut, abi::PROGRAM_TC_OUT, nic.ifindex, &nic.name)?;
        self.attach_tc(Hook::TcNic, abi::PROGRAM_TC_NIC, nic.ifindex, &nic.name)?;
        self.attached.remove(&(nic.ifindex, Hook::XdpNic));
        let failed = |source| AttachError::Load { interface: nic.name.clone(), source: Box::new(source) };
        let mut object = load(self).map_err(failed)?;
        let program = program::xdp(&mut object).map_err(failed)?;
        let mode = xdp::attach(&self.pins, nic, program)?;
        self.note(Hook::XdpNic, nic.ifindex, &nic.name, mode);
        Ok(mode)
    }

    /// Serves a pod's veth; at its egress too, for what processes of the node answer the pod.
    pub fn attach_pod(&mut self, pod: &PodDevice) -> Result<Mode, AttachError> {
        self.attach_tc(Hook::TcOut, abi::PROGRAM_TC_OUT, pod.ifindex, &pod.name)?;
        self.attach_tc(Hook::TcPod, abi::PROGRAM_TC_POD, pod.ifindex, &pod.name)
    }

    /// Takes our programs off an interface, which may be gone already.
    pub fn detach_interface(&mut self, ifindex: u32) -> Result<(), AttachError> {
        let interface = self
            .attached
            .values()
            .find(|attached| attached.ifindex == ifindex)
            .map_or_else(|| format!("interface {ifindex}"), |attached| attached.interface.clone());
        self.attached.retain(|(index, _), _| *index != ifindex);
        let pins = self
            .pins
            .attachments()
            .map_err(|source| AttachError::Load { interface: interface.clone(), source: Box::new(source) })?;
        let mut links = Vec::new();
        for pin in pins.into_iter().filter(|pin| pin.ifindex == ifindex) {
            let failed =
                |source| AttachError::Unpin { interface: interface.clone(), path: pin.path.clone(), source };
            if pin.hold == Hold::Filter {
                filter::detach(ifindex, pin.hook).map_err(failed)?;
            }
            links.extend(release::unpin(&pin.path, pin.hook, pin.ifindex).map_err(failed)?);
        }
        release::wait_gone(&links);
        Ok(())
    }

    /// What this agent attached or adopted, by interface index.
    pub fn list(&self) -> impl Iterator<Item = &Attached> {
        self.attached.values()
    }

    /// What this agent pinned and somebody else removed; without its pin a program does not run.
    #[must_use]
    pub fn missing_pin(&self) -> Option<PathBuf> {
        let maps = definition::names().map(|name| self.maps.join(name));
        let running = self.attached.values().map(|attached| {
            let hold = if attached.mode == Mode::Clsact { Hold::Filter } else { Hold::Link };
            self.pins.path(hold, attached.hook, attached.ifindex)
        });
        let sockets = abi::SOCKET_PROGRAMS.into_iter().map(|name| self.pins.socket(name));
        let sockets = sockets.filter(|_| self.sockets.is_some());
        maps.chain(running).chain(sockets).find(|path| !path.exists())
    }

    /// The kernel's program ids, by interface and hook.
    pub(super) fn program_ids(&self) -> BTreeMap<(u32, Hook), u32> {
        let pins = self.pins.attachments().unwrap_or_default();
        pins.into_iter()
            .filter_map(|pin| Some(((pin.ifindex, pin.hook), super::running::program_of(&pin)?)))
            .collect()
    }

    /// Capacity and memory of each map.
    pub fn map_memory(&self) -> Result<Vec<MapMemory>, LoadError> {
        memory::of(&self.maps)
    }

    fn attach_tc(
        &mut self,
        hook: Hook,
        program: &'static str,
        ifindex: u32,
        interface: &str,
    ) -> Result<Mode, AttachError> {
        self.attached.remove(&(ifindex, hook));
        // Attaching goes by name, and the name may have changed since the caller looked.
        let name = nix::net::if_::if_indextoname(ifindex)
            .ok()
            .and_then(|name| name.into_string().ok())
            .ok_or_else(|| AttachError::Gone { interface: interface.to_owned() })?;
        let program = program::classifier(&mut self.classifiers, program)
            .map_err(|source| AttachError::Load { interface: name.clone(), source: Box::new(source) })?;
        let mode =
            tc::attach(&self.pins, Place { hook, ifindex, name: &name }, program, self.source.filters)?;
        self.note(hook, ifindex, &name, mode);
        Ok(mode)
    }

    fn note(&mut self, hook: Hook, ifindex: u32, interface: &str, mode: Mode) {
        let attached = Attached { hook, ifindex, interface: interface.to_owned(), mode };
        self.attached.insert((ifindex, hook), attached);
    }

    /// Takes off every program of ours that nobody asked for in this run.
    pub(super) fn detach_others(&mut self) -> Result<(), LoadError> {
        let mut links = Vec::new();
        for pin in self.pins.attachments()? {
            let hold_now = match self.attached.get(&(pin.ifindex, pin.hook)).map(|attached| attached.mode) {
                Some(Mode::Clsact) => Some(Hold::Filter),
                Some(_) => Some(Hold::Link),
                None => None,
            };
            if hold_now == Some(pin.hold) {
                continue;
            }
            let failed = |source| LoadError::Folder { operation: "remove", path: pin.path.clone(), source };
            if pin.hold == Hold::Filter {
                filter::detach(pin.ifindex, pin.hook).map_err(failed)?;
            }
            links.extend(release::unpin(&pin.path, pin.hook, pin.ifindex).map_err(failed)?);
        }
        release::wait_gone(&links);
        Ok(())
    }

    /// The filled set of maps becomes the set in use.
    pub(super) fn promote(&mut self) -> Result<(), LoadError> {
        if self.maps == self.pins.fresh_maps() {
            self.pins.promote_fresh_maps()?;
            self.maps = self.pins.maps();
        }
        self.pins.remove_other_versions()
    }
}
