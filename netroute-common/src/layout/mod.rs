//! What lies in maps: natural alignment, no padding, no enums; byte order is host order unless a
//! field's type says otherwise. Addresses are octets in network order.

pub mod config;
pub mod egress;
pub mod flow;
#[cfg(feature = "user")]
pub mod pod;
pub mod route;
pub mod service;
pub mod socket;
pub mod stats;
pub mod strides;
