//! The benchmark: `cargo xtask bench` builds it and its BPF programs, and runs it.
//!
//! A section measures and returns rows; the report puts rows against each other as ratios, since
//! only those carry over from one machine to another.

mod baseline;
mod baseline_rules;
mod control_plane;
mod failover;
mod generator;
mod packet;
mod probe;
mod sample;
mod sink;
mod stage;
mod tables;
mod test_run;
mod whole_path;

use std::env;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Parser;

use sample::{Outcome, Row, Section, median};

#[derive(Parser)]
#[command(name = "cargo xtask bench --")]
struct Arguments {
    /// Run only these sections
    #[arg(long, value_name = "SECTION")]
    only: Vec<String>,
    /// Handed over by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

/// In the order in which they run.
const SECTIONS: [Section; 6] = [
    test_run::SECTION,
    whole_path::SECTION,
    whole_path::SERVICES,
    whole_path::TABLES,
    control_plane::SECTION,
    failover::SECTION,
];

fn main() -> Result<()> {
    let Arguments { only, bench: _ } = Arguments::parse();
    let object = PathBuf::from(env::var_os("NETROUTE_BENCH_OBJECT").context("run `cargo xtask bench`")?);
    let mut rows: Vec<Row> = Vec::new();
    for Section { name, run } in SECTIONS {
        if only.is_empty() || only.iter().any(|wanted| wanted == name) {
            rows.extend(run(&object).with_context(|| format!("section {name}"))?);
        }
    }
    for Row { id, title, unit: _, outcome } in rows {
        match outcome {
            Outcome::Measured(samples) => {
                let min = samples.iter().copied().fold(f64::INFINITY, f64::min);
                println!("{:<20} {:>8.1} {min:>8.1}  {title}", id, median(&samples));
            }
            Outcome::NotMeasured(reason) => println!("{id:<20} not measured: {reason}"),
        }
    }
    Ok(())
}
