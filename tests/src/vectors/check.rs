//! Plays the cases of a vector before a judge and compares what comes with what is expected.

use anyhow::{Context, Result};
use netroute_common::verdict::Hook;

use super::cast::Interface;
use super::outcome::Outcome;
use super::sender::sent;
use super::story::run_story;
use super::tables::TableSet;
use super::{Case, Vector};

/// A frame with what a hook is told beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    pub frame: Vec<u8>,
    /// Where it comes in; at TC egress, where it is about to leave.
    pub interface: Interface,
    pub segment: Option<u32>,
    pub nic_vlan_tag: bool,
}

/// What judges packets: the library, or the programs in the kernel.
pub trait Judge {
    /// Replaces all tables but those of flows.
    fn install(&mut self, tables: &TableSet) -> Result<()>;

    /// Forgets all flows, and who had which endpoint.
    fn forget(&mut self) -> Result<()>;

    /// Lets time pass for all flows; or why it cannot.
    fn wait(&mut self, seconds: u64) -> Result<Option<&'static str>>;

    /// One packet, with all that it changed.
    fn run(&mut self, hook: Hook, input: &Input) -> Result<Outcome>;

    /// The frame after one packet, without a look at the counters.
    fn forward(&mut self, hook: Hook, input: &Input) -> Result<Vec<u8>>;

    /// Why this judge cannot be shown this packet.
    fn refuses(&self, hook: Hook, input: &Input) -> Option<&'static str>;
}

/// What a vector came to.
#[derive(Debug, Default)]
pub struct Ran {
    pub packets: usize,
    /// Where expectation and outcome differ.
    pub failures: Vec<String>,
    /// What could not be asked, and why.
    pub skipped: Vec<String>,
}

/// Runs all cases and stories of `vector`; `kernel` says whether what is for the host alone is left out.
pub fn run_cases(vector: &Vector, judge: &mut dyn Judge, kernel: bool) -> Result<Ran> {
    let mut ran = Ran::default();
    let tables = vector.tables.compile()?;
    judge.install(&tables)?;
    for case in &vector.cases {
        if kernel && let Some(reason) = &case.host_only {
            ran.skipped.push(format!("{}: {reason}", case.name));
            continue;
        }
        run_case(vector, case, &tables, judge, &mut ran).with_context(|| format!("case `{}`", case.name))?;
    }
    for story in &vector.stories {
        if kernel && let Some(reason) = &story.host_only {
            ran.skipped.push(format!("{}: {reason}", story.name));
            continue;
        }
        let told = run_story(vector, story, judge, &mut ran);
        told.with_context(|| format!("story `{}`", story.name))?;
    }
    judge.forget()?;
    Ok(ran)
}

fn run_case(
    vector: &Vector,
    case: &Case,
    tables: &TableSet,
    judge: &mut dyn Judge,
    ran: &mut Ran,
) -> Result<()> {
    for hook in case.hooks.as_ref().unwrap_or(&vector.hooks) {
        let hook = hook.hook();
        let whole = sent(&case.packet, hook, tables)?;
        for input in &cut(case, whole)? {
            let label = format!("{} at {} ({} bytes)", case.name, hook.name(), input.frame.len());
            if let Some(reason) = judge.refuses(hook, input) {
                ran.skipped.push(format!("{label}: {reason}"));
                continue;
            }
            if !vector.tables.services.is_empty() || !vector.tables.egress.is_empty() {
                judge.forget()?;
            }
            let expected = case.expect.outcome(tables, hook, input)?;
            let came = judge.run(hook, input).context(label.clone())?;
            ran.packets += 1;
            ran.failures.extend(expected.differences(&came).iter().map(|line| format!("{label}: {line}")));
        }
    }
    Ok(())
}

/// The packet, or one for each length that the case asks for.
fn cut(case: &Case, whole: Input) -> Result<Vec<Input>> {
    let Some([first, last]) = case.cuts else { return Ok(vec![whole]) };
    let cut = |length| {
        let frame = whole.frame.get(..length).context("`cuts` go beyond the frame")?.to_vec();
        Ok(Input { frame, ..whole })
    };
    (first..=last).map(cut).collect()
}
