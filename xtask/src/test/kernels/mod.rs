//! `cargo xtask test kernels`: the tests inside emulated machines with Debian's stock kernels.
//!
//! The test binaries are those of `cargo xtask test`, packed with the programs and libraries they need: the C
//! library of the machine that builds runs on all of the kernels. What is run is in [`selection`].

mod image;
mod initramfs;
mod machine;
mod packages;
mod selection;
mod table;
mod verdict;

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use netroute_tests::guest::{self, Plan};

use super::{libtest, suite};
use crate::build;
use crate::paths::Paths;
use crate::setup;
use packages::Kernel;
use selection::CHOSEN;
use table::Line;
use verdict::{Verdict, judge};

/// Stands for the newest series that Debian has.
const NEWEST: &str = "newest";
/// Old stable, stable, newest.
const SERIES: [&str; 4] = ["5.10", "6.1", "6.12", NEWEST];
/// Machines that run at the same time.
const AT_ONCE: usize = 2;

#[derive(clap::Args)]
pub struct Args {
    /// Kernel series such as `6.1`, or `newest`
    #[arg(value_name = "SERIES", default_values_t = SERIES.map(str::to_owned))]
    series: Vec<String>,
}

/// One kernel's run.
struct Finished {
    verdict: Verdict,
    seconds: f32,
}

pub fn run(args: &Args) -> Result<()> {
    let paths = Paths::find()?;
    setup::for_machine()?;
    setup::for_kernels()?;
    build::object(&paths)?;
    let targets: Vec<&str> = CHOSEN.iter().map(|chosen| chosen.target).collect();
    let suites = suite::build_only(&paths, &targets)?;
    let kernels = packages::prepare(&paths, &args.series)?;

    let began = Instant::now();
    let logs = paths.target().join("kernel-logs");
    let work = paths.target().join(format!("kernels-{}", std::process::id()));
    fs::create_dir_all(&logs)?;
    fs::create_dir_all(&work)?;
    let finished = run_all(&paths, &suites, &kernels, &work, &logs);
    fs::remove_dir_all(&work)?;
    let finished = finished?;

    let lines: Vec<Line<'_>> = kernels
        .iter()
        .zip(&finished)
        .map(|(kernel, Finished { verdict, seconds })| Line { kernel, verdict, seconds: *seconds })
        .collect();
    println!("\n{}", table::show(&lines));
    println!("kernels took {:.0} s", began.elapsed().as_secs_f32());
    let failed: Vec<String> = lines
        .iter()
        .flat_map(|line| line.verdict.failures.iter().map(|what| format!("{}: {what}", line.kernel.series)))
        .collect();
    for line in &failed {
        println!("failed    {line}");
    }
    if !failed.is_empty() {
        bail!("{} failures; each machine's whole output lies in {}", failed.len(), paths.shown(&logs));
    }
    Ok(())
}

/// In the order of `kernels`.
fn run_all(
    paths: &Paths,
    suites: &[suite::Suite],
    kernels: &[Kernel],
    work: &Path,
    logs: &Path,
) -> Result<Vec<Finished>> {
    let chosen = CHOSEN
        .iter()
        .map(|chosen| {
            let found = suites.iter().find(|suite| suite.target == chosen.target);
            let suite = found.with_context(|| format!("no test binary {}", chosen.target))?;
            chosen.check(suite)?;
            Ok(chosen.run(suite, paths))
        })
        .collect::<Result<Vec<_>>>()?;
    let mut binaries: Vec<PathBuf> = chosen.iter().map(|suite| suite.program.clone()).collect();
    binaries.extend(["netroute", "netroute-lab-peer"].map(|name| paths.target().join("release").join(name)));
    binaries.sort();
    binaries.dedup();
    let mut data = vec![paths.object(), paths.workspace.join("tests/vectors")];
    data.push(paths.workspace.join("netroute-user/Cargo.toml"));
    let base = initramfs::base(paths, &binaries, &data, work)?;
    let plan = Plan { modules: Vec::new(), suites: chosen };

    let waiting: Mutex<VecDeque<usize>> = Mutex::new((0..kernels.len()).collect());
    let finished: Mutex<Vec<Option<Finished>>> = Mutex::new(kernels.iter().map(|_| None).collect());
    let next = || waiting.lock().ok()?.pop_front();
    thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_ONCE)
            .map(|_| {
                scope.spawn(|| -> Result<()> {
                    while let Some(number) = next() {
                        let done = run_one(&kernels[number], &base, &plan, work, logs)?;
                        if let Ok(mut finished) = finished.lock() {
                            finished[number] = Some(done);
                        }
                    }
                    Ok(())
                })
            })
            .collect();
        let ended =
            workers.into_iter().map(|worker| worker.join().unwrap_or_else(|_| bail!("a worker died")));
        ended.collect::<Result<Vec<()>>>()
    })?;
    let finished = finished.into_inner().context("a worker died")?;
    finished.into_iter().map(|done| done.context("a kernel was not run")).collect()
}

fn run_one(kernel: &Kernel, base: &Path, plan: &Plan, work: &Path, logs: &Path) -> Result<Finished> {
    let runs = |suite: &&guest::Suite| selection::left_out(&kernel.series, &suite.name).is_none();
    let plan = Plan { suites: plan.suites.iter().filter(runs).cloned().collect(), ..plan.clone() };
    let initramfs = initramfs::complete(base, kernel, &plan, work)?;
    let ended = machine::run(kernel, &initramfs, work)?;
    fs::remove_file(initramfs)?;
    let log = logs.join(format!("{}.log", kernel.series));
    fs::write(&log, format!("{}\n{}", ended.console, ended.report))?;
    let expected: Vec<&str> = plan.suites.iter().map(|suite| suite.name.as_str()).collect();
    let verdict = judge(&ended, &expected);
    let seconds = ended.elapsed.as_secs_f32();
    let word = if verdict.failures.is_empty() { "ok" } else { "FAILED" };
    println!("{word:<6}  {}  {seconds:.0} s", kernel.release);
    for (name, ran) in &verdict.suites {
        println!("        {name}: {} passed in {:.0} s", ran.outcome.passed, ran.seconds);
        if !ran.outcome.failed.is_empty() {
            println!("{}", libtest::failures(&ran.output));
        }
    }
    Ok(Finished { verdict, seconds })
}
