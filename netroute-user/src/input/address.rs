//! Addresses and prefixes as people write them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// How to read an IPv4 octet like `041`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeadingZeros {
    /// Kubernetes objects: decimal, and canonicalised.
    Decimal,
    /// The command line: a mistake, since other tools read them as octal.
    Refused,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    #[error("\"{0}\" is not an IP address")]
    NotAnAddress(String),
    #[error("\"{0}\" is not an IP address or prefix (like 192.168.20.0/24 or 2001:db8::/32)")]
    NotAPrefix(String),
    #[error("{text} has a leading zero, which some tools read as octal; write {decimal}")]
    LeadingZero { text: String, decimal: String },
    #[error("{text}: the prefix length must be a number from 0 to {max}")]
    PrefixLength { text: String, max: u8 },
    #[error("{text} has host bits set; the prefix is {network}, the single address {address}")]
    HostBits { text: String, network: IpNet, address: IpNet },
}

/// # Errors
/// When `text` is no address, or has leading zeros that are refused.
pub fn parse_address(text: &str, zeros: LeadingZeros) -> Result<IpAddr, AddressError> {
    let trimmed = text.trim();
    if trimmed.contains(':') {
        return trimmed
            .parse::<Ipv6Addr>()
            .map(IpAddr::V6)
            .map_err(|_| AddressError::NotAnAddress(text.to_owned()));
    }
    let address = ipv4(trimmed).ok_or_else(|| AddressError::NotAnAddress(text.to_owned()))?;
    let decimal = address.to_string();
    if zeros == LeadingZeros::Refused && decimal != trimmed {
        return Err(AddressError::LeadingZero { text: trimmed.to_owned(), decimal });
    }
    Ok(IpAddr::V4(address))
}

/// A prefix, or a bare address as `/32` or `/128`.
///
/// # Errors
/// When `text` is neither, has host bits set, or leading zeros that are refused.
pub fn parse_prefix(text: &str, zeros: LeadingZeros) -> Result<IpNet, AddressError> {
    let trimmed = text.trim();
    let (address, length) = match trimmed.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (trimmed, None),
    };
    let address = parse_address(address, zeros).map_err(|error| match error {
        AddressError::NotAnAddress(_) => AddressError::NotAPrefix(text.to_owned()),
        other => other,
    })?;
    let max: u8 = if address.is_ipv4() { 32 } else { 128 };
    let length = match length {
        None => max,
        Some(digits) => prefix_length(digits, max)
            .ok_or_else(|| AddressError::PrefixLength { text: trimmed.to_owned(), max })?,
    };
    let bad_length = || AddressError::PrefixLength { text: trimmed.to_owned(), max };
    let written = IpNet::new(address, length).map_err(|_| bad_length())?;
    let network = written.trunc();
    if network.addr() != address {
        return Err(AddressError::HostBits {
            text: trimmed.to_owned(),
            network,
            address: IpNet::from(address),
        });
    }
    Ok(network)
}

fn prefix_length(digits: &str, max: u8) -> Option<u8> {
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let length = plain.then(|| digits.parse::<u8>().ok())??;
    (length <= max).then_some(length)
}

/// Dotted quad, each octet decimal whatever zeros lead it.
fn ipv4(text: &str) -> Option<Ipv4Addr> {
    let mut octets = [0u8; 4];
    let mut parts = text.split('.');
    for octet in &mut octets {
        let part = parts.next()?;
        if part.is_empty() || part.len() > 4 || !part.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        *octet = part.parse().ok()?;
    }
    parts.next().is_none().then(|| Ipv4Addr::from(octets))
}

#[cfg(test)]
mod tests {
    use super::LeadingZeros::{Decimal, Refused};
    use super::*;

    fn prefix(text: &str) -> String {
        parse_prefix(text, Refused).map_or_else(|error| error.to_string(), |net| net.to_string())
    }

    #[test]
    fn r3_a_bare_address_is_a_full_length_prefix() {
        assert_eq!(prefix("192.168.20.7"), "192.168.20.7/32");
        assert_eq!(prefix("2001:DB8::1"), "2001:db8::1/128");
        assert_eq!(prefix("0.0.0.0/0"), "0.0.0.0/0");
    }

    #[test]
    fn r3_host_bits_are_an_error_that_names_the_prefix() {
        assert_eq!(
            prefix("192.168.20.7/24"),
            "192.168.20.7/24 has host bits set; the prefix is 192.168.20.0/24, \
             the single address 192.168.20.7/32"
        );
        assert!(prefix("2001:db8::1/64").contains("the prefix is 2001:db8::/64"));
    }

    #[test]
    fn r3_leading_zeros_are_decimal_in_objects_and_refused_at_the_command_line() {
        assert_eq!(parse_address("172.30.0.041", Decimal).unwrap().to_string(), "172.30.0.41");
        assert_eq!(parse_prefix("010.000.0.0/8", Decimal).unwrap().to_string(), "10.0.0.0/8");
        assert_eq!(
            parse_address("172.30.0.041", Refused).unwrap_err().to_string(),
            "172.30.0.041 has a leading zero, which some tools read as octal; write 172.30.0.41"
        );
    }

    #[test]
    fn nonsense_is_refused() {
        for text in
            ["", "/", "1.2.3", "1.2.3.4.5", "1.2.3.256", "1.2.3.4/", "::/x", "camera", "1.2.3.-4", "+1.2.3.4"]
        {
            assert!(parse_prefix(text, Decimal).is_err(), "{text}");
        }
        assert_eq!(prefix("10.0.0.0/33"), "10.0.0.0/33: the prefix length must be a number from 0 to 32");
        assert_eq!(prefix("::/129"), "::/129: the prefix length must be a number from 0 to 128");
    }
}
