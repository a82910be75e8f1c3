//! ARP and neighbour discovery as probe: has the kernel ask, and looks at the state it comes to.
//! An entry that answered is reachable; one that did not is still being asked, or failed.

use std::collections::BTreeSet;

use tokio::time::Interval;
use tracing::debug;

use super::Verdict;
use crate::apply::neighbours::Neighbours;
use crate::kernel::{NeighbourKey, NeighbourState};
use crate::netlink::NetlinkError;

pub async fn run(target: NeighbourKey, mut ticks: Interval, mut verdict: Verdict) {
    let key = BTreeSet::from([target]);
    let mut kernel = None;
    ticks.tick().await;
    loop {
        let asked = ask(&mut kernel, &key).await;
        ticks.tick().await;
        let answered = match asked {
            Ok(()) => answered(&mut kernel, &target).await,
            Err(error) => Err(error),
        };
        if let Err(error) = &answered {
            debug!(%error, ?target, "cannot probe the neighbour");
            kernel = None;
        }
        verdict.record(answered.unwrap_or(false)).await;
    }
}

async fn ask(kernel: &mut Option<Neighbours>, key: &BTreeSet<NeighbourKey>) -> Result<(), NetlinkError> {
    if kernel.is_none() {
        *kernel = Some(Neighbours::open()?);
    }
    match kernel {
        Some(kernel) => kernel.probe(key).await,
        None => Ok(()),
    }
}

async fn answered(kernel: &mut Option<Neighbours>, target: &NeighbourKey) -> Result<bool, NetlinkError> {
    let Some(kernel) = kernel else { return Ok(false) };
    let states = kernel.states().await?;
    let state = states.get(target).map(|neighbour| neighbour.state);
    // A permanent entry cannot be asked: the administrator says that it is there.
    Ok(matches!(state, Some(NeighbourState::Reachable | NeighbourState::Permanent)))
}
