//! What is wrong is refused in one line that says what to do, and changes nothing (R3-R7).

use std::fs;

use anyhow::{Result, ensure};
use netroute_tests::{
    agent::{Agent, Node, inside},
    appliance::{Appliance, CAMERAS},
};
use serde_json::Value;

/// Everything that a refused command could have changed.
fn everything(agent: &Agent) -> Result<(Vec<Value>, String, Vec<u8>)> {
    let list = agent.routes()?.into_iter().map(|mut route| {
        // Counters may go on.
        for counter in ["packets", "bytes"] {
            route[counter] = Value::Null;
        }
        route
    });
    let kernel = inside(&agent.node.ns, &["ip", "route", "show"])?;
    Ok((list.collect(), kernel, fs::read(agent.node.state_dir.join("routes.yaml"))?))
}

/// Lines of the command line with their exit status, and what the one line must name.
#[test]
fn r3_r4_r5_r7_bad_lines_are_refused_and_change_nothing() -> Result<()> {
    let scene = Appliance::new()?;
    // R5: a port of a bridge. R4: only a leased address.
    scene.vm.ns().ip_script(
        "link add br9 type bridge
         link add slave9 type veth peer name slave9p
         link set slave9 master br9
         link add leased9 type veth peer name leased9p
         link set leased9 up
         link set leased9p up
         addr add 10.55.0.2/24 dev leased9 valid_lft 3600 preferred_lft 3600\n",
    )?;
    Node::from(&scene.vm).reconfigure("source:", "  - {alias: Leased, device: leased9, role: external}\n  - {alias: Slave, device: slave9, role: external}\nsource:")?;
    let agent = scene.agent()?;
    let before = everything(&agent)?;
    let file = scene.vm.dir().join("bad.txt");
    fs::write(&file, "10.1.0.0/16 via 192.168.20.1 dev Port3\n10.2.0.1/16 via 192.168.20.1 dev Port3\n")?;
    let file = file.display().to_string();
    for (line, status, words) in [
        ("route add 192.168.20.7/24 --via 192.168.20.1 --dev Port3", 1, &["192.168.20.7/24", CAMERAS][..]),
        ("route add fd20::7/64 --via fd20::1 --dev Port3", 1, &["fd20::/64"]),
        ("route add 172.30.0.041 --via 192.168.20.1 --dev Port3", 1, &["172.30.0.041"]),
        ("route add 300.1.1.0/24 --via 192.168.20.1 --dev Port3", 1, &["300.1.1.0/24"]),
        ("route add 10.9.0.0/33 --via 192.168.20.1 --dev Port3", 1, &["10.9.0.0/33"]),
        ("route add 10.9.0.0/24 --via fd20::1 --dev Port3", 1, &["fd20::1"]),
        ("route add 10.9.0.0/24 --via 10.55.0.1 --dev Leased", 1, &["leased9", "dynamic", "--force"]),
        ("route add 10.9.0.0/24 --via 10.55.0.1 --dev Slave", 1, &["slave9", "br9"]),
        ("route add 10.9.0.0/24 --via 10.55.0.1 --dev eth7", 1, &["eth7", "interfaces"]),
        ("route remove 10.9.0.0/24 --dev Port3", 1, &["10.9.0.0/24", "Port3"]),
        ("route remove 192.168.20.0/24 --dev Port2", 1, &["Port2"]),
        ("route remove 192.168.20.0/24 --dev Port3 --via 192.168.20.9", 1, &["192.168.20.9"]),
        ("Remove-HcsNetRoute -InterfaceAlias Port3 -DestinationPrefix 10.9.0.0/24", 1, &["10.9.0.0/24"]),
        ("Add-HcsNetRoute -InterfaceAlias Port3 -DestinationPrefix 10.9.0.0/24", 2, &["NextHop"]),
        ("Add-HcsNetRoute -InterfaceAlias Port3 -Gateway 10.9.0.1", 2, &["Gateway"]),
        ("route import /nowhere.txt", 1, &["/nowhere.txt"]),
    ] {
        let arguments: Vec<&str> = line.split(' ').collect();
        let said = agent.cli(&arguments)?;
        let said = said.refused(status).map_err(|error| error.context(format!("netroute {line}")))?;
        ensure!(words.iter().all(|word| said.contains(word)), "netroute {line} says only: {said}");
        ensure!(everything(&agent)? == before, "netroute {line} changed something");
    }
    // A file gets a line for each line that is wrong, and nothing of it is taken.
    let said = agent.cli(&["route", "import", &file])?;
    ensure!(said.code == 1 && said.stderr.contains("bad.txt:2"), "{said:?}");
    ensure!(said.stderr.contains("10.2.0.1/16") && said.stderr.contains("10.2.0.0/16"), "{said:?}");
    ensure!(everything(&agent)? == before, "half a file was imported");
    // Grammar is clap's, which says more than one line.
    for line in [
        "route add 10.9.0.0/24",
        "route frobnicate",
        "route add 10.9.0.0/24 --via 1.2.3.4 --dev P --metric x",
    ] {
        let arguments: Vec<&str> = line.split(' ').collect();
        let said = agent.cli(&arguments)?;
        ensure!(said.code == 2 && !said.stderr.is_empty(), "netroute {line}: {said:?}");
    }
    ensure!(everything(&agent)? == before);
    // R4: the operator may insist, and the route says so.
    let forced = ["route", "add", "10.9.0.0/24", "--via", "10.55.0.1", "--dev", "Leased", "--force"];
    agent.cli(&forced)?.succeeded()?;
    let routes = agent.routes()?;
    let forced = routes.iter().find(|route| route["interface"] == "Leased");
    ensure!(
        forced.is_some_and(|route| route["reason"].as_str().is_some_and(|text| text.contains("forced"))),
        "{routes:#?}"
    );
    Ok(())
}

