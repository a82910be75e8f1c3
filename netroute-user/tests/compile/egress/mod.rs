//! Egress policies on the node of [`World`]: objects in, and what the data plane would decide.

mod effects;
mod fails_closed;
mod generations;
mod order;
mod scale;
mod steps;

use std::net::IpAddr;
use std::sync::Arc;

use netroute_common::layout::egress::{
    ACTION_ALLOW, ACTION_DENY, ACTION_MASQUERADE, ACTION_SNAT, IDENTITY_CLUSTER, IDENTITY_NODE, Identity,
    POLICY_DEGRADED, PREFIX_PODS, Policy, RuleSet,
};
use netroute_user::compile::egress::condition::State;
use netroute_user::compile::egress::image::{Destination, EgressImage};
use netroute_user::compile::services::image::mapped;
use netroute_user::desired::egress::{DefaultEgress, EgressPolicy, Pod};
use netroute_user::desired::service::{Cluster, ObjectKey};
use netroute_user::input::objects::{self, egress_policy};
use netroute_user::input::yaml::documents;
use netroute_user::kernel::KernelRoute;

use super::world::{POD, World, ip, kernel_route};

pub const HERE: &str = "worker-1";
/// Of a pod that an object tells of.
pub const WEB: &str = "10.244.1.10";
pub const OTHER: &str = "10.244.1.11";

/// What is done with a packet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Judgement {
    /// To the cluster, or nothing is in force, or nobody's.
    NotJudged,
    /// The data plane does not know the pod.
    UnknownSource,
    Denied {
        degraded: bool,
    },
    Allowed,
    Masqueraded,
    /// With one of these.
    Snat(Vec<IpAddr>),
}

pub const DENIED: Judgement = Judgement::Denied { degraded: false };
pub const DEGRADED: Judgement = Judgement::Denied { degraded: true };

impl Judgement {
    pub fn leaves(&self) -> bool {
        matches!(self, Self::Allowed | Self::Masqueraded | Self::Snat(_) | Self::NotJudged)
    }
}

/// As the data plane looks it up.
fn rules(image: &EgressImage, identity: Identity, address: IpAddr) -> Option<RuleSet> {
    let whole = Destination::from(address);
    let bits = |destination: &Destination| u128::from_be_bytes(destination.address.octets);
    let holds = |outer: &Destination| {
        let mask = u128::MAX.checked_shl(128 - u32::from(outer.length)).unwrap_or(0);
        bits(outer) & mask == bits(&whole) & mask
    };
    let found = image.destinations.get(&identity)?.iter().rev().find(|(outer, _)| holds(outer));
    found.map(|(_, set)| *set)
}

/// The number of the policy that decides; `Err` where none does.
pub fn decided(image: &EgressImage, from: &str, to: &str, protocol: u8, port: u16) -> Result<u32, Judgement> {
    if !image.in_force() || rules(image, IDENTITY_CLUSTER, ip(to)).is_some() {
        return Err(Judgement::NotJudged);
    }
    let Some(identity) = image.sources.get(&mapped(ip(from))) else {
        let of_pods = rules(image, IDENTITY_CLUSTER, ip(from));
        let pod = of_pods.is_some_and(|set| set.flags & PREFIX_PODS != 0);
        return Err(if pod { Judgement::UnknownSource } else { Judgement::NotJudged });
    };
    let run = rules(image, *identity, ip(to)).map(|set| image.run(&set).to_vec()).unwrap_or_default();
    let matching = run.iter().find(|rule| {
        rule.protocol == 0
            || (rule.protocol == protocol && (rule.first_port..=rule.last_port).contains(&port))
    });
    match matching {
        Some(rule) => Ok(rule.policy),
        // The default is for pods.
        None if *identity == IDENTITY_NODE => Err(Judgement::NotJudged),
        None => Ok(0),
    }
}

