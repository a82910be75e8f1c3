//! What the kernel does in between: it chooses the way of what its own processes send, and of what the fast path
//! leaves to it.

use std::net::{IpAddr, SocketAddr};

use netroute_common::layout::route::{KIND_SERVICE, fixed_id};
use netroute_common::layout::service::{FrontEnd, FrontEndKey, SCOPE_INTERNAL};
use netroute_common::services::Services as _;
use netroute_common::verdict::Hook;

use super::{Place, Scene};
use crate::api::explain_types::{ExplainView, KernelStepView, SocketStepView, StepView};
use crate::compile::services::image::{mapped, unmapped};
use crate::error::chain;
use crate::explain::packet::Shape;
use crate::explain::query::Protocol;
use crate::input::netlink::ask_route::{KernelWay, ask_route};
use crate::netlink::NetlinkError;

impl Scene<'_> {
    /// A process of the node sends: its call is translated, then the kernel chooses the NIC.
    pub(super) fn sent_by_node(&self, view: &mut ExplainView) -> Option<Place> {
        let protocol = self.query.protocol;
        let mut destination = view.destination;
        if self.sockets && matches!(protocol, Protocol::Tcp | Protocol::Udp) {
            let step = self.socket_step(destination, protocol);
            let endpoint = step.as_ref().map(|step| step.endpoint);
            view.steps.extend(step.map(StepView::Socket));
            match endpoint {
                Some(None) => return None,
                Some(Some(endpoint)) => destination = endpoint,
                None => {}
            }
        }
        let shape =
            Shape { source_mac: [0; 6], destination_mac: [0; 6], source: view.source, destination, protocol };
        self.kernel_step(shape, 0, view)
    }

    /// Asks the kernel for the way of a packet that came in on an interface (0: of a process). Where it leaves by an
    /// interface with programs, that is where it meets them.
    pub(super) fn kernel_step(&self, shape: Shape, from: u32, view: &mut ExplainView) -> Option<Place> {
        let (source, destination) = (shape.source.ip(), shape.destination.ip());
        let way = self.ask_kernel(destination, Some(source), from);
        let (step, way) = match way {
            Ok(Some(way)) => (self.kernel_view(destination, way), Some(way)),
            Ok(None) => (none("the kernel names no interface".to_owned()), None),
            Err(error) => (none(chain(&error)), None),
        };
        view.steps.push(StepView::Kernel(step));
        let KernelWay { local, ifindex, gateway, .. } = way?;
        let served = self.interfaces.is_nic(ifindex) || self.interfaces.is_pod(ifindex);
        if local || !served {
            return None;
        }
        let shape = Shape {
            source_mac: self.mac(ifindex).ok()?,
            destination_mac: self.mac_of(ifindex, gateway.unwrap_or(destination)),
            ..shape
        };
        Some(Place { hook: Hook::TcOut, ifindex, shape })
    }

    fn kernel_view(&self, destination: IpAddr, way: KernelWay) -> KernelStepView {
        let KernelWay { local, ifindex, gateway, source: _ } = way;
        let neighbour = self.neighbour(ifindex, gateway.unwrap_or(destination), None);
        KernelStepView {
            interface: Some(self.name_of(ifindex)),
            next_hop: gateway,
            neighbour: (!local).then_some(neighbour),
            local,
            reason: String::new(),
        }
    }

    /// In the runtime that this thread belongs to.
    pub(super) fn ask_kernel(
        &self,
        destination: IpAddr,
        source: Option<IpAddr>,
        from: u32,
    ) -> Result<Option<KernelWay>, NetlinkError> {
        tokio::runtime::Handle::current().block_on(ask_route(destination, source, from))
    }

    /// What becomes of a call to this address; `None` if it goes on as it is.
    fn socket_step(&self, to: SocketAddr, protocol: Protocol) -> Option<SocketStepView> {
        let Some(front_end) = self.internal_front_end(to, protocol) else {
            let route = self.tables.route_to(to.ip())?;
            let refused = route.group == fixed_id(KIND_SERVICE);
            return refused.then(|| SocketStepView { service: String::new(), endpoints: 0, endpoint: None });
        };
        let backend = match front_end.size {
            0 => None,
            _ => self.tables.slot(front_end.block).and_then(|id| self.tables.backend(id)),
        };
        Some(SocketStepView {
            service: self.service_name(front_end.service),
            endpoints: self.endpoints(to, protocol),
            endpoint: backend.map(|backend| SocketAddr::new(unmapped(backend.address), backend.port)),
        })
    }

    pub(super) fn is_front_end(&self, to: SocketAddr, protocol: Protocol) -> bool {
        matches!(protocol, Protocol::Tcp | Protocol::Udp) && self.internal_front_end(to, protocol).is_some()
    }

    fn internal_front_end(&self, to: SocketAddr, protocol: Protocol) -> Option<FrontEnd> {
        let key = FrontEndKey {
            address: mapped(to.ip()),
            port: to.port(),
            protocol: protocol.number(to.ip()),
            scope: SCOPE_INTERNAL,
        };
        self.tables.front_end(&key).copied()
    }
}

const fn none(reason: String) -> KernelStepView {
    KernelStepView { interface: None, next_hop: None, neighbour: None, local: false, reason }
}
