//! The third job: cameras by Port3 with the pods' own addresses, everything else by Port2 with the node's, a
//! namespace without the internet and a pod with an address of its own, while agents die and are upgraded.

mod captures;

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use netroute_tests::app::{Clients, Stream, Tally, WEB, WEB_TARGET_PORT, clients};
use netroute_tests::egress::{self, Rule, Sender, Sniffer, Talk, Talked, Talker};
use netroute_tests::lab::Lab;
use netroute_tests::traffic::{Target, http};
use serde_json::Value;

use super::agent::Agent;
use super::checks::Checks;
use super::lab::{LOOK, PATIENCE};
use super::show;
use captures::{Captures, Row};

const TIMEOUT: Duration = Duration::from_secs(2);
/// Rounds of every talker before and after each step.
const ROUNDS: u64 = 20;
/// Pages that a sealed pod asks for, by each IP version.
const PAGES: usize = 20;

/// The steps that the pods talk through: how an agent ends, before another one starts.
type End = fn(&mut Agent) -> Result<()>;
const STEPS: [(&str, End); 2] = [
    ("kill -9 of both agents, and new ones", Agent::kill9),
    ("an upgrade of both: SIGTERM, and new ones", Agent::stop),
];

pub fn demonstrate(lab: &Lab, agents: &mut [Agent], checks: &mut Checks) -> Result<()> {
    show::heading("What leaves the cluster: egress policies, by both IP versions");
    let senders = egress::senders(lab);
    let _uplink = egress::serve_uplink(lab)?;
    let captures = Captures::start(lab, &senders)?;
    let sniffers = lab.vms().iter().map(Sniffer::start).collect::<Result<Vec<_>>>()?;
    let before = before(&senders, &sniffers)?;
    println!("Without policies, {before} packets of pods left by Port2 under their own addresses.");
    lab.vms().iter().try_for_each(egress::deploy)?;
    println!("Objects: examples/manifests/pods.yaml, egress.yaml\n");
    await_policies(&senders);
    // What left until they were in force.
    packets(&sniffers)?;

    let rows = captures.rows(&senders)?;
    captures::table(&rows);
    let inside = inside(&senders)?;

    show::heading("Agents end and start while every pod talks to cameras and the internet");
    let pages = Stream::start(&clients(lab)[..1]);
    let talk = Talk::start(Talker::all(&senders))?;
    talk.await_rounds(ROUNDS)?;
    for (what, end) in STEPS {
        let (away, whole) = step(agents, end, &talk)?;
        println!(
            "{what}: no agent for {:.1} s, ready after {:.1} s",
            away.as_secs_f64(),
            whole.as_secs_f64()
        );
    }
    let talked = talk.stop();
    let pages = Tally::of(&pages.stop()?);
    let leaked = packets(&sniffers)?;

    for agent in &*agents {
        show::heading(&format!("What the agent of {} says", agent.vm.name()));
        println!("$ netroute egress list\n{}", agent.text(&["egress", "list"])?);
    }
    show::heading("Expectations of what leaves the cluster");
    expect_rows(checks, &rows);
    let asked = 2 * (PAGES + 1) * senders.iter().filter(|sender| sender.rule == Rule::Sealed).count();
    checks.expect(
        inside == asked,
        "the sealed namespace reaches Services and pods of the cluster",
        &format!("{inside} of {asked} answers"),
    );
    expect_talk(checks, &talked);
    let sealed =
        pages.web.iter().filter(|(name, _)| is_sealed(&senders, name)).map(|(_, count)| count).sum::<usize>();
    let (all, failed) = (pages.web.values().sum::<usize>(), pages.failed.len());
    checks.expect(
        sealed > 0 && failed == 0,
        "clients outside get their pages meanwhile, of sealed replicas too",
        &format!("{all} pages, {sealed} of sealed replicas; {failed} failed"),
    );
    checks.expect(
        before > 0 && leaked == 0,
        "no packet with a pod's address leaves the cluster by Port2, in all of this",
        &format!("{leaked} packets; {before} before the policies"),
    );
    agents.iter().try_for_each(|agent| expect_list(checks, agent, &senders))
}

/// Packets of pods that the sniffers see without policies: this is what must go, and the sniffers see it.
fn before(senders: &[Sender], sniffers: &[Sniffer]) -> Result<usize> {
    for sender in senders {
        for (server, own) in Target::Uplink.addresses().both().into_iter().zip(sender.pod.address.both()) {
            let client = Target::Uplink.ask(&sender.pod.ns, server, TIMEOUT)?;
            if client.ip() != own {
                bail!("without policies {} is seen as {client}", sender.name);
            }
        }
    }
    packets(sniffers)
}

fn packets(sniffers: &[Sniffer]) -> Result<usize> {
    sniffers.iter().map(|sniffer| Ok(sniffer.seen()?.len())).sum()
}

/// Goes on where they do not come into force: what pods do then is shown, and judged.
fn await_policies(senders: &[Sender]) {
    let deadline = Instant::now() + PATIENCE;
    for sender in senders {
        while !sender.is_judged(TIMEOUT) {
            if Instant::now() > deadline {
                println!("The policies are not in force for {} after {PATIENCE:?}.", sender.name);
                return;
            }
            thread::sleep(LOOK);
        }
    }
}

fn is_sealed(senders: &[Sender], pod: &str) -> bool {
    senders.iter().any(|sender| sender.rule == Rule::Sealed && sender.name == pod)
}

