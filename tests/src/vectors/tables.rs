//! Readable route tables, and the map entries they stand for.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::{Context, Result, bail, ensure};
use netroute_common::host::{Capacities, HostTables};
use netroute_common::layout::flow::PeerKey;
use netroute_common::layout::route::{
    FIRST_FREE_ID, FIRST_OWN_STATS, Group, KIND_KERNEL, KIND_LOCAL, KIND_NEIGHBOUR, KIND_NOT_FORWARDED,
    KIND_POD, KIND_SERVICE, KIND_UNRESOLVED, MAX_MEMBERS, Member, NextHop, Route, UNCOUNTED, fixed_id,
};
use serde::{Deserialize, Serialize};

use super::cast::Interface;
use super::egress::{EgressSet, EgressText};
use super::hexadecimal;
use super::services::{ServiceSet, ServicesText};

/// Capacities of the maps that vectors run over: small, so that beyond them is near.
pub struct Bounds;

impl Bounds {
    pub const GROUPS: u32 = 64;
    pub const NEXT_HOPS: u32 = 64;
    pub const ROUTE_STATS: u32 = 512;
    pub const ROUTES: u32 = 256;
    pub const BLOCKS: u32 = 8;
    pub const FRONT_ENDS: u32 = 256;
    pub const SLOTS: u32 = 1024;
    pub const BACKENDS: u32 = 64;
    pub const SOURCE_RANGES: u32 = 64;
    pub const SERVICE_STATS: u32 = 64;
    pub const SOURCES: u32 = 64;
    pub const EGRESS: u32 = 128;
    pub const EGRESS_RULES: u32 = 256;
    pub const EGRESS_POLICIES: u32 = 32;
    pub const SNAT: u32 = 64;
    /// Entries in each table of established flows; a flow has two.
    pub const FLOWS: u32 = 16;
    /// Entries of what the kernel empties by itself: so many that it does not here.
    pub const OPENING: u32 = 8192;
}

/// The tables part of a vector.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TablesText {
    /// Interfaces whose slot of `PORTS` holds no device.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub empty_ports: Vec<String>,
    #[serde(default)]
    pub next_hops: BTreeMap<String, NextHopText>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub groups: BTreeMap<String, GroupText>,
    /// Prefix to the name of a group or, if there is no such group, of a next hop; or to `services`,
    /// `this-node`, `the-kernel` or `unresolved`.
    #[serde(default)]
    pub routes: BTreeMap<String, RouteText>,
    #[serde(default, skip_serializing_if = "ServicesText::is_empty")]
    pub services: ServicesText,
    #[serde(default, skip_serializing_if = "EgressText::is_empty")]
    pub egress: EgressText,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct NextHopText {
    pub interface: String,
    /// One of neighbour, pod, local, unresolved, not-forwarded, kernel; or a number.
    pub kind: String,
    pub mac: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_mac: Option<String>,
    pub mtu: u32,
    pub alive: bool,
    pub xdp: bool,
    /// Slot of `PORTS`, if not that of the interface.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<u32>,
}