/// A route may come before its interface, waits visibly, and works when all is there (R6).
#[test]
fn r6_a_route_waits_for_its_interface() -> Result<()> {
    let scene = Appliance::new()?;
    Node::from(&scene.vm)
        .reconfigure("source:", "  - {alias: Late, device: late9, role: external}\nsource:")?;
    let agent = scene.agent()?;
    agent.cli(&["route", "add", "10.66.0.0/16", "--via", "10.65.0.2", "--dev", "Late"])?.succeeded()?;
    let reason = |agent: &Agent| -> Result<String> {
        let routes = agent.routes()?;
        let route = routes.iter().find(|route| route["interface"] == "Late");
        Ok(route.and_then(|route| route["reason"].as_str()).unwrap_or_default().to_owned())
    };
    agent.await_state("10.66.0.0/16", "Late", "pending")?;
    ensure!(reason(&agent)?.contains("Late does not exist"), "{}", reason(&agent)?);
    let create = format!(
        "link add late9 index 70 type veth peer name peer9 index 170 netns {}
         addr add 10.65.0.1/24 dev late9
         link set late9 up\n",
        scene.lab.ns("cam")
    );
    scene.vm.ns().ip_script(&create)?;
    scene.lab.ns("cam").ip_script("addr add 10.65.0.2/24 dev peer9\nlink set peer9 up\n")?;
    agent.await_state("10.66.0.0/16", "Late", "active")?;
    scene.lab.ns("cam").ip("link set peer9 down")?;
    agent.await_state("10.66.0.0/16", "Late", "down")?;
    scene.lab.ns("cam").ip("link set peer9 up")?;
    agent.await_state("10.66.0.0/16", "Late", "active")?;
    scene.vm.ns().ip("link del late9")?;
    agent.await_state("10.66.0.0/16", "Late", "pending")
}

/// A full map refuses what does not fit, all of it, and keeps what is there.
#[test]
fn a_full_map_refuses_and_keeps() -> Result<()> {
    let scene = Appliance::new()?;
    Node::from(&scene.vm).configure("limits: {routes4: 64}")?;
    let agent = scene.agent()?;
    let before = everything(&agent)?;
    let lines: String =
        (0..100).map(|number| format!("10.9.{number}.0/24 via 192.168.20.1 dev Port3\n")).collect();
    let said = agent.node.fed(&["route", "import", "-"], &lines)?.refused(1)?;
    ensure!(said.contains("limits.routes4 (now 64)"), "{said}");
    ensure!(everything(&agent)? == before, "a refused import changed something");
    let few: String = lines.lines().take(5).map(|line| format!("{line}\n")).collect();
    agent.node.fed(&["route", "import", "-"], &few)?.succeeded()?;
    ensure!(agent.routes()?.len() == 6);
    ensure!(agent.json(&["diff"])?["lines"] == serde_json::json!([]));
    Ok(())
}

