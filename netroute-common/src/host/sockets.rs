//! Translated sockets in memory as [`Sockets`].

use super::tables::HostTables;
use crate::layout::socket::{SocketKey, SocketPeer};
use crate::sockets::{SocketEvent, Sockets};

impl Sockets for HostTables {
    fn peer(&self, key: &SocketKey) -> Option<SocketPeer> {
        self.services.sockets.borrow().get(key).copied()
    }

    fn set_peer(&self, key: &SocketKey, peer: &SocketPeer) {
        self.services.sockets.borrow_mut().insert(*key, *peer);
    }

    fn count_socket(&self, service: u32, event: SocketEvent) {
        let mut counted = self.services.counted.borrow_mut();
        let counter = counted.entry(service).or_default();
        let field = match event {
            SocketEvent::NewFlow => &mut counter.new_flows,
            SocketEvent::NoEndpoint => &mut counter.no_endpoint,
        };
        *field = field.wrapping_add(1);
    }
}
