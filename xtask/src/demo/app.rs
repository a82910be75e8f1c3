//! The second job: a web in front of a database as Services, asked from outside, from a pod and by processes of
//! the VMs themselves, while one replica ends.

use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use netroute_tests::app::{App, Clients, Ending, Replica, Tally, clients, used_endpoints};
use netroute_tests::lab::Lab;

use super::agent::Agent;
use super::checks::Checks;
use super::lab::{LOOK, PATIENCE};
use super::show;

/// Requests of one client to one address.
const PAGES: usize = 200;
/// Each of four replicas gets a quarter of them by chance; a tenth is missed by five deviations.
const LEAST: usize = PAGES / 10;
/// Shown of the flow table.
const FLOWS: &str = "6";
/// The replica that ends.
const POD: &str = "master-pod2";

pub fn demonstrate(lab: &Lab, agents: &[Agent], checks: &mut Checks) -> Result<()> {
    show::heading("A web in front of a database, as Services of both families");
    let mut app = App::deploy(lab)?;
    println!(
        "A replica of each in {};\nthe web asks the database for every page.",
        app.replicas().join(", ")
    );
    println!("Objects: examples/manifests/nodes.yaml, web.yaml, database.yaml\n");
    let clients = clients(lab);
    await_pages(&clients)?;
    let shares = share_out(&app, &clients)?;

    let [first, ..] = agents else { bail!("the lab has no VM") };
    show::heading(&format!("What the agent of {} says of them", first.vm.name()));
    for arguments in
        [&["service", "list"][..], &["service", "show", "web"], &["flow", "list", "--limit", FLOWS]]
    {
        println!("$ netroute {}\n{}\n", arguments.join(" "), first.text(arguments)?);
    }

    show::heading(&format!("The web replica of {POD} ends under requests, and comes back"));
    let settled = |addresses| await_used(agents, addresses);
    let ending = app.end_under_requests(&clients, Replica::Web, POD, settled)?;
    let without = first.text(&["service", "list"])?;
    println!("while it is away:\n$ netroute service list\n{without}");
    app.bring_back(Replica::Web, POD, settled)?;

    show::heading("Expectations of the Services");
    for (client, tally) in &shares {
        expect_shares(checks, &app, client, tally);
    }
    expect_ending(checks, &ending, clients.len());
    let listed =
        without.lines().filter(|line| line.contains("default/web") && line.contains(" 6/6 ")).count();
    checks.expect(listed == 1, "`service list` shows the endpoints that are left", "6/6 of the web");
    let back = Tally::of(&clients[0].ask(clients[0].to.v4.into(), PAGES)?);
    let pages = back.web.get(POD).copied().unwrap_or(0);
    checks.expect(pages > 0, "the replica is used again", &format!("{pages} of {PAGES} pages"));
    let flows = first.json(&["flow", "list"])?["total"].as_u64().context("no number of flows")?;
    checks.expect(flows > 0, "`flow list` shows the flows", &format!("{flows}"));
    Ok(())
}

/// The first packets wait until next hops have told their MAC.
fn await_pages(clients: &[Clients]) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    for clients in clients {
        for to in clients.to.both() {
            loop {
                let failed = Tally::of(&clients.ask(to, 8)?).failed;
                let Some(reason) = failed.first() else { break };
                if Instant::now() > deadline {
                    bail!("{} gets no page from {to}: {reason}", clients.name);
                }
            }
        }
    }
    Ok(())
}

/// Asks for many pages, and prints who answered them.
fn share_out(app: &App, clients: &[Clients]) -> Result<Vec<(String, Tally)>> {
    let pods = app.replicas();
    println!("{:38}{:28}QUERIES BY DATABASE REPLICA", "", "PAGES BY WEB REPLICA");
    let names: String = pods.iter().map(|pod| format!("{:>7}", short(pod))).collect();
    println!("{:12}{:12}{:>6}{:>7}{names}{names}", "FROM", "TO", "PAGES", "FAILED");
    let mut shares = Vec::new();
    for clients in clients {
        for to in clients.to.both() {
            let tally = Tally::of(&clients.ask(to, PAGES)?);
            let counts = [&tally.web, &tally.database].map(|tier| {
                let count = |pod| format!("{:>7}", tier.get(pod).copied().unwrap_or(0));
                pods.iter().map(count).collect::<String>()
            });
            let pages: usize = tally.web.values().sum();
            let (name, failed) = (clients.name, tally.failed.len());
            println!("{name:12}{:12}{pages:>6}{failed:>7}{}", to.to_string(), counts.concat());
            shares.push((format!("{name} to {to}"), tally));
        }
    }
    Ok(shares)
}

/// `m-pod1` for `master-pod1`.
fn short(pod: &str) -> String {
    let (vm, number) = pod.split_once('-').unwrap_or(("", pod));
    format!("{}-{number}", vm.get(..1).unwrap_or_default())
}

fn expect_shares(checks: &mut Checks, app: &App, client: &str, tally: &Tally) {
    let Tally { web, database, failed } = tally;
    let pages: usize = web.values().sum();
    let numbers = format!("{pages} of {PAGES} pages");
    let numbers = failed.first().map_or(numbers.clone(), |reason| format!("{numbers}; {reason}"));
    checks.expect(pages == PAGES, &format!("{client}: every request gets a page"), &numbers);
    let least = |tier: &std::collections::BTreeMap<String, usize>| {
        app.replicas().iter().map(|pod| tier.get(pod).copied().unwrap_or(0)).min().unwrap_or(0)
    };
    let (web, database) = (least(web), least(database));
    checks.expect(
        web >= LEAST && database >= LEAST,
        &format!("{client}: all replicas take part"),
        &format!("at least {web} pages each, {database} queries each"),
    );
}

/// `most` requests may still be with the replica when it is killed.
fn expect_ending(checks: &mut Checks, ending: &Ending, most: usize) {
    let Ending { requests, in_flight, failed, late } = ending;
    let reason = failed.first().map(|reason| format!(": {reason}")).unwrap_or_default();
    checks.expect(
        *requests > 100 && failed.is_empty() && *in_flight <= most,
        "a replica ends, and no request fails",
        &format!("{requests} requests, {} failed{reason}, {in_flight} cut by the kill", failed.len()),
    );
    checks.expect(*late == 0, "a terminating replica gets no new request", &format!("{late} requests"));
}

fn await_used(agents: &[Agent], addresses: usize) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    for agent in agents {
        loop {
            let used = used_endpoints(&agent.json(&["service", "show", "web"])?);
            if used == addresses {
                break;
            }
            if Instant::now() > deadline {
                bail!("{} uses {used} addresses of the web, not {addresses}", agent.vm.name());
            }
            thread::sleep(LOOK);
        }
    }
    Ok(())
}
