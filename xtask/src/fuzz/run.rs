//! One target until its time is over or it has failed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::Target;
use crate::paths::Paths;
use crate::process;

/// A single input that takes so long hangs, on a busy machine too, seconds.
const PATIENCE: u32 = 30;
/// Far above what a target needs, MiB.
const MEMORY: u32 = 2048;
/// Lines of a failed target's output that are shown.
const SHOWN: usize = 60;

/// What a run came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    pub runs: u64,
    /// Edges and comparisons that some input reached.
    pub coverage: u64,
    /// Inputs that failed, where they were kept.
    pub crashes: Vec<PathBuf>,
    /// The end of its output.
    pub said: String,
}

/// Where inputs lie.
pub struct Folders {
    /// `tests/fuzz`: seeds, and inputs that once failed.
    committed: PathBuf,
    /// `target/fuzz`: what runs found on the way.
    scratch: PathBuf,
}

/// The crate of the targets.
pub fn folder(paths: &Paths) -> PathBuf {
    paths.workspace.join("tests/fuzz")
}

impl Folders {
    pub fn of(paths: &Paths) -> Self {
        Self { committed: folder(paths), scratch: paths.workspace.join("target/fuzz") }
    }
}

pub fn one(folders: &Folders, programs: &Path, target: Target, seconds: u32) -> Result<Outcome> {
    let Folders { committed, scratch } = folders;
    let name = target.name();
    // libFuzzer adds what it finds to the first folder, and reads the others.
    let (corpus, artifacts) = (scratch.join("corpus").join(name), scratch.join("artifacts").join(name));
    let (logs, crashes) = (scratch.join("logs"), committed.join("crashes").join(name));
    if artifacts.exists() {
        fs::remove_dir_all(&artifacts)?;
    }
    for folder in [&corpus, &artifacts, &logs] {
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    }
    let log = logs.join(format!("{name}.log"));
    let mut command = Command::new(programs.join(name));
    command
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-max_len={}", target.longest()))
        .arg(format!("-timeout={PATIENCE}"))
        .arg(format!("-rss_limit_mb={MEMORY}"))
        .arg("-print_final_stats=1")
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .args(
            target
                .dictionary()
                .map(|file| format!("-dict={}", committed.join("dictionaries").join(file).display())),
        )
        .arg(&corpus)
        .args([committed.join("corpus").join(name), crashes.clone()].iter().filter(|folder| folder.exists()))
        .stdin(Stdio::null())
        .stdout(File::create(&log)?)
        .stderr(File::options().append(true).open(&log)?);
    let status = command.status().with_context(|| format!("cannot start `{}`", process::shown(&command)))?;
    let text = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
    let mut outcome = read(&text);
    if !status.success() {
        outcome.crashes = kept(&artifacts, &crashes)?;
        if outcome.crashes.is_empty() {
            anyhow::bail!("ended by {status} without a failing input:\n{}", outcome.said);
        }
    }
    Ok(outcome)
}

/// What libFuzzer's output says.
fn read(text: &str) -> Outcome {
    let number = |text: &str| text.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0);
    let (mut runs, mut coverage) = (0, 0);
    for line in text.lines() {
        if let Some(units) = line.strip_prefix("stat::number_of_executed_units:") {
            runs = number(units);
        } else if let Some((_, features)) = line.split_once(" ft: ").filter(|_| line.starts_with('#')) {
            coverage = coverage.max(number(features));
        }
    }
    let lines: Vec<&str> = text.lines().collect();
    let said = lines.get(lines.len().saturating_sub(SHOWN)..).unwrap_or_default().join("\n");
    Outcome { runs, coverage, crashes: Vec::new(), said }
}

/// Copies failing inputs to where each later run finds them.
fn kept(artifacts: &Path, crashes: &Path) -> Result<Vec<PathBuf>> {
    let mut kept = Vec::new();
    for entry in fs::read_dir(artifacts)? {
        let entry = entry?;
        // An input that was only slow has not failed.
        if entry.file_name().to_string_lossy().starts_with("slow-unit") {
            continue;
        }
        fs::create_dir_all(crashes)?;
        let file = crashes.join(entry.file_name());
        fs::copy(entry.path(), &file)?;
        kept.push(file);
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "INFO: Seed: 1
#2\tINITED cov: 12 ft: 13 corp: 1/1b exec/s: 0 rss: 40Mb
#900\tNEW    cov: 812 ft: 2040 corp: 99/4Kb lim: 4 exec/s: 100 rss: 50Mb L: 3/4 MS: 1
Done 5300 runs in 61 second(s)
stat::number_of_executed_units: 5300
stat::peak_rss_mb:              60
";

    #[test]
    fn the_fuzzers_numbers_are_read() {
        let Outcome { runs, coverage, crashes, said } = read(OUTPUT);
        assert_eq!((runs, coverage, crashes.len()), (5300, 2040, 0));
        assert!(said.starts_with("INFO: Seed: 1\n") && said.ends_with("60"));
        assert_eq!(read("killed").runs, 0);
    }

    #[test]
    fn failing_inputs_are_kept_and_slow_ones_are_not() {
        let root = std::env::temp_dir().join(format!("xtask-fuzz-{}", std::process::id()));
        let (artifacts, crashes) = (root.join("artifacts"), root.join("crashes"));
        fs::create_dir_all(&artifacts).unwrap();
        for name in ["crash-1", "timeout-2", "slow-unit-3"] {
            fs::write(artifacts.join(name), name).unwrap();
        }
        let mut files = kept(&artifacts, &crashes).unwrap();
        files.sort();
        assert_eq!(files, [crashes.join("crash-1"), crashes.join("timeout-2")]);
        assert_eq!(fs::read(&files[0]).unwrap(), b"crash-1");
        fs::remove_dir_all(root).unwrap();
    }
}
