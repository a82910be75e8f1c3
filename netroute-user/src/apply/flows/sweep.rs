//! One pass over the flow tables: counts what is there, and removes what is over. Each direction's entry
//! is judged by itself, as the data plane does.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use aya::maps::HashMap;
use aya::maps::{MapData, MapError};
use netroute_common::layout::flow::{Flow, Timers};
use netroute_common::stage::follow::is_quiet;

use super::entry::{Entry, FlowKey, FlowState};
use super::{FlowTables, Table, now};
use crate::apply::maps::{absent_is_fine, reading};
use crate::apply::store::StoreError;

/// Entries that are looked at before other tasks have their turn: a few milliseconds.
const TURN: usize = 2048;
/// Of a table's capacity, percent: above it the next pass should not wait.
pub const CROWDED: u32 = 80;

/// What one table holds, without what was over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fill {
    pub capacity: u32,
    pub states: BTreeMap<FlowState, u32>,
    /// Flows by the address of this node that their packets leave with, where that is not the client's.
    pub translated: BTreeMap<IpAddr, u32>,
}

impl Fill {
    #[must_use]
    pub fn entries(&self) -> u32 {
        self.states.values().sum()
    }

    #[must_use]
    pub fn is_crowded(&self) -> bool {
        u64::from(self.entries()) * 100 > u64::from(self.capacity) * u64::from(CROWDED)
    }
}

/// What a pass came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pass {
    /// By name of the map.
    pub tables: BTreeMap<&'static str, Fill>,
    /// Numbers of the Service ports that flows carry (S21).
    pub services: BTreeSet<u32>,
    /// Entries.
    pub removed: u64,
    /// Every entry that was there all the time was seen.
    pub complete: bool,
}

impl FlowTables {
    /// Walks all tables in turns. Call it once the maps of Services hold what they should (N14).
    pub async fn pass(&mut self) -> Result<Pass, StoreError> {
        let timers = self.timers()?;
        let timers = timers.as_ref();
        let mut pass = Pass { complete: true, ..Pass::default() };
        // As in `each`.
        self.opening4.pass(timers, &mut pass).await?;
        self.opening6.pass(timers, &mut pass).await?;
        self.established4.pass(timers, &mut pass).await?;
        self.established6.pass(timers, &mut pass).await?;
        Ok(pass)
    }
}

impl<K: FlowKey> Table<K> {
    async fn pass(&mut self, timers: Option<&Timers>, pass: &mut Pass) -> Result<(), StoreError> {
        let most = self.most();
        let Self { name, capacity, read, write } = self;
        let empty = Fill { capacity: *capacity, ..Fill::default() };
        let (mut fill, mut first, mut time, mut over) = (empty.clone(), None, now(), None);
        for (number, entry) in read.iter().enumerate() {
            if number % TURN == TURN - 1 {
                tokio::task::yield_now().await;
                time = now();
            }
            let (key, flow) = entry.map_err(reading(name))?;
            // Only now: from a key that is gone the walk would begin again.
            if let Some((key, timers)) = over.take() {
                pass.removed += u64::from(remove_if_over(name, write, &key, timers)?);
            }
            if number >= most {
                pass.complete = false;
                break;
            }
            if *first.get_or_insert(key) == key {
                // The walk's start, for the first time or because it lost its place.
                fill = empty.clone();
            }
            match timers.filter(|timers| is_quiet(&flow, timers, time)) {
                Some(timers) => over = Some((key, timers)),
                None => {
                    *fill.states.entry(FlowState::of(&flow)).or_default() += 1;
                    if let Some(address) = (Entry { tuple: key.tuple(), flow }).translated() {
                        *fill.translated.entry(address).or_default() += 1;
                    }
                    pass.services.insert(flow.service);
                }
            }
        }
        if let Some((key, timers)) = over {
            pass.removed += u64::from(remove_if_over(name, write, &key, timers)?);
        }
        pass.tables.insert(*name, fill);
        Ok(())
    }
}

/// Asks once more: a new flow may have taken the place of the one that was seen.
fn remove_if_over<K: FlowKey>(
    name: &'static str,
    table: &mut HashMap<MapData, K, Flow>,
    key: &K,
    timers: &Timers,
) -> Result<bool, StoreError> {
    match table.get(key, 0) {
        Ok(flow) if is_quiet(&flow, timers, now()) => {}
        Ok(_) | Err(MapError::KeyNotFound) => return Ok(false),
        Err(error) => return Err(reading(name)(error)),
    }
    absent_is_fine(table.remove(key)).map_err(super::writing(name))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_crowded_above_four_fifths() {
        let fill = |entries| Fill {
            capacity: 100,
            states: [(FlowState::Established, entries)].into(),
            ..Fill::default()
        };
        assert!(!fill(80).is_crowded());
        assert!(fill(81).is_crowded());
        assert!(!Fill::default().is_crowded());
    }
}
