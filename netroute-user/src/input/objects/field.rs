//! Reads single fields of Kubernetes objects; what cannot be used is refused by the field's name.

use std::net::IpAddr;

use ipnet::IpNet;

use super::net_route::not_routed;
use crate::desired::service::Family;
use crate::input::address::{AddressError, LeadingZeros, parse_address, parse_prefix};
use crate::input::yaml::{Step, advice, written};

/// What is wrong with the field at `path`; one line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {fault}", written(path))]
pub struct FieldError {
    pub path: Vec<Step<'static>>,
    pub fault: Fault,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("{0}")]
    Address(AddressError),
    #[error("{0} is {1}")]
    NotUnicast(IpAddr, &'static str),
    #[error("{value} is outside {least} to {most}")]
    Range { value: i32, least: i32, most: i32 },
    #[error("unknown value \"{value}\"; {}", advice(value, known))]
    Word { value: String, known: Vec<&'static str> },
    #[error("is missing; {0}")]
    Missing(&'static str),
    #[error("{0}")]
    Twice(&'static str),
    #[error("{0}")]
    Wrong(&'static str),
    #[error("{last} is before the first port, {first}; exchange them")]
    Reversed { first: u16, last: u16 },
    #[error(
        "{address} is {family}, and no destination is; give destinations of that IP version, or take it out"
    )]
    OtherFamily { address: IpAddr, family: Family },
    #[error("more than {most} {what}")]
    TooMany { what: &'static str, most: usize },
}

impl FieldError {
    pub(super) fn new(path: &[Step<'static>], fault: Fault) -> Self {
        Self { path: path.to_vec(), fault }
    }
}

/// An address that can be a Service's, an endpoint's or a node's.
pub(super) fn address(text: &str, path: &[Step<'static>]) -> Result<IpAddr, FieldError> {
    let address = parse_address(text, LeadingZeros::Decimal)
        .map_err(|error| FieldError::new(path, Fault::Address(error)))?;
    match not_routed(address, u8::MAX) {
        Some(kind) => Err(FieldError::new(path, Fault::NotUnicast(address, kind))),
        None => Ok(address),
    }
}

/// A prefix. The API server takes host bits, and means the network.
pub(super) fn prefix(text: &str, path: &[Step<'static>]) -> Result<IpNet, FieldError> {
    match parse_prefix(text, LeadingZeros::Decimal) {
        Ok(prefix) | Err(AddressError::HostBits { network: prefix, .. }) => Ok(prefix),
        Err(error) => Err(FieldError::new(path, Fault::Address(error))),
    }
}

pub(super) fn port(value: i32, path: &[Step<'static>]) -> Result<u16, FieldError> {
    let refused = || FieldError::new(path, Fault::Range { value, least: 1, most: i32::from(u16::MAX) });
    u16::try_from(value).ok().filter(|&port| port != 0).ok_or_else(refused)
}

/// A port that 0 stands for the absence of.
pub(super) fn optional_port(value: Option<i32>, path: &[Step<'static>]) -> Result<Option<u16>, FieldError> {
    value.filter(|&value| value != 0).map(|value| port(value, path)).transpose()
}

/// One of the words in `known`; the first where nothing is written.
pub(super) fn word<T: Copy>(
    value: Option<&str>,
    path: &[Step<'static>],
    known: &[(&'static str, T)],
) -> Result<T, FieldError> {
    let find = |value: &str| known.iter().find(|(word, _)| *word == value);
    let found = match value {
        None | Some("") => known.first(),
        Some(value) => find(value),
    };
    let refused = || {
        let words = known.iter().map(|&(word, _)| word).collect();
        FieldError::new(path, Fault::Word { value: value.unwrap_or_default().to_owned(), known: words })
    };
    found.map(|&(_, meaning)| meaning).ok_or_else(refused)
}
