//! The commands that show what is installed: `nexthop`, `drops`, `status`, `doctor`, `diff`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::{Duration, Instant};

use super::failure::Failure;
use super::output::{Output, print};
use super::table::{Cell, Colour, Table, bytes, count, duration};
use crate::api::client::Client;
use crate::api::types::{
    AttachMode, CheckResult, CheckView, DiffView, DoctorView, DropsView, FlowTableView, Health,
    InterfaceView, NextHopView, ProgramView, StatusView,
};

/// Between two readings of `drops --watch`.
const PERIOD: Duration = Duration::from_secs(1);

/// # Errors
/// When there is no agent, as all commands here.
pub async fn next_hops(client: &Client, output: Output) -> Result<(), Failure> {
    let list = client.next_hops().await?;
    output.show(&list, || next_hop_table(&list, output.colour))
}

fn next_hop_table(list: &[NextHopView], colours: bool) -> String {
    if list.is_empty() {
        return "no next hops\n".to_owned();
    }
    const HEADER: &[&str] =
        &["ADDRESS", "INTERFACE", "METRIC", ">ROUTES", "NEIGHBOUR", "ALIVE", ">PACKETS", ">BYTES"];
    let mut table = Table::new(HEADER, colours);
    for next_hop in list {
        let NextHopView {
            interface,
            address,
            metrics,
            routes,
            neighbour,
            alive,
            reason,
            packets,
            bytes: size,
            ..
        } = next_hop;
        let metrics: Vec<String> = metrics.iter().map(ToString::to_string).collect();
        let alive =
            if *alive { Cell::coloured("yes", Colour::Good) } else { Cell::coloured("no", Colour::Bad) };
        let cells: [Cell; 8] = [
            address.map_or_else(|| "-".to_owned(), |address| address.to_string()).into(),
            interface.as_str().into(),
            if metrics.is_empty() { "-".to_owned() } else { metrics.join(",") }.into(),
            routes.to_string().into(),
            neighbour.as_str().into(),
            alive,
            count(*packets).into(),
            bytes(*size).into(),
        ];
        table.row(cells, reason);
    }
    table.render()
}

/// # Errors
/// As [`next_hops`].
pub async fn drops(client: &Client, watch: bool, output: Output) -> Result<(), Failure> {
    let mut before: BTreeMap<(String, String), u64> = BTreeMap::new();
    let mut read_at: Option<Instant> = None;
    let mut ticks = tokio::time::interval(PERIOD);
    loop {
        ticks.tick().await;
        let list = client.drops().await?;
        let now = Instant::now();
        let elapsed = read_at.replace(now).map(|earlier| now - earlier);
        let rates = elapsed.map(|elapsed| rates(&list, &before, elapsed));
        if watch && output.terminal {
            // Home, then clear what is below: no flicker.
            print("\x1b[H\x1b[J")?;
        }
        output
            .show(&list, || drops_table(&list, watch.then_some(rates.unwrap_or_default()), output.colour))?;
        if !watch {
            return Ok(());
        }
        before = list.into_iter().map(|view| ((view.hook, view.reason), view.packets)).collect();
    }
}

/// Packets per second, by hook and reason.
type Rates = BTreeMap<(String, String), u64>;

fn rates(list: &[DropsView], before: &Rates, elapsed: Duration) -> Rates {
    let millis = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).max(1);
    list.iter()
        .map(|view| {
            let key = (view.hook.clone(), view.reason.clone());
            let new = view.packets.saturating_sub(before.get(&key).copied().unwrap_or(view.packets));
            (key, new.saturating_mul(1000) / millis)
        })
        .collect()
}

