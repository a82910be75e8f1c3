//! From what the operator says to what the maps hold, and what the agent takes for it.

use std::fmt::Write as _;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Map, MapData};
use netroute_common::abi;
use netroute_common::layout::route::{Prefix4, Route};
use netroute_tests::agent::{Agent, Node};
use netroute_tests::router::Router;
use netroute_user::api::client::Client;
use netroute_user::api::types::RouteEntry;

use crate::sample::{Outcome, Row, Section, Unit, quantile, quick};
use crate::whole_path::apart;

pub const SECTION: Section = Section { name: "control", run: |_| apart(run) };

/// Routes added one by one, by each way.
const CHANGES: u32 = 200;
const LOADS: [u32; 2] = [1_000, 100_000];
const PATIENCE: Duration = Duration::from_secs(120);
/// How long to wait between two looks into the map.
const LOOK: Duration = Duration::from_micros(50);
const IDLE: Duration = Duration::from_secs(3);
const LENGTH: u32 = 28;
const PORT: &str = "Port3";

type Trie = LpmTrie<MapData, Prefix4, Route>;

fn run() -> Result<Vec<Row>> {
    let router = Router::pair()?;
    let folder = tempfile::tempdir()?;
    let node = Node::beside(&router, folder.path())?;
    let next_hop = router.right().address.v4;
    let agent = Agent::start(node)?;
    let mut bench = Bench { trie: trie(&agent.node)?, agent, next_hop, next: 0, rows: Vec::new() };
    bench.idle("start")?;
    let changes = if quick() { CHANGES / 10 } else { CHANGES };
    bench.latency("control.api", "a route added by the API is in the map", changes, &add(&bench.agent)?)?;
    let manifests = folder.path().join("manifests");
    let by_manifest = |entry: &RouteEntry| put(&manifests, "one", std::slice::from_ref(entry));
    bench.latency("control.manifest", "a route in a new manifest is in the map", changes, &by_manifest)?;
    for routes in LOADS.into_iter().filter(|routes| !quick() || *routes <= 1_000) {
        bench.load(&manifests, routes)?;
    }
    Ok(bench.rows)
}

struct Bench {
    trie: Trie,
    agent: Agent,
    next_hop: Ipv4Addr,
    /// Routes so far: each prefix is used once.
    next: u32,
    rows: Vec<Row>,
}

impl Bench {
    fn fresh(&mut self) -> (RouteEntry, Key<Prefix4>) {
        let [_, a, b, c] = (self.next << 4).to_be_bytes();
        self.next += 1;
        let address = [50, a, b, c];
        let entry = RouteEntry {
            destination: format!("{}/{LENGTH}", Ipv4Addr::from(address)),
            next_hop: self.next_hop.to_string(),
            interface: PORT.to_owned(),
            metric: Some(100),
            weight: None,
            force: false,
        };
        (entry, Key::new(LENGTH, Prefix4 { address }))
    }

    fn latency(
        &mut self,
        id: &str,
        title: &str,
        changes: u32,
        change: &(dyn Fn(&RouteEntry) -> Result<()> + Sync),
    ) -> Result<()> {
        let mut times = Vec::new();
        for _ in 0..changes {
            let (entry, key) = self.fresh();
            // A shorter prefix would answer for it.
            ensure!(self.trie.get(&key, 0).is_err(), "{} is in the map already", entry.destination);
            let begin = Instant::now();
            let seen = thread::scope(|scope| {
                let looking = scope.spawn(|| wait_for(&self.trie, vec![key]));
                change(&entry)?;
                looking.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })?;
            times.push(milliseconds(seen.duration_since(begin)));
        }
        let p99 = quantile(&times, 0.99);
        self.row(id, title, Unit::Milliseconds, times);
        self.row(&format!("{id}.p99"), &format!("{title}, p99"), Unit::Milliseconds, vec![p99]);
        Ok(())
    }

    fn load(&mut self, manifests: &Path, routes: u32) -> Result<()> {
        let (entries, keys): (Vec<_>, Vec<_>) = (0..routes).map(|_| self.fresh()).unzip();
        let before = processor_time(&self.agent)?;
        let begin = Instant::now();
        put(manifests, &format!("load{routes}"), &entries)?;
        let seen = wait_for(&self.trie, keys)?;
        let time = milliseconds(seen.duration_since(begin));
        let title = format!("{routes} routes in a new manifest are in the map");
        self.row(&format!("control.load.{routes}"), &title, Unit::Milliseconds, vec![time]);
        // The kernel's FIB is written after the maps, and is the agent's work too.
        self.quiet()?;
        let spent = milliseconds(processor_time(&self.agent)?.saturating_sub(before));
        let title = format!("processor time of the agent for these {routes} routes");
        self.row(&format!("control.cpu.{routes}"), &title, Unit::Milliseconds, vec![spent]);
        self.memory(&routes.to_string())
    }

