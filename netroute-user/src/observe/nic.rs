//! What a NIC is set to: offloads (ethtool's generic netlink family, Linux 5.8) and XDP mode.

use std::collections::{BTreeMap, BTreeSet};

use netlink_packet_core::{DefaultNla, NlasIterator, parse_string, parse_u8};
use netlink_packet_route::link::{LinkAttribute, LinkExtentMask, LinkHeader, LinkMessage};

use crate::netlink::NetlinkError;
use crate::netlink::genl;
use crate::netlink::request::{Request, Requests};
use crate::netlink::socket::Protocol;

const ETHTOOL_FAMILY: &str = "ethtool";
const ETHTOOL_MSG_FEATURES_GET: u8 = 11;
const ETHTOOL_A_FEATURES_HEADER: u16 = 1;
const ETHTOOL_A_FEATURES_ACTIVE: u16 = 4;
const ETHTOOL_A_HEADER_DEV_INDEX: u16 = 1;
const ETHTOOL_A_BITSET_BITS: u16 = 3;
const ETHTOOL_A_BITSET_BIT_NAME: u16 = 2;

const RTM_GETLINK: u16 = 18;
const LINK_HEADER_BYTES: usize = 16;
const IFLA_XDP: u16 = 43;
const IFLA_XDP_ATTACHED: u16 = 2;

/// How XDP programs of a NIC are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XdpMode {
    /// By the driver.
    Native,
    /// On socket buffers, after the driver: slower.
    Generic,
    Offloaded,
    /// Several at once.
    Multiple,
}

/// Names of the offloads that are on, as `ethtool -k` writes the long ones: `rx-lro`,
/// `rx-vlan-hw-parse`, `rx-gro`, ...; `None` if the kernel does not tell.
pub async fn active_features(ifindex: u32) -> Result<Option<BTreeSet<String>>, NetlinkError> {
    let mut requests = Requests::open(Protocol::Generic)?;
    let Some(family) = genl::family(&mut requests, ETHTOOL_FAMILY).await? else { return Ok(None) };
    let device = DefaultNla::new(ETHTOOL_A_HEADER_DEV_INDEX, ifindex.to_ne_bytes().to_vec());
    let header = genl::nested(ETHTOOL_A_FEATURES_HEADER, &[device]);
    let request = genl::request(family.id, 0, ETHTOOL_MSG_FEATURES_GET, &[header]);
    let mut names = None;
    let asked = requests.ask("offloads", &request, |frame| names = parse_features(frame.payload)).await;
    match asked {
        Ok(()) => Ok(names),
        Err(NetlinkError::Refused { source, .. })
            if matches!(source.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENODEV)) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// XDP mode by interface index, of those that have an XDP program.
pub async fn xdp_modes() -> Result<BTreeMap<u32, XdpMode>, NetlinkError> {
    let mut requests = Requests::open(Protocol::Route)?;
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    let request = Request::new(RTM_GETLINK, 0, &message);
    requests
        .dump("the links", &request, BTreeMap::new, |modes, frame| modes.extend(parse_mode(frame.payload)))
        .await
}

fn parse_features(payload: &[u8]) -> Option<BTreeSet<String>> {
    let (_, rest) = genl::split(payload)?;
    let active = genl::attributes(rest).find(|attribute| attribute.kind() == ETHTOOL_A_FEATURES_ACTIVE)?;
    // Without a mask the set lists the bits that are on.
    let bits =
        genl::attributes(active.value()).find(|attribute| attribute.kind() == ETHTOOL_A_BITSET_BITS)?;
    let name = |bit: &[u8]| {
        let name = genl::attributes(bit).find(|attribute| attribute.kind() == ETHTOOL_A_BITSET_BIT_NAME)?;
        parse_string(name.value()).ok()
    };
    Some(genl::attributes(bits.value()).filter_map(|bit| name(bit.value())).collect())
}

fn parse_mode(payload: &[u8]) -> Option<(u32, XdpMode)> {
    let header = LinkHeader::parse(payload).ok()?;
    let attributes = NlasIterator::new(payload.get(LINK_HEADER_BYTES..)?);
    let xdp = attributes.map_while(Result::ok).find(|attribute| attribute.kind() == IFLA_XDP)?;
    let attached = genl::attributes(xdp.value()).find(|attribute| attribute.kind() == IFLA_XDP_ATTACHED)?;
    let mode = match parse_u8(attached.value()).ok()? {
        1 => XdpMode::Native,
        2 => XdpMode::Generic,
        3 => XdpMode::Offloaded,
        4 => XdpMode::Multiple,
        _ => return None,
    };
    Some((header.index, mode))
}
