//! Generic netlink: families by name, and the nested attributes their messages are made of.

use std::collections::BTreeMap;

use netlink_packet_core::{
    DefaultNla, Emitable, NlaBuffer, NlasIterator, parse_string, parse_u16, parse_u32,
};

use super::NetlinkError;
use super::request::{Request, Requests};

/// `genlmsghdr`: command, version, two reserved bytes.
const HEADER_BYTES: usize = 4;
const GENL_ID_CTRL: u16 = 16;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
const CTRL_ATTR_MCAST_GROUPS: u16 = 7;
const CTRL_ATTR_MCAST_GRP_NAME: u16 = 1;
const CTRL_ATTR_MCAST_GRP_ID: u16 = 2;

/// A generic netlink family of the running kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Family {
    /// Message type of its messages.
    pub id: u16,
    /// Multicast groups by name.
    pub groups: BTreeMap<String, u32>,
}

/// Looks a family up by name; `None` when this kernel does not have it.
pub async fn family(requests: &mut Requests, name: &str) -> Result<Option<Family>, NetlinkError> {
    let mut text = name.as_bytes().to_vec();
    text.push(0);
    let request =
        request(GENL_ID_CTRL, 0, CTRL_CMD_GETFAMILY, &[DefaultNla::new(CTRL_ATTR_FAMILY_NAME, text)]);
    let mut found = None;
    match requests.ask("generic netlink family", &request, |frame| found = parse_family(frame.payload)).await
    {
        Ok(()) => Ok(found),
        Err(NetlinkError::Refused { source, .. }) if source.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A request to a family.
#[must_use]
pub fn request(family: u16, flags: u16, command: u8, attributes: &[DefaultNla]) -> Request {
    let mut body = vec![0; HEADER_BYTES + attributes.buffer_len()];
    if let Some((header, rest)) = body.split_at_mut_checked(HEADER_BYTES) {
        header.copy_from_slice(&[command, 1, 0, 0]);
        attributes.emit(rest);
    }
    Request { kind: family, flags, body }
}

/// An attribute that holds attributes.
#[must_use]
pub fn nested(kind: u16, attributes: &[DefaultNla]) -> DefaultNla {
    let mut value = vec![0; attributes.buffer_len()];
    attributes.emit(&mut value);
    DefaultNla::new(kind | netlink_packet_core::NLA_F_NESTED, value)
}

/// The command and the attributes of a family's message.
#[must_use]
pub fn split(payload: &[u8]) -> Option<(u8, &[u8])> {
    let (header, attributes) = payload.split_at_checked(HEADER_BYTES)?;
    Some((*header.first()?, attributes))
}

/// The well-formed attributes of a buffer.
pub fn attributes(buffer: &[u8]) -> impl Iterator<Item = NlaBuffer<&[u8]>> {
    NlasIterator::new(buffer).map_while(Result::ok)
}

fn parse_family(payload: &[u8]) -> Option<Family> {
    let (_, rest) = split(payload)?;
    let mut id = None;
    let mut groups = BTreeMap::new();
    for attribute in attributes(rest) {
        match attribute.kind() {
            CTRL_ATTR_FAMILY_ID => id = parse_u16(attribute.value()).ok(),
            CTRL_ATTR_MCAST_GROUPS => {
                groups =
                    attributes(attribute.value()).filter_map(|group| parse_group(group.value())).collect();
            }
            _ => {}
        }
    }
    Some(Family { id: id?, groups })
}

fn parse_group(buffer: &[u8]) -> Option<(String, u32)> {
    let (mut name, mut id) = (None, None);
    for attribute in attributes(buffer) {
        match attribute.kind() {
            CTRL_ATTR_MCAST_GRP_NAME => name = parse_string(attribute.value()).ok(),
            CTRL_ATTR_MCAST_GRP_ID => id = parse_u32(attribute.value()).ok(),
            _ => {}
        }
    }
    Some((name?, id?))
}