    fn idle(&mut self, what: &str) -> Result<()> {
        self.quiet()?;
        let spent = processor_time(&self.agent)?;
        let title = format!("processor time of the agent until it is ready ({what})");
        self.row("control.cpu.start", &title, Unit::Milliseconds, vec![milliseconds(spent)]);
        thread::sleep(IDLE);
        let spent = milliseconds(processor_time(&self.agent)?.saturating_sub(spent)) / IDLE.as_secs_f64();
        let title = "processor time of the agent per second without work";
        self.row("control.cpu.idle", title, Unit::Milliseconds, vec![spent]);
        self.memory("idle")
    }

    fn memory(&mut self, what: &str) -> Result<()> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.agent.pid()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
        let title = format!("resident memory of the agent ({what})");
        self.row(&format!("control.rss.{what}"), &title, Unit::Bytes, vec![kib * 1024.0]);
        Ok(())
    }

    /// Waits until the agent does next to nothing.
    fn quiet(&self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let mut before = processor_time(&self.agent)?;
        loop {
            thread::sleep(Duration::from_secs(1));
            let now = processor_time(&self.agent)?;
            if now.saturating_sub(before) <= Duration::from_millis(20) {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "the agent does not come to rest");
            before = now;
        }
    }

    fn row(&mut self, id: &str, title: &str, unit: Unit, samples: Vec<f64>) {
        self.rows.push(Row { id: id.into(), title: title.into(), unit, outcome: Outcome::Measured(samples) });
    }
}

/// Adds a route by the agent's socket.
fn add(agent: &Agent) -> Result<impl Fn(&RouteEntry) -> Result<()> + Sync + use<>> {
    let client = Client::new(&agent.node.socket);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().worker_threads(1).build()?;
    Ok(move |entry: &RouteEntry| {
        runtime.block_on(client.add(entry))?;
        Ok(())
    })
}

/// Writes a manifest beside the directory, and moves it there.
fn put(manifests: &Path, name: &str, entries: &[RouteEntry]) -> Result<()> {
    let mut text = String::new();
    for RouteEntry { destination, next_hop, interface, .. } in entries {
        let object = destination.replace(['.', '/'], "-");
        writeln!(
            text,
            "---\napiVersion: netroute.dev/v1alpha1\nkind: NetRoute\nmetadata: {{name: r{object}}}\n\
             spec: {{destination: {destination}, nextHop: {next_hop}, interface: {interface}, metric: 100}}"
        )?;
    }
    let first = entries.first().context("no route")?.destination.replace(['.', '/'], "-");
    let staged = manifests.with_file_name("staged.yaml");
    fs::write(&staged, text)?;
    Ok(fs::rename(&staged, manifests.join(format!("{name}-{first}.yaml")))?)
}

fn trie(node: &Node) -> Result<Trie> {
    let path = node.bpffs.join(abi::PIN_FOLDER).join("maps").join(abi::MAP_ROUTES4);
    let map = MapData::from_pin(&path).with_context(|| format!("cannot open {}", path.display()))?;
    Ok(Map::from_map_data(map)?.try_into()?)
}

/// When all of the keys were there.
fn wait_for(trie: &Trie, mut missing: Vec<Key<Prefix4>>) -> Result<Instant> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        while missing.last().is_some_and(|key| trie.get(key, 0).is_ok()) {
            missing.pop();
        }
        if missing.is_empty() {
            return Ok(Instant::now());
        }
        ensure!(Instant::now() < deadline, "{} routes never came into the map", missing.len());
        thread::sleep(LOOK);
    }
}

/// In user space and in the kernel, of all threads.
fn processor_time(agent: &Agent) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", agent.pid()))?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| -> Result<u64> { Ok(fields.get(at).context("short stat")?.parse()?) };
    // Fields 14 and 15 of proc_pid_stat(5), counted from the one behind the name, in 1/100 s.
    Ok(Duration::from_millis((ticks(11)? + ticks(12)?) * 10))
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
