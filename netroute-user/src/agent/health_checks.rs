//! What the health check ports of Services are told, and which of them could not be had (S15).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use netroute_common::verdict::Hook;
use tracing::warn;

use super::core::Agent;
use crate::compile::services::Services;
use crate::desired::service::ServiceKey;
use crate::health_check::{Check, Checks, Problems};

/// How long maps may lack what was compiled before balancers are told: a write that failed is tried again, and
/// connections go on meanwhile. As kube-proxy, which grants two of its sync periods of 30 s.
const GRACE: Duration = Duration::from_secs(60);

impl Agent {
    /// Tells what holds now; also where nothing changed, as a sign of life.
    pub fn tell_health_checks(&self) {
        let ports = checks(&self.snapshot.compiled.services);
        let now = Instant::now();
        let healthy = keeps_up(self.failing_since, now) && self.serves_a_nic();
        // Without a receiver the agent is about to end.
        self.outlets.checks.send_replace(Arc::new(Checks { ports, healthy, told: now }));
    }

    fn serves_a_nic(&self) -> bool {
        self.attached.as_ref().is_some_and(|attached| {
            attached.attachments().list().any(|program| matches!(program.hook, Hook::XdpNic | Hook::TcNic))
        })
    }

    pub fn on_health_ports(&mut self, problems: Problems) {
        for problem in problems.iter().filter(|problem| !self.health_ports.contains(problem)) {
            warn!(service = %problem.service, %problem);
        }
        self.health_ports = problems;
    }
}

/// Whether the maps hold what they should, or lack it since a short time only.
fn keeps_up(failing_since: Option<Instant>, now: Instant) -> bool {
    failing_since.is_none_or(|since| now.saturating_duration_since(since) < GRACE)
}

fn checks(services: &Services) -> BTreeMap<u16, Check> {
    let refused: BTreeSet<ServiceKey> = services
        .refused
        .keys()
        .map(|port| ServiceKey { namespace: port.namespace.clone(), name: port.name.clone() })
        .collect();
    let check = |(&port, (service, local_endpoints)): (&u16, &(ServiceKey, usize))| {
        let served = !refused.contains(service);
        (port, Check { service: service.clone(), local_endpoints: *local_endpoints, served })
    };
    services.selection.health_ports.iter().map(check).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s15_a_node_stays_healthy_until_writes_have_failed_for_a_minute() {
        let now = Instant::now();
        assert!(keeps_up(None, now));
        assert!(keeps_up(Some(now), now), "the first failure");
        assert!(keeps_up(Some(now), now + GRACE - Duration::from_millis(1)));
        assert!(!keeps_up(Some(now), now + GRACE));
    }
}
