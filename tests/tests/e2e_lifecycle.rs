//! What the agent puts into the kernel, what it leaves alone, and what is left when it goes
//! (R9, R13, R15, R16, X1, X2).

use std::{fs, time::Duration};

use anyhow::{Context, Result, ensure};
use netroute_tests::{
    agent::{Agent, eventually},
    appliance::{Appliance, CAMERAS},
    lab::plan,
    traffic::ping,
};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(15);

fn await_kernel_route(scene: &Appliance, there: bool) -> Result<()> {
    eventually("the kernel's route", PATIENCE, || {
        Ok(scene.inside("ip route show proto 78")?.contains(CAMERAS) == there)
    })
}

fn bpf_ids(kind: &str) -> Result<Vec<u64>> {
    let machine = std::process::Command::new("bpftool").args(["-j", kind, "show"]).output()?;
    let list: Value = serde_json::from_slice(&machine.stdout)?;
    Ok(list.as_array().context("no list")?.iter().filter_map(|entry| entry["id"].as_u64()).collect())
}

/// `detach` leaves nothing: no program, map, route or managed neighbour, and traffic goes on as if
/// never installed. Called by an agent, and without one.
#[test]
fn r13_detach_leaves_nothing() -> Result<()> {
    let scene = Appliance::new()?;
    for running in [true, false] {
        let neighbours = scene.inside("ip neigh show")?;
        ensure!(!neighbours.contains("managed"), "{neighbours}");
        let agent = scene.agent()?;
        await_kernel_route(&scene, true)?;
        let unmanaged = agent.doctor("neighbours")?.iter().any(|(_, complaint)| *complaint);
        ensure!(scene.inside("ip neigh show dev eth1")?.contains("managed") != unmanaged);
        let status = agent.json(&["status"])?;
        let programs = status["programs"].as_array().context("no programs")?;
        // A program that a filter holds is listed without an id.
        let ids = programs.iter().filter_map(|program| program["id"].as_u64());
        let programs: Vec<u64> = ids.filter(|id| *id != 0).collect();
        let there = bpf_ids("prog")?;
        ensure!(!programs.is_empty() && programs.iter().all(|id| there.contains(id)), "{programs:?}");
        let mut maps = Vec::new();
        for entry in fs::read_dir(agent.node.bpffs.join("v4/maps"))? {
            let path = entry?.path().display().to_string();
            let shown = scene.inside(&format!("bpftool -j map show pinned {path}"))?;
            let shown: Value = serde_json::from_str(&shown)?;
            maps.push(shown["id"].as_u64().with_context(|| format!("no id in {shown}"))?);
        }
        ensure!(maps.len() >= 8, "{maps:?}");
        let node = if running {
            let mut agent = agent;
            agent.cli(&["detach"])?.succeeded()?;
            ensure!(agent.wait()?.success(), "the agent did not end well");
            agent.node.clone()
        } else {
            let node = agent.stop()?;
            node.cli(&["detach", "--config", &node.config.display().to_string()])?.succeeded()?;
            node
        };
        ensure!(!node.bpffs.exists() && !node.socket.exists());
        ensure!(scene.inside("ip route show proto 78")?.is_empty());
        let neighbours = scene.inside("ip neigh show")?;
        ensure!(!neighbours.contains("managed"), "{neighbours}");
        let links = scene.inside("ip link show")?;
        ensure!(!links.contains("xdp"), "{links}");
        // The kernel frees them a moment later.
        eventually("programs and maps to go", PATIENCE, || {
            let (programs_left, maps_left) = (bpf_ids("prog")?, bpf_ids("map")?);
            Ok(!programs.iter().any(|id| programs_left.contains(id))
                && !maps.iter().any(|id| maps_left.contains(id)))
        })?;
        let internet = ping(&scene.vm.pods()[0].ns, plan::INTERNET.v4.into(), &["-c", "2", "-i", "0.1"])?;
        ensure!(internet.received == 2, "{}", internet.output);
    }
    Ok(())
}

/// Routes of the command line are there again after a restart, with their values (R9).
#[test]
fn r9_routes_survive_a_restart() -> Result<()> {
    let scene = Appliance::new()?;
    let agent = scene.agent()?;
    let second = ["route", "add", "fd20::/64", "--via", "fd20::1", "--dev", "Port3", "--metric", "7"];
    agent.cli(&second)?.succeeded()?;
    agent.await_state("fd20::/64", "Port3", "active")?;
    let values = |agent: &Agent| -> Result<Vec<String>> {
        let words = ["destination", "nextHop", "interface", "metric", "origin"];
        let line = |route: Value| words.map(|word| route[word].to_string()).join(" ");
        Ok(agent.routes()?.into_iter().map(line).collect())
    };
    let before = values(&agent)?;
    ensure!(before.len() == 2);
    let node = agent.kill9()?;
    let agent = Agent::start(node)?;
    ensure!(values(&agent)? == before, "{before:?} before, {:?} after", values(&agent)?);
    agent.cli(&["route", "remove", CAMERAS, "--dev", "Port3"])?.succeeded()?;
    let agent = Agent::start(agent.stop()?)?;
    ensure!(values(&agent)?.len() == 1, "a removed route came back");
    // A machine that starts has neither maps nor kernel routes.
    let node = agent.stop()?;
    node.cli(&["detach", "--config", &node.config.display().to_string()])?.succeeded()?;
    let agent = Agent::start(node)?;
    agent.await_state("fd20::/64", "Port3", "active")?;
    ensure!(agent.json(&["diff"])?["lines"] == serde_json::json!([]));
    Ok(())
}

