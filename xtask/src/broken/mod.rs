//! Deliberately broken builds: the BPF object with one line changed, shown to the vectors and to the
//! differential test. Both must notice, or they would not notice a mistake either.
//!
//! The sources are changed in a copy below `target/broken` with a target folder of its own, so that
//! no broken object can ever be taken for the real one.

mod copy;
mod mutants;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::paths::Paths;
use crate::setup::{self, Toolchain};
use crate::test::libtest::{self, Outcome};
use copy::Copy;
use mutants::{MUTANTS, Mutant};

/// Names the object for the test binaries; `tests/src/kernel_run` reads it and says so.
const OBJECT: &str = "NETROUTE_BPF_OBJECT";
const DIFFERENTIAL: &str = "r12_n11_host_and_kernel_agree_on_random_packets";
/// Enough for each mutant to show; the sound build passes as many.
const PACKETS: &str = "30000";

/// The two test binaries, built from the sources as they are.
pub struct Programs {
    pub vectors: Command,
    pub differential: Command,
}

/// The sound copy first, then every mutant whose name contains one of `filters`; all if there are none.
pub fn run(paths: &Paths, mut programs: Programs, filters: &[String]) -> Result<Outcome> {
    let chosen: Vec<&Mutant> = MUTANTS
        .iter()
        .filter(|mutant| filters.is_empty() || filters.iter().any(|filter| mutant.name.contains(filter)))
        .collect();
    let mut outcome = Outcome::default();
    if chosen.is_empty() {
        return Ok(outcome);
    }
    let begin = Instant::now();
    let copy = Copy::make(paths)?;
    let toolchain = setup::for_build()?;
    for mutant in [None].into_iter().chain(chosen.into_iter().map(Some)) {
        let name = mutant.map_or("a sound copy passes", |mutant| mutant.name);
        match judged(&copy, &toolchain, &mut programs, mutant) {
            Ok(told) => {
                println!("ok      broken        {name}: {told}");
                outcome.passed += 1;
            }
            Err(error) => {
                println!("FAILED  broken        {name}: {error:#}");
                outcome.failed.push(name.to_owned());
            }
        }
        if mutant.is_none() && !outcome.failed.is_empty() {
            // What the mutants come to means nothing then.
            break;
        }
    }
    println!("broken builds took {:.0} s", begin.elapsed().as_secs_f32());
    Ok(outcome)
}

/// What one build came to; an error unless it is what it should be.
fn judged(
    copy: &Copy,
    toolchain: &Toolchain,
    programs: &mut Programs,
    mutant: Option<&Mutant>,
) -> Result<String> {
    let object = copy.build(toolchain, mutant)?;
    let vectors: Vec<&str> = match mutant {
        Some(mutant) => mutant.vectors.to_vec(),
        // Each vector that is to notice a mutant must be content with the sound build.
        None => {
            MUTANTS.iter().flat_map(|m| m.vectors).copied().collect::<BTreeSet<_>>().into_iter().collect()
        }
    };
    let by_vectors = tests(&mut programs.vectors, &object, &vectors)?;
    let by_differential = tests(&mut programs.differential, &object, &[DIFFERENTIAL])?;
    if by_vectors.passed + by_vectors.failed.len() != vectors.len() {
        bail!("not all of the vectors {vectors:?} ran: {by_vectors:?}");
    }
    if by_differential.passed + by_differential.failed.len() != 1 {
        bail!("the differential test did not run: {by_differential:?}");
    }
    if mutant.is_none() {
        if !by_vectors.failed.is_empty() || !by_differential.failed.is_empty() {
            bail!("fails by {:?} {:?}", by_vectors.failed, by_differential.failed);
        }
        return Ok(format!("{} vectors, {PACKETS} random packets", vectors.len()));
    }
    let content: Vec<&str> = vectors
        .iter()
        .copied()
        .filter(|name| !by_vectors.failed.iter().any(|failed| failed == name))
        .collect();
    if !content.is_empty() {
        bail!("survives the vectors {content:?}");
    }
    if by_differential.failed.is_empty() {
        bail!("survives {PACKETS} packets of the differential test");
    }
    Ok(format!("found by the vectors {} and by the differential test", vectors.join(", ")))
}

/// Runs the named tests of a binary over `object`.
fn tests(program: &mut Command, object: &Path, names: &[&str]) -> Result<Outcome> {
    let mut command = Command::new(program.get_program());
    if let Some(folder) = program.get_current_dir() {
        command.current_dir(folder);
    }
    command
        .args(["--show-output", "--exact"])
        .args(names)
        .env(OBJECT, object)
        .env("NETROUTE_PACKETS", PACKETS);
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {}", program.get_program().display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    // Otherwise a mutant would be found that was never loaded.
    if !text.contains(&format!("{OBJECT}={}", object.display())) {
        bail!(
            "the tests did not load {}:\n{text}{}",
            object.display(),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    Ok(libtest::read(&lines, output.status.success()))
}

/// Where a built object lies below the root of the copy.
fn object_in(root: &Path) -> PathBuf {
    root.join("target/ebpf/bpfel-unknown-none/release/netroute-ebpf")
}
