//! From a configuration to a running agent, and its end.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{MissedTickBehavior, interval, sleep_until};
use tracing::{error, info, warn};

use super::carried::Carried;
use super::core::{ATTACH_RETRY, Agent, Parts};
use super::interfaces::{Attached, Wanted};
use super::kernel_tasks;
use super::signals::{Signals, Told};
use super::sources::{Sources, canonical_key};
use crate::api::request::Reply;
use crate::api::{server, socket};
use crate::apply::fib::Mirror;
use crate::apply::flows::Pass;
use crate::apply::neighbours::Neighbours;
use crate::apply::{MapStore, StoreError};
use crate::compile::Gateway;
use crate::config::AgentConfig;
use crate::desired::api_server::with_api_server;
use crate::desired::route::CustomRoute;
use crate::error::chain;
use crate::health_check::{self, Problems};
use crate::input::manifests::{self, ManifestSet, ManifestSource, ManifestWatch};
use crate::input::netlink::{Event, Options, Watch};
use crate::input::probe::Probes;
use crate::input::state_dir::{StateDir, StateError};
use crate::load::object::bpf_object;
use crate::load::{self, LoadError, Loaded, Loader};
use crate::netlink::NetlinkError;
use crate::observe::doctor::ports::{LocalPorts, complaint};
use crate::observe::metrics;

/// Requests that may wait.
const REQUESTS: usize = 256;
/// How often neighbours that carry traffic are confirmed.
const REFRESH: Duration = Duration::from_secs(10);

/// Why the agent did not start or stopped.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    #[error("the runtime does not start")]
    Runtime(#[source] std::io::Error),
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    #[error(transparent)]
    Manifests(#[from] manifests::WatchError),
    #[error(transparent)]
    Socket(#[from] socket::SocketError),
    #[error(transparent)]
    Metrics(#[from] metrics::MetricsError),
    #[error("the kernel's network state can no longer be followed")]
    WatchEnded,
    #[error("signals cannot be received")]
    Signal(#[source] std::io::Error),
}

/// Runs the agent until it is told to stop; the data plane stays as it is.
///
/// # Errors
/// When something that the agent cannot do without is missing; nothing was changed then.
pub fn run(config: AgentConfig) -> Result<(), AgentError> {
    if let Some([finding, fix]) = LocalPorts::read().and_then(|ports| complaint(&ports, &config.nat)) {
        warn!(fix, "{finding}");
    }
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(AgentError::Runtime)?;
    let result = runtime.block_on(async {
        // Each round begins with nothing but the configuration, as a new process would.
        let mut signals = None;
        while start(config.clone(), &mut signals).await? == Ended::ForNewStart {}
        Ok(())
    });
    // A compilation under way is not worth waiting for.
    runtime.shutdown_background();
    result
}

/// Removes programs, maps and mirrored routes that an agent left, without one.
///
/// # Errors
/// When an agent runs, or something cannot be removed.
pub fn detach(bpffs: &Path) -> Result<String, AgentError> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(AgentError::Runtime)?;
    let removed = load::detach(bpffs)?;
    runtime.block_on(async {
        let mut mirror = Mirror::open()?;
        let routes = mirror.remove_all().await?;
        Neighbours::open()?.release_all().await?;
        let programs = removed.programs.len() + removed.sockets;
        Ok(format!("{programs} programs and {routes} kernel routes removed"))
    })
}

/// Removes the socket when the agent ends, for whatever reason.
struct Socket(PathBuf);

impl Drop for Socket {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            warn!(%error, socket = %self.0.display(), "socket not removed");
        }
    }
}

/// Everything that feeds the loop.
struct Feeds {
    watch: Watch,
    manifests: ManifestWatch,
    sets: watch::Receiver<ManifestSet>,
    requests: mpsc::Receiver<crate::api::request::Request>,
    conflicts: watch::Receiver<Arc<Vec<crate::apply::fib::FibConflict>>>,
    passes: watch::Receiver<Arc<Pass>>,
    health_ports: watch::Receiver<Problems>,
    probes: Probes,
    probe_events: mpsc::Receiver<crate::input::probe::ProbeEvent>,
}

/// What follows the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    ForGood,
    ForNewStart,
}

