//! More than fits, and faster than anybody asked for.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    process::Child,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use netroute_tests::{
    agent::{Agent, Node, eventually, program},
    faults::{Census, PATIENCE, RATE, await_equal, lost_nothing, mirrored, seeded},
    traffic::UdpStream,
    transit::{BEYOND, Transit},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

fn health(agent: &Agent) -> Result<String> {
    Ok(agent.json(&["status"])?["health"].as_str().unwrap_or_default().to_owned())
}

fn kernel_routes(action: &str, numbers: impl Iterator<Item = u32>) -> String {
    let line = |number: u32| {
        let [_, a, b, c] = (number << 4).to_be_bytes();
        format!("route {action} 60.{a}.{b}.{c}/28 via 10.0.2.2 dev eth1 proto static\n")
    };
    numbers.map(line).collect()
}

/// The kernel gets more routes than the map has room for: the agent says so, what was in force goes
/// on, it tries again now and then without burning the processor, and is right once they are gone.
#[test]
fn a_map_too_small_for_the_kernels_routes() -> Result<()> {
    let transit = Transit::pair()?;
    transit.node.configure("limits: {routes4: 64}")?;
    let agent = transit.agent()?;
    let census = Census::of(&agent)?;
    let stream = UdpStream::start(&transit.spec()?.rate(RATE))?;
    let ns = transit.router.ns();
    for round in 0..2 {
        ns.ip_script(&kernel_routes("add", 0..200))?;
        eventually("the agent to say that it does not fit", PATIENCE, || Ok(health(&agent)? != "ok"))?;
        let status = agent.json(&["status"])?;
        let problems = status["problems"].to_string();
        ensure!(problems.contains("`limits.routes4`") && problems.contains("64 entries"), "{status:#}");
        ensure!(agent.state(BEYOND, "Port3")? == "active", "{:#?}", agent.routes()?);
        // Nothing changes meanwhile: what did not fit is tried again later, not at once.
        let (begin, before) = (Instant::now(), Census::of(&agent)?.ticks);
        thread::sleep(Duration::from_secs(3));
        let (elapsed, ticks) = (begin.elapsed(), Census::of(&agent)?.ticks - before);
        println!("MEASURED map too small, round {round}: {ticks} ticks of 10 ms in {elapsed:?}");
        ensure!(ticks < 30, "{ticks} ticks of processor time in {elapsed:?}: it tries without a pause");
        // A route that would fit by itself does not fit now, and the answer says so.
        let add = ["route", "add", "10.63.0.0/24", "--via", "10.0.2.2", "--dev", "Port3"];
        let said = agent.cli(&add)?.refused(1)?;
        ensure!(said.contains("limits.routes4"), "{said}");
        ns.ip_script(&kernel_routes("del", 0..200))?;
        eventually("the agent to be well again", PATIENCE, || Ok(health(&agent)? == "ok"))?;
        agent.cli(&add)?.succeeded()?;
        agent.cli(&["route", "remove", "10.63.0.0/24", "--dev", "Port3"])?.succeeded()?;
        await_equal(&agent)?;
    }
    lost_nothing("a full map", stream)?;
    census.await_no_more(&agent, 8 << 10)
}

/// Started with more than fits: an agent that never had a good state waits for one.
#[test]
fn a_start_with_more_than_fits() -> Result<()> {
    let transit = Transit::pair()?;
    let node = transit.agent()?.stop()?;
    let stream = UdpStream::start(&transit.spec()?.rate(RATE))?;
    let ns = transit.router.ns();
    ns.ip_script(&kernel_routes("add", 0..200))?;
    node.configure("limits: {routes4: 64}")?;
    let starting = {
        let node = node.clone();
        thread::spawn(move || Agent::start(node))
    };
    let said = || fs::read_to_string(&node.log).unwrap_or_default();
    eventually("the agent to say why it waits", PATIENCE, || {
        Ok(starting.is_finished() || said().contains("limits.routes4"))
    })?;
    ns.ip_script(&kernel_routes("del", 0..200))?;
    let agent = starting.join().map_err(|_| anyhow::anyhow!("the start panicked"))??;
    agent.await_state(BEYOND, "Port3", "active")?;
    await_equal(&agent)?;
    lost_nothing("a start with more than fits", stream).map(drop)
}

