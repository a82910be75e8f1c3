//! The one enum of what can happen to a packet and why. Counters, metrics, `drops`, `route get`
//! and the documentation all read it.

/// The hook a packet was judged at; the first index of `VERDICTS`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Hook {
    /// XDP on a NIC.
    XdpNic = 0,
    /// TC ingress on a NIC: what XDP passed up.
    TcNic = 1,
    /// TC ingress on a pod's host veth: what the pod sends.
    TcPod = 2,
    /// TC egress on NICs and on the host ends of pods' veths: what processes of the node send, and what the kernel
    /// forwards.
    TcOut = 3,
}

impl Hook {
    pub const ALL: [Self; 4] = [Self::XdpNic, Self::TcNic, Self::TcPod, Self::TcOut];

    pub const fn name(self) -> &'static str {
        match self {
            Self::XdpNic => "xdp-nic",
            Self::TcNic => "tc-nic",
            Self::TcPod => "tc-pod",
            Self::TcOut => "tc-out",
        }
    }
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident = $number:literal $text:literal,)+) => {
        /// Why a packet got its verdict. Numbers are part of the ABI: never reused.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        #[repr(u8)]
        pub enum Reason { $($(#[doc = $doc])+ $name = $number,)+ }

        impl Reason {
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The word used in metrics, the CLI and test vectors.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }

            /// One line for a person.
            pub const fn explanation(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),+),)+ }
            }

            pub const fn from_number(number: u8) -> Option<Self> {
                match number { $($number => Some(Self::$name),)+ _ => None }
            }

            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($text => Some(Self::$name),)+ _ => None }
            }
        }
    };
}

reasons! {
    /// Sent to the next hop of its route.
    Forwarded = 0 "forwarded",
    /// Not IP (ARP, LLDP, ...): the kernel's business.
    NotIp = 1 "not-ip",
    /// VLAN tag that is not configured: up to the kernel.
    Vlan = 2 "vlan",
    /// Link-layer destination is not this NIC (broadcast, multicast, another host).
    NotForThisMac = 3 "not-for-this-mac",
    /// Frame ends inside a header.
    Truncated = 4 "truncated",
    /// Version, header length or total length contradict each other.
    Malformed = 5 "malformed",
    /// IPv4 options or IPv6 hop-by-hop options, which a router must look at: up to the kernel.
    IpOptions = 6 "ip-options",
    /// TTL or hop limit of 1 or 0: the kernel answers Time Exceeded.
    TtlExpired = 7 "ttl-expired",
    /// Source address that no router may forward (zero net, loopback, multicast, class E).
    MartianSource = 8 "martian-source",
    /// No route in the compiled table.
    NoRoute = 9 "no-route",
    /// Destination is an address of this node.
    Local = 10 "local",
    /// Destination a router does not forward (multicast, broadcast, link-local).
    NotForwarded = 11 "not-forwarded",
    /// Neighbour on a connected network not resolved yet: the kernel resolves it.
    NeighbourUnresolved = 12 "neighbour-unresolved",
    /// No next hop of the route is alive.
    NextHopDown = 13 "next-hop-down",
    /// Packet or segment larger than the next hop's MTU: the kernel fragments or answers too big.
    TooBig = 14 "too-big",
    /// Next hop is a pod: delivered at TC.
    PodAtTc = 15 "pod-at-tc",
    /// The interface does not take frames redirected by XDP: forwarded by TC instead.
    NoXdpTransmit = 16 "no-xdp-transmit",
    /// Route of a type the fast path does not do (blackhole, prohibit, tunnel): up to the kernel.
    KernelRoute = 17 "kernel-route",
    /// A map lacks the entry that another entry names.
    TableInconsistent = 18 "table-inconsistent",
    /// The kernel refused the redirect.
    RedirectFailed = 19 "redirect-failed",
    /// No endpoint of the Service is usable: refused with a reset or an ICMP error.
    NoEndpoint = 20 "no-endpoint",
    /// The Service takes local endpoints only, and this node has none: dropped, so that clients try again.
    NoLocalEndpoint = 21 "no-local-endpoint",
    /// The client is in none of the Service's source ranges: dropped.
    SourceNotAllowed = 22 "source-not-allowed",
    /// An address of a Service, a port that no Service has there: refused.
    NoServicePort = 23 "no-service-port",
    /// An address of the Service range that no Service has: dropped.
    NoService = 24 "no-service",
    /// No room for a new flow: dropped.
    FlowTableFull = 25 "flow-table-full",
    /// No source port is free for another masqueraded flow to this endpoint: dropped.
    NoMasqueradePort = 26 "no-masquerade-port",
    /// The interface has no address to masquerade the flow to: dropped.
    NoMasqueradeAddress = 27 "no-masquerade-address",
    /// Fragment of a packet to a Service, whose first was not seen: dropped.
    ServiceFragment = 28 "service-fragment",
    /// To a Service, of a protocol that Services do not have, or with options, or cut short, or an error about no flow: dropped.
    ServiceProtocol = 29 "service-protocol",
    /// To a Service; the kernel sends it on, to the endpoint.
    Translated = 31 "translated",
    /// No way to the endpoint that was chosen is known: dropped.
    EndpointUnreachable = 32 "endpoint-unreachable",
    /// No endpoint or no such port, and a packet that nobody may answer (a reset, an error): dropped.
    RefusedSilently = 33 "refused-silently",
    /// To a Service without an endpoint, or to a port that no Service has: TC refuses it.
    RefusedAtTc = 34 "refused-at-tc",
    /// To a Service, and of a kind that TC looks at (ICMP, fragments).
    ServiceAtTc = 35 "service-at-tc",
    /// Echo request to an address of a Service: answered.
    EchoAnswered = 36 "echo-answered",
    /// Of a Service, and larger than the MTU of its way: refused with that MTU.
    ServiceTooBig = 37 "service-too-big",
    /// An egress policy denies it: dropped.
    EgressDenied = 38 "egress-denied",
    /// An egress policy denies it and says so: refused.
    EgressRejected = 39 "egress-rejected",
    /// Its egress policy asks for what this node does not have now: dropped.
    EgressDegraded = 40 "egress-degraded",
    /// From a pod whose labels are not known yet, while policies go by labels: dropped.
    EgressUnknownSource = 41 "egress-unknown-source",
    /// To be translated on its way out, and of a protocol that cannot be: dropped.
    EgressProtocol = 42 "egress-protocol",
    /// The path that the flow's address belongs to is gone: dropped, and the flow ended.
    EgressPathGone = 43 "egress-path-gone",
    /// Fragment on its way out, whose first was not seen: dropped.
    EgressFragment = 44 "egress-fragment",
    /// No address of the policy is one of the interface that the packet leaves by: dropped.
    EgressNoAddress = 45 "egress-no-address",
    /// Not an address of the pod that sent it: dropped.
    SpoofedSource = 46 "spoofed-source",
    /// Sent by the node, nothing to do with it.
    Outgoing = 47 "outgoing",
    /// To be translated on its way out, and its route leads by an interface that is none of netroute's: dropped.
    EgressUnmanaged = 48 "egress-unmanaged",
}