/// An agent that cannot start says why, and leaves no trace.
#[test]
fn an_agent_that_cannot_start_leaves_no_trace() -> Result<()> {
    let scene = Appliance::new()?;
    let node = Node::from(&scene.vm);
    let good = fs::read_to_string(&node.config)?;
    let untouched = |what: &str| -> Result<()> {
        ensure!(!node.socket.exists(), "{what}: the socket was left behind");
        ensure!(!node.bpffs.exists(), "{what}: {} was left behind", node.bpffs.display());
        Ok(())
    };

    fs::write(&node.config, format!("{good}mangoes: 3\n"))?;
    let said = node.start_in_vain(&[])?.refused(1)?;
    ensure!(said.contains("mangoes") && said.contains("agent.yaml"), "{said}");
    untouched("unknown key")?;
    let checked = node.cli(&["config", "check", &node.config.display().to_string()])?;
    ensure!(checked.code == 1 && checked.stdout.contains("mangoes"), "{checked:?}");
    fs::write(&node.config, &good)?;

    let said =
        node.start_in_vain(&["setpriv", "--bounding-set", "-all", "--inh-caps", "-all"])?.refused(1)?;
    ensure!(said.contains("CAP_BPF") && said.contains("CAP_NET_ADMIN"), "{said}");
    untouched("no rights")?;

    let missing = scene.vm.dir().join("none.yaml");
    let nowhere = Node { config: missing.clone(), ..node.clone() };
    let said = nowhere.start_in_vain(&[])?.refused(1)?;
    ensure!(said.contains(&missing.display().to_string()), "{said}");
    untouched("no configuration")?;

    node.reconfigure(&node.bpffs.display().to_string(), "/tmp/netroute-is-no-bpffs")?;
    let said = node.start_in_vain(&[])?.refused(1)?;
    ensure!(said.contains("/tmp/netroute-is-no-bpffs"), "{said}");
    untouched("no bpffs")?;
    fs::write(&node.config, &good)?;

    node.cli(&["status"])?.refused(3)?;
    Ok(())
}

/// Half a state file is not taken for a whole one, and is not overwritten (R9).
#[test]
fn r9_a_half_written_state_file_is_refused() -> Result<()> {
    let scene = Appliance::new()?;
    let agent = scene.agent()?;
    let add = ["route", "add", "10.9.0.0/24", "--via", "192.168.20.1", "--dev", "Port3"];
    agent.cli(&add)?.succeeded()?;
    let node = agent.stop()?;
    let file = node.state_dir.join("routes.yaml");
    let whole = fs::read(&file)?;
    let half = &whole[..whole.len() / 2];
    fs::write(&file, half)?;
    let said = node.start_in_vain(&[])?.refused(1)?;
    ensure!(said.contains("routes.yaml") && said.contains("cut off"), "{said}");
    ensure!(fs::read(&file)? == half, "the damaged file was changed");
    ensure!(!node.socket.exists(), "the socket was left behind");
    // The data plane goes on as it was.
    let kernel = inside(&node.ns, &["ip", "route", "show", "proto", "78"])?;
    ensure!(kernel.contains(CAMERAS) && kernel.contains("10.9.0.0/24"), "{kernel}");
    fs::write(&file, whole)?;
    let agent = Agent::start(node)?;
    ensure!(agent.routes()?.len() == 2);
    Ok(())
}

/// Two agents would undo each other's work: the second is refused, the first is not disturbed.
#[test]
fn a_second_agent_is_refused() -> Result<()> {
    let scene = Appliance::new()?;
    let agent = scene.agent()?;
    let before = everything(&agent)?;
    let dir = scene.vm.dir();
    let second =
        Node { config: dir.join("second.yaml"), socket: dir.join("second.sock"), ..agent.node.clone() };
    let good = fs::read_to_string(&agent.node.config)?;
    let state = agent.node.state_dir.display().to_string();
    let bpffs = agent.node.bpffs.display().to_string();

    // The same state folder.
    fs::write(&second.config, good.replace(&bpffs, &format!("{bpffs}-second")))?;
    let said = second.start_in_vain(&[])?.refused(1)?;
    ensure!(said.contains(&state) && said.contains("another agent"), "{said}");
    ensure!(!second.socket.exists(), "the second agent's socket was left behind");

    // The same bpffs.
    fs::write(&second.config, good.replace(&state, &format!("{state}-second")))?;
    let said = second.start_in_vain(&[])?.refused(1)?;
    ensure!(said.contains(&bpffs) && said.contains("another agent"), "{said}");
    ensure!(!second.socket.exists(), "the second agent's socket was left behind");

    // The same socket, nothing else shared.
    let text = good.replace(&state, &format!("{state}-third")).replace(&bpffs, &format!("{bpffs}-third"));
    fs::write(&second.config, text)?;
    let third = Node { socket: agent.node.socket.clone(), ..second.clone() };
    let said = third.start_in_vain(&[])?.refused(1)?;
    ensure!(said.contains("another agent"), "{said}");

    ensure!(everything(&agent)? == before, "the second agent changed something");
    Ok(())
}
