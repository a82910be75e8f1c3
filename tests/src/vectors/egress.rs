//! Readable egress policies, and the map entries they stand for.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::{Context, Result, bail, ensure};
use netroute_common::host::egress::HostEgress;
use netroute_common::layout::egress::{
    ACTION_ALLOW, ACTION_DENY, ACTION_MASQUERADE, ACTION_SNAT, DEFAULT_POLICY, EgressPrefix, EgressRule,
    FIRST_IDENTITY, IDENTITY_CLUSTER, IDENTITY_NODE, Identity, POLICY_DEGRADED, POLICY_IN_FORCE,
    POLICY_OWN_SOURCES, POLICY_REJECT, PREFIX_PODS, Policy, RuleSet, SnatAddress,
};
use netroute_common::layout::service::Address;
use serde::{Deserialize, Serialize};

use super::cast::Interface;
use super::services::address;
use super::tables::read_prefix;

/// The egress policies of a vector. Indices are places in the order of names; `default` is the name of the
/// policy of what no rule matches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct EgressText {
    /// Changes with each change of what is installed.
    pub generation: u32,
    pub in_force: bool,
    /// Pods send from their own addresses only.
    pub own_sources: bool,
    pub default: PolicyText,
    /// Address to the name of an identity, or to `node`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub sources: BTreeMap<IpAddr, String>,
    /// Prefixes of the cluster's pods.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pods: Vec<String>,
    /// Prefixes of the cluster's Services and nodes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cluster: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub policies: BTreeMap<String, PolicyText>,
    /// By identity and prefix of destinations, in the order of precedence.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub rules: RulesText,
}

pub type RulesText = BTreeMap<String, BTreeMap<String, Vec<RuleText>>>;