/// `signals` are those of the start before, so that none is lost between the two.
async fn start(config: AgentConfig, signals: &mut Option<Signals>) -> Result<Ended, AgentError> {
    // What can be refused is asked first, in the order in which the reasons help most.
    let loader = Loader::new(bpf_object(), &config.bpffs, config.limits);
    let state = StateDir::open(&config.state_dir, config.probe)?;
    let cli = state.load()?;
    let listener = socket::bind(&config.socket)?;
    let _socket = Socket(config.socket.clone());
    let loaded = loader.open()?;
    let metrics = match config.metrics {
        Some(address) => Some(metrics::bind(address).await?),
        None => None,
    };
    let manifests = manifests::watch(ManifestSource::from(&config))?;
    let mirror = Mirror::open()?;
    let mut watch = Watch::open(Options { mirror_port: Some(mirror.port()), ..Options::default() }).await?;
    let Some(Event::Synced(kernel)) = watch.next().await else { return Err(AgentError::WatchEnded) };

    let (outlets, conflicts) = kernel_tasks::start(mirror)?;
    let mut sets = manifests.sets();
    let set = sets.borrow_and_update().clone();
    tell(&set);
    let sources =
        Sources { cli: by_key(cli, &config), manifests: by_key(set.routes, &config), cluster: set.cluster };
    let store = loaded.store()?;
    let installed = store.read()?;
    info!(adopted = loaded.adopted, routes = sources.cli.len() + sources.manifests.len(), "starting");
    let counters = loaded.counters()?;
    let (flows, swept) = (loaded.flows()?, loaded.flows()?);
    let carried = Carried::new(flows.services()?, &installed);
    let parts = Parts {
        state,
        sources,
        manifest_problems: set.problems,
        kernel,
        installed,
        store,
        counters,
        live_maps: loaded.live_maps()?,
        flows,
        carried,
        outlets,
        config,
    };
    let mut agent = Agent::new(parts);
    let (sender, requests) = mpsc::channel(REQUESTS);
    let (probes, probe_events) = Probes::new();
    let (pass, passes) = watch::channel(Arc::default());
    let (problems, health_ports) = watch::channel(Problems::default());
    let mut feeds =
        Feeds { watch, manifests, sets, requests, conflicts, passes, health_ports, probes, probe_events };

    let (stop, stopped) = oneshot::channel::<()>();
    let probe = agent.config.probe;
    let shutdown = async { drop(stopped.await) };
    // Answers from now on, if only that the agent is starting, and why it does not go on.
    let api = tokio::spawn(server::serve(listener, sender.clone(), probe, shutdown));
    // Not earlier: until here a signal ends the agent by itself, whatever it waits for.
    let signals = match signals {
        Some(signals) => signals,
        None => signals.insert(Signals::new().map_err(AgentError::Signal)?),
    };
    if let Some(end) = fill(&mut agent, &mut feeds, signals).await? {
        // With it goes the lock on what may be removed now.
        drop(loaded);
        finish(agent, end, stop, api).await;
        return Ok(Ended::ForGood);
    }
    attach(&mut agent, loaded)?;
    tokio::spawn(kernel_tasks::sweep(swept, pass));
    let checks = tokio::spawn(health_check::serve(agent.outlets.checks.subscribe(), problems));
    let metrics = metrics.map(|listener| tokio::spawn(metrics::serve(listener, sender)));
    // Without systemd there is nobody to tell.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    info!(node = agent.config.node_name, "ready");
    let end = serve(&mut agent, &mut feeds, signals).await?;
    let ended = if matches!(end, End::Unpinned) { Ended::ForNewStart } else { Ended::ForGood };
    finish(agent, end, stop, api).await;
    // The next start wants the addresses.
    for listening in metrics.into_iter().chain([checks]) {
        listening.abort();
        let _ = listening.await;
    }
    Ok(ended)
}

/// Fills the maps before any program runs over them, unless that is to end first.
async fn fill(
    agent: &mut Agent,
    feeds: &mut Feeds,
    signals: &mut Signals,
) -> Result<Option<End>, AgentError> {
    while !agent.is_settled() {
        tokio::select! {
            request = step(agent, feeds) => {
                if let Some(reply) = request? {
                    return Ok(Some(End::Detach(reply)));
                }
            }
            told = signals.next() => match told {
                Told::End => return Ok(Some(End::Stopped)),
                Told::Reread => feeds.manifests.reread(),
            },
        }
    }
    Ok(None)
}

fn attach(agent: &mut Agent, loaded: Loaded) -> Result<(), AgentError> {
    let wanted = Wanted::of(&agent.snapshot.desired, &agent.snapshot.kernel);
    let loaded = loaded.with_sockets(agent.config.sockets.clone());
    agent.attached = Some(Attached::start(loaded, wanted)?);
    agent.changed();
    Ok(())
}

/// Why the loop ended.
enum End {
    /// The data plane stays.
    Stopped,
    /// Everything is to be removed.
    Detach(Reply<()>),
    /// Somebody removed pins: programs are gone, or the next start would not find the maps.
    Unpinned,
}

