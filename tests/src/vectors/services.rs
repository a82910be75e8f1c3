//! Readable Services, and the map entries they stand for.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context, Result, bail, ensure};
use netroute_common::host::HostServices;
use netroute_common::layout::flow::{Masquerade, PeerKey, Timers};
use netroute_common::layout::service::{
    Address, BACKEND_LOCAL, Backend, FRONTEND_DROP, FRONTEND_ECHO, FRONTEND_MASQUERADE,
    FRONTEND_SOURCE_RANGES, FrontEnd, FrontEndKey, SCOPE_EXTERNAL, SCOPE_INTERNAL, SourceRange,
};
use serde::{Deserialize, Serialize};

use super::cast::Interface;
use super::tables::{Bounds, read_prefix};

/// The Services of a vector. Indices of backends and Services are places in the order of names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct ServicesText {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub backends: BTreeMap<String, BackendText>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub front_ends: BTreeMap<String, FrontEndText>,
    /// By interface; `node` for all of them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub masquerade: BTreeMap<String, MasqueradeText>,
    /// Names of next hops that hand packets to this node.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<String>,
    pub timers: TimersText,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct BackendText {
    /// `address:port`
    pub at: SocketAddr,
    /// A pod of this node.
    #[serde(default)]
    pub local: bool,
    #[serde(default = "first")]
    pub generation: u32,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct FrontEndText {
    /// `address:port`, or the address alone: it is a Service's whatever the port.
    pub at: String,
    /// tcp, udp or sctp.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// external or internal; both if it is not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// Name of the Service port, if it is not that of the front end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// What the slots of its block send to, in order; a number for what no agent writes.
    pub backends: Vec<String>,
    /// drop, masquerade, echo.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<String>,
    /// Seconds.
    pub affinity: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_ranges: Option<Vec<String>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct MasqueradeText {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address4: Option<Ipv4Addr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address6: Option<Ipv6Addr>,
    pub first_port: u16,
    pub ports: u16,
}

/// Seconds, as in [`Timers`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct TimersText {
    pub tcp_opening: u32,
    pub tcp_established: u32,
    pub tcp_closing: u32,
    pub tcp_reset: u32,
    pub udp_opening: u32,
    pub udp_established: u32,
}

impl Default for TimersText {
    fn default() -> Self {
        Self::of(&Timers::DEFAULT)
    }
}

impl TimersText {
    fn of(timers: &Timers) -> Self {
        let Timers { tcp_opening, tcp_established, tcp_closing, tcp_reset, udp_opening, udp_established } =
            *timers;
        Self { tcp_opening, tcp_established, tcp_closing, tcp_reset, udp_opening, udp_established }
    }

    fn entry(self) -> Timers {
        let Self { tcp_opening, tcp_established, tcp_closing, tcp_reset, udp_opening, udp_established } =
            self;
        Timers { tcp_opening, tcp_established, tcp_closing, tcp_reset, udp_opening, udp_established }
    }
}

/// Entries of the Services' maps, as numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceSet {
    pub front_ends: BTreeMap<FrontEndKey, FrontEnd>,
    pub slots: BTreeMap<u32, u32>,
    pub backends: BTreeMap<u32, Backend>,
    /// By prefix length and prefix.
    pub source_ranges: BTreeMap<(u32, SourceRange), ()>,
    pub masquerade: BTreeMap<u32, Masquerade>,
    pub peers: BTreeMap<PeerKey, u32>,
    pub timers: Timers,
    /// Index of each Service port of the text.
    pub names: BTreeMap<String, u32>,
    /// What was compiled.
    pub text: ServicesText,
}

impl ServiceSet {
    /// Without flows.
    pub fn on_host(&self) -> HostServices {
        let Self { front_ends, slots, backends, source_ranges, masquerade, peers, timers, names: _, text: _ } =
            self;
        let mut services = HostServices::default();
        services.front_ends.clone_from(front_ends);
        services.slots.clone_from(slots);
        services.backends.clone_from(backends);
        services.source_ranges = source_ranges.keys().copied().collect();
        services.masquerade.clone_from(masquerade);
        services.peers.clone_from(peers);
        services.timers = *timers;
        services.room = Bounds::FLOWS as usize;
        services
    }

    pub fn index(&self, name: &str) -> Result<u32> {
        self.names.get(name).copied().with_context(|| format!("no Service port `{name}`"))
    }
}

impl ServicesText {
    pub fn is_empty(&self) -> bool {
        self.front_ends.is_empty() && self.backends.is_empty() && self.masquerade.is_empty()
    }

    pub fn compile(&self) -> Result<ServiceSet> {
        let Self { backends, front_ends, masquerade, peers: _, timers } = self;
        let mut set = ServiceSet { timers: timers.entry(), text: self.clone(), ..ServiceSet::default() };
        let mut indices = BTreeMap::new();
        for (index, (name, text)) in (1..).zip(backends) {
            indices.insert(name.as_str(), index);
            set.backends.insert(index, text.entry());
        }
        let services = front_ends.iter().map(|(name, text)| text.service.as_ref().unwrap_or(name));
        let services: std::collections::BTreeSet<_> = services.collect();
        set.names = services.into_iter().cloned().zip(1..).collect();
        for (name, text) in front_ends {
            text.enter(name, &mut set, &indices).with_context(|| format!("front end `{name}`"))?;
        }
        for (name, text) in masquerade {
            let index = if name == "node" { 0 } else { Interface::named(name)?.index };
            set.masquerade.insert(index, text.entry());
        }
        Ok(set)
    }

