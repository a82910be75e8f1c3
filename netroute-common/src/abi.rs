//! Names and sizes that the loader and the programs must agree on.
//!
//! A change of any map's key or value layout changes `abi.txt` and asks for a new [`ABI_VERSION`]:
//! the maps of another version are pinned in another folder, so an upgrade loads beside them.

/// Version of the map layouts; part of the pin path.
pub const ABI_VERSION: u32 = 1;

/// Folder below the BPF file system where maps and links of this ABI version are pinned.
pub const PIN_FOLDER: &str = "v1";

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

/// The global constant in `.rodata` that makes an XDP program the program of one NIC.
pub const GLOBAL_NIC: &str = "NIC";

pub const PROGRAM_XDP_NIC: &str = "xdp_nic";
pub const PROGRAM_TC_NIC: &str = "tc_nic";
pub const PROGRAM_TC_POD: &str = "tc_pod";

/// Default capacities; the agent's configuration overrides them (`limits`).
pub const DEFAULT_ROUTES4: u32 = 262_144;
/// 2 KiB each.
pub const DEFAULT_BLOCKS4: u32 = 8_192;
pub const DEFAULT_ROUTES6: u32 = 131_072;
pub const DEFAULT_GROUPS: u32 = 4_096;
pub const DEFAULT_NEXTHOPS: u32 = 4_096;
pub const DEFAULT_ROUTE_STATS: u32 = 131_072;
/// Slots of the device map that XDP redirects through.
pub const MAX_PORTS: u32 = 64;

/// Route protocol number (`rtm_protocol`) of everything the agent writes into the kernel's FIB.
/// Unassigned in `include/uapi/linux/rtnetlink.h` as of Linux 6.18.
pub const RTPROT_NETROUTE: u8 = 78;
