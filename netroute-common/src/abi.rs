//! Names and sizes that the loader and the programs must agree on.
//!
//! A change of any map's key or value layout changes `abi.txt` and asks for a new [`ABI_VERSION`]:
//! the maps of another version are pinned in another folder, so an upgrade loads beside them.

use crate::verdict::Hook;

/// Version of the map layouts; part of the pin path.
pub const ABI_VERSION: u32 = 4;

/// Folder below the BPF file system where maps and links of this ABI version are pinned.
pub const PIN_FOLDER: &str = "v4";

pub const MAP_ROUTES4: &str = "ROUTES4";
pub const MAP_ROOT4: &str = "ROOT4";
pub const MAP_BLOCKS4: &str = "BLOCKS4";
pub const MAP_ROUTES6: &str = "ROUTES6";
pub const MAP_GROUPS: &str = "GROUPS";
pub const MAP_NEXTHOPS: &str = "NEXTHOPS";
pub const MAP_PORTS: &str = "PORTS";
pub const MAP_VERDICTS: &str = "VERDICTS";
pub const MAP_ROUTE_STATS: &str = "ROUTE_STATS";
pub const MAP_NEXTHOP_STATS: &str = "NEXTHOP_STATS";
pub const MAP_FRONTENDS: &str = "FRONTENDS";
pub const MAP_SLOTS: &str = "SLOTS";
pub const MAP_BACKENDS: &str = "BACKENDS";
pub const MAP_SOURCE_RANGES: &str = "SOURCE_RANGES";
pub const MAP_AFFINITY: &str = "AFFINITY";
pub const MAP_SERVICE_STATS: &str = "SERVICE_STATS";
pub const MAP_MASQUERADE: &str = "MASQUERADE";
pub const MAP_TIMERS: &str = "TIMERS";
pub const MAP_FLOWS4: &str = "FLOWS4";
pub const MAP_FLOWS6: &str = "FLOWS6";
pub const MAP_OPENING4: &str = "OPENING4";
pub const MAP_OPENING6: &str = "OPENING6";
pub const MAP_FRAGMENTS: &str = "FRAGMENTS";
pub const MAP_PEERS: &str = "PEERS";
pub const MAP_SOCKETS: &str = "SOCKETS";
pub const MAP_SOURCES: &str = "SOURCES";
pub const MAP_EGRESS: &str = "EGRESS";
pub const MAP_EGRESS_RULES: &str = "EGRESS_RULES";
pub const MAP_EGRESS_POLICIES: &str = "EGRESS_POLICIES";
pub const MAP_EGRESS_STATS: &str = "EGRESS_STATS";
pub const MAP_SNAT: &str = "SNAT";

/// The global constant in `.rodata` that makes an XDP program the program of one NIC.
pub const GLOBAL_NIC: &str = "NIC";
/// The global constant in `.rodata` of the socket programs: 1 if they may say with what error a call fails.
pub const GLOBAL_NAMES_ERRORS: &str = "NAMES_ERRORS";

pub const PROGRAM_XDP_NIC: &str = "xdp_nic";
pub const PROGRAM_TC_NIC: &str = "tc_nic";
pub const PROGRAM_TC_POD: &str = "tc_pod";
pub const PROGRAM_TC_OUT: &str = "tc_out";

/// The program of a hook.
pub const fn program(hook: Hook) -> &'static str {
    match hook {
        Hook::XdpNic => PROGRAM_XDP_NIC,
        Hook::TcNic => PROGRAM_TC_NIC,
        Hook::TcPod => PROGRAM_TC_POD,
        Hook::TcOut => PROGRAM_TC_OUT,
    }
}

/// The programs at TC.
pub const CLASSIFIERS: [&str; 3] = [PROGRAM_TC_NIC, PROGRAM_TC_POD, PROGRAM_TC_OUT];

/// The programs of sockets.
pub const SOCKET_PROGRAMS: [&str; 8] = [
    "sock_connect4",
    "sock_connect6",
    "sock_sendmsg4",
    "sock_sendmsg6",
    "sock_recvmsg4",
    "sock_recvmsg6",
    "sock_peername4",
    "sock_peername6",
];

/// Default capacities; the agent's configuration overrides them (`limits`).
pub const DEFAULT_ROUTES4: u32 = 262_144;
/// 2 KiB each.
pub const DEFAULT_BLOCKS4: u32 = 7_168;
pub const DEFAULT_ROUTES6: u32 = 131_072;
pub const DEFAULT_GROUPS: u32 = 4_096;
pub const DEFAULT_NEXTHOPS: u32 = 4_096;
pub const DEFAULT_ROUTE_STATS: u32 = 131_072;
/// Service ports, each at each of its addresses, in both scopes.
pub const DEFAULT_FRONTENDS: u32 = 16_384;
/// Of all Maglev tables together.
pub const DEFAULT_SLOTS: u32 = 1_048_576;
pub const DEFAULT_BACKENDS: u32 = 32_768;
pub const DEFAULT_SOURCE_RANGES: u32 = 4_096;
pub const DEFAULT_AFFINITY: u32 = 16_384;
pub const DEFAULT_SERVICE_STATS: u32 = 8_192;
/// Interfaces that flows are masqueraded on.
pub const MAX_MASQUERADE: u32 = 64;
/// Entries; a flow has two.
pub const DEFAULT_FLOWS4: u32 = 65_536;
pub const DEFAULT_FLOWS6: u32 = 32_768;
pub const DEFAULT_OPENING4: u32 = 32_768;
pub const DEFAULT_OPENING6: u32 = 16_384;
/// Fragmented packets whose fragments are on their way.
pub const MAX_FRAGMENTS: u32 = 2_048;
/// Sockets that were translated; one for each of TCP, two for UDP.
pub const DEFAULT_SOCKETS: u32 = 16_384;
/// Addresses of this node's pods, and of the node.
pub const DEFAULT_SOURCES: u32 = 1_024;
/// Destination prefixes of all identities together.
pub const DEFAULT_EGRESS: u32 = 4_096;
/// Of all destinations together.
pub const DEFAULT_EGRESS_RULES: u32 = 4_096;
/// The default policy counts as one.
pub const DEFAULT_EGRESS_POLICIES: u32 = 256;
/// Of all policies together.
pub const DEFAULT_SNAT: u32 = 256;
/// Slots of the device map that XDP redirects through.
pub const MAX_PORTS: u32 = 64;

/// Route protocol number (`rtm_protocol`) of everything the agent writes into the kernel's FIB.
/// Unassigned in `include/uapi/linux/rtnetlink.h` as of Linux 6.18.
pub const RTPROT_NETROUTE: u8 = 78;