    /// With what `changes` says of backends and front ends that are there, and of addresses to masquerade to.
    pub fn changed(&self, changes: &Self) -> Result<Self> {
        let mut changed = self.clone();
        for (name, backend) in &changes.backends {
            let old = changed.backends.insert(name.clone(), backend.clone());
            ensure!(old.is_some(), "no backend `{name}` to change");
        }
        for (name, front_end) in &changes.front_ends {
            let old = changed.front_ends.insert(name.clone(), front_end.clone());
            ensure!(old.is_some(), "no front end `{name}` to change");
        }
        changed.masquerade.extend(changes.masquerade.clone());
        Ok(changed)
    }
}

impl BackendText {
    fn entry(&self) -> Backend {
        let Self { at, local, generation } = *self;
        let flags = if local { BACKEND_LOCAL } else { 0 };
        Backend { address: address(at.ip()), port: at.port(), flags, generation }
    }
}

impl FrontEndText {
    /// Its block starts behind those of the front ends before it.
    fn enter(&self, name: &str, set: &mut ServiceSet, backends: &BTreeMap<&str, u32>) -> Result<()> {
        let Self { at, protocol, scope, service, backends: block, flags, affinity, source_ranges } = self;
        let service = set.index(service.as_deref().unwrap_or(name))?;
        let first = u32::try_from(set.slots.len())?;
        for (place, name) in (first..).zip(block) {
            let known = backends.get(name.as_str()).copied();
            let index = known.or_else(|| name.parse().ok());
            set.slots.insert(place, index.with_context(|| format!("no backend `{name}`"))?);
        }
        let mut bits = 0;
        for flag in flags {
            bits |= read_flag(flag)?;
        }
        for range in source_ranges.iter().flatten() {
            set.source_ranges.insert(read_range(service, range)?, ());
        }
        if source_ranges.is_some() {
            bits |= FRONTEND_SOURCE_RANGES;
        }
        let size = u32::try_from(block.len())?;
        let entry = FrontEnd { service, block: first, size, affinity: *affinity, flags: bits };
        let scopes = match scope.as_deref() {
            None => vec![SCOPE_EXTERNAL, SCOPE_INTERNAL],
            Some("external") => vec![SCOPE_EXTERNAL],
            Some("internal") => vec![SCOPE_INTERNAL],
            Some(other) => bail!("no scope `{other}`"),
        };
        for scope in scopes {
            let key = key(at, protocol.as_deref(), scope)?;
            ensure!(set.front_ends.insert(key, entry).is_none(), "two front ends at {at}");
        }
        Ok(())
    }
}

fn key(at: &str, protocol: Option<&str>, scope: u8) -> Result<FrontEndKey> {
    if let Ok(alone) = at.parse::<IpAddr>() {
        ensure!(protocol.is_none(), "an address alone has no protocol");
        return Ok(FrontEndKey { address: address(alone), port: 0, protocol: 0, scope });
    }
    let at: SocketAddr = at.parse().with_context(|| format!("`{at}` is no `address:port`"))?;
    let protocol = match protocol {
        Some("tcp") => 6,
        Some("udp") => 17,
        Some("sctp") => 132,
        other => bail!("no protocol {other:?}"),
    };
    Ok(FrontEndKey { address: address(at.ip()), port: at.port(), protocol, scope })
}

fn read_flag(name: &str) -> Result<u32> {
    Ok(match name {
        "drop" => FRONTEND_DROP,
        "masquerade" => FRONTEND_MASQUERADE,
        "echo" => FRONTEND_ECHO,
        _ => bail!("no flag `{name}`"),
    })
}

fn read_range(service: u32, text: &str) -> Result<(u32, SourceRange)> {
    let (prefix, length) = read_prefix(text)?;
    let in_front = if prefix.is_ipv4() { 96 } else { 0 };
    let range = SourceRange { service: service.to_be_bytes(), address: address(prefix) };
    Ok((32 + in_front + u32::from(length), range))
}

impl MasqueradeText {
    fn entry(&self) -> Masquerade {
        let Self { address4, address6, first_port, ports } = self;
        Masquerade {
            address4: address4.map(|address| address.octets()).unwrap_or_default(),
            address6: address6.map(|address| Address::v6(address.octets())).unwrap_or_default(),
            first_port: *first_port,
            ports: *ports,
        }
    }
}

/// As the maps hold it (RFC 4291 section 2.5.5.2).
pub fn address(of: IpAddr) -> Address {
    match of {
        IpAddr::V4(address) => Address::v6(address.to_ipv6_mapped().octets()),
        IpAddr::V6(address) => Address::v6(address.octets()),
    }
}

fn first() -> u32 {
    1
}