/// A manifest is followed: new, changed, broken, removed.
#[test]
fn manifests_are_followed() -> Result<()> {
    let scene = Appliance::new()?;
    let agent = Agent::start(&scene.vm)?;
    let file = scene.vm.manifests().join("cameras.yaml");
    let write = |metric: &str| {
        let text = format!(
            "apiVersion: netroute.dev/v1alpha1\nkind: NetRoute\nmetadata: {{name: cameras}}\nspec: \
             {{destination: {CAMERAS}, nextHop: 192.168.20.1, interface: Port3, metric: {metric}}}\n"
        );
        fs::write(&file, text)
    };
    write("100")?;
    agent.await_state(CAMERAS, "Port3", "active")?;
    let origin = agent.routes()?[0]["origin"].as_str().unwrap_or_default().to_owned();
    ensure!(origin.contains("cameras.yaml"), "{origin}");
    let refused = agent.cli(&["route", "remove", CAMERAS, "--dev", "Port3"])?.refused(1)?;
    ensure!(refused.contains("cameras.yaml"), "{refused}");
    write("300")?;
    eventually("the other metric", PATIENCE, || Ok(agent.routes()?[0]["metric"] == 300))?;
    eventually("the kernel's other metric", PATIENCE, || {
        Ok(scene.inside("ip route show proto 78")?.contains("metric 300"))
    })?;
    write("many")?;
    eventually("the problem to be told", PATIENCE, || {
        Ok(agent.json(&["status"])?["problems"].to_string().contains("cameras.yaml"))
    })?;
    ensure!(scene.inside("ip route show proto 78")?.contains(CAMERAS), "a broken file took its route away");
    write("300")?;
    eventually("the problem to go", PATIENCE, || Ok(agent.json(&["status"])?["health"] == "ok"))?;
    fs::remove_file(&file)?;
    eventually("the route to go", PATIENCE, || Ok(agent.routes()?.is_empty()))?;
    await_kernel_route(&scene, false)
}

/// A foreign XDP program stays where it is, and is reported; the NIC is served by TC (X1).
#[test]
fn x1_a_foreign_xdp_program_is_left_alone() -> Result<()> {
    let scene = Appliance::new()?;
    // The programs of another agent, on another node, are foreign to this one.
    let other = scene.lab.vm("worker");
    let foreign = Agent::start(&other)?;
    let status = foreign.json(&["status"])?;
    let all = status["programs"].as_array().context("no programs")?;
    let id = all.iter().find(|program| program["name"] == "xdp_nic").context("no xdp_nic")?["id"].clone();
    scene.inside(&format!("bpftool net attach xdpdrv id {id} dev eth1"))?;
    let agent = scene.agent()?;
    let shown = scene.inside("ip -d link show dev eth1")?;
    ensure!(shown.contains(&format!("prog/xdp id {id} ")), "{shown}");
    let status = agent.json(&["status"])?;
    let port3 = status["interfaces"].as_array().and_then(|all| all.iter().find(|i| i["alias"] == "Port3"));
    let port3 = port3.context("no Port3")?;
    let reason = port3["reason"].as_str().unwrap_or_default();
    ensure!(
        port3["xdp"] == "none" && reason.contains("XDP") && reason.contains(&id.to_string()),
        "{port3:#}"
    );
    ensure!(status["health"] == "degraded", "{status:#}");
    let camera = ping(&scene.vm.pods()[0].ns, plan::CAMERA.v4.into(), &["-c", "2", "-i", "0.1"])?;
    ensure!(camera.received == 2, "{}", camera.output);
    // Once it is gone, ours takes the place by itself.
    scene.inside("bpftool net detach xdpdrv dev eth1")?;
    eventually("Port3 to be served", PATIENCE, || {
        Ok(agent.json(&["status"])?["interfaces"]
            .as_array()
            .is_some_and(|all| all.iter().any(|i| i["alias"] == "Port3" && i["xdp"] == "native")))
    })
}

