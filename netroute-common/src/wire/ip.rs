//! What forwarding needs of either IP version: one generic stage, two monomorphised paths.

use crate::layout::route::Route;
use crate::packet::{Header, Packet};
use crate::tables::Tables;
use crate::verdict::Reason;

/// An IP header without options or extension headers.
pub trait Ip: Header {
    /// Version, header length and total length agree, nothing in the header asks a router for
    /// more than forwarding, and the whole packet is there. `available` is the number of bytes
    /// behind the link-layer header; `gso` packets may carry a length that is not theirs.
    fn check(&self, available: u32, gso: bool) -> Result<(), Reason>;

    /// Bytes of the IP packet, header included, without link-layer padding.
    fn total_length(&self) -> u32;

    /// Source that no router may forward: RFC 1812 section 5.3.7, RFC 4291 sections 2.5.2-2.7.
    fn source_is_martian(&self) -> bool;

    fn ttl(&self) -> u8;

    /// Lowers TTL or hop limit by one, which the caller has checked to be above 1.
    fn decrement_ttl<P: Packet>(packet: &mut P) -> Option<()>;

    fn route<T: Tables>(&self, tables: &T) -> Option<Route>;

    /// Protocol of the transport header, if it follows this header directly and is not a fragment.
    fn transport(&self) -> Option<u8>;

    /// Whether a router may cut it up.
    fn may_be_fragmented(&self) -> bool;

    /// Hash of what all packets of a flow share in this header.
    fn hash(&self) -> u32;
}
