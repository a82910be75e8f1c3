//! One entry of a flow table, whatever its family.

use std::net::{IpAddr, SocketAddr};

use netroute_common::layout::flow::{
    FLOW_REPLY, Flow, FlowKey4, FlowKey6, STATE_CLOSING, STATE_ESTABLISHED, STATE_OPENING,
};
use netroute_common::layout::service::Address;
use serde::{Deserialize, Serialize};

use crate::compile::services::image::{mapped, unmapped};

/// What packets of one direction carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tuple {
    /// IP protocol number.
    pub protocol: u8,
    pub source: SocketAddr,
    pub destination: SocketAddr,
}

/// How far a flow has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum FlowState {
    /// No answer yet
    Opening,
    /// Packets went both ways
    Established,
    /// Both sides have sent FIN
    Closing,
    /// One side has sent RST
    Reset,
}

impl FlowState {
    #[must_use]
    pub const fn of(flow: &Flow) -> Self {
        match flow.state {
            STATE_OPENING => Self::Opening,
            STATE_ESTABLISHED => Self::Established,
            STATE_CLOSING => Self::Closing,
            _ => Self::Reset,
        }
    }

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Opening => "opening",
            Self::Established => "established",
            Self::Closing => "closing",
            Self::Reset => "reset",
        }
    }
}

/// One direction of a flow: its key and what is known under it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub tuple: Tuple,
    pub flow: Flow,
}

impl Entry {
    #[must_use]
    pub const fn is_reply(&self) -> bool {
        self.flow.flags & FLOW_REPLY != 0
    }

    /// What the packets become.
    #[must_use]
    pub fn rewritten(&self) -> Tuple {
        let Flow { source, destination, source_port, destination_port, .. } = self.flow;
        Tuple {
            protocol: self.tuple.protocol,
            source: SocketAddr::new(unmapped(source), source_port),
            destination: SocketAddr::new(unmapped(destination), destination_port),
        }
    }

    /// The address that the client's packets leave with, if it is not the client's.
    #[must_use]
    pub fn translated(&self) -> Option<IpAddr> {
        let address = self.rewritten().source.ip();
        (!self.is_reply() && address != self.tuple.source.ip()).then_some(address)
    }

    /// Key of the other direction's entry.
    #[must_use]
    pub fn other(&self) -> Tuple {
        let Tuple { protocol, source, destination } = self.rewritten();
        Tuple { protocol, source: destination, destination: source }
    }

    /// The client's own address, in either direction's entry.
    #[must_use]
    pub fn client(&self) -> IpAddr {
        if self.is_reply() { unmapped(self.flow.destination) } else { self.tuple.source.ip() }
    }
}

/// Keys of the two families' tables.
pub(super) trait FlowKey: aya::Pod + PartialEq + Send + Sync {
    fn tuple(&self) -> Tuple;

    /// `None`: a tuple of the other family.
    fn of(tuple: &Tuple) -> Option<Self>;
}

/// Numbers beyond are in no packet.
fn protocol(number: u32) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX)
}

impl FlowKey for FlowKey4 {
    fn tuple(&self) -> Tuple {
        Tuple {
            protocol: protocol(self.protocol),
            source: SocketAddr::new(self.source.into(), self.source_port),
            destination: SocketAddr::new(self.destination.into(), self.destination_port),
        }
    }

    fn of(tuple: &Tuple) -> Option<Self> {
        let (IpAddr::V4(source), IpAddr::V4(destination)) = (tuple.source.ip(), tuple.destination.ip())
        else {
            return None;
        };
        Some(Self {
            source: source.octets(),
            destination: destination.octets(),
            source_port: tuple.source.port(),
            destination_port: tuple.destination.port(),
            protocol: tuple.protocol.into(),
        })
    }
}

impl FlowKey for FlowKey6 {
    fn tuple(&self) -> Tuple {
        let at = |Address { octets }, port| SocketAddr::new(IpAddr::from(octets), port);
        Tuple {
            protocol: protocol(self.protocol),
            source: at(self.source, self.source_port),
            destination: at(self.destination, self.destination_port),
        }
    }

    fn of(tuple: &Tuple) -> Option<Self> {
        let (source, destination) = (tuple.source.ip(), tuple.destination.ip());
        (source.is_ipv6() && destination.is_ipv6()).then(|| Self {
            source: mapped(source),
            destination: mapped(destination),
            source_port: tuple.source.port(),
            destination_port: tuple.destination.port(),
            protocol: tuple.protocol.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tuple(source: &str, destination: &str) -> Tuple {
        Tuple { protocol: 6, source: source.parse().unwrap(), destination: destination.parse().unwrap() }
    }

    #[test]
    fn keys_and_tuples_are_the_same_in_two_words() {
        let four = tuple("10.0.0.1:40000", "10.96.0.10:80");
        let six = tuple("[2001:db8::1]:40000", "[fd00::10]:80");
        assert_eq!(FlowKey4::of(&four).unwrap().tuple(), four);
        assert_eq!(FlowKey6::of(&six).unwrap().tuple(), six);
        assert!(FlowKey4::of(&six).is_none() && FlowKey6::of(&four).is_none());
    }

    #[test]
    fn both_directions_know_the_client_and_each_other() {
        let at = |text: &str| mapped(text.parse().unwrap());
        let flow = Flow {
            source: at("192.168.20.2"),
            destination: at("10.244.1.5"),
            source_port: 61_000,
            destination_port: 8080,
            ..Flow::default()
        };
        let client = Entry { tuple: tuple("10.0.0.1:40000", "10.96.0.10:80"), flow };
        let answers = Flow {
            source: at("10.96.0.10"),
            destination: at("10.0.0.1"),
            source_port: 80,
            destination_port: 40_000,
            flags: FLOW_REPLY,
            ..Flow::default()
        };
        let answers = Entry { tuple: client.other(), flow: answers };
        assert_eq!(answers.tuple, tuple("10.244.1.5:8080", "192.168.20.2:61000"));
        assert_eq!(answers.other(), client.tuple);
        assert_eq!([client.client(), answers.client()].map(|ip| ip.to_string()), ["10.0.0.1"; 2]);
    }
}