/// Tens of thousands of kernel routes a second, added and removed in any order, for seconds.
#[test]
fn r15_kernel_routes_by_the_ten_thousand() -> Result<()> {
    let mut rng = seeded("churn");
    let transit = Transit::pair()?;
    transit.node.configure("limits: {routes4: 100000}")?;
    let agent = transit.agent()?;
    let stream = UdpStream::start(&transit.spec()?.rate(RATE))?;
    let ns = transit.router.ns();
    let round = |agent: &Agent, rng: &mut fastrand::Rng| -> Result<(usize, Duration)> {
        let mut numbers: Vec<u32> = (0..20_000).collect();
        rng.shuffle(&mut numbers);
        let begin = Instant::now();
        ns.ip_script(&kernel_routes("add", numbers.iter().copied()))?;
        rng.shuffle(&mut numbers);
        let (stay, go) = numbers.split_at(5_000);
        ns.ip_script(&kernel_routes("del", go.iter().copied()))?;
        let elapsed = begin.elapsed();
        eventually("the kernel's routes to be known", PATIENCE, || {
            let of = |number: u32| {
                let [_, a, b, c] = (number << 4).to_be_bytes();
                agent.json(&["route", "get", &format!("60.{a}.{b}.{}", c + 1)])
            };
            Ok(of(stay[0])?["prefix"].to_string().contains("/28")
                && !of(go[0])?["prefix"].to_string().contains("/28"))
        })?;
        await_equal(agent)?;
        let all = agent.json(&["route", "list", "--all"])?;
        let known = all.as_array().context("no list")?.iter();
        let known = known
            .filter(|route| route["destination"].as_str().is_some_and(|to| to.starts_with("60.")))
            .count();
        ensure!(known == stay.len(), "{known} instead of {} routes", stay.len());
        ns.ip_script(&kernel_routes("del", stay.iter().copied()))?;
        Ok((numbers.len() + go.len(), elapsed))
    };
    let mut census = None;
    for _ in 0..3 {
        let (changes, elapsed) = round(&agent, &mut rng)?;
        println!("MEASURED kernel routes: {:.0} changes a second", changes as f64 / elapsed.as_secs_f64());
        eventually("the routes to be gone", PATIENCE, || {
            let all = agent.json(&["route", "list", "--all"])?;
            Ok(!all.to_string().contains("\"60."))
        })?;
        // The first round shows what the work takes; the others must not take more.
        let census: &Census = census.get_or_insert(Census::of(&agent)?);
        println!("resident: {} KiB", Census::of(&agent)?.resident);
        census.await_no_more(&agent, 48 << 10)?;
    }
    await_equal(&agent)?;
    lost_nothing("kernel routes by the ten thousand", stream).map(drop)
}

/// One connection to the agent's socket, kept open.
struct Connection {
    stream: BufReader<UnixStream>,
}

