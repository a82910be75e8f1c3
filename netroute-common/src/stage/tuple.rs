//! What identifies a flow in one direction: addresses and ports, as they are keys of the flow tables.

use crate::checksum::Delta;
use crate::layout::flow::{Flow, FlowKey4, FlowKey6};
use crate::layout::service::Address;

/// A key of one family's flow tables.
pub trait Tuple: Copy + PartialEq {
    fn new(source: &Address, destination: &Address, ports: (u16, u16), protocol: u8) -> Self;

    fn source(&self) -> Address;

    fn destination(&self) -> Address;

    /// Source and destination, host order.
    fn ports(&self) -> (u16, u16);

    fn protocol(&self) -> u8;

    /// Host order.
    fn set_destination_port(&mut self, port: u16);

    /// What this change of addresses adds to a sum over them.
    fn addresses_changed(&self, to: &Self) -> Delta;

    /// Of the answers.
    #[inline(always)]
    #[must_use]
    fn reversed(&self) -> Self {
        let (source, destination) = self.ports();
        Self::new(&self.destination(), &self.source(), (destination, source), self.protocol())
    }

    /// What packets of this entry become.
    #[inline(always)]
    #[must_use]
    fn rewritten_by(flow: &Flow) -> Self {
        let ports = (flow.source_port, flow.destination_port);
        Self::new(&flow.source, &flow.destination, ports, flow.protocol)
    }
}

impl Tuple for FlowKey4 {
    #[inline(always)]
    fn new(source: &Address, destination: &Address, ports: (u16, u16), protocol: u8) -> Self {
        Self {
            source: source.to_v4(),
            destination: destination.to_v4(),
            source_port: ports.0,
            destination_port: ports.1,
            protocol: protocol.into(),
        }
    }

    #[inline(always)]
    fn source(&self) -> Address {
        Address::v4(self.source)
    }

    #[inline(always)]
    fn destination(&self) -> Address {
        Address::v4(self.destination)
    }

    #[inline(always)]
    fn ports(&self) -> (u16, u16) {
        (self.source_port, self.destination_port)
    }

    #[inline(always)]
    fn protocol(&self) -> u8 {
        self.protocol as u8
    }

    #[inline(always)]
    fn set_destination_port(&mut self, port: u16) {
        self.destination_port = port;
    }

    #[inline(always)]
    fn addresses_changed(&self, to: &Self) -> Delta {
        // Of copies: what lies in a map would be read octet by octet.
        let (from, to) = (*self, *to);
        Delta::default()
            .replace_octets(&from.source, &to.source)
            .replace_octets(&from.destination, &to.destination)
    }
}

impl Tuple for FlowKey6 {
    #[inline(always)]
    fn new(source: &Address, destination: &Address, ports: (u16, u16), protocol: u8) -> Self {
        Self {
            source: *source,
            destination: *destination,
            source_port: ports.0,
            destination_port: ports.1,
            protocol: protocol.into(),
        }
    }

    #[inline(always)]
    fn source(&self) -> Address {
        self.source
    }

    #[inline(always)]
    fn destination(&self) -> Address {
        self.destination
    }

    #[inline(always)]
    fn ports(&self) -> (u16, u16) {
        (self.source_port, self.destination_port)
    }

    #[inline(always)]
    fn protocol(&self) -> u8 {
        self.protocol as u8
    }

    #[inline(always)]
    fn set_destination_port(&mut self, port: u16) {
        self.destination_port = port;
    }

    // Out of line: all sixteen words would be kept on the stack until the addresses are written.
    #[inline(never)]
    fn addresses_changed(&self, to: &Self) -> Delta {
        Delta::default()
            .replace_octets(&self.source.octets, &to.source.octets)
            .replace_octets(&self.destination.octets, &to.destination.octets)
    }
}
