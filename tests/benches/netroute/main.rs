//! The benchmark: `cargo xtask bench` builds it and its BPF programs, and runs it.
//!
//! A section measures and returns rows; the report puts rows against each other as ratios, since
//! only those carry over from one machine to another.

mod sample;

use std::env;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Parser;

use sample::{Row, Section};

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
const SECTIONS: [Section; 0] = [];

fn main() -> Result<()> {
    let Arguments { only, bench: _ } = Arguments::parse();
    let object = PathBuf::from(env::var_os("NETROUTE_BENCH_OBJECT").context("run `cargo xtask bench`")?);
    let mut rows: Vec<Row> = Vec::new();
    for Section { name, run } in SECTIONS {
        if only.is_empty() || only.iter().any(|wanted| wanted == name) {
            rows.extend(run(&object).with_context(|| format!("section {name}"))?);
        }
    }
    for row in rows {
        println!("{row:?}");
    }
    Ok(())
}
