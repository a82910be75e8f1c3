//! `cargo xtask test`: every test that this machine can run, and a plain word about those it cannot.
//!
//! A test that finds that it cannot run here prints `SKIP name: reason`; it then counts as skipped
//! and not as passed. A line `MEASURED text` of a passed test is repeated at the end.

mod kernels;
mod libtest;
mod suite;

use std::time::Instant;

use anyhow::{Result, bail};

use crate::build;
use crate::paths::Paths;
use crate::process;
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
    if let Some(Elsewhere::Kernels(args)) = &args.elsewhere {
        return kernels::run(args);
    }
    let paths = Paths::find()?;
    let root = process::is_root();
    if root {
        setup::for_machine()?;
    }
    build::object(&paths)?;
    let mut suites = suite::build(&paths)?;
    suites.retain(|suite| args.only.is_empty() || args.only.contains(&suite.kind));
    suites.sort_by_key(|suite| (suite.kind, suite.name()));

    let begin = Instant::now();
    let mut total = Total::default();
    for suite in &suites {
        let outcome = if suite.kind.needs_root() && !root {
            suite.skipped(&args.filters, "needs root")?
        } else {
            suite.run(&paths, &args.filters)?
        };
        total.add(suite, outcome);
    }
    total.report(begin)
}

impl Total {
    fn add(&mut self, suite: &Suite, outcome: Outcome) {
        let Outcome { passed, failed, skipped, measured, facts: _ } = outcome;
        self.passed += passed;
        self.failed.extend(failed.into_iter().map(|test| format!("{}: {test}", suite.name())));
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
