//! The BPF file system goes away under the agent, or somebody else wants its place.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use netroute_tests::{
    agent::{Agent, Node, eventually, run},
    faults::{Census, KEPT, PATIENCE, RATE, await_equal, lost_nothing, mirrored},
    traffic::UdpStream,
    transit::{BEYOND, Transit},
};

/// A BPF file system of the test's own.
struct Mount {
    at: PathBuf,
}

impl Mount {
    fn new(at: PathBuf) -> Result<Self> {
        fs::create_dir_all(&at)?;
        let mount = Self { at };
        mount.mount()?;
        Ok(mount)
    }

    fn mount(&self) -> Result<()> {
        run(Command::new("mount").args(["-t", "bpf", "bpf"]).arg(&self.at), "")?.succeeded().map(drop)
    }

    /// From the tree at once, though files in it are open.
    fn unmount(&self) -> Result<()> {
        run(Command::new("umount").arg("--lazy").arg(&self.at), "")?.succeeded().map(drop)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Unmounted by the test already, or not: both are fine.
        let _ = self.unmount();
    }
}

fn ids(agent: &Agent) -> Result<Vec<u64>> {
    let status = agent.json(&["status"])?;
    let programs = status["programs"].as_array().context("no programs")?;
    Ok(programs.iter().filter_map(|program| program["id"].as_u64()).collect())
}

/// Fast again: the programs count what they forward.
fn await_forwarding(agent: &Agent) -> Result<()> {
    let before = agent.verdict("xdp-nic", "forwarded")?;
    eventually("XDP to forward", PATIENCE, || Ok(agent.verdict("xdp-nic", "forwarded")? > before + 100))
}

/// Somebody removes the pins: the programs go with them, the kernel forwards, and the agent notices
/// and puts everything back.
#[test]
fn removed_pins_are_noticed_and_made_again() -> Result<()> {
    let transit = Transit::pair()?;
    let agent = transit.routed()?;
    let census = Census::of(&agent)?;
    let before = ids(&agent)?;
    let stream = UdpStream::start(&transit.spec()?.rate(RATE))?;
    for gone in ["v4/links", "v4/maps", ""] {
        fs::remove_dir_all(agent.node.bpffs.join(gone))?;
        eventually("programs and pins to be there again", PATIENCE, || {
            // While the agent starts anew nobody answers, or it says that it is stopping.
            let Ok(now) = ids(&agent) else { return Ok(false) };
            Ok(now.len() == before.len() && Census::of(&agent)?.pinned == census.pinned)
        })
        .with_context(|| format!("without {:?}", agent.node.bpffs.join(gone)))?;
        agent.await_state(BEYOND, "Port3", "active")?;
        await_equal(&agent)?;
        await_forwarding(&agent)?;
    }
    let report = stream.stop()?;
    println!("pins removed three times: {report}");
    // A veth whose XDP program goes loses what lies in its ring, and no more.
    ensure!(report.losses.iter().all(|loss| loss.count <= u64::from(RATE) / 20), "{report}");
    println!("MEASURED pins removed: {} of {} packets lost", report.lost, report.sent);
    census.await_no_more(&agent, KEPT)
}

/// Without its file system no agent starts; the kernel forwards until it is mounted again.
#[test]
fn an_unmounted_bpffs_is_survived() -> Result<()> {
    let transit = Transit::pair()?;
    let mount = Mount::new(transit.folder.path().join("bpf"))?;
    let node = Node { bpffs: mount.at.join("netroute"), ..transit.node.clone() };
    let text = fs::read_to_string(&node.config)?;
    let text = text.replace(&transit.node.bpffs.display().to_string(), &node.bpffs.display().to_string());
    fs::write(&node.config, text)?;
    let agent = Agent::start(node)?;
    agent.cli(&["route", "add", BEYOND, "--via", "10.0.2.2", "--dev", "Port3"])?.succeeded()?;
    agent.await_state(BEYOND, "Port3", "active")?;
    eventually("the kernel's route", PATIENCE, || Ok(mirrored(&agent)?.len() == 1))?;
    let stream = UdpStream::start(&transit.spec()?.rate(RATE))?;
    mount.unmount()?;
    stream.wait_for(500, PATIENCE)?;
    let node = agent.kill9()?;
    let said = node.start_in_vain(&[])?;
    let line = said.stderr.lines().last().unwrap_or_default();
    ensure!(said.code == 1 && line.contains("BPF file system"), "{said:?}");
    ensure!(!node.socket.exists(), "the socket was left behind");
    stream.wait_for(500, PATIENCE)?;
    mount.mount()?;
    let agent = Agent::start(node)?;
    agent.await_state(BEYOND, "Port3", "active")?;
    await_equal(&agent)?;
    await_forwarding(&agent)?;
    let report = stream.stop()?;
    println!("unmounted: {report}");
    ensure!(report.losses.iter().all(|loss| loss.count <= u64::from(RATE) / 20), "{report}");
    println!("MEASURED bpffs unmounted: {} of {} packets lost", report.lost, report.sent);
    agent.cli(&["detach"])?.succeeded().map(drop)
}

/// A second agent, and a second one's `detach`, are refused in one line; the first goes on.
#[test]
fn a_second_agent_and_a_detach_beside_the_first_change_nothing() -> Result<()> {
    let transit = Transit::pair()?;
    let agent = transit.agent()?;
    let census = Census::of(&agent)?;
    let programs = ids(&agent)?;
    let stream = UdpStream::start(&transit.spec()?.rate(RATE))?;
    let folder = transit.folder.path();
    let text = fs::read_to_string(&agent.node.config)?;
    let state = agent.node.state_dir.display().to_string();
    let bpffs = agent.node.bpffs.display().to_string();
    let second =
        Node { config: folder.join("second.yaml"), socket: folder.join("second.sock"), ..agent.node.clone() };
    for (what, text) in [
        ("everything", text.clone()),
        ("the same state folder", text.replace(&bpffs, &format!("{bpffs}-second"))),
        ("the same bpffs", text.replace(&state, &format!("{state}-second"))),
    ] {
        fs::write(&second.config, text)?;
        let said = second.start_in_vain(&[])?.refused(1).with_context(|| what.to_owned())?;
        ensure!(said.contains("another agent"), "{what}: {said}");
        ensure!(!second.socket.exists() && !Path::new(&format!("{bpffs}-second")).exists(), "{what}");
    }
    // No agent answers at that socket, but one holds the folder.
    let said = second.cli(&["detach", "--config", &second.config.display().to_string()])?.refused(1)?;
    ensure!(said.contains("still running"), "{said}");
    ensure!(ids(&agent)? == programs, "{programs:?} before, {:?} now", ids(&agent)?);
    agent.await_state(BEYOND, "Port3", "active")?;
    await_equal(&agent)?;
    stream.wait_for(1_000, PATIENCE)?;
    lost_nothing("a second agent", stream)?;
    census.await_no_more(&agent, KEPT)?;

    // Asked by its own socket, the agent itself takes everything away and ends.
    transit.kernel_forwards(true)?;
    let mut agent = agent;
    agent.cli(&["detach"])?.succeeded()?;
    ensure!(agent.wait()?.success(), "the agent did not end well");
    ensure!(!agent.node.bpffs.exists() && !agent.node.socket.exists());
    ensure!(mirrored(&agent)?.is_empty());
    Ok(())
}
