//! What the BPF programs and user space must agree on: map layouts, packet headers, and the
//! packet logic itself, as plain generic Rust over three traits ([`packet::Packet`],
//! [`tables::Tables`], and nothing else). It knows no map API, no helper and no allocator, so the
//! same functions run in the kernel, in host tests and in `netroute route get`.
#![no_std]

pub mod abi;
pub mod layout;
pub mod packet;
pub mod tables;
pub mod verdict;
