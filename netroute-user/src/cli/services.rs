//! `service list` and `service show`.

use std::fmt::Write;

use super::args::Service;
use super::failure::Failure;
use super::output::Output;
use super::table::{Cell, Colour, Table, bytes, count};
use crate::api::client::Client;
use crate::api::types::{EndpointView, FrontEndView, ServiceView};
use crate::error::one_line;

/// # Errors
/// When there is no agent, or no such Service.
pub async fn run(command: Service, client: &Client, output: Output) -> Result<(), Failure> {
    match command {
        Service::List { namespace } => {
            let list = client.services(namespace.as_deref(), None).await?;
            output.show(&list, || list_table(&list, output.colour))
        }
        Service::Show { name, namespace } => {
            let ports = client.services(Some(&namespace), Some(&name)).await?;
            output.show(&ports, || show_text(&ports, output.colour))
        }
    }
}

fn list_table(list: &[ServiceView], colours: bool) -> String {
    if list.is_empty() {
        return "no Services\n".to_owned();
    }
    const HEADER: &[&str] = &["SERVICE", "TYPE", "ADDRESS", ">USED", ">FLOWS", ">PACKETS", ">BYTES"];
    let mut table = Table::new(HEADER, colours);
    let mut before = None;
    for view in list {
        let ServiceView { namespace, name, kind, new_flows, packets, bytes: size, .. } = view;
        // What concerns the Service is said once.
        let first = before.replace((namespace, name)) != Some((namespace, name));
        let cells = [
            one_line(&format!("{namespace}/{name}")).into_owned().into(),
            kind.as_str().into(),
            address(view).into(),
            usable(&view.endpoints),
            count(*new_flows).into(),
            count(*packets).into(),
            bytes(*size).into(),
        ];
        table.row(cells, &notes(view, first).join("; "));
    }
    table.render()
}

/// The first front end, which is the ClusterIP where there is one.
fn address(view: &ServiceView) -> String {
    let ServiceView { front_ends, port, protocol, .. } = view;
    let cluster_ip = front_ends.iter().find(|front_end| front_end.kind == "ClusterIP");
    match cluster_ip.or(front_ends.first()) {
        Some(front_end) => format!("{}/{protocol}", front_end.address),
        None => format!("{port}/{protocol}"),
    }
}

/// Used endpoints of all.
fn usable(endpoints: &[EndpointView]) -> Cell {
    let used = endpoints.iter().filter(|endpoint| endpoint.used).count();
    let colour = if used == 0 { Colour::Bad } else { Colour::Plain };
    Cell::coloured(format!("{used}/{}", endpoints.len()), colour)
}

fn notes(view: &ServiceView, with_conditions: bool) -> Vec<String> {
    let refused = view.refused.iter().map(|reason| format!("not served: {reason}"));
    let conditions = view.conditions.iter().filter(|_| with_conditions).cloned();
    refused.chain(conditions).map(|note| one_line(&note).into_owned()).collect()
}

fn show_text(ports: &[ServiceView], colours: bool) -> String {
    let Some(ServiceView { namespace, name, kind, .. }) = ports.first() else {
        return "the Service has no ports\n".to_owned();
    };
    let mut text = String::new();
    // Writing to a string cannot fail, here and below.
    let _ = writeln!(text, "service      {}", one_line(&format!("{namespace}/{name}")));
    let _ = writeln!(text, "type         {kind}");
    for (number, view) in ports.iter().enumerate() {
        let ServiceView { port, port_name, protocol, packets, new_flows, no_endpoint, .. } = view;
        let named = if port_name.is_empty() { String::new() } else { format!(" ({})", one_line(port_name)) };
        let _ = writeln!(text, "\nport         {port}/{protocol}{named}");
        let _ = writeln!(
            text,
            "traffic      {} packets, {}, {} new flows, {} packets without an endpoint",
            count(*packets),
            bytes(view.bytes),
            count(*new_flows),
            count(*no_endpoint)
        );
        for note in notes(view, number == 0) {
            let _ = writeln!(text, "problem      {note}");
        }
        text.push_str(&front_ends(&view.front_ends, colours));
        text.push_str(&endpoints(&view.endpoints, colours));
    }
    text
}

fn front_ends(list: &[FrontEndView], colours: bool) -> String {
    if list.is_empty() {
        return "\nno front ends\n".to_owned();
    }
    const HEADER: &[&str] = &["FRONT END", "KIND", "POLICY", ">ENDPOINTS", "WITHOUT"];
    let mut table = Table::new(HEADER, colours);
    for FrontEndView { kind, address, policy, endpoints, without_endpoint } in list {
        let cells = [
            address.to_string().into(),
            kind.as_str().into(),
            policy.as_str().into(),
            endpoints.to_string().into(),
            without_endpoint.as_str().into(),
        ];
        table.row(cells, "");
    }
    format!("\n{}", table.render())
}

fn endpoints(list: &[EndpointView], colours: bool) -> String {
    if list.is_empty() {
        return "\nno endpoints\n".to_owned();
    }
    const HEADER: &[&str] = &["ENDPOINT", "NODE", "STATE", "USED"];
    let mut table = Table::new(HEADER, colours);
    for EndpointView { address, ready, serving, terminating, local, used } in list {
        let state = match (ready, serving, terminating) {
            (true, _, _) => Cell::coloured("ready", Colour::Good),
            (false, true, true) => Cell::coloured("serving, terminating", Colour::Notice),
            (false, true, false) => Cell::coloured("serving", Colour::Notice),
            (false, false, true) => Cell::coloured("terminating", Colour::Bad),
            (false, false, false) => Cell::coloured("not ready", Colour::Bad),
        };
        let cells = [
            address.to_string().into(),
            if *local { "local" } else { "remote" }.into(),
            state,
            if *used { "yes" } else { "no" }.into(),
        ];
        table.row(cells, "");
    }
    format!("\n{}", table.render())
}

#[cfg(test)]
mod tests;
