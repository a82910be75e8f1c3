//! Every vector, by the packet logic as a library.

use std::collections::BTreeSet;
use std::ops::Range;

use anyhow::Result;
use netroute_common::verdict::Hook;
use netroute_tests::vectors::{
    Action, Host, Input, Judge, Outcome, TableSet, Vector, files, run_cases, run_ecmp,
};

netroute_tests::each_vector!(run);

fn run(file: &str) -> Result<()> {
    let vector = Vector::read(file)?;
    let mut ran = run_cases(&vector, &mut Host::default(), false)?;
    if vector.ecmp.is_some() {
        let ecmp = run_ecmp(&vector, &mut Host::default())?;
        ran.packets += ecmp.packets;
        ran.failures.extend(ecmp.failures);
    }
    assert!(ran.failures.is_empty(), "{file}: {}\n{}", vector.name, ran.failures.join("\n"));
    assert!(ran.packets > 0, "{file} has run no packet");
    assert!(ran.skipped.is_empty(), "nothing is skipped on the host: {:?}", ran.skipped);
    Ok(())
}

/// Facts of the data plane that must have a vector.
#[test]
fn the_facts_of_the_data_plane_are_covered() -> Result<()> {
    let mut covered = BTreeSet::new();
    for file in files()? {
        covered.extend(Vector::read(&file)?.covers);
    }
    let routing = ["R1", "R2", "R3", "R10", "R11", "R12", "R14", "N11", "X1", "X3"];
    let services = ["S3", "S4", "S6", "S8", "S10", "S12", "S14", "S17", "S18", "S19", "S20", "S24", "S25"];
    let flows = ["N1", "N3", "N4", "N5", "N6", "N7", "N8", "N9", "N10", "N12", "N15"];
    let policies = ["E1", "E2", "E3", "E4", "E5", "E6", "E7", "E8"];
    let wanted = routing.into_iter().chain(services).chain(flows).chain(policies);
    let missing: Vec<_> = wanted.filter(|id| !covered.contains(*id)).collect();
    assert!(missing.is_empty(), "no vector covers {missing:?}");
    Ok(())
}

/// Negative control: a judge that is wrong in one byte, one action or one counter fails.
#[test]
fn a_wrong_judge_is_found_out() -> Result<()> {
    let vector = Vector::read("route/forward4.toml")?;
    let forwarded = 7 * vector.hooks.len();
    for (wrong, what) in [(Wrong::Byte, "frame"), (Wrong::Action, "action"), (Wrong::Counter, "counters")] {
        let ran = run_cases(&vector, &mut WrongHost { host: Host::default(), wrong }, false)?;
        assert_eq!(ran.failures.len(), forwarded, "{wrong:?}: {:?}", ran.failures);
        assert!(ran.failures.iter().all(|line| line.contains(what)), "{wrong:?}: {:?}", ran.failures);
    }
    let ecmp = Vector::read("route/ecmp-ports.toml")?;
    let ran = run_ecmp(&ecmp, &mut WrongHost { host: Host::default(), wrong: Wrong::Byte })?;
    assert!(!ran.failures.is_empty(), "flows to a MAC of nobody are not found out");
    Ok(())
}

/// Negative control: the same of stories, and a judge that forgets flows.
#[test]
fn a_wrong_judge_of_stories_is_found_out() -> Result<()> {
    for file in ["service/protocols.toml", "service/udp-checksum.toml", "service/masquerade.toml"] {
        let vector = Vector::read(file)?;
        for (wrong, what) in [(Wrong::Byte, "frame"), (Wrong::Action, "action"), (Wrong::Counter, "counters")]
        {
            let ran = run_cases(&vector, &mut WrongHost { host: Host::default(), wrong }, false)?;
            assert!(ran.failures.iter().any(|line| line.contains(what)), "{file}, {wrong:?}");
        }
    }
    let vector = Vector::read("service/syn.toml")?;
    let ran = run_cases(&vector, &mut WrongHost { host: Host::default(), wrong: Wrong::Memory }, false)?;
    assert!(ran.failures.iter().any(|line| line.contains("Services")), "{:?}", ran.failures);
    Ok(())
}

