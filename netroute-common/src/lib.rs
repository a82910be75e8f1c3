//! What the BPF programs and user space must agree on: map layouts, packet headers, and the
//! packet logic itself, as plain generic Rust over two traits ([`packet::Packet`] and
//! [`tables::Tables`]). It knows no map API, no helper and no allocator, so the same functions run
//! in the kernel, in host tests and behind `netroute route get`.
#![no_std]

#[cfg(feature = "host")]
extern crate std;

pub mod abi;
pub mod checksum;
pub mod egress;
pub mod hash;
#[cfg(feature = "host")]
pub mod host;
pub mod layout;
pub mod packet;
pub mod pipeline;
pub mod services;
pub mod sockets;
pub mod stage;
pub mod strides;
pub mod tables;
pub mod verdict;
pub mod wire;
