//! What lies in packets: views of alignment 2, laid over the bytes without a copy.

pub mod be;
pub mod eth;
pub mod icmp;
pub mod ip;
pub mod ipv4;
pub mod ipv6;
pub mod l4;
