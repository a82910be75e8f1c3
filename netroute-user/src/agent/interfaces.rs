//! Which interfaces carry programs, and keeping it so while they come and go.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use tracing::{info, warn};

use super::core::ATTACH_RETRY;
use crate::compile::interfaces::Interfaces;
use crate::config::SocketGroup;
use crate::desired::Desired;
use crate::kernel::{KernelState, Link};
use crate::load::{Attachments, Mode, NicDevice, PodDevice, SocketsError, Switched};
use netroute_common::verdict::Hook;

/// The devices that should carry programs now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    pub nics: BTreeMap<u32, (String, [u8; 6])>,
    pub pods: BTreeMap<u32, String>,
}

impl Wanted {
    #[must_use]
    pub fn of(desired: &Desired, kernel: &KernelState) -> Self {
        let interfaces = Interfaces::resolve(desired, kernel);
        let link = |index: u32| kernel.links.get(&index);
        let nic = |link: &Link| (link.index, (link.name.clone(), link.mac.unwrap_or_default()));
        Self {
            nics: interfaces.nics().filter_map(link).map(nic).collect(),
            pods: interfaces.pods().filter_map(link).map(|link| (link.index, link.name.clone())).collect(),
        }
    }

    fn nic_devices(&self) -> Vec<NicDevice> {
        let device = |(ifindex, (name, mac)): (&u32, &(String, [u8; 6]))| NicDevice {
            ifindex: *ifindex,
            name: name.clone(),
            mac: *mac,
        };
        self.nics.iter().map(device).collect()
    }

    fn pod_devices(&self) -> Vec<PodDevice> {
        self.pods.iter().map(|(ifindex, name)| PodDevice { ifindex: *ifindex, name: name.clone() }).collect()
    }
}

/// The running programs and what they were asked to be.
pub struct Attached {
    attachments: Attachments,
    served: Wanted,
    /// Interfaces that could not be served, each with its reason.
    pub refused: BTreeMap<u32, String>,
    /// Why sockets are not served, though they should be.
    pub sockets_refused: Option<SocketsError>,
    sockets_retry: Retry,
}

/// When sockets are to be tried again.
#[derive(Clone, Copy, Debug, Default)]
struct Retry {
    /// In a row.
    failures: u32,
    due: Option<Instant>,
}

impl Retry {
    fn after(self, result: Result<(), &SocketsError>, now: Instant) -> Self {
        match result {
            Ok(()) => Self::default(),
            Err(error) => {
                let due = Some(now + pause(error, self.failures));
                Self { failures: self.failures.saturating_add(1), due }
            }
        }
    }

    fn is_due(self, now: Instant) -> bool {
        self.due.is_some_and(|due| due <= now)
    }
}

/// To look for a folder costs nothing. To load programs that a kernel has just refused holds the agent up, and a
/// kernel seldom changes its mind: up to five minutes.
fn pause(error: &SocketsError, failures: u32) -> Duration {
    match error {
        SocketsError::NoGroups | SocketsError::NoFolder { .. } => Duration::ZERO,
        _ => ATTACH_RETRY * (1 << failures.min(6)),
    }
}

impl Attached {
    /// Starts the programs on everything wanted.
    ///
    /// # Errors
    /// Only what concerns all interfaces.
    pub fn start(loaded: crate::load::Loaded, wanted: Wanted) -> Result<Self, crate::load::LoadError> {
        let Switched { attachments, refused: errors, sockets_refused } =
            loaded.switch_programs(&wanted.nic_devices(), &wanted.pod_devices())?;
        for error in &errors {
            warn!(error = %crate::error::chain(error), "interface not served");
        }
        if let Some(error) = &sockets_refused {
            warn!(error = %crate::error::chain(error), "sockets not served");
        }
        let sockets_retry =
            Retry::default().after(sockets_refused.as_ref().map_or(Ok(()), Err), Instant::now());
        let mut attached =
            Self { attachments, served: wanted, refused: BTreeMap::new(), sockets_refused, sockets_retry };
        // The errors name interfaces; what is missing from the list says which indices they mean.
        let missing = attached.incomplete();
        for ifindex in missing {
            let name = attached
                .served
                .nics
                .get(&ifindex)
                .map(|(name, _)| name)
                .or(attached.served.pods.get(&ifindex));
            let prefix = name.map(|name| format!("{name}:")).unwrap_or_default();
            let reason = errors
                .iter()
                .map(|error| crate::error::chain(error))
                .find(|reason| reason.starts_with(&prefix));
            attached.refused.insert(ifindex, reason.unwrap_or_else(|| "not attached".to_owned()));
        }
        Ok(attached)
    }

