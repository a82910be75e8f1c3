//! `config check`: everything an agent would read, without an agent.

use std::path::Path;
use std::sync::Arc;

use super::failure::{Failure, refused};
use super::output::Output;
use crate::agent::sources::Sources;
use crate::compile::services::condition::Condition;
use crate::compile::services::selection::{NodeAddresses, SelectionInputs, select};
use crate::config::{AgentConfig, ConfigError};
use crate::desired::egress::EgressPolicy;
use crate::desired::route::CustomRoute;
use crate::desired::service::{Cluster, ServiceKey};
use crate::input::manifests::{ManifestReader, ManifestSet, ManifestSource};
use crate::input::problem::Problem;
use crate::input::state_dir;

#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    problems: Vec<Problem>,
    notes: Vec<Problem>,
    manifest_routes: usize,
    cli_routes: usize,
    services: usize,
    egress_policies: usize,
}

/// # Errors
/// When anything is wrong; everything that is was said by then.
pub fn run(file: &Path, output: Output) -> Result<(), Failure> {
    let report = match AgentConfig::load(file) {
        Ok(config) => check(&config),
        Err(ConfigError::Invalid(problem)) => only(problem),
        Err(error @ ConfigError::Read { .. }) => return Err(refused(error)),
    };
    output.show(&report, || text(file, &report))?;
    if report.problems.is_empty() { Ok(()) } else { Err(Failure::Told) }
}

fn only(problem: Problem) -> Report {
    Report {
        problems: vec![problem],
        notes: Vec::new(),
        manifest_routes: 0,
        cli_routes: 0,
        services: 0,
        egress_policies: 0,
    }
}

fn check(config: &AgentConfig) -> Report {
    let ManifestSet { routes, cluster, mut problems, mut notes } =
        ManifestReader::new(ManifestSource::from(config)).read();
    let kept = state_dir::load(&config.state_dir, config.probe).unwrap_or_else(|error| {
        problems.push(Problem::new(&config.state_dir, None, error.to_string()));
        Vec::new()
    });
    problems.extend(routes.iter().chain(&kept).filter_map(|route| unknown_interface(route, config)));
    problems.extend(cluster.egress_policies.values().flat_map(|policy| unknown_vias(policy, config)));
    let services = cluster.services.len();
    let egress_policies = cluster.egress_policies.len();
    notes.extend(conditions(cluster, config));
    Report {
        problems,
        notes,
        manifest_routes: routes.len(),
        cli_routes: kept.len(),
        services,
        egress_policies,
    }
}

/// What the Services would say of themselves on a node without addresses.
fn conditions(cluster: Arc<Cluster>, config: &AgentConfig) -> Vec<Problem> {
    let desired = Sources { cluster, ..Sources::default() }.desired(config);
    let selection = select(&SelectionInputs::new(&desired, &NodeAddresses::default()));
    let all = selection.conditions.iter().flat_map(|(key, all)| all.iter().map(move |one| (key, one)));
    let problem = |(key, condition): (&ServiceKey, &Condition)| {
        Problem::new(&config.manifests, None, condition.to_string()).about(format!("Service {key}"))
    };
    all.map(problem).collect()
}

/// A route may name an interface that does not exist yet, but not one that no alias stands for:
/// the agent would show it as `pending` for ever.
fn unknown_interface(route: &CustomRoute, config: &AgentConfig) -> Option<Problem> {
    let message = unknown(&route.key.interface, config)?;
    let file = match &route.origin {
        crate::desired::route::Origin::Cli => config.state_dir.clone(),
        crate::desired::route::Origin::Manifest { file, .. } => config.manifests.join(file),
    };
    Some(Problem::new(&file, None, message).about(route.key.to_string()))
}

/// The same of the next hops of a policy, whose traffic is denied then.
fn unknown_vias(policy: &EgressPolicy, config: &AgentConfig) -> Vec<Problem> {
    let vias = policy.effect.iter().flat_map(|effect| &effect.via);
    let messages = vias.filter_map(|via| unknown(&via.interface, config));
    let name = format!("EgressPolicy {}", policy.name);
    messages.map(|message| Problem::new(&config.manifests, None, message).about(name.clone())).collect()
}

fn unknown(wanted: &str, config: &AgentConfig) -> Option<String> {
    let known = config.interfaces.iter().any(|interface| {
        interface.alias.eq_ignore_ascii_case(wanted) || interface.device.to_string() == *wanted
    });
    if known {
        return None;
    }
    let aliases: Vec<&str> = config.interfaces.iter().map(|interface| interface.alias.as_str()).collect();
    let has = aliases.join(", ");
    Some(format!("the interface \"{wanted}\" is not in the configuration, which has {has}"))
}

fn text(file: &Path, report: &Report) -> String {
    let Report { problems, notes, manifest_routes, cli_routes, services, egress_policies } = report;
    let mut text = String::new();
    for problem in problems {
        text.push_str(&format!("{problem}\n"));
    }
    for note in notes {
        text.push_str(&format!("note: {note}\n"));
    }
    if problems.is_empty() {
        let routes = format!("{manifest_routes} routes in manifests, {cli_routes} of the command line");
        let objects = format!("{services} Services, {egress_policies} egress policies");
        text.push_str(&format!("{}: good; {routes}, {objects}\n", file.display()));
    }
    text
}
