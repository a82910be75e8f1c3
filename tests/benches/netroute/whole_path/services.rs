//! The Services that kube-proxy's rules have in [`crate::baseline_rules`], as the product's maps hold them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::Result;
use netroute_common::layout::flow::{Masquerade, Timers};
use netroute_common::layout::route::{KIND_SERVICE, Route, UNCOUNTED};
use netroute_common::layout::service::{
    Address, Backend, FRONTEND_MASQUERADE, FrontEnd, FrontEndKey, SCOPE_EXTERNAL,
};
use netroute_user::compile::image::Image;
use netroute_user::compile::services::image::{ServiceImage, mapped};

use crate::baseline_rules::{ENDPOINTS, PORT, SERVICES, TARGET_PORT, endpoint, service};

const IPPROTO_UDP: u8 = 17;
/// As many as the kernel masquerades with.
const MASQUERADE_PORTS: (u16, u16) = (1024, 64_512);

/// Puts Services into an image whose packets leave by the interface `out`, with this address.
pub fn add(image: &mut Image, services: u32, out: u32, address4: [u8; 4]) -> Result<()> {
    let to_services = Route { group: KIND_SERVICE.into(), stats: UNCOUNTED };
    image.routes4.insert(SERVICES.parse()?, to_services);
    let (first_port, ports) = MASQUERADE_PORTS;
    let masquerade = Masquerade { address4, address6: Address::default(), first_port, ports };
    let mut of = ServiceImage {
        masquerade: BTreeMap::from([(out, masquerade)]),
        timers: Some(Timers::DEFAULT),
        ..ServiceImage::default()
    };
    for number in 0..services {
        let block = number * ENDPOINTS;
        let ids = block + 1..=block + ENDPOINTS;
        for (place, id) in (0..).zip(ids.clone()) {
            let address = mapped(IpAddr::V4(endpoint(number, place)));
            of.backends.insert(id, Backend { address, port: TARGET_PORT, flags: 0, generation: 1 });
        }
        of.blocks.insert(block, ids.collect());
        let address = mapped(IpAddr::V4(service(number)));
        let key = FrontEndKey { address, port: PORT, protocol: IPPROTO_UDP, scope: SCOPE_EXTERNAL };
        let flags = FRONTEND_MASQUERADE;
        let front_end = FrontEnd { service: number + 1, block, size: ENDPOINTS, affinity: 0, flags };
        of.front_ends.insert(key, front_end);
    }
    image.services = of;
    Ok(())
}