fn drops_table(list: &[DropsView], rates: Option<Rates>, colours: bool) -> String {
    const HEADER: &[&str] = &["HOOK", "REASON", "VERDICT", ">PACKETS", ">BYTES"];
    const WITH_RATE: &[&str] = &["HOOK", "REASON", "VERDICT", ">PACKETS", ">BYTES", ">PACKETS/S"];
    let mut table = Table::new(if rates.is_some() { WITH_RATE } else { HEADER }, colours);
    for view in list.iter().filter(|view| view.packets > 0) {
        let DropsView { hook, reason, verdict, packets, bytes: size, explanation } = view;
        let cells: [Cell; 5] = [
            hook.as_str().into(),
            reason.as_str().into(),
            verdict.as_str().into(),
            count(*packets).into(),
            bytes(*size).into(),
        ];
        match &rates {
            None => table.row(cells, explanation.trim()),
            Some(rates) => {
                let [a, b, c, d, e] = cells;
                let rate = rates.get(&(hook.clone(), reason.clone())).copied().unwrap_or(0);
                table.row([a, b, c, d, e, count(rate).into()], "");
            }
        }
    }
    table.render()
}

/// # Errors
/// As [`next_hops`].
pub async fn status(client: &Client, output: Output) -> Result<(), Failure> {
    let view = client.status().await?;
    output.show(&view, || status_text(&view, output.colour))
}

fn status_text(view: &StatusView, colours: bool) -> String {
    let StatusView { health, node_name, version, abi, uptime_seconds, map_bytes, counts, .. } = view;
    let health = match health {
        Health::Ok => "ok",
        Health::Degraded => "degraded",
        Health::Failed => "failed",
    };
    let mut text = String::new();
    // Writing to a string cannot fail, here and below.
    let _ = writeln!(text, "health     {health}");
    let _ = writeln!(text, "node       {node_name}");
    let _ = writeln!(text, "agent      {version}, map layouts {abi}, up {}", duration(*uptime_seconds));
    let states = [
        (counts.active, "active"),
        (counts.standby, "standby"),
        (counts.pending, "pending"),
        (counts.down, "down"),
        (counts.invalid, "invalid"),
    ];
    let states: Vec<String> =
        states.iter().filter(|(n, _)| *n > 0).map(|(n, state)| format!("{n} {state}")).collect();
    let states = if states.is_empty() { String::new() } else { format!(" ({})", states.join(", ")) };
    let _ = writeln!(text, "routes     {}{states}", counts.routes);
    let _ = writeln!(text, "next hops  {}, {} failovers", counts.next_hops, counts.failovers);
    if counts.service_ports + counts.refused_service_ports > 0 || view.flows.iter().any(|t| t.entries() > 0) {
        let refused = match counts.refused_service_ports {
            0 => String::new(),
            refused => format!(", {refused} refused"),
        };
        let _ = writeln!(text, "services   {} served{refused}", counts.service_ports);
        let _ = writeln!(text, "flows      {}", pressure(&view.flows));
    }
    if let Some(apply) = &view.last_apply {
        let millis = apply.duration_micros / 1000;
        let micros = apply.duration_micros % 1000;
        let ago = duration(apply.seconds_ago);
        let _ = writeln!(text, "applied    {} map writes in {millis}.{micros:03} ms, {ago} ago", apply.steps);
    }
    let _ = writeln!(text, "maps       {} of memory", bytes(*map_bytes));
    text.push('\n');
    text.push_str(&interfaces(&view.interfaces, colours));
    text.push('\n');
    text.push_str(&maps(view, colours));
    if !view.programs.is_empty() {
        text.push('\n');
        text.push_str(&programs(&view.programs, colours));
    }
    if !view.problems.is_empty() {
        text.push_str("\nproblems\n");
        for problem in &view.problems {
            let _ = writeln!(text, "    {problem}");
        }
    }
    text
}

/// How full the flow tables are.
fn pressure(tables: &[FlowTableView]) -> String {
    let table = |table: &FlowTableView| format!("{} {}/{}", table.map, table.entries(), table.capacity);
    let tables: Vec<String> = tables.iter().map(table).collect();
    if tables.is_empty() { "not looked at yet".to_owned() } else { tables.join(", ") }
}

