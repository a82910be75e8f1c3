//! What an agent holds: counted before and after a fault, so that a leak is seen.

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Context, Result};

use crate::agent::{Agent, eventually};

/// Everything that can leak, of one agent. Only what is its own: others load programs too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Census {
    /// Open file descriptors.
    pub descriptors: usize,
    /// BPF objects that the process holds open, by id.
    pub maps: BTreeSet<u32>,
    pub programs: BTreeSet<u32>,
    pub links: BTreeSet<u32>,
    /// Names below the agent's folder on the BPF file system.
    pub pinned: BTreeSet<String>,
    pub threads: usize,
    /// Resident memory in KiB.
    pub resident: u64,
    /// Processor time that it has used, in ticks of 10 ms.
    pub ticks: u64,
}

impl Census {
    pub fn of(agent: &Agent) -> Result<Self> {
        let process = Path::new("/proc").join(agent.pid().to_string());
        let mut census = Self {
            descriptors: 0,
            maps: BTreeSet::new(),
            programs: BTreeSet::new(),
            links: BTreeSet::new(),
            pinned: BTreeSet::new(),
            threads: fs::read_dir(process.join("task"))?.count(),
            resident: resident(&process)?,
            ticks: ticks(&process)?,
        };
        for entry in fs::read_dir(process.join("fdinfo"))? {
            census.descriptors += 1;
            // Closed meanwhile.
            let Ok(text) = fs::read_to_string(entry?.path()) else { continue };
            for line in text.lines() {
                let Some((key, value)) = line.split_once(':') else { continue };
                let of_kind = match key {
                    "map_id" => &mut census.maps,
                    "prog_id" => &mut census.programs,
                    "link_id" => &mut census.links,
                    _ => continue,
                };
                of_kind.insert(value.trim().parse()?);
            }
        }
        collect(&agent.node.bpffs, &agent.node.bpffs, &mut census.pinned)?;
        Ok(census)
    }

    /// Numbers that must be the same before and after; memory and time are no such numbers, and a
    /// pool's threads come and go.
    fn counts(&self) -> [usize; 4] {
        [self.descriptors, self.maps.len(), self.programs.len(), self.pinned.len()]
    }

    /// Waits until the agent holds no more than it held: the last answer's connection may be open
    /// still, and the kernel frees programs a moment later. `grown` is the memory, in KiB, that
    /// the work in between may cost.
    pub fn await_no_more(&self, agent: &Agent, grown: u64) -> Result<()> {
        let mut now = self.clone();
        eventually("the agent to hold no more than before", super::PATIENCE, || {
            now = Self::of(agent)?;
            let more = now.counts().iter().zip(self.counts()).any(|(now, before)| *now > before);
            Ok(!more && now.resident <= self.resident + grown)
        })
        .with_context(|| format!("before: {self:?}\nnow: {now:?}"))
    }
}

fn collect(root: &Path, folder: &Path, into: &mut BTreeSet<String>) -> Result<()> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            collect(root, &path, into)?;
        } else {
            into.insert(path.strip_prefix(root)?.display().to_string());
        }
    }
    Ok(())
}

fn resident(process: &Path) -> Result<u64> {
    let text = fs::read_to_string(process.join("status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

/// User and system time: fields 14 and 15 of `/proc/PID/stat`, counted after the name.
fn ticks(process: &Path) -> Result<u64> {
    let text = fs::read_to_string(process.join("stat"))?;
    let (_, rest) = text.rsplit_once(')').context("no name in stat")?;
    rest.split_whitespace().skip(11).take(2).map(|word| Ok(word.parse::<u64>()?)).sum()
}
