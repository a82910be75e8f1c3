//! What `cargo xtask bench -- --check` makes of a run. The benchmark has no harness of its own for tests.

#[allow(dead_code, reason = "the benchmark uses the rest")]
#[path = "../benches/netroute/sample.rs"]
mod sample;
#[allow(dead_code, reason = "the benchmark uses the rest")]
#[path = "../benches/netroute/targets.rs"]
mod targets;

use anyhow::{Context, Result};
use sample::{Outcome, Row, Unit};
use targets::{Target, Verdict};

fn row(id: &str, number: f64) -> Row {
    let title = String::new();
    Row { id: id.to_owned(), title, unit: Unit::Nanoseconds, outcome: Outcome::Measured(vec![number; 3]) }
}

/// A run in which the target's ratio comes to this.
fn judged(target: &Target, ratio: f64) -> Result<(bool, bool)> {
    const OVER: f64 = 100.0;
    const MINUS: f64 = 10.0;
    let floor = if target.minus.is_some() { MINUS } else { 0.0 };
    let mut rows = vec![row(&target.value, (OVER - floor) * ratio + floor)];
    rows.push(row(target.over.as_deref().context("no second row")?, OVER));
    rows.extend(target.minus.as_deref().map(|id| row(id, MINUS)));
    match target.judge(&rows) {
        Verdict::Measured { met, broken, .. } => Ok((met, broken)),
        Verdict::NotMeasured { reason } => anyhow::bail!("{}: {reason}", target.work),
    }
}

#[test]
fn a_ratio_that_is_worse_than_allowed_fails_the_check() -> Result<()> {
    let checked: Vec<Target> = targets::read()?.into_iter().filter(|target| target.check.is_some()).collect();
    assert!(!checked.is_empty(), "nothing is checked");
    for target in checked {
        let check = target.check.context("no check")?;
        // Which way is worse.
        let (worse, better) = if target.at_most.is_some() { (1.01, 0.99) } else { (0.99, 1.01) };
        assert!(judged(&target, check * worse)?.1, "{} is not noticed", target.work);
        assert!(!judged(&target, check * better)?.1, "{} fails without need", target.work);
        let goal = target.at_most.or(target.at_least).context("no target")?;
        assert!(judged(&target, goal * better)?.0, "{} is met", target.work);
    }
    Ok(())
}

#[test]
fn what_is_not_measured_is_neither_met_nor_broken() -> Result<()> {
    for target in targets::read()? {
        assert!(matches!(target.judge(&[]), Verdict::NotMeasured { .. }), "{}", target.work);
    }
    Ok(())
}
