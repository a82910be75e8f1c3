//! What an `EgressPolicy` does with what it applies to.

use std::net::IpAddr;

use netroute_common::layout::egress::MAX_SNAT_ADDRESSES;
use netroute_common::layout::route::MAX_MEMBERS;

use super::egress_policy::{EgressPolicySpec, SnatSpec, ViaSpec};
use super::field::{Fault, FieldError, address, word};
use crate::desired::egress::{Action, Effect, To, Via};
use crate::desired::route::DEFAULT_METRIC;
use crate::desired::service::Family;
use crate::input::yaml::Step::{Index, Key};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Word {
    Allow,
    Deny,
    Masquerade,
    Snat,
}

const ACTIONS: [(&str, Word); 4] =
    [("Allow", Word::Allow), ("Deny", Word::Deny), ("Masquerade", Word::Masquerade), ("Snat", Word::Snat)];
const DENIALS: [(&str, bool); 2] = [("Drop", false), ("Reject", true)];

pub(super) fn effect(spec: &EgressPolicySpec, to: &To) -> Result<Effect, FieldError> {
    let EgressPolicySpec { action, deny, snat, via, priority: _, from: _, to: _ } = spec;
    if action.is_empty() {
        let fault = Fault::Missing("write Allow, Deny, Masquerade or Snat");
        return Err(FieldError::new(&[Key("spec"), Key("action")], fault));
    }
    let action = word(Some(action), &[Key("spec"), Key("action")], &ACTIONS)?;
    let reject = word(deny.as_deref(), &[Key("spec"), Key("deny")], &DENIALS)?;
    let needless = |key, text| Err(FieldError::new(&[Key("spec"), Key(key)], Fault::Wrong(text)));
    if deny.is_some() && action != Word::Deny {
        return needless("deny", "only the action Deny has it");
    }
    let asks = |snat: &SnatSpec| !snat.addresses.is_empty();
    if snat.as_ref().is_some_and(asks) && action != Word::Snat {
        return needless("snat", "only the action Snat has addresses");
    }
    if !via.is_empty() && action == Word::Deny {
        return needless("via", "what is denied goes nowhere");
    }
    let action = match action {
        Word::Allow => Action::Allow,
        Word::Deny => Action::Deny { reject },
        Word::Masquerade => Action::Masquerade,
        Word::Snat => Action::Snat(addresses(snat.as_ref(), to)?),
    };
    Ok(Effect { action, via: vias(via, to)? })
}

fn addresses(spec: Option<&SnatSpec>, to: &To) -> Result<Vec<IpAddr>, FieldError> {
    let list = [Key("spec"), Key("snat"), Key("addresses")];
    let [spec_key, snat, key] = list;
    let written = spec.map(|spec| spec.addresses.as_slice()).unwrap_or_default();
    if written.is_empty() {
        return Err(FieldError::new(&list, Fault::Missing("the action Snat asks for at least one address")));
    }
    let mut found: Vec<IpAddr> = Vec::with_capacity(written.len());
    for (index, text) in written.iter().enumerate() {
        let path = [spec_key, snat, key, Index(index)];
        let address = address(text, &path)?;
        if found.contains(&address) {
            return Err(FieldError::new(&path, Fault::Twice("the same address is there twice")));
        }
        fits(address, to).map_err(|fault| FieldError::new(&path, fault))?;
        found.push(address);
        let of_family = found.iter().filter(|one| one.is_ipv4() == address.is_ipv4()).count();
        if of_family > usize::from(MAX_SNAT_ADDRESSES) {
            let most = usize::from(MAX_SNAT_ADDRESSES);
            return Err(FieldError::new(&path, Fault::TooMany { what: "addresses of one IP version", most }));
        }
    }
    Ok(found)
}

fn vias(specs: &[ViaSpec], to: &To) -> Result<Vec<Via>, FieldError> {
    let mut found: Vec<Via> = Vec::with_capacity(specs.len());
    for (index, spec) in specs.iter().enumerate() {
        let ViaSpec { interface, next_hop, metric } = spec;
        let path = |key| [Key("spec"), Key("via"), Index(index), Key(key)];
        let interface = interface.trim();
        if interface.is_empty() {
            let fault = Fault::Missing("name an interface of the agent's configuration");
            return Err(FieldError::new(&path("interface"), fault));
        }
        let next_hop = address(next_hop, &path("nextHop"))?;
        fits(next_hop, to).map_err(|fault| FieldError::new(&path("nextHop"), fault))?;
        let metric = metric.unwrap_or(DEFAULT_METRIC);
        if metric == 0 {
            let fault = Fault::Wrong("must be 1 to 4294967295; lower is preferred");
            return Err(FieldError::new(&path("metric"), fault));
        }
        let same = |via: &Via| via.next_hop == next_hop && via.interface.eq_ignore_ascii_case(interface);
        if found.iter().any(same) {
            return Err(FieldError::new(&path("nextHop"), Fault::Twice("the same next hop is there twice")));
        }
        found.push(Via { interface: interface.to_owned(), next_hop, metric });
        let of_family = found.iter().filter(|via| via.next_hop.is_ipv4() == next_hop.is_ipv4()).count();
        if of_family > MAX_MEMBERS {
            let fault = Fault::TooMany { what: "next hops of one IP version", most: MAX_MEMBERS };
            return Err(FieldError::new(&path("nextHop"), fault));
        }
    }
    Ok(found)
}

/// Whether the policy has destinations of the address's IP version.
fn fits(address: IpAddr, to: &To) -> Result<(), Fault> {
    let family = Family::from(address);
    let has = to.cidrs.iter().any(|prefix| Family::from(prefix.addr()) == family);
    if has { Ok(()) } else { Err(Fault::OtherFamily { address, family }) }
}
