//! Flows: what was decided for the first packet, for all that follow, in both directions.
//!
//! Each flow has two entries: one under the tuple of packets that come from the client, one under that of
//! the answers. Each says what the tuple of its packets is rewritten to; read backwards, that is the
//! other entry's key.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::service::Address;

/// Key of `FLOWS4` and `OPENING4`.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct FlowKey4 {
    pub source: [u8; 4],
    pub destination: [u8; 4],
    /// Ports in host order; of ICMP echo the identifier, in both.
    pub source_port: u16,
    pub destination_port: u16,
    pub protocol: u32,
}

/// Key of `FLOWS6` and `OPENING6`.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct FlowKey6 {
    pub source: Address,
    pub destination: Address,
    /// As in [`FlowKey4`].
    pub source_port: u16,
    pub destination_port: u16,
    pub protocol: u32,
}

/// Value of `FLOWS4`, `FLOWS6`, `OPENING4` and `OPENING6`: one direction of a flow.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Flow {
    /// Last packet of this direction, or, [`TOUCH`] late at most, of the other one: nanoseconds of
    /// `CLOCK_MONOTONIC`.
    pub seen: u64,
    /// When both entries were last brought up to date together.
    pub touched: u64,
    pub packets: u64,
    /// Of whole frames, link layer included.
    pub bytes: u64,
    /// What the packets of this direction are rewritten to.
    pub source: Address,
    pub destination: Address,
    pub source_port: u16,
    pub destination_port: u16,
    /// `STATE_*`, the same in both directions' entries.
    pub state: u8,
    /// [`FLOW_REPLY`], and `FLOW_*` seen so far.
    pub flags: u8,
    /// IP protocol number.
    pub protocol: u8,
    pub zero: u8,
    /// Index into `BACKENDS`, and its generation when the flow began.
    pub backend: u32,
    pub generation: u32,
    /// Index into `SERVICE_STATS`; 0 for a flow to no Service, which has no backend either.
    pub service: u32,
    /// Of [`FLOW_EGRESS`]: index into `EGRESS_POLICIES`, and the generation of all policies that let it out.
    pub policy: u32,
    pub policies: u32,
    /// Where the client's packets come from, and the answers leave by; of [`FLOW_EGRESS`] where the client's packets
    /// leave by.
    pub back: Back,
}

/// The next hop that packets came from: those that go back leave by it as long as it lives and has that
/// address, whatever the route says (N13).
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Back {
    /// Index into `NEXTHOPS`; 0 for none: the route is asked.
    pub next_hop: u32,
    /// Its number may stand for another one day. Without a next hop the index of an interface, whose neighbours
    /// only the kernel knows, or zeros.
    pub mac: [u8; 6],
    pub zero: [u8; 2],
}

impl Back {
    /// By an interface, whose neighbours only the kernel knows.
    #[inline(always)]
    #[must_use]
    pub fn by_interface(ifindex: u32) -> Self {
        let [a, b, c, d] = ifindex.to_ne_bytes();
        Self { next_hop: 0, mac: [a, b, c, d, 0, 0], zero: [0; 2] }
    }

    /// Of a way without a next hop.
    #[inline(always)]
    #[must_use]
    pub fn interface(&self) -> u32 {
        let [a, b, c, d, ..] = self.mac;
        u32::from_ne_bytes([a, b, c, d])
    }
}

/// Key of `PEERS`: who hands packets to this node, of either IP version. The value is an index into
/// `NEXTHOPS`.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct PeerKey {
    pub ifindex: u32,
    pub mac: [u8; 6],
    pub zero: u16,
}

/// Nanoseconds after which a packet refreshes the entry of the other direction as well as its own: a
/// flow that goes one way only keeps both.
pub const TOUCH: u64 = 16_000_000_000;

/// No answer yet; in `OPENING*`.
pub const STATE_OPENING: u8 = 1;
/// Packets went both ways (TCP: the handshake is done).
pub const STATE_ESTABLISHED: u8 = 2;
/// TCP: both sides have sent FIN.
pub const STATE_CLOSING: u8 = 3;
/// TCP: reset.
pub const STATE_RESET: u8 = 4;

/// The entry is for answers.
pub const FLOW_REPLY: u8 = 1;
/// The client has sent FIN.
pub const FLOW_CLIENT_FIN: u8 = 1 << 1;
/// The backend has sent FIN.
pub const FLOW_BACKEND_FIN: u8 = 1 << 2;
/// An answer was seen.
pub const FLOW_ANSWERED: u8 = 1 << 3;
/// Of no Service: an egress policy let it out. `backend` is an index into `EGRESS_POLICIES`, `generation` that
/// of the default policy, and `back`, in the entry of the pod's packets, where those leave by.
pub const FLOW_EGRESS: u8 = 1 << 4;
/// Of no Service: a client outside opened it to a pod of this node, as it is.
pub const FLOW_INBOUND: u8 = 1 << 5;

/// Seconds that a flow is kept after its last packet, by state: the value of `TIMERS`, an array of one.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Timers {
    pub tcp_opening: u32,
    pub tcp_established: u32,
    pub tcp_closing: u32,
    pub tcp_reset: u32,
    pub udp_opening: u32,
    pub udp_established: u32,
}

impl Timers {
    /// RFC 5382 REQ-5 (established at least 2 h 4 min, transitory 4 min), RFC 7857 section 2.2 (reset
    /// 4 min), RFC 4787 REQ-5 (UDP 5 min recommended, at least 2 min).
    pub const DEFAULT: Self = Self {
        tcp_opening: 240,
        tcp_established: 7_440,
        tcp_closing: 240,
        tcp_reset: 240,
        udp_opening: 120,
        udp_established: 300,
    };
}

impl Default for Timers {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Key of `FRAGMENTS`: what the fragments of one packet share (RFC 791 section 3.2, RFC 8200 section 4.5).
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct FragmentKey {
    pub source: Address,
    pub destination: Address,
    pub identification: u32,
    pub protocol: u32,
}

/// Value of `FRAGMENTS`: what the first of them became; those behind it have no ports to ask by.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Fragment {
    /// When it came, nanoseconds of `CLOCK_MONOTONIC`.
    pub seen: u64,
    pub source: Address,
    pub destination: Address,
    /// As of the flow.
    pub back: Back,
    pub reserved: u32,
}

/// Nanoseconds after which a first fragment is forgotten; Linux waits as long for the rest
/// (`net.ipv4.ipfrag_time`).
pub const FRAGMENT_LIFETIME: u64 = 30_000_000_000;

/// What flows that leave by one interface are masqueraded to: the value of `MASQUERADE`, a hash by
/// interface index.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Masquerade {
    /// The node's addresses on the interface; zero if it has none of the family.
    pub address4: [u8; 4],
    pub address6: Address,
    /// First source port that may be taken, and how many there are (N7).
    pub first_port: u16,
    pub ports: u16,
}
