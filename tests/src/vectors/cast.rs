//! The interfaces that vectors play with: the same numbers and addresses on the host and in the
//! kernel, where they are veths with chosen indices.

use anyhow::{Result, bail};

/// An interface of the stage on which vectors are played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interface {
    pub name: &'static str,
    pub index: u32,
    pub mac: [u8; 6],
    /// Slot in `PORTS` that next hops on it name.
    pub port: u32,
}

const fn interface(name: &'static str, index: u32, port: u32) -> Interface {
    Interface { name, index, mac: [2, 0, 0, 0, 0, index as u8], port }
}

/// Where every packet comes in, at every hook.
pub const NIC: Interface = interface("nic", 11, 0);
pub const NIC_MAC: [u8; 6] = NIC.mac;

impl Interface {
    pub const ALL: [Self; 4] =
        [NIC, interface("out", 12, 1), interface("other", 13, 2), interface("pod", 14, 3)];

    /// Of next hops that are on none.
    const NONE: Self = Self { name: "none", index: 0, mac: [0; 6], port: 0 };

    pub fn named(name: &str) -> Result<Self> {
        match Self::ALL.into_iter().chain([Self::NONE]).find(|interface| interface.name == name) {
            Some(interface) => Ok(interface),
            None => bail!("no interface `{name}`: there are nic, out, other and pod"),
        }
    }

    pub fn with_index(index: u32) -> Option<Self> {
        Self::ALL.into_iter().chain([Self::NONE]).find(|interface| interface.index == index)
    }
}