impl Default for NextHopText {
    fn default() -> Self {
        Self {
            interface: "out".into(),
            kind: "neighbour".into(),
            mac: "02:00:00:00:99:01".into(),
            source_mac: None,
            mtu: 1500,
            alive: true,
            xdp: true,
            port: None,
            gateway: None,
            id: None,
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct GroupText {
    pub members: Vec<MemberText>,
    /// Instead of the number of members.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub len: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u32>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct MemberText {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_hop: Option<String>,
    /// Instead of a name: an index that may hold nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u32>,
    #[serde(default)]
    pub tier: u8,
    #[serde(default = "MemberText::one")]
    pub weight: u8,
}

impl MemberText {
    fn one() -> u8 {
        1
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum RouteText {
    Name(String),
    Ids { group: u32, stats: u32 },
}

/// Entries of all maps, as numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableSet {
    pub routes: BTreeMap<(IpAddr, u8), Route>,
    pub groups: BTreeMap<u32, Group>,
    pub next_hops: BTreeMap<u32, NextHop>,
    /// Slot to interface index.
    pub ports: BTreeMap<u32, u32>,
    /// Index of each next hop of the text.
    pub names: BTreeMap<String, u32>,
    pub services: ServiceSet,
    pub egress: EgressSet,
}

impl TableSet {
    pub fn on_host(&self) -> HostTables {
        let capacities = Capacities {
            groups: Bounds::GROUPS,
            next_hops: Bounds::NEXT_HOPS,
            route_stats: Bounds::ROUTE_STATS,
        };
        let mut tables = HostTables::new(
            capacities,
            self.routes.iter().map(|(&(address, length), &route)| (address, length, route)),
            self.groups.iter().map(|(&id, &group)| (id, group)),
            self.next_hops.iter().map(|(&id, &next_hop)| (id, next_hop)),
            self.ports.keys().copied(),
        );
        tables.services = self.services.on_host();
        tables.egress = self.egress.on_host();
        tables
    }

    /// A route of the group that stands for a kind, as the agent writes it.
    pub fn add_fixed_route(&mut self, prefix: (IpAddr, u8), kind: u8) {
        let group = fixed(self, kind);
        self.routes.insert(prefix, Route { group, stats: UNCOUNTED });
    }

    /// The longest prefix of a destination, found by asking them all.
    pub fn longest_prefix(&self, destination: IpAddr) -> Option<(IpAddr, u8)> {
        let bits = |address: &IpAddr| match address {
            IpAddr::V4(address) => u128::from(address.to_bits()) << 96,
            IpAddr::V6(address) => address.to_bits(),
        };
        let matching = self.routes.keys().filter(|(address, length)| {
            let same = (bits(address) ^ bits(&destination)).leading_zeros();
            address.is_ipv6() == destination.is_ipv6() && same >= u32::from(*length)
        });
        matching.max_by_key(|(_, length)| *length).copied()
    }

    /// The next hop of this name, with its index.
    pub fn next_hop(&self, name: &str) -> Result<(u32, NextHop)> {
        let id = *self.names.get(name).with_context(|| format!("no next hop `{name}`"))?;
        Ok((id, self.next_hops[&id]))
    }

    /// Each next hop as of this moment lives or not.
    pub fn set_alive(&mut self, name: &str, alive: bool) -> Result<()> {
        let (id, next_hop) = self.next_hop(name)?;
        self.next_hops.insert(id, NextHop { alive: alive.into(), ..next_hop });
        Ok(())
    }
}

impl TablesText {
    pub fn compile(&self) -> Result<TableSet> {
        let Self { empty_ports, next_hops, groups, routes, services, egress } = self;
        let mut set = TableSet { services: services.compile()?, ..TableSet::default() };
        for interface in Interface::ALL {
            if !empty_ports.iter().any(|name| name == interface.name) {
                set.ports.insert(interface.port, interface.index);
            }
        }
        for (id, (name, text)) in (FIRST_FREE_ID..).zip(next_hops) {
            let id = text.id.unwrap_or(id);
            let entry = text.entry().with_context(|| format!("next hop `{name}`"))?;
            ensure!(set.next_hops.insert(id, entry).is_none(), "two next hops with index {id}");
            set.names.insert(name.clone(), id);
        }
        for name in &services.peers {
            let (id, NextHop { ifindex, destination_mac: mac, .. }) = set.next_hop(name)?;
            set.services.peers.insert(PeerKey { ifindex, mac, zero: 0 }, id);
        }
        let mut by_name = BTreeMap::new();
        for (id, (name, text)) in (FIRST_FREE_ID..).zip(groups) {
            let id = text.id.unwrap_or(id);
            set.groups.insert(id, text.entry(&set).with_context(|| format!("group `{name}`"))?);
            by_name.insert(name.clone(), id);
        }
        for (place, (prefix, text)) in (0..).zip(routes) {
            let key = read_prefix(prefix)?;
            let route = match text {
                RouteText::Ids { group, stats } => Route { group: *group, stats: *stats },
                RouteText::Name(name) => {
                    let group = match by_name.get(name) {
                        Some(&id) => id,
                        None if name == "services" => fixed(&mut set, KIND_SERVICE),
                        None if name == "this-node" => fixed(&mut set, KIND_LOCAL),
                        None if name == "the-kernel" => fixed(&mut set, KIND_KERNEL),
                        None if name == "unresolved" => fixed(&mut set, KIND_UNRESOLVED),
                        None => single(&mut set, name)?,
                    };
                    Route { group, stats: FIRST_OWN_STATS + place * MAX_MEMBERS as u32 }
                }
            };
            set.routes.insert(key, route);
        }
        set.egress = egress.compile(|name| match by_name.get(name) {
            Some(&id) => Ok(id),
            None => single(&mut set, name),
        })?;
        Ok(set)
    }
}

/// The group that stands for a kind, as the agent writes it.
fn fixed(set: &mut TableSet, kind: u8) -> u32 {
    let id = fixed_id(kind);
    let mut members = [Member::default(); MAX_MEMBERS];
    members[0] = Member { next_hop: id, tier: 0, weight: 1, inverse: Member::inverse_of(1) };
    set.next_hops.insert(id, NextHop { kind, alive: 1, ..NextHop::default() });
    set.groups.insert(id, Group { len: 1, members });
    id
}

/// A group of one next hop, at the far end of the indices.
fn single(set: &mut TableSet, name: &str) -> Result<u32> {
    let (next_hop, _) = set.next_hop(name)?;
    let id = Bounds::GROUPS - 1 - next_hop % (Bounds::GROUPS / 2);
    let member = Member { next_hop, tier: 0, weight: 1, inverse: Member::inverse_of(1) };
    let mut members = [Member::default(); MAX_MEMBERS];
    members[0] = member;
    set.groups.insert(id, Group { len: 1, members });
    Ok(id)
}

impl NextHopText {
    fn entry(&self) -> Result<NextHop> {
        let Self { interface, kind, mac, source_mac, mtu, alive, xdp, port, gateway, id: _ } = self;
        let interface = Interface::named(interface)?;
        let source = source_mac.as_deref().map(hexadecimal::mac).transpose()?;
        let mut address = [0; 16];
        match gateway {
            Some(IpAddr::V4(gateway)) => address[..4].copy_from_slice(&gateway.octets()),
            Some(IpAddr::V6(gateway)) => address = gateway.octets(),
            None => {}
        }
        Ok(NextHop {
            ifindex: interface.index,
            mtu: *mtu,
            port: port.unwrap_or(interface.port),
            kind: read_kind(kind)?,
            alive: (*alive).into(),
            xdp: (*xdp).into(),
            family: match gateway {
                Some(IpAddr::V6(_)) => 6,
                _ if interface.index == 0 => 0,
                _ => 4,
            },
            source_mac: source.unwrap_or(interface.mac),
            destination_mac: hexadecimal::mac(mac)?,
            gateway: address,
        })
    }
}

impl GroupText {
    fn entry(&self, set: &TableSet) -> Result<Group> {
        let Self { members: texts, len, id: _ } = self;
        ensure!(texts.len() <= MAX_MEMBERS, "more than {MAX_MEMBERS} members");
        let mut members = [Member::default(); MAX_MEMBERS];
        for (member, text) in members.iter_mut().zip(texts) {
            let next_hop = match (&text.next_hop, text.id) {
                (Some(name), None) => set.next_hop(name)?.0,
                (None, Some(id)) => id,
                _ => bail!("a member has either `next-hop` or `id`"),
            };
            let inverse = Member::inverse_of(text.weight);
            *member = Member { next_hop, tier: text.tier, weight: text.weight, inverse };
        }
        Ok(Group { len: len.unwrap_or(u32::try_from(texts.len())?), members })
    }
}

const KINDS: [(&str, u8); 7] = [
    ("neighbour", KIND_NEIGHBOUR),
    ("pod", KIND_POD),
    ("local", KIND_LOCAL),
    ("unresolved", KIND_UNRESOLVED),
    ("not-forwarded", KIND_NOT_FORWARDED),
    ("kernel", KIND_KERNEL),
    ("service", KIND_SERVICE),
];

fn read_kind(text: &str) -> Result<u8> {
    let known = KINDS.iter().find(|(name, _)| *name == text).map(|&(_, kind)| kind);
    // A number that no agent writes.
    known.or_else(|| text.parse().ok()).with_context(|| format!("no kind `{text}`"))
}

pub fn kind_name(kind: u8) -> String {
    let known = KINDS.iter().find(|(_, number)| *number == kind);
    known.map_or_else(|| kind.to_string(), |(name, _)| (*name).to_owned())
}

pub fn read_prefix(text: &str) -> Result<(IpAddr, u8)> {
    let (address, length) = text.split_once('/').with_context(|| format!("`{text}` is no prefix"))?;
    let address = address.parse().with_context(|| format!("in prefix `{text}`"))?;
    Ok((address, length.parse().with_context(|| format!("in prefix `{text}`"))?))
}
