//! Desired state and the kernel's state in, the maps' content out. Pure: no clock, no I/O, no map.
//!
//! [`table`] collects per prefix what custom and kernel routes say, [`health`] judges next hops,
//! [`ids`] keeps the numbers of what is installed already, and [`compile`] puts them together.
//! [`services`] does the same for Services, [`egress`] for egress policies.

pub mod admission;
mod budget;
mod build;
mod candidate;
pub mod egress;
mod group;
pub mod health;
pub mod holds;
pub mod ids;
pub mod image;
pub mod interfaces;
pub mod lookup;
pub mod mirror;
pub mod next_hops;
mod place;
pub mod services;
pub mod special;
pub mod status;
pub mod table;
mod ways;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::desired::Desired;
use crate::desired::route::Probe;
use crate::kernel::KernelState;
use egress::Egress;
use image::{Image, Limits};
use mirror::Fib;
use services::Services;
use services::ids::ServiceIds;
use services::nat::Nat;
use services::selection::Selection;
use status::Statuses;

/// A next hop by what it is: the address `gateway` on the interface `ifindex`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Gateway {
    pub ifindex: u32,
    pub address: IpAddr,
}

/// Why a next hop is not used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Suspension {
    /// A probe got no answer; said in one line. The kernel's FIB drops it as well.
    Probe(String),
    /// It failed and came back, and its hold time is not over. The kernel's FIB has it already,
    /// so that a prefix without another next hop works meanwhile on the slow path.
    Held,
}

/// Everything the content of the maps depends on.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    pub desired: &'a Desired,
    pub kernel: &'a KernelState,
    /// Next hops that must not be used although the kernel sees nothing wrong.
    pub suspended: &'a BTreeMap<Gateway, Suspension>,
    /// NICs with a native XDP program, for kernels that do not tell whether a device takes
    /// redirected frames.
    pub xdp_native: &'a BTreeSet<u32>,
    /// What the maps hold now: its numbers are kept where the thing they stand for stays.
    pub installed: &'a Image,
    /// Which endpoints the front ends of Services have.
    pub selection: &'a Selection,
    /// Numbers of Service ports of the compilation before; empty after a start.
    pub service_ids: &'a ServiceIds,
    /// Numbers of Service ports that flows carry, as far as that is known.
    pub carried: &'a BTreeSet<u32>,
    /// What the compilation before left.
    pub egress: &'a egress::Memory,
    pub nat: Nat,
    pub limits: Limits,
}

/// The result: what maps, kernel FIB and neighbour table should hold, and what became of routes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compiled {
    pub image: Image,
    pub fib: Fib,
    pub statuses: Statuses,
    /// Neighbours the agent keeps resolved: gateways of routes and addresses of pods.
    pub keep: BTreeSet<Gateway>,
    /// Next hops to ask for signs of life, and how.
    pub probes: BTreeMap<Gateway, Probe>,
    pub services: Services,
    pub egress: Egress,
}

/// Compiles the whole table.
#[must_use]
pub fn compile(inputs: &Inputs<'_>) -> Compiled {
    build::Builder::new(inputs).run()
}
