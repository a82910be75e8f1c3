//! `explain`: one line for each stage that had a say.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

use super::args::{Explain, Format};
use super::failure::{Failure, refused};
use super::output::Output;
use crate::api::client::Client;
use crate::api::explain_types::{
    ExplainView, FlowKind, FlowStageView, FrameView, HookStepView, KernelStepView, NeighbourView,
    NextHopStageView, PolicyStageView, RouteStageView, ServiceStageView, SnatStageView, SocketStepView,
    SourceCheckView, StepView,
};
use crate::error::one_line;
use crate::explain::query::Query;

/// # Errors
/// When the question is none, the agent refuses it, or there is no agent.
pub async fn run(explain: Explain, client: &Client, output: Output) -> Result<(), Failure> {
    let Explain { from, to, source_port, interface, json } = explain;
    let output = if json { Output { format: Format::Json, ..output } } else { output };
    // Refused here already, so that a mistake is told even when no agent runs.
    Query::parse(&from, &to, Some(source_port), interface.clone()).map_err(refused)?;
    let view = client.explain(&from, &to, Some(source_port), interface.as_deref()).await?;
    output.show(&view, || text(&view))
}

/// Lines of a word and what there is to say of it.
#[derive(Default)]
struct Lines(String);

impl Lines {
    fn add(&mut self, word: &str, said: &str) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "{word:<10} {}", one_line(said));
    }
}

fn text(view: &ExplainView) -> String {
    let mut lines = Lines::default();
    let ExplainView { from, to, protocol, source, destination, steps, notes } = view;
    lines.add("from", &party(from, *source));
    lines.add("to", &format!("{} {protocol}", party(to, *destination)));
    for step in steps {
        match step {
            StepView::Socket(step) => socket(&mut lines, step),
            StepView::Kernel(step) => kernel(&mut lines, step),
            StepView::Hook(step) => hook(&mut lines, step),
        }
    }
    for note in notes {
        lines.add("note", note);
    }
    lines.0
}

/// A name and what it stands for.
fn party(name: &str, at: SocketAddr) -> String {
    let address = with_port(at);
    if name == at.ip().to_string() { address } else { format!("{name} {address}") }
}

/// Without a port of 0.
fn with_port(at: SocketAddr) -> String {
    if at.port() == 0 { at.ip().to_string() } else { at.to_string() }
}

fn socket(lines: &mut Lines, step: &SocketStepView) {
    let SocketStepView { service, endpoints, endpoint } = step;
    let said = match endpoint {
        Some(endpoint) => {
            format!("{service}: the call goes to one of {}, say {endpoint}", counted(*endpoints, "endpoint"))
        }
        None if service.is_empty() => "the call fails: no Service has this address and port".to_owned(),
        None => format!("{service}: the call fails, there is no endpoint"),
    };
    lines.add("socket", &said);
}

fn kernel(lines: &mut Lines, step: &KernelStepView) {
    let KernelStepView { interface, next_hop, neighbour, local, reason } = step;
    let said = match interface {
        None => format!("no way: {reason}"),
        Some(_) if *local => "to a process of this node".to_owned(),
        Some(interface) => {
            let via = next_hop.map_or_else(String::new, |address| format!("via {address} "));
            let neighbour =
                neighbour.as_ref().map_or_else(String::new, |one| format!(", {}", neighbour_text(one)));
            format!("{via}on {interface}{neighbour}")
        }
    };
    lines.add("kernel", &said);
}

fn hook(lines: &mut Lines, step: &HookStepView) {
    let HookStepView { source_check, service, flow, policy, snat, route, next_hop, frame, .. } = step;
    lines.add("hook", &format!("{} on {}", step.hook, step.interface));
    let stages = [
        ("source", source_check.as_ref().map(source_text)),
        ("service", service.as_ref().map(service_text)),
        ("flow", flow.as_ref().map(flow_text)),
        ("policy", policy.as_ref().map(policy_text)),
        ("snat", snat.as_ref().map(snat_text)),
        ("route", route.as_ref().map(route_text)),
        ("next hop", next_hop.as_ref().map(next_hop_text)),
        ("frame", frame.as_ref().map(frame_text)),
    ];
    for (word, said) in stages {
        if let Some(said) = said {
            lines.add(word, &said);
        }
        if word == "policy" {
            for condition in policy.iter().flat_map(|policy| &policy.conditions) {
                lines.add("condition", condition);
            }
        }
    }
    lines.add("verdict", &format!("{}: {}: {}", step.verdict, step.reason, step.explanation));
}

