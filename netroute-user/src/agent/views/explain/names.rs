//! Names for the numbers in maps.

use std::net::{IpAddr, SocketAddr};

use super::Scene;
use crate::agent::views::{mac_text, name_of};
use crate::api::explain_types::NeighbourView;
use crate::compile::services::selection::{FrontEndAddress, Scope, ServicePort};
use crate::desired::service::Protocol as Served;
use crate::explain::query::Protocol;
use crate::kernel::NeighbourKey;

impl Scene<'_> {
    /// Alias of a NIC, name of another device.
    pub(super) fn name_of(&self, ifindex: u32) -> String {
        name_of(&self.interfaces, &self.snapshot.kernel, ifindex)
    }

    /// `NAMESPACE/NAME` of a Service by the number of one of its ports.
    pub(super) fn service_name(&self, service: u32) -> String {
        let ids = &self.snapshot.compiled.services.ids.ids;
        let found = ids.iter().find(|(_, id)| **id == service);
        let name =
            |(ServicePort { namespace, name, .. }, _): (&ServicePort, &u32)| format!("{namespace}/{name}");
        found.map_or_else(|| "-".to_owned(), name)
    }

    /// How many endpoints a front end has; of two scopes those inside come first.
    pub(super) fn endpoints(&self, at: SocketAddr, protocol: Protocol) -> u32 {
        let protocol = match protocol {
            Protocol::Tcp => Served::Tcp,
            Protocol::Udp => Served::Udp,
            Protocol::Sctp => Served::Sctp,
            Protocol::Icmp => return 0,
        };
        let front_ends = &self.snapshot.compiled.services.selection.front_ends;
        let of =
            |scope| front_ends.get(&FrontEndAddress { address: at.ip(), port: at.port(), protocol, scope });
        let found = of(Scope::Internal).or_else(|| of(Scope::External));
        found.map_or(0, |found| u32::try_from(found.endpoints.len()).unwrap_or(u32::MAX))
    }

    /// A neighbour as the kernel knows it; `mac` is what the maps have.
    pub(super) fn neighbour(&self, ifindex: u32, address: IpAddr, mac: Option<[u8; 6]>) -> NeighbourView {
        let known = self.snapshot.kernel.neighbours.get(&NeighbourKey { ifindex, address });
        let mac = mac.filter(|mac| *mac != [0; 6]).or_else(|| known.and_then(|known| known.mac));
        NeighbourView {
            state: known
                .map_or_else(|| "none".to_owned(), |known| format!("{:?}", known.state).to_lowercase()),
            mac: mac.map(mac_text),
        }
    }
}
