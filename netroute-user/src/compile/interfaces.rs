//! From the operator's names to links.

use std::collections::BTreeMap;

use wildmatch::WildMatch;

use crate::desired::Desired;
use crate::desired::interface::{DeviceRef, Interface};
use crate::kernel::{KernelState, Link};

/// The link a configured interface stands for, if it exists.
#[must_use]
pub fn link_of<'k>(interface: &Interface, kernel: &'k KernelState) -> Option<&'k Link> {
    kernel.links.values().find(|link| match &interface.device {
        DeviceRef::Name(name) => link.name == *name || link.altnames.contains(name),
        // A bridge or VLAN on top carries the MAC of its port: the port is meant.
        DeviceRef::Mac(mac) => link.mac == Some(*mac) && link.kind.as_deref() != Some("bridge"),
    })
}

/// What each link is to the fast path.
#[derive(Clone, Debug, Default)]
pub struct Interfaces {
    nics: BTreeMap<u32, String>,
    pods: Vec<u32>,
    /// Lower-case alias -> link, absent where the device does not exist.
    by_alias: BTreeMap<String, Option<u32>>,
}

impl Interfaces {
    #[must_use]
    pub fn resolve(desired: &Desired, kernel: &KernelState) -> Self {
        let mut found = Self::default();
        for interface in &desired.interfaces {
            let link = link_of(interface, kernel).map(|link| link.index);
            found.by_alias.insert(interface.alias.to_lowercase(), link);
            if let Some(index) = link {
                found.nics.insert(index, interface.alias.clone());
            }
        }
        let globs: Vec<WildMatch> = desired.pod_interfaces.iter().map(|glob| WildMatch::new(glob)).collect();
        let is_pod = |link: &&Link| globs.iter().any(|glob| glob.matches(&link.name));
        let pods = kernel.links.values().filter(is_pod).map(|link| link.index);
        found.pods = pods.filter(|index| !found.nics.contains_key(index)).collect();
        found
    }

    /// The NIC a route's interface name means: an alias in any case, or a NIC's device name.
    ///
    /// # Errors
    /// Whether the name is unknown or its device does not exist (yet).
    pub fn find<'k>(&self, name: &str, kernel: &'k KernelState) -> Result<&'k Link, Unresolved> {
        let index = match self.by_alias.get(&name.to_lowercase()) {
            Some(None) => return Err(Unresolved::NoDevice),
            Some(Some(index)) => *index,
            None => {
                let named = |index: &&u32| {
                    let link = kernel.links.get(index);
                    link.is_some_and(|link| link.name == name || link.altnames.iter().any(|alt| alt == name))
                };
                *self.nics.keys().find(named).ok_or(Unresolved::UnknownName)?
            }
        };
        kernel.links.get(&index).ok_or(Unresolved::NoDevice)
    }

    /// The operator's name of a NIC.
    #[must_use]
    pub fn alias(&self, index: u32) -> Option<&str> {
        self.nics.get(&index).map(String::as_str)
    }

    #[must_use]
    pub fn is_nic(&self, index: u32) -> bool {
        self.nics.contains_key(&index)
    }

    #[must_use]
    pub fn is_pod(&self, index: u32) -> bool {
        self.pods.contains(&index)
    }

    pub fn nics(&self) -> impl Iterator<Item = u32> + '_ {
        self.nics.keys().copied()
    }

    pub fn pods(&self) -> impl Iterator<Item = u32> + '_ {
        self.pods.iter().copied()
    }
}

/// Why a name gives no link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unresolved {
    /// Not in `interfaces` of the configuration, and no NIC is called so.
    UnknownName,
    /// Configured, but its device does not exist.
    NoDevice,
}
