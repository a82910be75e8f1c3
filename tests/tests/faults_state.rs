//! The state directory fills up, fails, is damaged; and the wall clock jumps (R9).

use std::{
    fs,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use netroute_tests::{
    agent::{Agent, eventually, run},
    faults::{Census, Injection, KEPT, PATIENCE, RATE, await_equal, lost_nothing, mirrored, seeded},
    traffic::UdpStream,
    transit::{ASIDE, BEYOND, Transit},
};

/// A file system of its own size.
struct Disk {
    at: PathBuf,
}

impl Disk {
    fn new(at: PathBuf, options: &str) -> Result<Self> {
        fs::create_dir_all(&at)?;
        run(Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(&at), "")?.succeeded()?;
        Ok(Self { at })
    }

    fn remount(&self, options: &str) -> Result<()> {
        let options = format!("remount,{options}");
        run(Command::new("mount").args(["-o", &options]).arg(&self.at), "")?.succeeded().map(drop)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let unmounted = run(Command::new("umount").arg("--lazy").arg(&self.at), "");
        if !unmounted.is_ok_and(|output| output.code == 0) {
            eprintln!("{} was not unmounted", self.at.display());
        }
    }
}

/// Routes over Port3, one file's worth.
fn lines(from: u32, count: u32) -> String {
    let line = |number: u32| {
        let [_, _, high, low] = number.to_be_bytes();
        format!("10.{}.{low}.0/24 via 10.0.2.2 dev Port3\n", 64 + u32::from(high))
    };
    (from..from + count).map(line).collect()
}

/// What a refused change must leave as it was.
fn promised(agent: &Agent) -> Result<(Vec<String>, Vec<u8>)> {
    let keys =
        agent.routes()?.into_iter().map(|route| format!("{} {}", route["destination"], route["metric"]));
    Ok((keys.collect(), fs::read(agent.node.state_dir.join("routes.yaml"))?))
}

/// A change is refused in one line, which names the directory; nothing is different.
fn refused(agent: &Agent, what: &str) -> Result<()> {
    let before = promised(agent)?;
    let said =
        agent.node.fed(&["route", "import", "-"], &lines(0, 500))?.refused(1).context(what.to_owned())?;
    println!("{what}: {said}");
    ensure!(said.contains(&agent.node.state_dir.display().to_string()), "{what}: {said}");
    ensure!(promised(agent)? == before, "{what}: a refused change changed something");
    await_equal(agent)
}

/// The disk is full, then read-only, then broken: routes in force go on, what is asked is refused,
/// and all is well when the disk is.
#[test]
fn r9_a_disk_that_is_full_read_only_or_broken() -> Result<()> {
    let transit = Transit::pair()?;
    let disk = Disk::new(transit.node.state_dir.clone(), "size=64k,mode=0700")?;
    let agent = transit.agent()?;
    let census = Census::of(&agent)?;
    let stream = UdpStream::start(&transit.spec()?.rate(RATE))?;
    refused(&agent, "full")?;
    let small = ["route", "add", "10.63.0.0/24", "--via", "10.0.2.2", "--dev", "Port3"];
    agent.cli(&small)?.succeeded().context("there is room for one more")?;

    disk.remount("ro")?;
    refused(&agent, "read-only")?;
    let remove = ["route", "remove", "10.63.0.0/24", "--dev", "Port3"];
    let said = agent.cli(&remove)?.refused(1)?;
    ensure!(said.contains("Read-only"), "{said}");
    disk.remount("rw,size=16m")?;

    for (calls, error) in
        [("fsync", "error=EIO"), ("write", "error=EDQUOT"), ("rename,renameat,renameat2", "error=EIO")]
    {
        // A write to the log or the socket would fail too; the answer then never comes.
        if calls == "write" {
            continue;
        }
        let tracer = Injection::fail(calls, error, 1).attach(&agent)?;
        refused(&agent, calls)?;
        tracer.stop()?;
    }
    agent.cli(&remove)?.succeeded()?;
    agent.node.fed(&["route", "import", "-"], &lines(0, 500))?.succeeded()?;
    let before = promised(&agent)?;
    ensure!(before.0.len() == 501, "{}", before.0.len());
    let agent = Agent::start(agent.kill9()?)?;
    ensure!(promised(&agent)? == before, "a restart changed something");
    await_equal(&agent)?;
    lost_nothing("a bad disk", stream)?;
    let left: Vec<_> = fs::read_dir(&agent.node.state_dir)?
        .map(|entry| entry.map(|e| e.file_name()))
        .collect::<Result<_, _>>()?;
    ensure!(left == ["routes.yaml"], "{left:?}");
    census.await_no_more(&agent, KEPT)
}

/// The file is in its place and only the directory's own write fails: what the agent says is what
/// the next one does.
#[test]
fn r9_what_the_agent_says_of_a_failing_directory_is_true() -> Result<()> {
    let transit = Transit::pair()?;
    let agent = transit.agent()?;
    let tracer = Injection::fail("fsync", "error=EIO", 2).attach(&agent)?;
    let said = agent.node.fed(&["route", "import", "-"], &lines(0, 3))?;
    tracer.stop()?;
    let routes = promised(&agent)?;
    ensure!(routes.0.len() == if said.code == 0 { 4 } else { 1 }, "{said:?}: {routes:?}");
    let agent = Agent::start(agent.kill9()?)?;
    ensure!(
        promised(&agent)?.0 == routes.0,
        "{said:?}: {:?} before, {:?} now",
        routes.0,
        promised(&agent)?.0
    );
    await_equal(&agent)
}

/// A file with a byte changed, cut or lengthened anywhere is refused in one line; maps, kernel
/// routes and traffic stay.
#[test]
fn r9_a_damaged_state_file_takes_nothing_away() -> Result<()> {
    let mut rng = seeded("damage");
    let transit = Transit::pair()?;
    let agent = transit.agent()?;
    agent.node.fed(&["route", "import", "-"], &lines(0, 20))?.succeeded()?;
    eventually("the kernel's routes", PATIENCE, || Ok(mirrored(&agent)?.len() == 21))?;
    let kernel = mirrored(&agent)?;
    let stream = UdpStream::start(&transit.spec()?.rate(RATE))?;
    let node = agent.kill9()?;
    let file = node.state_dir.join("routes.yaml");
    let good = fs::read(&file)?;
    for round in 0..9 {
        let mut bad = good.clone();
        let at = rng.usize(0..bad.len());
        match round % 3 {
            0 => bad[at] ^= 1 << rng.u8(0..7),
            1 => bad.truncate(at),
            _ => bad.insert(at, b'\n'),
        }
        fs::write(&file, &bad)?;
        let said =
            node.start_in_vain(&[])?.refused(1).with_context(|| format!("round {round}, byte {at}"))?;
        ensure!(said.contains("routes.yaml") && said.contains("nothing was changed"), "{said}");
        ensure!(fs::read(&file)? == bad, "the damaged file was changed");
    }
    fs::write(&file, &good)?;
    let agent = Agent::start(node)?;
    ensure!(agent.routes()?.len() == 21 && mirrored(&agent)? == kernel);
    await_equal(&agent)?;
    lost_nothing("a damaged file", stream).map(drop)
}

/// The wall clock jumps by hours, both ways, while a next hop waits for its hold time to end: the
/// wait is neither cut short nor made longer, and no flow or restart minds.
#[test]
fn the_wall_clock_jumps() -> Result<()> {
    const HOLD: Duration = Duration::from_secs(2);
    let Some(library) = fake_clock()? else {
        println!("SKIP the_wall_clock_jumps: no libfaketime here (Debian package faketime)");
        return Ok(());
    };
    let transit = Transit::triple()?;
    transit.node.configure("failover: {holdTime: 2s}")?;
    drop(transit.agent()?);
    let clock = transit.folder.path().join("clock");
    let set = |offset: &str| fs::write(&clock, format!("{offset}\n"));
    set("+0")?;
    let preload = format!("LD_PRELOAD={}", library.display());
    let file = format!("FAKETIME_TIMESTAMP_FILE={}", clock.display());
    // The monotonic clocks stay true: the kernel's never jump.
    let prefix = ["env", &preload, &file, "FAKETIME_NO_CACHE=1", "DONT_FAKE_MONOTONIC=1"];
    let agent = Agent::start_under(transit.node.clone(), &prefix)?;
    let census = Census::of(&agent)?;
    let stream = UdpStream::start(&transit.spec_aside()?.rate(RATE))?;
    let right = &transit.router.right().ns;
    for offset in ["+10h", "-10h", "+0"] {
        right.ip("link set eth0 down")?;
        agent.await_state(BEYOND, "Port3", "down")?;
        let plugged = Instant::now();
        right.ip_script("link set eth0 up\nroute add default via 10.0.2.1\n")?;
        set(offset)?;
        agent.await_state(BEYOND, "Port3", "active")?;
        let waited = plugged.elapsed();
        println!("{offset}: active after {waited:?}");
        ensure!(waited >= HOLD, "{offset}: the hold was cut short to {waited:?}");
        ensure!(waited < HOLD * 15, "{offset}: the hold took {waited:?}");
        let ago = agent.json(&["status"])?["lastApply"]["secondsAgo"].as_u64().context("no last apply")?;
        ensure!(ago < 60, "{offset}: the last change was {ago} s ago");
        await_equal(&agent)?;
        let add = ["route", "add", "10.63.0.0/24", "--via", "10.0.3.2", "--dev", "Port4"];
        agent.cli(&add)?.succeeded()?;
        agent.cli(&["route", "remove", "10.63.0.0/24", "--dev", "Port4"])?.succeeded()?;
    }
    // Hours between what one process wrote and the next one reads.
    set("-20h")?;
    let agent = Agent::start_under(agent.kill9()?, &prefix)?;
    agent.await_state(ASIDE, "Port4", "active")?;
    agent.await_state(BEYOND, "Port3", "active")?;
    await_equal(&agent)?;
    lost_nothing("the clock's jumps", stream)?;
    census.await_no_more(&agent, KEPT)
}

/// The library that answers for the clock, if it is installed.
fn fake_clock() -> Result<Option<PathBuf>> {
    for folder in fs::read_dir("/usr/lib")? {
        let library = folder?.path().join("faketime/libfaketimeMT.so.1");
        if library.exists() {
            return Ok(Some(library));
        }
    }
    Ok(None)
}