pub fn judge(image: &EgressImage, from: &str, to: &str, port: u16) -> Judgement {
    let index = match decided(image, from, to, 6, port) {
        Ok(index) => index,
        Err(judgement) => return judgement,
    };
    let policy = image.policies.get(&index).copied().unwrap_or_default();
    match policy.action {
        ACTION_ALLOW => Judgement::Allowed,
        ACTION_MASQUERADE => Judgement::Masqueraded,
        ACTION_SNAT => Judgement::Snat(addresses(image, &policy, ip(to).is_ipv4())),
        ACTION_DENY => Judgement::Denied { degraded: policy.flags & POLICY_DEGRADED != 0 },
        other => panic!("action {other}"),
    }
}

fn addresses(image: &EgressImage, policy: &Policy, v4: bool) -> Vec<IpAddr> {
    let (first, count) =
        if v4 { (policy.snat4, policy.snat4_count) } else { (policy.snat6, policy.snat6_count) };
    let run = image.snat.get(&first).map(|run| &run[..usize::from(count)]).unwrap_or_default();
    run.iter().map(|one| netroute_user::compile::services::image::unmapped(one.address)).collect()
}

pub fn policy(name: &str, spec: &str) -> EgressPolicy {
    let text = format!(
        "apiVersion: netroute.dev/v1alpha1\nkind: EgressPolicy\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n"
    );
    let object: objects::EgressPolicy =
        documents(&text)[0].parse().unwrap_or_else(|error| panic!("{name}: {}", error.message));
    egress_policy(&object).unwrap_or_else(|error| panic!("{name}: {error}"))
}

pub fn pod(name: &str, labels: &[(&str, &str)], addresses: &[&str]) -> Pod {
    Pod {
        key: ObjectKey { namespace: "shop".to_owned(), name: name.to_owned() },
        labels: labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        node: Some(HERE.to_owned()),
        addresses: addresses.iter().copied().map(ip).collect(),
        host_network: false,
        ending: false,
    }
}

impl World {
    /// The appliance with pods `web` and `other`, and the ranges of its cluster.
    pub fn with_pods() -> Self {
        let mut world = Self::appliance();
        world.desired.service_settings.node_name = HERE.to_owned();
        let net = |text: &str| text.parse().expect("prefix");
        world.desired.service_settings.service_cidrs = [net("10.96.0.0/12")].into();
        world.desired.egress_settings.pod_cidrs = vec![net("10.244.0.0/16"), net("fd00:244::/48")];
        world.desired.egress_settings.node_cidrs = vec![net("10.128.44.0/24")];
        world.pod(pod("web", &[("app", "web")], &[WEB, "fd00:244::10"]));
        world.pod(pod("other", &[("app", "other")], &[OTHER]));
        world
    }

    pub fn cluster(&mut self) -> &mut Cluster {
        Arc::make_mut(&mut self.desired.cluster)
    }

    pub fn pod(&mut self, pod: Pod) {
        self.cluster().pods.insert(pod.key.clone(), Arc::new(pod));
    }

    pub fn policy(&mut self, name: &str, spec: &str) {
        self.insert_policy(policy(name, spec));
    }

    pub fn insert_policy(&mut self, policy: EgressPolicy) {
        Arc::make_mut(&mut self.cluster().egress_policies).insert(policy.name.clone(), policy);
    }

    pub fn no_policy(&mut self, name: &str) {
        Arc::make_mut(&mut self.cluster().egress_policies).remove(name);
    }

    pub fn default_egress(&mut self, default: DefaultEgress) {
        self.desired.egress_settings.default = default;
    }

    /// A pod that only the kernel knows.
    pub fn routed_pod(&mut self, address: &str) {
        let host: KernelRoute = kernel_route(&format!("{address}/32"), None, POD, 0);
        self.kernel.routes.insert(host);
    }

    pub fn judges(&self, from: &str, to: &str, port: u16) -> Judgement {
        judge(&self.compile().image.egress, from, to, port)
    }

    /// State, and all that is said.
    pub fn said(&self, policy: &str) -> (State, String) {
        let compiled = self.compile();
        let status = &compiled.egress.statuses[policy];
        let lines: Vec<String> = status.conditions.iter().map(ToString::to_string).collect();
        (status.state(), lines.join("\n"))
    }
}