impl Default for EgressText {
    fn default() -> Self {
        Self {
            generation: 1,
            in_force: true,
            own_sources: true,
            default: PolicyText::default(),
            sources: BTreeMap::new(),
            pods: Vec::new(),
            cluster: Vec::new(),
            policies: BTreeMap::new(),
            rules: BTreeMap::new(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct PolicyText {
    /// allow, deny, masquerade or snat.
    pub action: String,
    /// reject, degraded.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<String>,
    /// A group or, if there is no such group, a next hop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub via4: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub via6: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub snat: Vec<SnatText>,
}

impl Default for PolicyText {
    fn default() -> Self {
        let action = "allow".into();
        Self { action, flags: Vec::new(), via4: None, via6: None, snat: Vec::new() }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SnatText {
    pub address: IpAddr,
    pub interface: String,
    pub first_port: u16,
    pub ports: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RuleText {
    pub policy: String,
    /// tcp, udp, sctp, icmp, icmpv6 or a number; every one if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// From the first to the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports: Option<[u16; 2]>,
}

/// What is otherwise from a step on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct EgressChange {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_force: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<PolicyText>,
    /// All of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sources: Option<BTreeMap<IpAddr, String>>,
    /// Those that change.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub policies: BTreeMap<String, PolicyText>,
    /// All of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rules: Option<RulesText>,
}

/// Entries of the maps of egress policies, as numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EgressSet {
    pub sources: BTreeMap<Address, Identity>,
    /// By prefix length and prefix.
    pub rule_sets: BTreeMap<(u32, EgressPrefix), RuleSet>,
    pub rules: BTreeMap<u32, EgressRule>,
    pub policies: BTreeMap<u32, Policy>,
    pub snat: BTreeMap<u32, SnatAddress>,
    /// Index of each policy of the text.
    pub names: BTreeMap<String, u32>,
    /// What was compiled.
    pub text: EgressText,
}

impl EgressSet {
    pub fn on_host(&self) -> HostEgress {
        let Self { sources, rule_sets, rules, policies, snat, names: _, text: _ } = self;
        HostEgress {
            sources: sources.clone(),
            rule_sets: rule_sets.iter().map(|(&(length, prefix), &set)| (length, prefix, set)).collect(),
            rules: rules.clone(),
            policies: policies.clone(),
            snat: snat.clone(),
            ..HostEgress::default()
        }
    }

    pub fn index(&self, name: &str) -> Result<u32> {
        // A number that no agent writes.
        let known = self.names.get(name).copied().or_else(|| name.parse().ok());
        known.with_context(|| format!("no policy `{name}`"))
    }
}

impl EgressText {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// `group` finds the index of a group by name.
    pub fn compile(&self, mut group: impl FnMut(&str) -> Result<u32>) -> Result<EgressSet> {
        let mut set = EgressSet { text: self.clone(), ..EgressSet::default() };
        if self.is_empty() {
            return Ok(set);
        }
        let mut default = self.default.entry(&mut set, &mut group).context("the default policy")?;
        default.generation = self.generation;
        default.flags |= if self.in_force { POLICY_IN_FORCE } else { 0 };
        default.flags |= if self.own_sources { POLICY_OWN_SOURCES } else { 0 };
        set.policies.insert(DEFAULT_POLICY, default);
        set.names.insert("default".into(), DEFAULT_POLICY);
        for (index, (name, text)) in (DEFAULT_POLICY + 1..).zip(&self.policies) {
            let entry = text.entry(&mut set, &mut group).with_context(|| format!("policy `{name}`"))?;
            set.policies.insert(index, entry);
            ensure!(set.names.insert(name.clone(), index).is_none(), "two policies `{name}`");
        }
        for (prefixes, flags) in [(&self.pods, PREFIX_PODS), (&self.cluster, 0)] {
            for prefix in prefixes {
                let key = key(IDENTITY_CLUSTER, prefix)?;
                set.rule_sets.insert(key, RuleSet { flags, ..RuleSet::default() });
            }
        }
        self.enter_rules(&mut set)?;
        Ok(set)
    }

    fn enter_rules(&self, set: &mut EgressSet) -> Result<()> {
        let names: std::collections::BTreeSet<&String> =
            self.sources.values().chain(self.rules.keys()).collect();
        let others = names.into_iter().filter(|name| *name != "node");
        let mut identities: BTreeMap<&str, Identity> =
            others.map(String::as_str).zip(FIRST_IDENTITY..).collect();
        identities.insert("node", IDENTITY_NODE);
        for (&source, name) in &self.sources {
            set.sources.insert(address(source), identities[name.as_str()]);
        }
        let mut first = 1;
        for (name, destinations) in &self.rules {
            for (prefix, rules) in destinations {
                let count = u16::try_from(rules.len())?;
                let key = key(identities[name.as_str()], prefix)?;
                set.rule_sets.insert(key, RuleSet { first, count, flags: 0 });
                for (index, rule) in (first..).zip(rules) {
                    let entry = rule.entry(set).with_context(|| format!("a rule of `{name}` to {prefix}"))?;
                    set.rules.insert(index, entry);
                }
                first += u32::from(count);
            }
        }
        Ok(())
    }

    pub fn change(&mut self, change: &EgressChange) -> Result<()> {
        let EgressChange { generation, in_force, default, sources, policies, rules } = change.clone();
        self.generation = generation.unwrap_or(self.generation);
        self.in_force = in_force.unwrap_or(self.in_force);
        self.default = default.unwrap_or_else(|| self.default.clone());
        self.sources = sources.unwrap_or_else(|| self.sources.clone());
        self.rules = rules.unwrap_or_else(|| self.rules.clone());
        for (name, policy) in policies {
            let old = self.policies.insert(name.clone(), policy);
            ensure!(old.is_some(), "no policy `{name}` to change");
        }
        Ok(())
    }
}

/// Prefix length and prefix under an identity.
fn key(identity: Identity, prefix: &str) -> Result<(u32, EgressPrefix)> {
    let (base, length) = read_prefix(prefix)?;
    let in_front = if base.is_ipv4() { 32 + 96 } else { 32 };
    let prefix = EgressPrefix { identity: identity.to_be_bytes(), address: address(base) };
    Ok((in_front + u32::from(length), prefix))
}

impl PolicyText {
    fn entry(&self, set: &mut EgressSet, group: &mut impl FnMut(&str) -> Result<u32>) -> Result<Policy> {
        let Self { action, flags, via4, via6, snat } = self;
        let mut entry = Policy {
            action: match action.as_str() {
                "deny" => ACTION_DENY,
                "allow" => ACTION_ALLOW,
                "masquerade" => ACTION_MASQUERADE,
                "snat" => ACTION_SNAT,
                other => bail!("no action `{other}`"),
            },
            group4: via4.as_deref().map(&mut *group).transpose()?.unwrap_or(0),
            group6: via6.as_deref().map(group).transpose()?.unwrap_or(0),
            ..Policy::default()
        };
        for flag in flags {
            entry.flags |= match flag.as_str() {
                "reject" => POLICY_REJECT,
                "degraded" => POLICY_DEGRADED,
                other => bail!("no flag `{other}`"),
            };
        }
        // Never at 0: that is where an array holds what nobody wrote.
        let mut next = set.snat.last_key_value().map_or(1, |(last, _)| last + 1);
        for v6 in [false, true] {
            let of_version = snat.iter().filter(|text| text.address.is_ipv6() == v6);
            let first = next;
            for text in of_version {
                set.snat.insert(next, text.entry()?);
                next += 1;
            }
            let count = u16::try_from(next - first)?;
            if v6 {
                (entry.snat6, entry.snat6_count) = (first, count);
            } else {
                (entry.snat4, entry.snat4_count) = (first, count);
            }
        }
        Ok(entry)
    }
}

impl SnatText {
    fn entry(&self) -> Result<SnatAddress> {
        let Self { address: own, interface, first_port, ports } = self;
        let ifindex = Interface::named(interface)?.index;
        Ok(SnatAddress { address: address(*own), ifindex, first_port: *first_port, ports: *ports })
    }
}

impl RuleText {
    fn entry(&self, set: &EgressSet) -> Result<EgressRule> {
        let Self { policy, protocol, ports } = self;
        let protocol = match protocol.as_deref() {
            None => 0,
            Some("tcp") => 6,
            Some("udp") => 17,
            Some("sctp") => 132,
            Some("icmp") => 1,
            Some("icmpv6") => 58,
            Some(number) => number.parse().with_context(|| format!("no protocol `{number}`"))?,
        };
        let [first_port, last_port] = ports.unwrap_or([0, u16::MAX]);
        Ok(EgressRule { policy: set.index(policy)?, first_port, last_port, protocol, zero: [0; 3] })
    }
}
