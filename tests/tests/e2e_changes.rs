//! Many changes at once: each is answered by itself, and together they cost few compilations.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use netroute_tests::{agent::Agent, lab::Lab};
use netroute_user::api::client::{Client, ClientError};
use netroute_user::api::types::{RouteEntry, RouteView};
use tokio::task::JoinSet;

/// Routes added, then removed.
const ROUTES: u32 = 4000;
/// Clients at a time; the server has room for more.
const CLIENTS: u32 = 32;
/// Every so-manieth route names an interface that nobody knows.
const BAD: u32 = 100;

fn destination(number: u32) -> String {
    format!("10.{}.{}.0/24", 100 + number / 256, number % 256)
}

fn entry(number: u32) -> Result<RouteEntry> {
    let interface = if number % BAD == BAD - 1 { "Port9" } else { "Port3" };
    let text = format!(
        r#"{{"destination":"{}","interface":"{interface}","nextHop":"192.168.20.1","metric":100}}"#,
        destination(number)
    );
    Ok(serde_json::from_str(&text)?)
}

/// Every client sends its share, one after the other; answers by number.
async fn all<T, F>(change: impl Fn(u32) -> F + Clone + Send + 'static) -> Result<Vec<(u32, T)>>
where
    T: Send + 'static,
    F: Future<Output = T> + Send,
{
    let mut clients = JoinSet::new();
    for first in 0..CLIENTS {
        let change = change.clone();
        clients.spawn(async move {
            let mut answers = Vec::new();
            for number in (first..ROUTES).step_by(CLIENTS as usize) {
                answers.push((number, change(number).await));
            }
            answers
        });
    }
    Ok(clients.join_all().await.into_iter().flatten().collect())
}

fn per_second(begun: Instant) -> f64 {
    f64::from(ROUTES) / begun.elapsed().max(Duration::from_nanos(1)).as_secs_f64()
}

#[test]
fn concurrent_changes_are_answered_each_by_itself_and_compiled_together() -> Result<()> {
    let lab = Lab::temporary()?;
    let agent = Agent::start(&lab.vm("master"))?;
    let client = Client::new(&agent.node.socket);
    let before = agent.metric("netroute_applies_total")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().worker_threads(2).build()?;

    let begun = Instant::now();
    let adder = client.clone();
    let add = move |number| {
        let client = adder.clone();
        async move { client.add(&entry(number).map_err(|error| ClientError::Refused(error.to_string()))?).await }
    };
    let added: Vec<(u32, Result<RouteView, ClientError>)> = runtime.block_on(all(add))?;
    println!("MEASURED {:.0} routes added per second, one request each", per_second(begun));
    ensure!(added.len() == ROUTES as usize);
    for (number, answer) in added {
        match answer {
            Ok(view) => ensure!(
                view.destination.to_string() == destination(number) && number % BAD != BAD - 1,
                "{number} was answered with {}",
                view.destination
            ),
            Err(ClientError::Refused(line)) => ensure!(
                number % BAD == BAD - 1 && line.contains(&destination(number)) && line.contains("Port9"),
                "{number}: {line}"
            ),
            Err(error) => return Err(error).with_context(|| format!("route {number}")),
        }
    }
    ensure!(agent.routes()?.len() == (ROUTES - ROUTES / BAD) as usize);

    let begun = Instant::now();
    let remove = move |number| {
        let client = client.clone();
        async move { client.remove(&destination(number), "Port3", None).await }
    };
    let removed = runtime.block_on(all(remove))?;
    println!("MEASURED {:.0} routes removed per second, one request each", per_second(begun));
    for (number, answer) in removed {
        match answer {
            Ok(views) => {
                let gone: Vec<String> = views.iter().map(|view| view.destination.to_string()).collect();
                ensure!(gone == [destination(number)], "{number} was answered with {gone:?}");
            }
            Err(error) => ensure!(number % BAD == BAD - 1, "{number}: {error}"),
        }
    }
    ensure!(agent.routes()?.is_empty());
    let applies = agent.metric("netroute_applies_total")? - before;
    ensure!(applies < u64::from(ROUTES), "{applies} compilations for {} changes", 2 * ROUTES);
    agent.cli(&["diff"])?.succeeded()?;
    Ok(())
}