fn interfaces(list: &[InterfaceView], colours: bool) -> String {
    const HEADER: &[&str] = &["INTERFACE", "DEVICE", "ROLE", "CARRIER", "XDP", "TC"];
    let mut table = Table::new(HEADER, colours);
    for InterfaceView { alias, device, ifindex: _, role, carrier, xdp, tc, reason } in list {
        let xdp = match xdp {
            AttachMode::Native => Cell::coloured("native", Colour::Good),
            AttachMode::Generic => Cell::coloured("generic", Colour::Notice),
            AttachMode::None => Cell::coloured("none", Colour::Bad),
        };
        let yes = |is: bool| if is { "yes" } else { "no" };
        let cells = [
            alias.as_str().into(),
            device.as_deref().unwrap_or("absent").into(),
            role.as_str().into(),
            Cell::coloured(yes(*carrier), if *carrier { Colour::Plain } else { Colour::Bad }),
            xdp,
            yes(*tc).into(),
        ];
        table.row(cells, reason);
    }
    table.render()
}

fn maps(view: &StatusView, colours: bool) -> String {
    const HEADER: &[&str] = &["MAP", ">USED", ">MAX", ">FILL", ">MEMORY"];
    let mut table = Table::new(HEADER, colours);
    for map in &view.maps {
        let percent = (u64::from(map.used) * 100).checked_div(u64::from(map.max)).unwrap_or(0);
        let colour = if percent >= 90 { Colour::Bad } else { Colour::Plain };
        let cells = [
            map.name.as_str().into(),
            map.used.to_string().into(),
            map.max.to_string().into(),
            Cell::coloured(format!("{percent}%"), colour),
            bytes(map.bytes).into(),
        ];
        table.row(cells, "");
    }
    table.render()
}

fn programs(list: &[ProgramView], colours: bool) -> String {
    const HEADER: &[&str] = &["PROGRAM", ">ID", "TAG", "INTERFACE"];
    let mut table = Table::new(HEADER, colours);
    for ProgramView { name, id, tag, interface } in list {
        let cells =
            [name.as_str().into(), id.to_string().into(), tag.as_str().into(), interface.as_str().into()];
        table.row(cells, "");
    }
    table.render()
}

/// # Errors
/// As [`next_hops`], and when a check failed.
pub async fn doctor(client: &Client, output: Output) -> Result<(), Failure> {
    let view = client.doctor().await?;
    output.show(&view, || doctor_text(&view, output.colour))?;
    let failed = view.checks.iter().any(|check| check.result == CheckResult::Fail);
    if failed { Err(Failure::Told) } else { Ok(()) }
}

fn doctor_text(view: &DoctorView, colours: bool) -> String {
    const HEADER: &[&str] = &["CHECK", "RESULT", "FINDING"];
    let mut table = Table::new(HEADER, colours);
    for CheckView { name, result, finding, fix } in &view.checks {
        let result = match result {
            CheckResult::Ok => Cell::coloured("ok", Colour::Good),
            CheckResult::Warn => Cell::coloured("warn", Colour::Notice),
            CheckResult::Fail => Cell::coloured("fail", Colour::Bad),
        };
        let fix = if fix.is_empty() { String::new() } else { format!("fix: {fix}") };
        table.row([name.as_str().into(), result, finding.as_str().into()], &fix);
    }
    table.render()
}

/// # Errors
/// As [`next_hops`].
pub async fn diff(client: &Client, output: Output) -> Result<(), Failure> {
    let view = client.diff().await?;
    output.show(&view, || {
        let DiffView { lines } = &view;
        match lines.as_slice() {
            [] => "no difference: the maps hold what they should\n".to_owned(),
            lines => lines.join("\n") + "\n",
        }
    })
}

#[cfg(test)]
mod tests;
