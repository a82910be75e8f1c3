//! The traits of the packet logic on the host: a packet in memory and tables in memory.
//!
//! What `netroute route get` and the tests run the pipeline over. Behaves as the kernel does where
//! the logic can tell the difference (limits of offsets, zeroed array entries); it must not know
//! where the tables came from.

pub mod egress;
mod lpm;
mod packet;
mod services;
mod sockets;
mod stages;
pub mod strides;
mod tables;

pub use packet::{HostPacket, WordChange};
pub use services::HostServices;
pub use tables::{Capacities, Counted, HostTables};