    /// Indices that lack one of their programs.
    fn incomplete(&self) -> Vec<u32> {
        let has = |ifindex: u32, hook: Hook| {
            self.attachments.list().any(|a| a.ifindex == ifindex && a.hook == hook)
        };
        let of_nics = [Hook::XdpNic, Hook::TcNic, Hook::TcOut];
        let nics = self.served.nics.keys().filter(|nic| !of_nics.into_iter().all(|hook| has(**nic, hook)));
        let of_pods = [Hook::TcPod, Hook::TcOut];
        let pods = self.served.pods.keys().filter(|pod| !of_pods.into_iter().all(|hook| has(**pod, hook)));
        nics.chain(pods).copied().collect()
    }

    /// Attaches what is new or changed, detaches what is no longer wanted; `retry` tries refused
    /// ones again.
    pub fn follow(&mut self, wanted: &Wanted, retry: bool) {
        if *wanted == self.served && (!retry || self.refused.is_empty()) {
            return;
        }
        let old = std::mem::replace(&mut self.served, wanted.clone());
        let gone: BTreeSet<u32> = old
            .nics
            .keys()
            .filter(|nic| !wanted.nics.contains_key(nic))
            .copied()
            .chain(old.pods.keys().filter(|pod| !wanted.pods.contains_key(pod)).copied())
            .collect();
        for ifindex in gone {
            self.refused.remove(&ifindex);
            if let Err(error) = self.attachments.detach_interface(ifindex) {
                warn!(ifindex, error = %crate::error::chain(&error), "programs not taken off");
            }
        }
        for nic in wanted.nic_devices() {
            let same = old.nics.get(&nic.ifindex) == wanted.nics.get(&nic.ifindex);
            if !same || (retry && self.refused.contains_key(&nic.ifindex)) {
                let result = self.attachments.attach_nic(&nic);
                self.note(nic.ifindex, &nic.name, result);
            }
        }
        for pod in wanted.pod_devices() {
            let same = old.pods.get(&pod.ifindex) == wanted.pods.get(&pod.ifindex);
            if !same || (retry && self.refused.contains_key(&pod.ifindex)) {
                let result = self.attachments.attach_pod(&pod);
                self.note(pod.ifindex, &pod.name, result);
            }
        }
    }

    /// Serves sockets if that failed before and is due again, or if their control group is another one by now.
    pub fn retry_sockets(&mut self, group: Option<&SocketGroup>, now: Instant) {
        let moved = self.attachments.sockets_moved();
        if moved {
            info!("the control group whose sockets are served is gone, or was made anew");
        } else if !self.sockets_retry.is_due(now) {
            return;
        }
        let before = self.sockets_refused.take().map(|error| crate::error::chain(&error));
        let result = self.attachments.serve_sockets(group);
        self.sockets_retry = self.sockets_retry.after(result.as_ref().copied(), now);
        match &result {
            Ok(()) => info!("sockets served"),
            Err(error) if Some(crate::error::chain(error)) != before => {
                warn!(error = %crate::error::chain(error), "sockets not served");
            }
            Err(_) => {}
        }
        self.sockets_refused = result.err();
    }

    fn note(&mut self, ifindex: u32, name: &str, result: Result<Mode, crate::load::AttachError>) {
        match result {
            Ok(mode) => {
                self.refused.remove(&ifindex);
                info!(interface = name, ?mode, "programs attached");
            }
            Err(error) => {
                let reason = crate::error::chain(&error);
                if self.refused.get(&ifindex) != Some(&reason) {
                    warn!(error = %reason, "interface not served");
                }
                self.refused.insert(ifindex, reason);
            }
        }
    }

    pub fn attachments(&self) -> &Attachments {
        &self.attachments
    }

    /// NICs with XDP in the driver.
    #[must_use]
    pub fn native(&self) -> BTreeSet<u32> {
        self.attachments.list().filter(|a| a.mode == Mode::Native).map(|a| a.ifindex).collect()
    }

    /// Interfaces with TC by filters.
    #[must_use]
    pub fn filters(&self) -> Vec<u32> {
        self.attachments.list().filter(|a| a.mode == Mode::Clsact).map(|a| a.ifindex).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_kernel_refuses_is_tried_ever_more_seldom() {
        let begin = Instant::now();
        let mut retry = Retry::default();
        assert!(!retry.is_due(begin), "nothing was refused");
        let mut waited = Vec::new();
        for _ in 0..9 {
            retry = retry.after(Err(&SocketsError::NoLinks), begin);
            let due = retry.due.unwrap();
            assert!(!retry.is_due(due - Duration::from_millis(1)) && retry.is_due(due));
            waited.push((due - begin).as_secs());
        }
        assert_eq!(waited, [5, 10, 20, 40, 80, 160, 320, 320, 320]);
        retry = retry.after(Err(&SocketsError::NoGroups), begin);
        assert!(retry.is_due(begin), "a folder may come at any moment");
        retry = retry.after(Ok(()), begin);
        assert!(!retry.is_due(begin + Duration::from_secs(1000)));
        retry = retry.after(Err(&SocketsError::NoLinks), begin);
        assert!(retry.is_due(begin + ATTACH_RETRY), "from the beginning again");
    }
}
