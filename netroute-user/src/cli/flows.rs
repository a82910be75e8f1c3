//! `flow list` and `flow flush`.

use super::args::{Flow, FlowsOf};
use super::failure::Failure;
use super::output::Output;
use super::table::{Cell, Colour, Table, bytes, count, duration};
use crate::api::client::Client;
use crate::api::types::{FlowState, FlowView, FlowsView, FlushView};
use crate::error::one_line;

/// # Errors
/// When there is no agent, or no such Service.
pub async fn run(command: Flow, client: &Client, output: Output) -> Result<(), Failure> {
    match command {
        Flow::List { service, client: of, state, limit } => {
            let view = client.flows(service.as_deref(), of, state, limit).await?;
            output.show(&view, || list_text(&view, output.colour))
        }
        Flow::Flush(FlowsOf { service, client: of, all: _ }) => {
            let view = client.flush_flows(service.as_deref(), of).await?;
            let FlushView { removed } = view;
            let noun = if removed == 1 { "flow" } else { "flows" };
            output.show(&view, || format!("removed {removed} {noun}\n"))
        }
    }
}

fn list_text(view: &FlowsView, colours: bool) -> String {
    let FlowsView { flows, total } = view;
    if *total == 0 {
        return "no flows\n".to_owned();
    }
    const HEADER: &[&str] = &[
        "PROTOCOL",
        "CLIENT",
        "FRONT END",
        "ENDPOINT",
        "STATE",
        ">PACKETS",
        ">BYTES",
        ">REPLIES",
        ">BYTES",
        ">IDLE",
    ];
    let mut table = Table::new(HEADER, colours);
    for flow in flows {
        let FlowView { protocol, client, front_end, endpoint, masquerade, state, .. } = flow;
        let colour = match state {
            FlowState::Established => Colour::Good,
            FlowState::Opening | FlowState::Closing => Colour::Plain,
            FlowState::Reset => Colour::Notice,
        };
        let cells = [
            protocol.as_str().into(),
            client.to_string().into(),
            front_end.to_string().into(),
            endpoint.to_string().into(),
            Cell::coloured(state.name(), colour),
            count(flow.packets).into(),
            bytes(flow.bytes).into(),
            count(flow.reply_packets).into(),
            bytes(flow.reply_bytes).into(),
            duration(flow.idle_seconds).into(),
        ];
        let service = one_line(&flow.service);
        let note = masquerade.map(|source| format!("masqueraded to {source}"));
        let policy = Some(&flow.policy).filter(|name| !name.is_empty());
        let policy = policy.map(|name| format!("policy {}", one_line(name)));
        let service = Some(service.into_owned()).filter(|name| !name.is_empty());
        let notes = service.into_iter().chain(policy).chain(note);
        table.row(cells, &notes.collect::<Vec<_>>().join(", "));
    }
    let mut text = table.render();
    let shown = u64::try_from(flows.len()).unwrap_or(u64::MAX);
    if *total > shown {
        text.push_str(&format!(
            "{} more are not shown: name a --service or a --client, or raise --limit\n",
            total - shown
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_is_one_row_and_what_is_cut_off_is_said() {
        let flow = FlowView {
            protocol: "TCP".into(),
            client: "10.0.0.1:40000".parse().unwrap(),
            front_end: "10.96.0.10:80".parse().unwrap(),
            endpoint: "10.244.1.5:8080".parse().unwrap(),
            masquerade: Some("192.168.20.2:61000".parse().unwrap()),
            service: "default/web".into(),
            policy: "cameras".into(),
            state: FlowState::Established,
            packets: 12,
            bytes: 2048,
            reply_packets: 10,
            reply_bytes: 9,
            idle_seconds: 61,
        };
        let plain =
            FlowView { masquerade: None, service: String::new(), policy: String::new(), ..flow.clone() };
        let text = list_text(&FlowsView { flows: vec![flow, plain], total: 5 }, false);
        assert_eq!(
            text,
            "PROTOCOL  CLIENT          FRONT END      ENDPOINT         STATE        PACKETS  BYTES  REPLIES  BYTES   IDLE\n\
             TCP       10.0.0.1:40000  10.96.0.10:80  10.244.1.5:8080  established       12  2.0Ki       10     9B  1m 1s\n    \
             default/web, policy cameras, masqueraded to 192.168.20.2:61000\n\
             TCP       10.0.0.1:40000  10.96.0.10:80  10.244.1.5:8080  established       12  2.0Ki       10     9B  1m 1s\n\
             3 more are not shown: name a --service or a --client, or raise --limit\n"
        );
        assert_eq!(list_text(&FlowsView::default(), false), "no flows\n");
    }
}