async fn serve(agent: &mut Agent, feeds: &mut Feeds, signals: &mut Signals) -> Result<End, AgentError> {
    let mut retry = interval(ATTACH_RETRY);
    retry.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut refresh = interval(REFRESH);
    refresh.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            request = step(agent, feeds) => {
                if let Some(reply) = request? {
                    return Ok(End::Detach(reply));
                }
            }
            told = signals.next() => match told {
                Told::End => return Ok(End::Stopped),
                Told::Reread => feeds.manifests.reread(),
            },
            _ = retry.tick() => {
                if let Some(path) = agent.missing_pin() {
                    error!(path = %path.display(), "a pin was removed by somebody else: starting again");
                    return Ok(End::Unpinned);
                }
                agent.follow_interfaces(true);
                agent.retry_sockets();
                agent.tell_health_checks();
            }
            _ = refresh.tick() => agent.refresh_busy_neighbours(),
        }
    }
}

/// One turn: the kernel's events first, then work under way, then wishes. Cancel safe: it waits
/// in one place only.
async fn step(agent: &mut Agent, feeds: &mut Feeds) -> Result<Option<Reply<()>>, AgentError> {
    let wake = agent.wake();
    let pending = agent.has_pending();
    tokio::select! {
        biased;
        event = feeds.watch.next() => {
            agent.on_event(event.ok_or(AgentError::WatchEnded)?);
        }
        Some(event) = feeds.probe_events.recv() => {
            let gateway = Gateway { ifindex: event.target.ifindex, address: event.target.address };
            let reason = format!("{} does not answer the probe", gateway.address);
            agent.on_probe(gateway, (!event.alive).then_some(reason));
        }
        () = std::future::ready(()), if pending => {
            agent.turn();
            feeds.probes.set(&agent.probe_targets());
        }
        outcome = agent.job_done() => agent.on_outcome(outcome),
        Some(request) = feeds.requests.recv() => return Ok(agent.on_request(request)),
        Ok(()) = feeds.sets.changed() => {
            let set = feeds.sets.borrow_and_update().clone();
            agent.on_manifests(set);
        }
        Ok(()) = feeds.conflicts.changed() => {
            agent.conflicts = feeds.conflicts.borrow_and_update().clone();
        }
        Ok(()) = feeds.passes.changed() => {
            let pass = feeds.passes.borrow_and_update().clone();
            agent.on_pass(pass);
        }
        Ok(()) = feeds.health_ports.changed() => {
            let problems = feeds.health_ports.borrow_and_update().clone();
            agent.on_health_ports(problems);
        }
        () = sleep_until(wake.unwrap_or_else(Instant::now).into()), if wake.is_some() => agent.start_job(),
    }
    Ok(None)
}

impl Agent {
    fn on_manifests(&mut self, set: ManifestSet) {
        tell(&set);
        self.manifest_problems = set.problems;
        self.sources.manifests = by_key(set.routes, &self.config);
        self.sources.cluster = with_api_server(set.cluster, &self.sources.cluster);
        self.snapshot.desired = Arc::new(self.sources.desired(&self.config));
        self.changed();
    }
}

fn tell(set: &ManifestSet) {
    for problem in &set.problems {
        warn!(%problem, "manifest");
    }
    for note in &set.notes {
        info!(%note, "manifest");
    }
}

fn by_key(
    routes: Vec<CustomRoute>,
    config: &AgentConfig,
) -> BTreeMap<crate::desired::route::RouteKey, CustomRoute> {
    let canonical = |mut route: CustomRoute| {
        route.key = canonical_key(&route.key, &config.interfaces);
        (route.key.clone(), route)
    };
    routes.into_iter().map(canonical).collect()
}

/// Ends: the API last, so that whoever asked for it gets his answer.
async fn finish(
    agent: Agent,
    end: End,
    stop: oneshot::Sender<()>,
    api: tokio::task::JoinHandle<std::io::Result<()>>,
) {
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    let bpffs = agent.config.bpffs.clone();
    // Ends the kernel tasks and lets go of the lock.
    drop(agent);
    match end {
        End::Stopped => info!("stopped; the data plane stays"),
        End::Unpinned => {}
        End::Detach(reply) => {
            let removed = tokio::task::spawn_blocking(move || detach(&bpffs)).await;
            let result = match removed {
                Ok(Ok(text)) => {
                    info!("{text}");
                    Ok(())
                }
                Ok(Err(error)) => Err(crate::api::request::Refusal::new(chain(&error))),
                Err(panic) => Err(crate::api::request::Refusal::new(panic)),
            };
            drop(reply.send(result));
        }
    }
    // Readers that keep their connection open do not hold the agent up.
    drop(stop);
    let _ = tokio::time::timeout(Duration::from_secs(1), api).await;
}