/// Answers that sealed pods get: of a Service, and of a pod of the other namespace.
fn inside(senders: &[Sender]) -> Result<usize> {
    let mut answers = 0;
    let other = senders.iter().find(|sender| sender.rule != Rule::Sealed).context("all pods are sealed")?;
    for sender in senders.iter().filter(|sender| sender.rule == Rule::Sealed) {
        let ns = &sender.pod.ns;
        let clients = Clients { name: "sealed", ns: ns.clone(), group: None, to: WEB };
        for (service, pod) in WEB.both().into_iter().zip(other.pod.address.both()) {
            answers += Tally::of(&clients.ask(service, PAGES)?).web.values().sum::<usize>();
            answers += usize::from(http(ns, (pod, WEB_TARGET_PORT).into(), "/", TIMEOUT).is_ok());
        }
    }
    Ok(answers)
}

/// All agents end, and others start; the pods talk on before, without any agent, and after. How long there
/// was none, and how long all of it took.
fn step(agents: &mut [Agent], end: End, talk: &Talk) -> Result<(Duration, Duration)> {
    let begin = Instant::now();
    agents.iter_mut().try_for_each(end)?;
    talk.await_rounds(ROUNDS)?;
    let away = begin.elapsed();
    let starting = agents.iter().map(Agent::start_again).collect::<Result<Vec<_>>>()?;
    for (agent, starting) in agents.iter_mut().zip(starting) {
        *agent = starting.ready()?;
    }
    let whole = begin.elapsed();
    talk.await_rounds(ROUNDS)?;
    Ok((away, whole))
}

fn expect_rows(checks: &mut Checks, rows: &[Row]) {
    let mut expect = |name: &str, of: &dyn Fn(&Row) -> bool| {
        let rows = rows.iter().filter(|row| of(row));
        let (right, all) = (rows.clone().filter(|row| row.is_right()).count(), rows.count());
        checks.expect(all > 0 && right == all, name, &format!("{right} of {all} connections"));
    };
    let outside = |rule: Rule| move |row: &Row| row.target != Target::Camera && row.rule == rule;
    expect("cameras see the pod's own address, by Port3 only", &|row| row.target == Target::Camera);
    expect("all else leaves by Port2 with the node's address, and is answered", &outside(Rule::Masqueraded));
    expect("one pod leaves by Port2 with its fixed address, and is answered", &outside(Rule::Fixed));
    expect("the sealed namespace is refused, and nothing of it leaves", &outside(Rule::Sealed));
}

fn expect_talk(checks: &mut Checks, talked: &[(Talker, Talked)]) {
    let (denied, allowed): (Vec<_>, Vec<_>) = talked.iter().partition(|(talker, _)| talker.is_denied());
    let rounds = allowed.iter().map(|(_, talked)| talked.rounds).sum::<u64>();
    let cut: Vec<String> = allowed
        .iter()
        .filter_map(|(talker, talked)| Some(format!("; {}: {}", talker.name, talked.cut.as_ref()?)))
        .collect();
    checks.expect(
        !allowed.is_empty() && cut.is_empty(),
        "connections that are open stay open through kill -9 and upgrade",
        &format!("{} connections, {rounds} exchanges, {} cut{}", allowed.len(), cut.len(), cut.concat()),
    );
    for (talked, name) in [
        (allowed, "new connections keep their addresses meanwhile"),
        (denied, "the sealed namespace is refused meanwhile"),
    ] {
        let right: usize = talked.iter().map(|(_, talked)| talked.right).sum();
        let wrong: Vec<String> = talked
            .iter()
            .flat_map(|(talker, talked)| {
                talked.wrong.iter().map(move |wrong| format!("{}: {wrong}", talker.name))
            })
            .collect();
        let first = wrong.first().map(|wrong| format!("; {wrong}")).unwrap_or_default();
        checks.expect(
            right > 0 && wrong.is_empty(),
            name,
            &format!("{right} connections, {} wrong{first}", wrong.len()),
        );
    }
}

/// All policies of the node are in force, and have counted what its pods did.
fn expect_list(checks: &mut Checks, agent: &Agent, senders: &[Sender]) -> Result<()> {
    let list = agent.json(&["egress", "list"])?;
    let of = |name: &str| {
        let policies = list.as_array().map(Vec::as_slice).unwrap_or_default();
        policies.iter().find(|policy| policy["name"] == name).unwrap_or(&Value::Null)
    };
    let runs =
        |rule: Rule| senders.iter().any(|sender| sender.rule == rule && sender.vm.name() == agent.vm.name());
    let (fixed, masqueraded) = (runs(Rule::Fixed), runs(Rule::Masqueraded));
    // Where other policies decide for every pod, the last one is shadowed.
    let internet = if masqueraded { "Ready" } else { "ShadowedBy" };
    let states =
        [("cameras", "Ready"), ("sealed", "Ready"), ("fixed-address", "Ready"), ("internet", internet)];
    let right = states.into_iter().filter(|(name, state)| of(name)["state"] == *state).count();
    let count = |name: &str, field: &str| of(name)[field].as_u64().unwrap_or(0);
    let packets = ["cameras", "fixed-address", "internet", "sealed"].map(|name| count(name, "packets"));
    let used = packets.map(|packets| packets > 0) == [true, fixed, masqueraded, false];
    let denied = count("sealed", "denied");
    let [cameras, fixed, internet, _] = packets;
    checks.expect(
        right == states.len() && used && denied > 0,
        &format!("{}: `egress list` shows what each policy did", agent.vm.name()),
        &format!(
            "{right} of {} states; packets: cameras {cameras}, fixed-address {fixed}, internet {internet}; \
             sealed denied {denied}",
            states.len()
        ),
    );
    Ok(())
}
