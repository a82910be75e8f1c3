//! The tables that the programs under test write themselves: flows, and who had which endpoint.

use std::collections::BTreeMap;

use anyhow::Result;
use aya::maps::{HashMap, MapData};
use aya::{Ebpf, Pod};
use netroute_common::abi;
use netroute_common::layout::flow::{Flow, FlowKey4, FlowKey6, Fragment, FragmentKey};
use netroute_common::layout::service::{Affinity, AffinityKey};
use netroute_common::services::Place;

use super::maps::take;

type Flows<K> = HashMap<MapData, K, Flow>;

pub struct FlowMaps {
    flows4: Flows<FlowKey4>,
    opening4: Flows<FlowKey4>,
    flows6: Flows<FlowKey6>,
    opening6: Flows<FlowKey6>,
    affinity: HashMap<MapData, AffinityKey, Affinity>,
    fragments: HashMap<MapData, FragmentKey, Fragment>,
}

/// What both families' tables hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlowSet {
    pub flows4: BTreeMap<(Place, FlowKey4), Flow>,
    pub flows6: BTreeMap<(Place, FlowKey6), Flow>,
    pub affinity: BTreeMap<AffinityKey, Affinity>,
    pub fragments: BTreeMap<FragmentKey, Fragment>,
}

impl FlowMaps {
    pub fn take(object: &mut Ebpf) -> Result<Self> {
        Ok(Self {
            flows4: take(object, abi::MAP_FLOWS4)?.try_into()?,
            opening4: take(object, abi::MAP_OPENING4)?.try_into()?,
            flows6: take(object, abi::MAP_FLOWS6)?.try_into()?,
            opening6: take(object, abi::MAP_OPENING6)?.try_into()?,
            affinity: take(object, abi::MAP_AFFINITY)?.try_into()?,
            fragments: take(object, abi::MAP_FRAGMENTS)?.try_into()?,
        })
    }

    pub fn clear(&mut self) -> Result<()> {
        clear(&mut self.flows4)?;
        clear(&mut self.opening4)?;
        clear(&mut self.flows6)?;
        clear(&mut self.opening6)?;
        clear(&mut self.affinity)?;
        clear(&mut self.fragments)
    }

    pub fn read(&self) -> Result<FlowSet> {
        let mut set = FlowSet::default();
        for (place, flows4, flows6) in [
            (Place::Established, &self.flows4, &self.flows6),
            (Place::Opening, &self.opening4, &self.opening6),
        ] {
            for entry in flows4.iter() {
                let (key, flow) = entry?;
                set.flows4.insert((place, key), flow);
            }
            for entry in flows6.iter() {
                let (key, flow) = entry?;
                set.flows6.insert((place, key), flow);
            }
        }
        set.affinity = self.affinity.iter().collect::<Result<_, _>>()?;
        set.fragments = self.fragments.iter().collect::<Result<_, _>>()?;
        Ok(set)
    }

    /// Makes all entries as much older as time would: the kernel's clock cannot be set. False, and nothing
    /// finished, if one would be from before the clock began.
    pub fn age(&mut self, seconds: u64) -> Result<bool> {
        let by = seconds * 1_000_000_000;
        let older = |time: u64| time.checked_sub(by);
        let flow = |flow: Flow| Some(Flow { seen: older(flow.seen)?, touched: older(flow.touched)?, ..flow });
        let affinity = |entry: Affinity| Some(Affinity { used: older(entry.used)?, ..entry });
        let fragment = |first: Fragment| Some(Fragment { seen: older(first.seen)?, ..first });
        Ok(replaced(&mut self.flows4, flow)?
            && replaced(&mut self.opening4, flow)?
            && replaced(&mut self.flows6, flow)?
            && replaced(&mut self.opening6, flow)?
            && replaced(&mut self.affinity, affinity)?
            && replaced(&mut self.fragments, fragment)?)
    }
}

fn clear<K: Pod, V: Pod>(map: &mut HashMap<MapData, K, V>) -> Result<()> {
    let keys: Vec<K> = map.keys().collect::<Result<_, _>>()?;
    keys.iter().try_for_each(|key| Ok(map.remove(key)?))
}

/// Whether every entry could be.
fn replaced<K: Pod, V: Pod>(map: &mut HashMap<MapData, K, V>, with: impl Fn(V) -> Option<V>) -> Result<bool> {
    let entries: Vec<(K, V)> = map.iter().collect::<Result<_, _>>()?;
    let new: Option<Vec<(K, V)>> =
        entries.into_iter().map(|(key, value)| Some((key, with(value)?))).collect();
    let Some(new) = new else { return Ok(false) };
    for (key, value) in new {
        map.insert(key, value, 0)?;
    }
    Ok(true)
}
