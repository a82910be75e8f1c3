//! The packet as the logic sees it: borrowed views of headers at checked offsets.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::checksum::{Delta, Update};
use crate::wire::be::Be16;
use crate::wire::eth::ETH_LEN;
use crate::wire::ipv6::{Fragment6, Ipv6};
use crate::wire::l4::Tcp;

/// A header that can be laid over packet bytes: alignment at most 2, any bit pattern valid.
pub trait Header: FromBytes + IntoBytes + Immutable + KnownLayout {}
impl<T: FromBytes + IntoBytes + Immutable + KnownLayout> Header for T {}

/// Offsets at or above this are never read: it bounds what the verifier must track. Enough for
/// Ethernet, IPv6, and 256 bytes of extension headers.
pub const MAX_OFFSET: usize = 320;

/// What can be looked at without a [`Packet::pull`]: Ethernet, IPv6, the header of a fragment, and TCP without
/// options.
pub const HEADERS: usize = ETH_LEN
    .wrapping_add(size_of::<Ipv6>())
    .wrapping_add(size_of::<Fragment6>())
    .wrapping_add(size_of::<Tcp>());

/// One packet, starting at its link-layer header.
pub trait Packet {
    /// Whether such packets are XDP's, where their type tells: what only the other hooks do is then not
    /// even compiled, and the verifier of the one refuses what only the other may do.
    const AT_XDP: Option<bool> = None;

    /// The header of type `T` at `at` bytes from the start, if all of it is there.
    fn get<T: Header>(&self, at: usize) -> Option<&T>;

    /// The same, to write.
    fn get_mut<T: Header>(&mut self, at: usize) -> Option<&mut T>;

    /// Length of the frame in bytes, link layer included; for a GSO packet all segments together.
    fn frame_length(&self) -> u32;

    /// Whether the link layer delivered the frame to this host (its destination is the NIC's own
    /// address), as opposed to broadcast, multicast or promiscuous reception.
    fn addressed_here(&self) -> bool;

    /// Whether the frame carries a VLAN tag outside of its bytes (taken off by the NIC).
    fn vlan_tagged(&self) -> bool;

    /// Payload bytes of one segment if this is a GSO packet that is cut up on its way out.
    fn segment(&self) -> Option<u32>;

    /// Tells the stack that a 16-bit word which no header checksum covers changed from `old` to
    /// `new` (host order), for hardware checksums over the whole packet (`CHECKSUM_COMPLETE`).
    fn word_changed(&mut self, old: u16, new: u16);

    /// The same of words that together changed by this much.
    fn words_changed(&mut self, change: Delta);

    /// Makes sure that this many bytes can be looked at, or all that there are; [`HEADERS`] can from the start.
    fn pull(&mut self, length: usize);

    /// Makes the frame this long: what is cut off is lost, what is added undefined. `None` if that cannot be
    /// done; the frame is then as it was.
    fn resize(&mut self, length: usize) -> Option<()>;

    /// Brings the transport checksum at `at` up to date with a change of addresses and ports. `None` if
    /// the packet ends before it.
    #[inline(always)]
    fn transport_changed(&mut self, at: usize, change: TransportChange) -> Option<()> {
        let TransportChange { addresses, ports, udp, in_header: _ } = change;
        let field: &mut Be16 = self.get_mut(at)?;
        if udp && field.get() == 0 {
            return Some(());
        }
        let update = Update::of(*field).change(addresses).change(ports);
        *field = if udp { update.udp() } else { update.ip() };
        Some(())
    }
}

/// What becomes of the words that a transport checksum covers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TransportChange {
    /// In the pseudo-header: where a NIC completes the checksum it covers these alone.
    pub addresses: Delta,
    /// In the transport header.
    pub ports: Delta,
    /// UDP: 0 says that there is no checksum.
    pub udp: bool,
    /// The header's own checksum makes up for the change of addresses (IPv4).
    pub in_header: bool,
}
