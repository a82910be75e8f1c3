//! Declares the map types plain old data for aya's typed maps (user space only).
#![expect(unsafe_code, reason = "aya::Pod is an unsafe marker trait")]

use super::config::Nic;
use super::route::{Group, NextHop, Prefix4, Prefix6, Route};
use super::stats::Counter;
use super::strides::Block;

macro_rules! plain_old_data {
    ($($name:ty),+ $(,)?) => { $(
        // SAFETY: repr(C), Copy, and `IntoBytes` + `FromBytes` are derived, so there is no
        // padding and every bit pattern is valid.
        unsafe impl aya::Pod for $name {}
    )+ };
}

plain_old_data!(Block, Counter, Group, NextHop, Nic, Prefix4, Prefix6, Route);
