//! What people ask to have explained: from whom, to where, by which protocol.

use std::fmt;
use std::net::IpAddr;

use netroute_common::wire::l4::{PROTOCOL_ICMP, PROTOCOL_ICMPV6, PROTOCOL_SCTP, PROTOCOL_TCP, PROTOCOL_UDP};

use crate::desired::service::ObjectKey;
use crate::input::address::{AddressError, LeadingZeros, parse_address};

/// Source port, or identifier of an echo, of who names none.
pub const SOURCE_PORT: u16 = 40_000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// An address or a pod.
    pub from: Party,
    /// An address or a Service.
    pub to: Party,
    pub protocol: Protocol,
    /// Of the destination; 0 for ICMP.
    pub port: u16,
    /// Of an echo its identifier.
    pub source_port: u16,
    /// Where the packet comes in, if that is not to be found out.
    pub interface: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Party {
    Address(IpAddr),
    Object(ObjectKey),
}

/// The packet that stands for a flow: the first of a TCP connection, a datagram, an echo request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
    Icmp,
}

impl Protocol {
    /// In the IP version of this address.
    #[must_use]
    pub const fn number(self, address: IpAddr) -> u8 {
        match self {
            Self::Tcp => PROTOCOL_TCP,
            Self::Udp => PROTOCOL_UDP,
            Self::Sctp => PROTOCOL_SCTP,
            Self::Icmp if address.is_ipv4() => PROTOCOL_ICMP,
            Self::Icmp => PROTOCOL_ICMPV6,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
            Self::Icmp => "ICMP",
        })
    }
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Object(key) => key.fmt(f),
        }
    }
}

/// What was written is no question.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    #[error("--from: {0}, nor the name of a pod (NAMESPACE/NAME)")]
    From(AddressError),
    #[error("--to: {0}, nor the name of a Service (NAMESPACE/NAME)")]
    To(AddressError),
    #[error("--to {0}: say the protocol behind a slash: ADDR:PORT/tcp, /udp or /sctp, or ADDR/icmp")]
    Protocol(String),
    #[error(
        "--to {0}: say the port behind a colon, from 1 to 65535: ADDR:PORT/PROTO, [ADDR]:PORT/PROTO for IPv6"
    )]
    Port(String),
    #[error("--to {0}: IPv6 addresses with a port stand in brackets: [ADDR]:PORT/PROTO")]
    Brackets(String),
    #[error("--to {0}: ICMP has no ports: ADDR/icmp")]
    NoPort(String),
    #[error("--from {from} and --to {to}: one is IPv4, the other IPv6")]
    Families { from: IpAddr, to: IpAddr },
}

impl Query {
    /// `from` is `ADDR` or `NAMESPACE/NAME`; `to` is `ADDR:PORT/PROTO`, `ADDR/icmp` or
    /// `NAMESPACE/NAME:PORT/PROTO`.
    ///
    /// # Errors
    /// One line that says what is wrong and what to write.
    pub fn parse(
        from: &str,
        to: &str,
        source_port: Option<u16>,
        interface: Option<String>,
    ) -> Result<Self, QueryError> {
        let from = party(from).map_err(QueryError::From)?;
        let (to, port, protocol) = target(to)?;
        if let (Party::Address(from), Party::Address(to)) = (&from, &to)
            && from.is_ipv4() != to.is_ipv4()
        {
            return Err(QueryError::Families { from: *from, to: *to });
        }
        let source_port = source_port.unwrap_or(SOURCE_PORT);
        Ok(Self { from, to, protocol, port, source_port, interface })
    }
}

fn target(text: &str) -> Result<(Party, u16, Protocol), QueryError> {
    let wrong = || QueryError::Protocol(text.to_owned());
    let (host, word) = text.trim().rsplit_once('/').ok_or_else(wrong)?;
    let protocol = match word.to_ascii_lowercase().as_str() {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        "sctp" => Protocol::Sctp,
        "icmp" | "icmpv6" => Protocol::Icmp,
        _ => return Err(wrong()),
    };
    let inside =
        |host: &str| host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).map(str::to_owned);
    if protocol == Protocol::Icmp {
        let address = inside(host).unwrap_or_else(|| host.to_owned());
        let ported = host.contains("]:") || (!host.contains("::") && host.matches(':').count() == 1);
        if ported {
            return Err(QueryError::NoPort(text.to_owned()));
        }
        return Ok((party(&address).map_err(QueryError::To)?, 0, protocol));
    }
    let (host, port) = host.rsplit_once(':').ok_or_else(|| QueryError::Port(text.to_owned()))?;
    let party = match inside(host) {
        Some(address) => parse_address(&address, LeadingZeros::Refused).map(Party::Address),
        None if host.contains(':') => return Err(QueryError::Brackets(text.to_owned())),
        None => party(host),
    };
    let digits = port.bytes().all(|byte| byte.is_ascii_digit());
    let port = port.parse::<u16>().ok().filter(|port| digits && *port != 0);
    let port = port.ok_or_else(|| QueryError::Port(text.to_owned()))?;
    Ok((party.map_err(QueryError::To)?, port, protocol))
}

