//! `egress list` and `egress show`.

use std::fmt::Write;

use super::args::Egress;
use super::failure::Failure;
use super::output::Output;
use super::table::{Cell, Colour, Table, bytes, count, duration};
use crate::api::client::Client;
use crate::api::types::{EgressState, EgressView};
use crate::error::one_line;

/// # Errors
/// When there is no agent, or no such policy.
pub async fn run(command: Egress, client: &Client, output: Output) -> Result<(), Failure> {
    match command {
        Egress::List => {
            let list = client.egress(None).await?;
            output.show(&list, || list_table(&list, output.colour))
        }
        Egress::Show { name } => {
            let found = client.egress(Some(&name)).await?;
            output.show(&found, || found.iter().map(show_text).collect())
        }
    }
}

fn list_table(list: &[EgressView], colours: bool) -> String {
    if list.is_empty() {
        return "no egress policies\n".to_owned();
    }
    const HEADER: &[&str] = &[
        "POLICY",
        ">PRIORITY",
        "ACTION",
        "STATE",
        ">PODS",
        ">PACKETS",
        ">BYTES",
        ">FLOWS",
        ">DENIED",
        "LAST HIT",
    ];
    let mut table = Table::new(HEADER, colours);
    for view in list {
        let colour = match view.state {
            EgressState::Ready => Colour::Good,
            EgressState::ShadowedBy => Colour::Notice,
            EgressState::Degraded => Colour::Bad,
        };
        let cells = [
            one_line(&view.name).into_owned().into(),
            view.priority.to_string().into(),
            shown_action(view).into(),
            Cell::coloured(view.state.name(), colour),
            view.pods.to_string().into(),
            count(view.packets).into(),
            bytes(view.bytes).into(),
            count(view.new_flows).into(),
            count(view.denied).into(),
            last_hit(view).into(),
        ];
        let messages: Vec<String> =
            view.conditions.iter().map(|one| one_line(&one.message).into_owned()).collect();
        table.row(cells, &messages.join("\n    "));
    }
    table.render()
}

/// What is written where an action should be is in the conditions.
fn shown_action(view: &EgressView) -> String {
    if view.action.is_empty() { "-".to_owned() } else { view.action.clone() }
}

fn last_hit(view: &EgressView) -> String {
    view.last_hit_seconds.map_or_else(|| "never".to_owned(), |seconds| format!("{} ago", duration(seconds)))
}

fn show_text(view: &EgressView) -> String {
    let mut text = String::new();
    let mut line = |key: &str, value: &str| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{key:<12} {}", one_line(value));
    };
    line("policy", &view.name);
    line("priority", &view.priority.to_string());
    line("action", &shown_action(view));
    line("state", view.state.name());
    for condition in &view.conditions {
        line("condition", &format!("{}: {}", condition.reason, condition.message));
    }
    line("from", &view.from);
    line("to", &view.to.join(", "));
    if !view.ports.is_empty() {
        line("ports", &view.ports.join(", "));
    }
    if !view.snat.is_empty() {
        line("snat", &view.snat.join(", "));
    }
    for via in &view.via {
        line("via", via);
    }
    line("pods", &view.pods.to_string());
    let EgressView { packets, new_flows, denied, .. } = view;
    let traffic = format!(
        "{} packets, {}, {} new flows, {} packets denied",
        count(*packets),
        bytes(view.bytes),
        count(*new_flows),
        count(*denied)
    );
    line("traffic", &traffic);
    line("last hit", &last_hit(view));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::EgressCondition;

    fn cameras() -> EgressView {
        EgressView {
            name: "cameras".into(),
            priority: 100,
            action: "Masquerade".into(),
            state: EgressState::Ready,
            conditions: Vec::new(),
            from: "all pods".into(),
            to: vec!["192.168.0.0/16".into(), "!192.168.9.0/24".into()],
            ports: vec!["TCP 554-560".into()],
            snat: Vec::new(),
            via: vec!["192.168.20.1 on Port3 metric 100".into()],
            pods: 3,
            packets: 1500,
            bytes: 9,
            new_flows: 12,
            denied: 0,
            last_hit_seconds: Some(61),
        }
    }

    #[test]
    fn e8_the_list_has_what_was_counted_and_what_is_wrong() {
        let message = "snat has no IPv6 address\nthat can be used";
        let degraded = EgressView {
            name: "nat".into(),
            action: String::new(),
            state: EgressState::Degraded,
            conditions: vec![EgressCondition { reason: "NoSnatAddress".into(), message: message.into() }],
            last_hit_seconds: None,
            ..cameras()
        };
        assert_eq!(
            list_table(&[cameras(), degraded], false),
            "POLICY   PRIORITY  ACTION      STATE     PODS  PACKETS  BYTES  FLOWS  DENIED  LAST HIT\n\
             cameras       100  Masquerade  Ready        3     1.5k     9B     12       0  1m 1s ago\n\
             nat           100  -           Degraded     3     1.5k     9B     12       0  never\n    \
             snat has no IPv6 address\\nthat can be used\n"
        );
        assert_eq!(list_table(&[], false), "no egress policies\n");
    }

    #[test]
    fn e8_one_policy_is_shown_in_full() {
        assert_eq!(
            show_text(&cameras()),
            "policy       cameras\npriority     100\naction       Masquerade\nstate        Ready\n\
             from         all pods\nto           192.168.0.0/16, !192.168.9.0/24\nports        TCP 554-560\n\
             via          192.168.20.1 on Port3 metric 100\npods         3\n\
             traffic      1.5k packets, 9B, 12 new flows, 0 packets denied\nlast hit     1m 1s ago\n"
        );
    }
}