/// Negative control: a judge that leaves the header checksum of a quoted packet as it came.
#[test]
fn a_wrong_judge_of_errors_is_found_out() -> Result<()> {
    let vector = Vector::read("service/icmp-translated.toml")?;
    let ran = run_cases(&vector, &mut WrongHost { host: Host::default(), wrong: Wrong::Quoted }, false)?;
    let found = |line: &String| QUOTED_CHECKSUM.clone().all(|at| line.contains(&format!("; byte {at}: ")));
    assert!(ran.failures.iter().any(found), "{:?}", ran.failures);
    // And one that leaves the checksum of an ICMPv6 error as it came.
    let ran = run_cases(&vector, &mut WrongHost { host: Host::default(), wrong: Wrong::Icmp6 }, false)?;
    let found = |line: &String| ICMP6_CHECKSUM.clone().all(|at| line.contains(&format!("; byte {at}: ")));
    assert!(ran.failures.iter().any(found), "{:?}", ran.failures);
    Ok(())
}

/// Behind Ethernet, IPv4 and ICMP header, that of the IPv4 header quoted there.
const QUOTED_CHECKSUM: Range<usize> = 52..54;
/// Behind Ethernet and IPv6 header.
const ICMP6_CHECKSUM: Range<usize> = 56..58;

#[derive(Clone, Copy, Debug)]
enum Wrong {
    Byte,
    Action,
    Counter,
    Memory,
    Quoted,
    Icmp6,
}

fn is_icmp6(frame: &[u8]) -> bool {
    frame[12..14] == [0x86, 0xdd] && frame[20] == 58
}

fn is_icmp4(frame: &[u8]) -> bool {
    frame[12..14] == [8, 0] && frame[23] == 1
}

/// The host, wrong about forwarded packets.
struct WrongHost {
    host: Host,
    wrong: Wrong,
}

impl Judge for WrongHost {
    fn install(&mut self, tables: &TableSet) -> Result<()> {
        self.host.install(tables)
    }

    fn forget(&mut self) -> Result<()> {
        self.host.forget()
    }

    fn wait(&mut self, seconds: u64) -> Result<Option<&'static str>> {
        self.host.wait(seconds)
    }

    fn run(&mut self, hook: Hook, input: &Input) -> Result<Outcome> {
        let mut outcome = self.host.run(hook, input)?;
        if outcome.action == Action::Redirect {
            match self.wrong {
                Wrong::Byte => outcome.frame[24] ^= 1,
                Wrong::Action => outcome.action = Action::Pass,
                Wrong::Counter => {
                    outcome.counted.next_hops.values_mut().for_each(|counter| counter.bytes += 1)
                }
                Wrong::Memory => self.host.forget()?,
                Wrong::Quoted if is_icmp4(&input.frame) => {
                    outcome.frame[QUOTED_CHECKSUM].copy_from_slice(&input.frame[QUOTED_CHECKSUM]);
                }
                Wrong::Icmp6 if is_icmp6(&input.frame) => {
                    outcome.frame[ICMP6_CHECKSUM].copy_from_slice(&input.frame[ICMP6_CHECKSUM]);
                }
                Wrong::Quoted | Wrong::Icmp6 => {}
            }
        }
        Ok(outcome)
    }

    fn forward(&mut self, hook: Hook, input: &Input) -> Result<Vec<u8>> {
        let mut frame = self.host.forward(hook, input)?;
        frame[0] ^= 0x40;
        Ok(frame)
    }

    fn refuses(&self, hook: Hook, input: &Input) -> Option<&'static str> {
        self.host.refuses(hook, input)
    }
}