/// An address, or the name of an object; without a namespace, of `default`.
fn party(text: &str) -> Result<Party, AddressError> {
    let text = text.trim();
    if let Some((namespace, name)) = text.split_once('/')
        && is_name(namespace)
        && is_name(name)
    {
        return Ok(Party::Object(ObjectKey { namespace: namespace.to_owned(), name: name.to_owned() }));
    }
    match parse_address(text, LeadingZeros::Refused) {
        Ok(address) => Ok(Party::Address(address)),
        Err(_) if is_name(text) && text.starts_with(|first: char| first.is_ascii_alphabetic()) => {
            Ok(Party::Object(ObjectKey { namespace: "default".to_owned(), name: text.to_owned() }))
        }
        Err(error) => Err(error),
    }
}

/// As of Kubernetes' objects.
fn is_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'.';
    !text.is_empty() && text.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(from: &str, to: &str) -> Result<String, String> {
        let query = Query::parse(from, to, None, None).map_err(|error| error.to_string())?;
        let Query { from, to, protocol, port, source_port, interface: _ } = query;
        Ok(format!("{from} {source_port} > {to} {port} {protocol}"))
    }

    #[test]
    fn addresses_and_names_are_understood() {
        for (from, to, expected) in [
            ("10.244.1.5", "203.0.113.10:80/tcp", "10.244.1.5 40000 > 203.0.113.10 80 TCP"),
            ("shop/web", "[2001:db8::1]:53/UDP", "shop/web 40000 > 2001:db8::1 53 UDP"),
            ("web", "shop/db:5432/tcp", "default/web 40000 > shop/db 5432 TCP"),
            ("web-0", "db:5432/sctp", "default/web-0 40000 > default/db 5432 SCTP"),
            ("10.0.0.1", "192.168.20.50/icmp", "10.0.0.1 40000 > 192.168.20.50 0 ICMP"),
            ("fd00::1", "fd20::50/icmp", "fd00::1 40000 > fd20::50 0 ICMP"),
            ("fd00::1", "[fd20::50]/icmpv6", "fd00::1 40000 > fd20::50 0 ICMP"),
            ("shop/web", "shop/db/icmp", "shop/web 40000 > shop/db 0 ICMP"),
        ] {
            assert_eq!(asked(from, to).as_deref(), Ok(expected), "{from} {to}");
        }
    }

    #[test]
    fn each_mistake_has_its_line() {
        for (from, to, part) in [
            ("10.0.0", "10.0.0.1:80/tcp", "--from: \"10.0.0\" is not an IP address, nor the name of a pod"),
            ("10.0.0.07", "10.0.0.1:80/tcp", "write 10.0.0.7"),
            ("Shop/web", "10.0.0.1:80/tcp", "--from: \"Shop/web\" is not"),
            ("10.0.0.1", "10.0.0.1", "say the protocol behind a slash"),
            ("10.0.0.1", "10.0.0.1:80/http", "say the protocol behind a slash"),
            ("10.0.0.1", "10.0.0.1/tcp", "say the port behind a colon"),
            ("10.0.0.1", "10.0.0.1:0/tcp", "from 1 to 65535"),
            ("10.0.0.1", "10.0.0.1:+80/tcp", "from 1 to 65535"),
            ("10.0.0.1", "10.0.0.1:65536/tcp", "from 1 to 65535"),
            ("fd00::1", "fd20::50:80/tcp", "stand in brackets"),
            ("10.0.0.1", "10.0.0.2:80/icmp", "ICMP has no ports"),
            ("fd00::1", "[fd20::50]:80/icmp", "ICMP has no ports"),
            ("fd00::1", "10.0.0.2:80/tcp", "one is IPv4, the other IPv6"),
            ("10.0.0.1", "camera one:80/tcp", "--to: \"camera one\" is not an IP address"),
        ] {
            let error = asked(from, to).unwrap_err();
            assert!(error.contains(part) && !error.contains('\n'), "{from} {to}: {error}");
        }
    }
}