impl Connection {
    fn open(agent: &Agent) -> Result<Self> {
        let stream = UnixStream::connect(&agent.node.socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// The status of the answer; its body is read and dropped.
    fn ask(&mut self, method: &str, target: &str, body: &str) -> Result<u16> {
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: node\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        self.stream.get_mut().write_all(format!("{head}{body}").as_bytes())?;
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        let status = line.split(' ').nth(1).context("no status")?.parse()?;
        let mut length = 0;
        loop {
            line.clear();
            self.stream.read_line(&mut line)?;
            let Some((key, value)) = line.trim().split_once(':') else { break };
            if key.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse()?;
            }
        }
        self.stream.read_exact(&mut vec![0; length])?;
        Ok(status)
    }
}

/// Custom routes one by one over many connections, as fast as the agent takes them.
#[test]
fn r9_custom_routes_as_fast_as_they_are_taken() -> Result<()> {
    const WRITERS: u8 = 16;
    const TIME: Duration = Duration::from_secs(4);
    let transit = Transit::pair()?;
    let agent = transit.agent()?;
    let census = Census::of(&agent)?;
    let stream = UdpStream::start(&transit.spec()?.rate(RATE))?;
    let begin = Instant::now();
    // Each writer has its own prefixes: adds four, removes three, and so on.
    let write = |writer: u8| -> Result<(u32, Vec<String>)> {
        let mut connection = Connection::open(&agent)?;
        let (mut changes, mut left) = (0, Vec::new());
        for number in 0..=255_u8 {
            let prefix = format!("10.{}.{number}.0/24", 100 + writer);
            let body = format!(r#"{{"destination":"{prefix}","nextHop":"10.0.2.2","interface":"Port3"}}"#);
            let status = connection.ask("POST", "/v1/routes", &body)?;
            ensure!((200..300).contains(&status), "adding {prefix}: {status}");
            changes += 1;
            if number % 4 == 3 {
                left.push(prefix);
            } else {
                let target = format!("/v1/routes?destination={}&interface=Port3", prefix.replace('/', "%2F"));
                let status = connection.ask("DELETE", &target, "")?;
                ensure!((200..300).contains(&status), "removing {prefix}: {status}");
                changes += 1;
            }
            if begin.elapsed() > TIME {
                break;
            }
        }
        Ok((changes, left))
    };
    let results = thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS).map(|writer| scope.spawn(move || write(writer))).collect();
        writers.into_iter().map(|writer| writer.join()).collect::<Vec<_>>()
    });
    let elapsed = begin.elapsed();
    let (mut changes, mut wanted) = (0, vec![BEYOND.to_owned()]);
    for result in results {
        let (count, left) = result.map_err(|_| anyhow::anyhow!("a writer panicked"))??;
        changes += count;
        wanted.extend(left);
    }
    println!(
        "MEASURED custom routes over {WRITERS} connections: {:.0} changes a second",
        f64::from(changes) / elapsed.as_secs_f64()
    );
    wanted.sort();
    let there = |agent: &Agent| -> Result<Vec<String>> {
        let routes = agent.routes()?.into_iter();
        let mut there: Vec<_> =
            routes.map(|route| route["destination"].as_str().unwrap_or("").to_owned()).collect();
        there.sort();
        Ok(there)
    };
    ensure!(there(&agent)? == wanted, "{:?} instead of {wanted:?}", there(&agent)?);
    await_equal(&agent)?;
    eventually("the kernel's routes", PATIENCE, || Ok(mirrored(&agent)?.len() == wanted.len()))?;
    census.await_no_more(&agent, 32 << 10)?;
    let agent = Agent::start(agent.kill9()?)?;
    ensure!(there(&agent)? == wanted, "after a restart {:?} instead of {wanted:?}", there(&agent)?);
    await_equal(&agent)?;
    lost_nothing("custom routes as fast as they are taken", stream).map(drop)
}

/// An agent whose routes that must be there do not fit. It ends with the value.
struct Stuck(Child);

impl Drop for Stuck {
    fn drop(&mut self) {
        // It may have ended by now.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Stuck {
    fn start(node: &Node) -> Result<Self> {
        node.configure("limits: {routes4: 4}")?;
        let mut command = node.ns.command(program()?);
        command.arg("--socket").arg(&node.socket).args(["agent", "--config"]).arg(&node.config);
        let stuck = Self(command.stderr(std::process::Stdio::null()).spawn()?);
        eventually("the agent to say why it does not go on", PATIENCE, || {
            let said = node.cli(&["status"])?;
            Ok(said.code == 3 && said.stderr.contains("starting") && said.stderr.contains("limits.routes4"))
        })?;
        Ok(stuck)
    }

    /// Its end, which somebody asked for: without an error, and without its socket.
    fn ends(mut self, node: &Node) -> Result<()> {
        eventually("the agent to end", PATIENCE, || Ok(self.0.try_wait()?.is_some()))?;
        let status = self.0.wait()?;
        ensure!(status.success() && !node.socket.exists(), "{status}");
        Ok(())
    }
}

/// The agent does not serve, every command is told so at once, and everything can be removed all the same.
#[test]
fn an_agent_that_cannot_fill_its_maps_says_so_and_can_be_detached() -> Result<()> {
    let transit = Transit::pair()?;
    let node = &transit.node;
    let stuck = Stuck::start(node)?;
    let refused = node.cli(&["route", "list"])?.refused(3)?;
    ensure!(refused.contains("starting"), "{refused}");
    node.cli(&["detach"])?.succeeded()?;
    stuck.ends(node)
}

#[test]
fn an_agent_that_cannot_fill_its_maps_ends_when_told_to() -> Result<()> {
    let transit = Transit::pair()?;
    let stuck = Stuck::start(&transit.node)?;
    kill(Pid::from_raw(i32::try_from(stuck.0.id())?), Signal::SIGTERM)?;
    stuck.ends(&transit.node)
}
