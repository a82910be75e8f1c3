//! The two-tier application while its replicas come and go, over both families, also for processes of the
//! nodes (S1, S5, S18, S22).

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use netroute_tests::{
    agent::{Agent, eventually},
    app::{App, Clients, Endpoint, Replica, Stream, Tally, clients, used_endpoints},
    appliance::Appliance,
};

const PATIENCE: Duration = Duration::from_secs(15);
/// Each of four replicas is expected to get a quarter; a tenth is missed by five deviations.
const MANY: usize = 200;
const SWAPPING: Duration = Duration::from_secs(5);

struct Scene {
    app: App,
    agents: Vec<Agent>,
    clients: Vec<Clients>,
    on: Appliance,
}

impl Scene {
    fn new() -> Result<Self> {
        let on = Appliance::new()?;
        if !on.lab.serve_sockets()? {
            let test = std::thread::current().name().unwrap_or("e2e_app").to_owned();
            println!("{test}: no control groups of version 2 are mounted, so no processes of the VMs ask");
        }
        let app = App::deploy(&on.lab)?;
        let agents = on.lab.vms().iter().map(Agent::start).collect::<Result<_>>()?;
        let clients = clients(&on.lab);
        let scene = Self { app, agents, clients, on };
        // Next hops are resolved by the first packets.
        eventually("pages for everybody", PATIENCE, || scene.all_served(8))?;
        Ok(scene)
    }

    fn all_served(&self, count: usize) -> Result<bool> {
        for clients in &self.clients {
            for to in clients.to.both() {
                if !Tally::of(&clients.ask(to, count)?).failed.is_empty() {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }
}

/// Until all agents use so many addresses of a Service.
fn await_used(agents: &[Agent], replica: Replica, addresses: usize) -> Result<()> {
    eventually("the agents to use the endpoints", PATIENCE, || {
        for agent in agents {
            if used_endpoints(&agent.json(&["service", "show", replica.word()])?) != addresses {
                return Ok(false);
            }
        }
        Ok(true)
    })
}

/// Clients outside, in pods and on the nodes get pages of all replicas, and those ask all databases.
#[test]
fn s1_requests_are_shared_out_over_both_tiers() -> Result<()> {
    let scene = Scene::new()?;
    for clients in &scene.clients {
        for to in clients.to.both() {
            let Tally { web, database, failed } = Tally::of(&clients.ask(to, MANY)?);
            ensure!(failed.is_empty(), "{} to {to}: {failed:?}", clients.name);
            for (tier, least) in [(&web, MANY / 10), (&database, MANY / 5)] {
                let fair = tier.len() == scene.app.replicas().len() && tier.values().all(|n| *n >= least);
                ensure!(fair, "{} to {to}: web {web:?}, database {database:?}", clients.name);
            }
        }
    }
    Ok(())
}

/// No request fails but those that a killed server had taken.
#[test]
fn s1_s18_a_replica_ends_under_requests() -> Result<()> {
    let Scene { mut app, agents, clients, on: _on } = Scene::new()?;
    for replica in Replica::ALL {
        let settled = |addresses| await_used(&agents, replica, addresses);
        let ending = app.end_under_requests(&clients, replica, "master-pod2", settled)?;
        println!("MEASURED a {} replica ends: {ending:?}", replica.word());
        ensure!(ending.requests > 100 && ending.failed.is_empty() && ending.late == 0, "{ending:?}");
        ensure!(ending.in_flight <= clients.len(), "{ending:?}");
        app.bring_back(replica, "master-pod2", settled)?;
    }
    let pages = clients[0].ask(clients[0].to.v4.into(), MANY)?;
    ensure!(Tally::of(&pages).web.contains_key("master-pod2"), "it is not used again");
    Ok(())
}

/// Another pair of endpoints every 200 ms, and no connection fails.
#[test]
fn s18_s22_endpoints_are_swapped_under_requests() -> Result<()> {
    let Scene { mut app, agents: _agents, clients, on: _on } = Scene::new()?;
    let pods = app.replicas();
    let stream = Stream::start(&clients);
    let begin = Instant::now();
    let mut swaps = 0;
    while begin.elapsed() < SWAPPING {
        for (number, pod) in pods.iter().enumerate() {
            // The pair that is out is of one node, of the other one, or of both.
            let out = (number + swaps) % 4 < 2;
            for replica in Replica::ALL {
                app.set(replica, pod, if out { Endpoint::Gone } else { Endpoint::Ready })?;
            }
        }
        swaps += 1;
        thread::sleep(Duration::from_millis(200));
    }
    let requests = stream.stop()?;
    let Tally { web, database, failed } = Tally::of(&requests);
    println!(
        "MEASURED {swaps} swaps of endpoints under {} requests with three connections each: {} failed",
        requests.len(),
        failed.len()
    );
    ensure!(failed.is_empty(), "{} of {}: {:?}", failed.len(), requests.len(), failed.first());
    ensure!(requests.len() > 500 && web.len() == 4 && database.len() == 4, "{web:?} {database:?}");
    Ok(())
}