/// What becomes of a packet that is not forwarded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    Pass,
    Answer,
    Drop,
}

impl Reason {
    /// Each reason has one.
    pub const fn fate(self) -> Fate {
        match self {
            Self::NoEndpoint
            | Self::NoServicePort
            | Self::EchoAnswered
            | Self::ServiceTooBig
            | Self::EgressRejected => Fate::Answer,
            Self::RefusedSilently
            | Self::NoLocalEndpoint
            | Self::SourceNotAllowed
            | Self::NoService
            | Self::FlowTableFull
            | Self::NoMasqueradePort
            | Self::NoMasqueradeAddress
            | Self::ServiceFragment
            | Self::ServiceProtocol
            | Self::EndpointUnreachable
            | Self::EgressDenied
            | Self::EgressDegraded
            | Self::EgressUnknownSource
            | Self::EgressProtocol
            | Self::EgressPathGone
            | Self::EgressFragment
            | Self::EgressNoAddress
            | Self::EgressUnmanaged
            | Self::SpoofedSource => Fate::Drop,
            _ => Fate::Pass,
        }
    }
}

/// How many reasons a hook's part of `VERDICTS` has room for.
pub const REASON_SLOTS: u32 = 64;

/// Index into `VERDICTS`.
pub const fn verdict_slot(hook: Hook, reason: Reason) -> u32 {
    (hook as u32).wrapping_mul(REASON_SLOTS).wrapping_add(reason as u32)
}

/// Entries of `VERDICTS`.
pub const VERDICT_SLOTS: u32 = REASON_SLOTS.wrapping_mul(Hook::ALL.len() as u32);

/// How a forwarded packet leaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// Out of the NIC it came in on (XDP only).
    SameNic,
    /// Through a slot of `PORTS` (XDP only).
    Port(u32),
    /// Out of the interface with this index (TC only).
    Interface(u32),
    /// To the other end of the pod veth with this index (TC only).
    Pod(u32),
    /// Out of the NIC that it was about to leave by (TC egress only).
    Onward,
}

/// The end of every packet's way through a program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "a verdict that is not turned into an action lets the packet go on as if nothing was decided"]
pub enum Verdict {
    /// Up to the kernel, unchanged; or, said by the reason, as it is now.
    Pass(Reason),
    /// Rewritten; send it.
    Forward(Exit),
    /// An answer in its place.
    Answer(Reason),
    /// Goes no further.
    Drop(Reason),
}

impl Verdict {
    pub const fn reason(self) -> Reason {
        match self {
            Self::Pass(reason) | Self::Answer(reason) | Self::Drop(reason) => reason,
            Self::Forward(_) => Reason::Forwarded,
        }
    }
}
