//! `from` and `to` of an `EgressPolicy`.

use std::collections::BTreeSet;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::egress_policy::{ExpressionSpec, FromSpec, PortSpec, SelectorSpec, ToSpec};
use super::field::{Fault, FieldError, port, word};
use super::service::PROTOCOLS;
use crate::desired::egress::{Expression, From, Operator, PortRange, Selector, To};
use crate::input::address::{LeadingZeros, parse_prefix};
use crate::input::yaml::Step::{self, Index, Key};

#[derive(Clone, Copy)]
enum Word {
    In,
    NotIn,
    Exists,
    DoesNotExist,
}

const OPERATORS: [(&str, Word); 4] = [
    ("In", Word::In),
    ("NotIn", Word::NotIn),
    ("Exists", Word::Exists),
    ("DoesNotExist", Word::DoesNotExist),
];

pub(super) fn from(spec: &FromSpec) -> Result<From, FieldError> {
    let FromSpec { pod_selector, namespace_selector, cidrs, node } = spec;
    let selector =
        |key, spec: &Option<SelectorSpec>| spec.as_ref().map(|spec| selector(key, spec)).transpose();
    Ok(From {
        pods: selector("podSelector", pod_selector)?,
        namespaces: selector("namespaceSelector", namespace_selector)?,
        cidrs: prefixes(["from", "cidrs"], cidrs)?,
        node: *node,
    })
}

fn selector(of: &'static str, spec: &SelectorSpec) -> Result<Selector, FieldError> {
    let SelectorSpec { match_labels, match_expressions } = spec;
    let written = match_expressions.iter().enumerate();
    let expressions = written.map(|(index, spec)| {
        expression(spec, |key| {
            vec![Key("spec"), Key("from"), Key(of), Key("matchExpressions"), Index(index), Key(key)]
        })
    });
    Ok(Selector { equal: match_labels.clone(), expressions: expressions.collect::<Result<_, _>>()? })
}

fn expression(
    spec: &ExpressionSpec,
    path: impl Fn(&'static str) -> Vec<Step<'static>>,
) -> Result<Expression, FieldError> {
    let ExpressionSpec { key, operator, values } = spec;
    if key.is_empty() {
        return Err(FieldError::new(&path("key"), Fault::Missing("name a label")));
    }
    if operator.is_empty() {
        return Err(FieldError::new(
            &path("operator"),
            Fault::Missing("write In, NotIn, Exists or DoesNotExist"),
        ));
    }
    let word = word(Some(operator), &path("operator"), &OPERATORS)?;
    let wants_values = matches!(word, Word::In | Word::NotIn);
    if wants_values && values.is_empty() {
        return Err(FieldError::new(&path("values"), Fault::Missing("In and NotIn ask for at least one")));
    }
    if !wants_values && !values.is_empty() {
        let fault = Fault::Wrong("Exists and DoesNotExist have none; leave it out");
        return Err(FieldError::new(&path("values"), fault));
    }
    let values: BTreeSet<String> = values.iter().cloned().collect();
    let operator = match word {
        Word::In => Operator::In(values),
        Word::NotIn => Operator::NotIn(values),
        Word::Exists => Operator::Exists,
        Word::DoesNotExist => Operator::DoesNotExist,
    };
    Ok(Expression { key: key.clone(), operator })
}

pub(super) fn to(spec: &ToSpec) -> Result<To, FieldError> {
    let ToSpec { cidrs, except, ports } = spec;
    let mut cidrs: BTreeSet<IpNet> = prefixes(["to", "cidrs"], cidrs)?.into_iter().collect();
    if cidrs.is_empty() {
        cidrs = [IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())].into();
    }
    let except = prefixes(["to", "except"], except)?.into_iter().collect();
    let ports = ports.iter().enumerate().map(|(index, spec)| port_range(index, spec));
    Ok(To { cidrs, except, ports: ports.collect::<Result<_, _>>()? })
}

/// Unlike Services' source ranges, which the API server takes with host bits: who writes
/// 10.0.0.1/8 here may have meant the one address.
fn prefixes(of: [&'static str; 2], texts: &[String]) -> Result<Vec<IpNet>, FieldError> {
    let [outer, inner] = of;
    let parse = |(index, text): (usize, &String)| {
        let path = [Key("spec"), Key(outer), Key(inner), Index(index)];
        let prefix = parse_prefix(text, LeadingZeros::Decimal)
            .map_err(|error| FieldError::new(&path, Fault::Address(error)))?;
        match prefix {
            IpNet::V6(mapped) if mapped.addr().to_ipv4_mapped().is_some() && mapped.prefix_len() >= 96 => {
                let fault = Fault::NotUnicast(prefix.addr(), "an IPv4-mapped address; write it as IPv4");
                Err(FieldError::new(&path, fault))
            }
            _ => Ok(prefix),
        }
    };
    texts.iter().enumerate().map(parse).collect()
}

fn port_range(index: usize, spec: &PortSpec) -> Result<PortRange, FieldError> {
    let path = |key| [Key("spec"), Key("to"), Key("ports"), Index(index), Key(key)];
    let PortSpec { protocol, port: first, end_port } = spec;
    let Some(protocol) = protocol.as_deref().filter(|text| !text.is_empty()) else {
        let fault = Fault::Missing("say of which protocol the port is: TCP, UDP or SCTP");
        return Err(FieldError::new(&path("protocol"), fault));
    };
    let protocol = word(Some(protocol), &path("protocol"), &PROTOCOLS)?;
    let first = first.map(|value| port(value, &path("port"))).transpose()?;
    let last = end_port.map(|value| port(value, &path("endPort"))).transpose()?;
    match (first, last) {
        (None, None) => Ok(PortRange { protocol, first: 0, last: u16::MAX }),
        (None, Some(_)) => Err(FieldError::new(
            &path("endPort"),
            Fault::Wrong("there is no port that it could end; give port"),
        )),
        (Some(first), Some(last)) if last < first => {
            Err(FieldError::new(&path("endPort"), Fault::Reversed { first, last }))
        }
        (Some(first), last) => Ok(PortRange { protocol, first, last: last.unwrap_or(first) }),
    }
}
