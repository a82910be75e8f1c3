//! rtnetlink messages to the plain types of `kernel`. Reads only the attributes it needs, so that
//! a kernel newer than the message crate cannot hide a link or a route. Pure.

pub mod address;
pub mod link;
pub mod neighbour;
pub mod route;

use netlink_packet_core::{NlaBuffer, NlasIterator};

/// The well-formed attributes after a message's fixed header.
fn attributes(payload: &[u8], header: usize) -> impl Iterator<Item = NlaBuffer<&[u8]>> {
    NlasIterator::new(payload.get(header..).unwrap_or_default()).map_while(Result::ok)
}
