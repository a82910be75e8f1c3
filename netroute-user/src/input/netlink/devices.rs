//! What devices can do with XDP, from the `netdev` generic netlink family (Linux 6.3).

use netlink_packet_core::{parse_u32, parse_u64};

use super::notice::{Notice, XdpTransmit};
use crate::netlink::NetlinkError;
use crate::netlink::frame::Frame;
use crate::netlink::genl::{self, Family};
use crate::netlink::request::Requests;
use crate::netlink::socket::Protocol;

const FAMILY: &str = "netdev";
/// Multicast group of device notifications.
const GROUP: &str = "mgmt";
const NETDEV_CMD_DEV_GET: u8 = 1;
const NETDEV_CMD_DEV_ADD_NTF: u8 = 2;
const NETDEV_CMD_DEV_DEL_NTF: u8 = 3;
const NETDEV_CMD_DEV_CHANGE_NTF: u8 = 4;
const NETDEV_A_DEV_IFINDEX: u16 = 1;
const NETDEV_A_DEV_XDP_FEATURES: u16 = 3;
const NETDEV_XDP_ACT_NDO_XMIT: u64 = 4;

/// The family as this kernel numbers it.
#[derive(Clone, Debug)]
pub struct Devices {
    family: Family,
}

impl Devices {
    /// `None` on kernels before 6.3.
    pub async fn find() -> Result<Option<Self>, NetlinkError> {
        let mut requests = Requests::open(Protocol::Generic)?;
        Ok(genl::family(&mut requests, FAMILY).await?.map(|family| Self { family }))
    }

    /// Group to join for notifications.
    #[must_use]
    pub fn group(&self) -> Option<u32> {
        self.family.groups.get(GROUP).copied()
    }

    /// Every device that takes, or does not take, frames redirected by XDP.
    pub async fn read(&self) -> Result<XdpTransmit, NetlinkError> {
        let mut requests = Requests::open(Protocol::Generic)?;
        let request = genl::request(self.family.id, 0, NETDEV_CMD_DEV_GET, &[]);
        requests
            .dump("the XDP features of devices", &request, XdpTransmit::new, |found, frame| {
                if let Some(Notice::XdpTransmit(ifindex, Some(transmit))) = self.notice(frame) {
                    found.insert(ifindex, transmit);
                }
            })
            .await
    }

    /// Parses a notification or dump message of the family.
    #[must_use]
    pub fn notice(&self, frame: &Frame<'_>) -> Option<Notice> {
        if frame.kind != self.family.id {
            return None;
        }
        let (command, rest) = genl::split(frame.payload)?;
        let (mut ifindex, mut features) = (None, None);
        for attribute in genl::attributes(rest) {
            match attribute.kind() {
                NETDEV_A_DEV_IFINDEX => ifindex = parse_u32(attribute.value()).ok(),
                NETDEV_A_DEV_XDP_FEATURES => features = parse_u64(attribute.value()).ok(),
                _ => {}
            }
        }
        match command {
            NETDEV_CMD_DEV_GET | NETDEV_CMD_DEV_ADD_NTF | NETDEV_CMD_DEV_CHANGE_NTF => {
                let transmit = features? & NETDEV_XDP_ACT_NDO_XMIT != 0;
                Some(Notice::XdpTransmit(ifindex?, Some(transmit)))
            }
            NETDEV_CMD_DEV_DEL_NTF => Some(Notice::XdpTransmit(ifindex?, None)),
            _ => None,
        }
    }
}
