//! The benchmark: `cargo xtask bench` builds it and its BPF programs, and runs it.
//!
//! A section measures and returns rows; the report puts rows against each other as ratios, since
//! only those carry over from one machine to another.

mod baseline;
mod baseline_rules;
mod control_plane;
mod egress;
mod failover;
mod fib;
mod generator;
mod packet;
mod plot;
mod probe;
mod report;
mod sample;
mod scale;
mod service_flows;
mod sink;
mod stage;
mod tables;
mod targets;
mod test_run;
mod whole_path;

use std::env;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Parser;

use report::{Machine, Report};
use sample::{Outcome, Row, Section, Unit};

#[derive(Parser)]
#[command(name = "cargo xtask bench --")]
struct Arguments {
    /// Run only these sections
    #[arg(long, value_name = "SECTION")]
    only: Vec<String>,
    /// Fewer rounds and smaller tables: whether it works, not how fast it is
    #[arg(long)]
    quick: bool,
    /// Write rows with all their samples, and how they stand to the targets
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draw the rows
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
    /// Fail if a ratio is worse than tests/benches/targets.toml allows
    #[arg(long)]
    check: bool,
    /// Handed over by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

/// In the order in which they run.
const SECTIONS: [Section; 7] = [
    test_run::SECTION,
    scale::SECTION,
    whole_path::SECTION,
    whole_path::SERVICES,
    whole_path::TABLES,
    control_plane::SECTION,
    failover::SECTION,
];

fn main() -> Result<()> {
    let Arguments { only, quick, json, plot, check, bench: _ } = Arguments::parse();
    sample::set_quick(quick);
    let object = PathBuf::from(env::var_os("NETROUTE_BENCH_OBJECT").context("run `cargo xtask bench`")?);
    for wanted in &only {
        let names = SECTIONS.map(|section| section.name);
        ensure!(names.contains(&wanted.as_str()), "no section `{wanted}`: there are {}", names.join(", "));
    }
    let targets = targets::read()?;
    let machine = Machine::look()?;
    let mut rows: Vec<Row> = Vec::new();
    for Section { name, run } in SECTIONS {
        if !only.is_empty() && !only.iter().any(|wanted| wanted == name) {
            continue;
        }
        let started = Instant::now();
        match run(&object) {
            Ok(more) => rows.extend(more),
            // The other sections still have something to say.
            Err(error) => rows.push(Row {
                id: name.to_owned(),
                title: "the section as a whole".to_owned(),
                unit: Unit::Count,
                outcome: Outcome::NotMeasured(format!("{error:#}")),
            }),
        }
        eprintln!("section {name}: {:.0} s", started.elapsed().as_secs_f64());
    }
    let report = Report::new(machine, targets, rows);
    print!("{}", report.text()?);
    if let Some(path) = json {
        report.write_json(&path)?;
    }
    if let Some(path) = plot {
        plot::write(&report, &path)?;
    }
    let broken = report.broken();
    ensure!(!check || broken.is_empty(), "worse than targets.toml allows: {}", broken.join("; "));
    Ok(())
}