fn source_text(view: &SourceCheckView) -> String {
    let owner = |owner: &Option<String>| match owner {
        Some(interface) => format!("an address of the pod behind {interface}"),
        None => "no pod's address that is known".to_owned(),
    };
    match view {
        SourceCheckView { passed: false, owner: of, .. } => format!("spoofed: {}", owner(of)),
        SourceCheckView { in_force: false, owner: of, .. } => format!("not checked; {}", owner(of)),
        SourceCheckView { owner: of, .. } => format!("ok: {}", owner(of)),
    }
}

fn service_text(view: &ServiceStageView) -> String {
    let ServiceStageView { service, front_end, endpoints, endpoint } = view;
    let to = endpoint.map_or_else(|| "none chosen here".to_owned(), |endpoint| endpoint.to_string());
    format!("{service}: {front_end} -> {to}, of {}", counted(*endpoints, "endpoint"))
}

fn flow_text(view: &FlowStageView) -> String {
    let becomes = match (view.source, view.destination) {
        (Some(source), Some(destination)) => {
            format!(": {} -> {}", with_port(source), with_port(destination))
        }
        _ => String::new(),
    };
    match view {
        FlowStageView { kind: FlowKind::None, .. } => "none, and none is opened here".to_owned(),
        FlowStageView { kind: FlowKind::New, .. } => format!("new{becomes}"),
        FlowStageView { state, reply, .. } => {
            let state = state.map_or("known", |state| state.name());
            format!("{state}{}{becomes}", if *reply { ", an answer" } else { "" })
        }
    }
}

fn policy_text(view: &PolicyStageView) -> String {
    let PolicyStageView { policy, priority, action, shadows, conditions: _, reason } = view;
    let mut said = match (policy, action.is_empty()) {
        (Some(policy), _) => {
            let priority = priority.map_or_else(String::new, |priority| format!("priority {priority}, "));
            format!("{policy} ({priority}{action})")
        }
        (None, false) => format!("none ({action})"),
        (None, true) => "none".to_owned(),
    };
    if !reason.is_empty() {
        said += &format!(": {reason}");
    }
    if !shadows.is_empty() {
        said += &format!("; comes before {}", shadows.join(", "));
    }
    said
}

fn snat_text(view: &SnatStageView) -> String {
    let SnatStageView { address, port, first_port, last_port } = view;
    let at = match port {
        Some(port) => SocketAddr::new(*address, *port).to_string(),
        None => format!("{address}, and no port is free"),
    };
    match (first_port, last_port) {
        (Some(first), Some(last)) => format!("{at}, ports {first}-{last}"),
        _ => at,
    }
}

fn route_text(view: &RouteStageView) -> String {
    let RouteStageView { destination, prefix, origin, metric, why, next_hops: _ } = view;
    let mut said = match (prefix, origin.as_str()) {
        (Some(prefix), origin) => format!("{prefix} ({origin})"),
        (None, "") => format!("none to {destination}"),
        (None, origin) => format!("{destination} ({origin})"),
    };
    if let Some(metric) = metric {
        said += &format!(" metric {metric}");
    }
    format!("{said}: {why}")
}

fn next_hop_text(view: &NextHopStageView) -> String {
    let NextHopStageView { address, interface, alive, reason, neighbour } = view;
    let address = address.map_or_else(|| "-".to_owned(), |address: IpAddr| address.to_string());
    let state = if *alive { "alive".to_owned() } else { format!("down: {reason}") };
    format!("{address} on {interface}, {state}, {}", neighbour_text(neighbour))
}

fn neighbour_text(NeighbourView { state, mac }: &NeighbourView) -> String {
    let mac = mac.as_ref().map_or_else(String::new, |mac| format!(" {mac}"));
    format!("neighbour {state}{mac}")
}

fn frame_text(view: &FrameView) -> String {
    let FrameView { interface, source_mac, destination_mac, source, destination } = view;
    let (source, destination) = (with_port(*source), with_port(*destination));
    format!("out of {interface}, {source_mac} -> {destination_mac}, {source} -> {destination}")
}

fn counted(number: u32, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests;
