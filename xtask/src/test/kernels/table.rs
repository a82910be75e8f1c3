//! The table: a kernel per line, and below it what each does otherwise.

use super::packages::Kernel;
use super::selection::{CHOSEN, Column, LEFT_OUT, left_out};
use super::verdict::Verdict;

/// A kernel, how it came through, and seconds.
pub struct Line<'a> {
    pub kernel: &'a Kernel,
    pub verdict: &'a Verdict,
    pub seconds: f32,
}

/// Those of packets, and of the programs of sockets the largest.
const PROGRAMS: [&str; 4] = ["xdp_nic", "tc_nic", "tc_pod", LARGEST_OF_SOCKETS];
const LARGEST_OF_SOCKETS: &str = "sock_sendmsg6";

pub fn show(lines: &[Line<'_>]) -> String {
    let mut rows = vec![heads()];
    rows.extend(lines.iter().map(row));
    let widths: Vec<usize> = (0..rows[0].len())
        .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        text += cells.collect::<Vec<_>>().join("  ").trim_end();
        text.push('\n');
    }
    for Line { kernel, verdict, .. } in lines {
        let facts = verdict.facts();
        let fallbacks = facts.get("fallbacks").copied().unwrap_or("not told");
        text += &format!("\n{:<5} instead: {fallbacks}", kernel.series);
        for (_, what, why) in LEFT_OUT.iter().filter(|(series, ..)| *series == kernel.series) {
            text += &format!("\n{:<5} not run: {what}: {why}", kernel.series);
        }
    }
    text.push('\n');
    text
}

fn heads() -> Vec<String> {
    let mut heads = vec!["kernel".to_owned(), "release".to_owned(), "programs".to_owned()];
    heads.extend(PROGRAMS.map(|name| format!("{name} insns/stack")));
    heads.extend(Column::ALL.map(|column| column.title().to_owned()));
    heads.push("seconds".to_owned());
    heads
}

fn row(line: &Line<'_>) -> Vec<String> {
    let Line { kernel, verdict, seconds } = line;
    let facts = verdict.facts();
    let fact = |name: &str| facts.get(name).map(|text| (*text).to_owned());
    let programs = PROGRAMS.map(|name| fact(&format!("verifier.{name}")));
    let loaded = programs.iter().filter(|fact| fact.is_some()).count();
    let release = kernel.release.trim_end_matches("-cloud-amd64").to_owned();
    let mut row = vec![kernel.series.clone(), release, format!("{loaded}/{}", PROGRAMS.len())];
    row.extend(programs.map(|fact| fact.unwrap_or_else(|| "-".to_owned())));
    row.extend(Column::ALL.map(|column| cell(verdict, column, &kernel.series)));
    row.push(format!("{seconds:.0}"));
    row
}

/// `40`, `38+2 skipped`, `FAILED 1 of 40`, or `-` if it did not run.
fn cell(verdict: &Verdict, column: Column, series: &str) -> String {
    let (mut passed, mut failed, mut skipped, mut lacking) = (0, 0, 0, false);
    for chosen in CHOSEN.iter().filter(|chosen| chosen.column == column) {
        match verdict.suites.get(chosen.target) {
            Some(ran) => {
                passed += ran.outcome.passed;
                failed += ran.outcome.failed.len();
                skipped += ran.outcome.skipped.len();
            }
            None => lacking |= left_out(series, chosen.target).is_none(),
        }
    }
    match (failed, skipped) {
        _ if lacking => "-".to_owned(),
        (0, 0) => passed.to_string(),
        (0, skipped) => format!("{passed}+{skipped} skipped"),
        (failed, skipped) => format!("FAILED {failed} of {}", passed + failed + skipped),
    }
}
