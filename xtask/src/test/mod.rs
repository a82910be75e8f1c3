//! `cargo xtask test`: every test that this machine can run, and a plain word about those it cannot.
//!
//! A test that finds that it cannot run here prints `SKIP name: reason`; it then counts as skipped
//! and not as passed. A line `MEASURED text` of a passed test is repeated at the end.

mod kernels;
pub mod libtest;
mod suite;

use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::broken;
use crate::build;
use crate::paths::Paths;
use crate::process;
use crate::semantics;
use crate::setup;
use libtest::{Outcome, Skip};
use suite::{Kind, Suite};

#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    elsewhere: Option<Elsewhere>,
    /// Run only tests whose name contains one of these
    #[arg(value_name = "FILTER")]
    filters: Vec<String>,
    /// Run only tests of this kind; may be given more than once
    #[arg(long, value_enum, value_name = "KIND")]
    only: Vec<Kind>,
    /// Print each fact of docs/semantics.md with the tests that name it; build and run nothing
    #[arg(long)]
    list_semantics: bool,
}

#[derive(clap::Subcommand)]
enum Elsewhere {
    /// Run a choice of the tests on Debian's stock kernels, in emulated machines
    Kernels(kernels::Args),
}

/// What became of all suites.
#[derive(Default)]
struct Total {
    passed: usize,
    /// `suite: test`
    failed: Vec<String>,
    skipped: Vec<Skip>,
    measured: Vec<String>,
}

pub fn run(args: &Args) -> Result<()> {
    if args.list_semantics {
        return semantics::run();
    }
    if let Some(Elsewhere::Kernels(args)) = &args.elsewhere {
        return kernels::run(args);
    }
    let paths = Paths::find()?;
    let root = process::is_root();
    if root {
        setup::for_machine()?;
    }
    build::object(&paths)?;
    let mut built = suite::build(&paths)?;
    built.sort_by_key(|suite| (suite.kind, suite.name()));

    let begin = Instant::now();
    let mut total = Total::default();
    for suite in built.iter().filter(|suite| args.only.is_empty() || args.only.contains(&suite.kind)) {
        let outcome = if suite.kind.needs_root() && !root {
            suite.skipped(&args.filters, "needs root")?
        } else {
            suite.run(&paths, &args.filters)?
        };
        total.add(&suite.name(), outcome);
    }
    if args.only.is_empty() || args.only.contains(&Kind::Broken) {
        total.add("broken", broken_builds(&paths, &built, &args.filters, root)?);
    }
    total.report(begin)
}

/// Deliberate mistakes in the BPF object, shown to the suites that must notice.
fn broken_builds(paths: &Paths, built: &[Suite], filters: &[String], root: bool) -> Result<Outcome> {
    if !root {
        let skip = Skip { test: "broken builds".to_owned(), reason: "needs root".to_owned() };
        return Ok(Outcome { skipped: vec![skip], ..Outcome::default() });
    }
    let program = |target: &str| -> Result<Command> {
        let suite = built.iter().find(|suite| suite.target() == target);
        Ok(suite.with_context(|| format!("there is no suite {target}"))?.command())
    };
    let programs =
        broken::Programs { vectors: program("vectors_kernel")?, differential: program("differential")? };
    broken::run(paths, programs, filters)
}

impl Total {
    fn add(&mut self, suite: &str, outcome: Outcome) {
        let Outcome { passed, failed, skipped, measured, facts: _ } = outcome;
        self.passed += passed;
        self.failed.extend(failed.into_iter().map(|test| format!("{suite}: {test}")));
        self.skipped.extend(skipped);
        self.measured.extend(measured);
    }

    fn report(self, begin: Instant) -> Result<()> {
        let Self { passed, failed, skipped, measured } = self;
        println!("\ntests took {:.0} s", begin.elapsed().as_secs_f32());
        for line in measured {
            println!("measured  {line}");
        }
        for Skip { test, reason } in &skipped {
            println!("skipped   {test}: {reason}");
        }
        for test in &failed {
            println!("failed    {test}");
        }
        println!("{passed} passed, {} failed, {} skipped", failed.len(), skipped.len());
        if !failed.is_empty() {
            bail!("{} tests failed; each suite's whole output lies in target/test-logs", failed.len());
        }
        if passed + skipped.len() == 0 {
            bail!("no test matches");
        }
        Ok(())
    }
}
