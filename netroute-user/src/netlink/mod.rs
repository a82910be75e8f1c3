//! Netlink as transport: sockets, framing, requests and their answers, generic netlink families.
//! Knows what a message is, not what it means; `input`, `apply` and `observe` put meaning to it.

pub mod frame;
pub mod genl;
pub mod request;
pub mod socket;

use std::io;

/// What goes wrong between the agent and the kernel's netlink.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    #[error("cannot open a {protocol} netlink socket: {source}")]
    Open { protocol: socket::Protocol, source: io::Error },
    #[error("cannot subscribe to netlink group {group}: {source}")]
    Join { group: u32, source: io::Error },
    #[error("cannot send to the kernel ({what}): {source}")]
    Send { what: &'static str, source: io::Error },
    #[error("cannot receive from the kernel ({what}): {source}")]
    Receive { what: &'static str, source: io::Error },
    #[error("the kernel refused: {what}: {source}")]
    Refused { what: &'static str, source: io::Error },
    #[error("{what} kept changing while it was read")]
    Interrupted { what: &'static str },
}
