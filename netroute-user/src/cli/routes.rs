//! The `route` commands.

use std::io::{self, IsTerminal, Read};
use std::path::Path;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::args::{AddRoute, Route};
use super::failure::{Failure, refused};
use super::lines;
use super::output::{Output, print};
use super::table::{Cell, Colour, Table, count};
use crate::api::client::Client;
use crate::api::types::{Path as Way, RouteEntry, RouteGetView, RouteView, State};
use crate::input::address::{LeadingZeros, parse_address, parse_prefix};

/// Problems of an import that are shown; more are only counted.
const SHOWN_PROBLEMS: usize = 20;

/// # Errors
/// When the agent or the parser refuses, or there is no agent.
pub async fn run(command: Route, client: &Client, output: Output) -> Result<(), Failure> {
    match command {
        Route::Add(route) => add(route, client, output).await,
        Route::List { dev, all } => {
            let routes = client.routes(dev.as_deref(), all).await?;
            output.show(&routes, || list(&routes, all, output.colour))
        }
        Route::Remove { destination, dev, via } => {
            remove(&destination, &dev, via.as_deref(), client, output).await
        }
        Route::Get { address, from } => {
            let from = from.map(|address| address.to_string());
            let view = client.route_get(&address.to_string(), from.as_deref()).await?;
            output.show(&view, || got(&view))
        }
        Route::Import { file } => import(&file, client, output).await,
        Route::Export { file, all } => {
            let routes = client.export(all).await?;
            let Some(file) = file else { return output.show(&routes, || lines::write(&routes)) };
            std::fs::write(&file, lines::write(&routes))
                .map_err(|error| refused(format!("{}: cannot be written: {error}", file.display())))
        }
    }
}

impl From<AddRoute> for RouteEntry {
    fn from(route: AddRoute) -> Self {
        let AddRoute { destination, via, dev, metric, weight, force } = route;
        Self { destination, next_hop: via, interface: dev, metric, weight, force }
    }
}

/// # Errors
/// As [`run`].
pub async fn add(route: AddRoute, client: &Client, output: Output) -> Result<(), Failure> {
    let entry = RouteEntry::from(route);
    // Refused here already, so that a mistake is told even when no agent runs.
    entry.clone().route(None).map_err(refused)?;
    let view = client.add(&entry).await?;
    output.show(&view, || {
        let RouteView { state, reason, .. } = &view;
        let why = if reason.is_empty() { String::new() } else { format!(" ({reason})") };
        format!("added {}: {}{why}\n", line(&view), word(*state))
    })
}

/// # Errors
/// As [`run`].
pub async fn remove(
    destination: &str,
    interface: &str,
    next_hop: Option<&str>,
    client: &Client,
    output: Output,
) -> Result<(), Failure> {
    let prefix = parse_prefix(destination, LeadingZeros::Refused).map_err(refused)?.to_string();
    let next_hop = next_hop
        .map(|text| parse_address(text, LeadingZeros::Refused))
        .transpose()
        .map_err(refused)?
        .map(|address| address.to_string());
    let removed = client.remove(&prefix, interface, next_hop.as_deref()).await?;
    output.show(&removed, || removed.iter().map(|view| format!("removed {}\n", line(view))).collect())
}

fn line(view: &RouteView) -> String {
    let RouteView { destination, next_hop, interface, metric, .. } = view;
    let via = next_hop.map_or_else(String::new, |address| format!(" via {address}"));
    format!("{destination}{via} dev {interface} metric {metric}")
}

/// The word of JSON and tables.
#[must_use]
pub const fn word(state: State) -> &'static str {
    match state {
        State::Active => "active",
        State::Standby => "standby",
        State::Pending => "pending",
        State::Down => "down",
        State::Invalid => "invalid",
    }
}

const fn colour(state: State) -> Colour {
    match state {
        State::Active => Colour::Good,
        State::Standby => Colour::Plain,
        State::Pending => Colour::Notice,
        State::Down | State::Invalid => Colour::Bad,
    }
}

/// Custom routes fit 80 columns with the longest IPv4 addresses.
fn list(routes: &[RouteView], all: bool, colours: bool) -> String {
    if routes.is_empty() {
        return "no custom routes\n".to_owned();
    }
    let mut table = if all {
        const HEADER: &[&str] =
            &["DESTINATION", "NEXTHOP", "INTERFACE", ">METRIC", "STATE", ">PACKETS", "ORIGIN", "REASON"];
        Table::new(HEADER, colours)
    } else {
        const HEADER: &[&str] =
            &["DESTINATION", "NEXTHOP", "INTERFACE", ">METRIC", "STATE", ">PACKETS", ">BYTES"];
        Table::new(HEADER, colours)
    };
    for route in routes {
        let RouteView {
            destination, next_hop, interface, metric, state, reason, origin, packets, bytes, ..
        } = route;
        let next_hop = next_hop.map_or_else(|| "-".to_owned(), |address| address.to_string());
        let cells: [Cell; 6] = [
            destination.to_string().into(),
            next_hop.into(),
            interface.as_str().into(),
            metric.to_string().into(),
            Cell::coloured(word(*state), colour(*state)),
            count(*packets).into(),
        ];
        let [a, b, c, d, e, f] = cells;
        if all {
            table.row([a, b, c, d, e, f, origin.as_str().into(), reason.as_str().into()], "");
        } else {
            table.row([a, b, c, d, e, f, super::table::bytes(*bytes).into()], reason);
        }
    }
    table.render()
}