/// An interface made again under its name is attached again, once, and its route works (X2, R6).
#[test]
fn x2_an_interface_made_again_is_attached_again() -> Result<()> {
    let scene = Appliance::new()?;
    let agent = scene.agent()?;
    let port = scene.vm.port("Port3");
    scene.vm.ns().ip("link del eth1")?;
    agent.await_state(CAMERAS, "Port3", "pending")?;
    scene.vm.ns().ip_script(&format!(
        "link add eth1 index 80 type veth peer name {} index 180 netns {}
         addr add {}/24 dev eth1
         link set eth1 up\n",
        port.switch_device, port.switch, port.address.v4
    ))?;
    port.switch.ip_script(&format!(
        "link set dev {} master ext0\nlink set dev {} up\n",
        port.switch_device, port.switch_device
    ))?;
    agent.await_state(CAMERAS, "Port3", "active")?;
    eventually("programs on the new Port3", PATIENCE, || {
        let status = agent.json(&["status"])?;
        let interfaces = status["interfaces"].as_array().context("no interfaces")?;
        let port3 = interfaces.iter().find(|i| i["alias"] == "Port3").context("no Port3")?;
        Ok(port3["ifindex"] == 80 && port3["xdp"] == "native" && port3["tc"] == true)
    })?;
    let status = agent.json(&["status"])?;
    let programs = status["programs"].as_array().context("no programs")?;
    for name in ["xdp_nic", "tc_nic"] {
        let on_port3 = |program: &&Value| program["name"] == name && program["interface"] == "eth1";
        ensure!(programs.iter().filter(on_port3).count() == 1, "{programs:#?}");
    }
    let net: Value = serde_json::from_str(&scene.inside("bpftool -j net show dev eth1")?)?;
    ensure!(net[0]["xdp"].as_array().is_some_and(|all| all.len() == 1), "{net}");
    let fast = agent.verdict("tc-pod", "forwarded")?;
    let camera = ping(&scene.vm.pods()[0].ns, plan::CAMERA.v4.into(), &["-c", "5", "-i", "0.2"])?;
    ensure!(camera.received >= 4, "{}", camera.output);
    ensure!(agent.verdict("tc-pod", "forwarded")? > fast, "the fast path does not use the new interface");
    ensure!(agent.json(&["diff"])?["lines"] == serde_json::json!([]));
    Ok(())
}

/// Our route in the kernel comes back when somebody deletes it; nobody else's is touched, neither
/// while the agent works nor when it goes (R13, R15).
#[test]
fn r13_r15_own_routes_are_kept_and_foreign_ones_left() -> Result<()> {
    let scene = Appliance::new()?;
    let agent = scene.agent()?;
    await_kernel_route(&scene, true)?;
    let foreign = [
        "10.70.0.0/16 via 172.16.3.1 dev eth1 proto static",
        "10.71.0.0/16 via 10.128.44.1 dev eth0 proto bird metric 20",
    ];
    for route in foreign {
        scene.vm.ns().ip(&format!("route add {route}"))?;
    }
    scene.vm.ns().ip("route add 192.168.20.0/24 via 10.128.44.1 dev eth0 proto static metric 500")?;
    scene.vm.ns().ip(&format!("route del {CAMERAS} proto 78"))?;
    await_kernel_route(&scene, true)?;
    // Kernel routes are compiled in without a restart.
    eventually("the foreign route to be known", PATIENCE, || {
        let found = agent.json(&["route", "get", "10.70.1.1"])?;
        Ok(found["prefix"] == "10.70.0.0/16" && found["origin"] == "kernel")
    })?;
    agent.cli(&["detach"])?.succeeded()?;
    let left = scene.inside("ip route show")?;
    for word in ["10.70.0.0/16", "10.71.0.0/16", "metric 500", "default via 10.128.44.1"] {
        ensure!(left.contains(word), "{word} is gone:\n{left}");
    }
    ensure!(!left.contains("proto 78"), "{left}");
    Ok(())
}

/// A filter that drops good packets in silence is reported, with its remedy (R16).
#[test]
fn r16_strict_rp_filter_is_reported() -> Result<()> {
    let scene = Appliance::new()?;
    let agent = scene.agent()?;
    let check = |agent: &Agent| -> Result<Value> {
        let doctor = agent.cli(&["doctor", "-o", "json"])?;
        let doctor: Value = serde_json::from_str(&doctor.stdout)?;
        let checks = doctor["checks"].as_array().context("no checks")?;
        checks.iter().find(|check| check["name"] == "rp-filter").cloned().context("no rp-filter")
    };
    ensure!(check(&agent)?["result"] == "ok");
    scene.vm.ns().sysctl(&[("ipv4/conf/eth1/rp_filter", "1")])?;
    let found = check(&agent)?;
    ensure!(found["result"] == "warn" && found["finding"].to_string().contains("eth1"), "{found:#}");
    let fix = found["fix"].as_str().context("no fix")?;
    scene.inside(fix)?;
    ensure!(check(&agent)?["result"] == "ok", "its own fix does not help");
    Ok(())
}