/// One line in the manner of `ip route get`, and why.
fn got(view: &RouteGetView) -> String {
    let RouteGetView { address, prefix, next_hop, interface, mac, origin, path, reason, explanation } = view;
    let mut text = address.to_string();
    for (word, value) in [
        ("via", next_hop.map(|address| address.to_string())),
        ("dev", interface.clone()),
        ("lladdr", mac.clone()),
    ] {
        if let Some(value) = value {
            text.extend([" ", word, " ", &value]);
        }
    }
    let prefix = prefix.map_or_else(|| "none".to_owned(), |prefix| prefix.to_string());
    let origin = if origin.is_empty() { String::new() } else { format!(" ({origin})") };
    let path = match path {
        Way::Fast => "fast",
        Way::Kernel => "kernel",
    };
    let explanation = explanation.trim();
    format!("{text}\n    prefix {prefix}{origin}\n    path {path}: {reason}: {explanation}\n")
}

async fn import(file: &Path, client: &Client, output: Output) -> Result<(), Failure> {
    let (name, text) = read(file)?;
    let bar = bar("reading", u64::try_from(text.lines().count()).unwrap_or_default());
    let routes = lines::read(&text, Path::new(&name), || bar.inc(1)).map_err(|problems| {
        bar.finish_and_clear();
        told(&problems)
    })?;
    bar.finish_and_clear();
    let bar = self::bar("sending", u64::try_from(routes.len()).unwrap_or_default());
    let progress = bar.clone();
    let view = client
        .import(routes, move |sent| {
            progress.inc(u64::try_from(sent).unwrap_or_default());
            if progress.length() == Some(progress.position()) {
                progress.set_message("applying");
                progress.enable_steady_tick(Duration::from_millis(100));
            }
        })
        .await;
    bar.finish_and_clear();
    let view = view?;
    output.show(&view, || {
        let total = view.added + view.changed + view.unchanged;
        format!(
            "imported {total} routes: {} added, {} changed, {} as before\n",
            view.added, view.changed, view.unchanged
        )
    })
}

fn read(file: &Path) -> Result<(String, String), Failure> {
    let mut text = String::new();
    let (name, result) = if file == Path::new("-") {
        ("standard input".to_owned(), io::stdin().read_to_string(&mut text).map(|_| text))
    } else {
        (file.display().to_string(), std::fs::read_to_string(file))
    };
    match result {
        Ok(text) => Ok((name, text)),
        Err(error) => Err(refused(format!("{name}: cannot be read: {error}"))),
    }
}

fn told(problems: &[crate::input::problem::Problem]) -> Failure {
    for problem in problems.iter().take(SHOWN_PROBLEMS) {
        eprintln!("netroute: {problem}");
    }
    let more = problems.len().saturating_sub(SHOWN_PROBLEMS);
    let more = if more > 0 { format!("{more} more like these; ") } else { String::new() };
    refused(format!("{more}nothing was imported"))
}

/// Only on a terminal, and only for work that takes a while.
fn bar(message: &'static str, length: u64) -> ProgressBar {
    let target = if io::stderr().is_terminal() && length > 1000 {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let style = ProgressStyle::with_template("{msg:9} [{bar:40}] {human_pos}/{human_len} {eta}");
    let bar = ProgressBar::with_draw_target(Some(length), target);
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
    bar.set_message(message);
    bar
}

/// PowerShell's list shape, a blank line between objects.
#[must_use]
pub fn powershell(routes: &[RouteView]) -> String {
    let object = |route: &RouteView| {
        let RouteView { destination, next_hop, interface, metric, state, reason, .. } = route;
        let next_hop = next_hop.map_or_else(String::new, |address| address.to_string());
        let mut state = word(*state).to_owned();
        if let Some(first) = state.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        let mut text = String::new();
        for (name, value) in [
            ("InterfaceAlias", interface.clone()),
            ("DestinationPrefix", destination.to_string()),
            ("NextHop", next_hop),
            ("RouteMetric", metric.to_string()),
            ("State", state),
            ("Reason", reason.clone()),
        ] {
            text.push_str(format!("{name:<17} : {value}").trim_end());
            text.push('\n');
        }
        text
    };
    routes.iter().map(object).collect::<Vec<_>>().join("\n")
}

/// What the Get cmdlet was asked for, beside the interface.
pub struct Filter {
    destination: Option<ipnet::IpNet>,
    next_hop: Option<std::net::IpAddr>,
}

impl Filter {
    /// # Errors
    /// When a text is no prefix or address.
    pub fn new(destination: Option<&str>, next_hop: Option<&str>) -> Result<Self, Failure> {
        let zeros = LeadingZeros::Refused;
        Ok(Self {
            destination: destination.map(|text| parse_prefix(text, zeros)).transpose().map_err(refused)?,
            next_hop: next_hop.map(|text| parse_address(text, zeros)).transpose().map_err(refused)?,
        })
    }

    #[must_use]
    pub fn takes(&self, route: &RouteView) -> bool {
        self.destination.is_none_or(|wanted| wanted == route.destination)
            && self.next_hop.is_none_or(|wanted| Some(wanted) == route.next_hop)
    }
}

/// # Errors
/// When standard output cannot be written.
pub fn print_powershell(routes: &[RouteView], output: Output) -> Result<(), Failure> {
    match output.format {
        super::args::Format::Table => print(&powershell(routes)),
        _ => output.show(routes, String::new),
    }
}

#[cfg(test)]
mod tests;
