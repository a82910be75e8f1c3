//! Every vector, by the packet logic as a library.

use std::collections::BTreeSet;

use anyhow::Result;
use netroute_tests::vectors::{Host, Vector, files, run_cases, run_ecmp};

netroute_tests::each_vector!(run);

fn run(file: &str) -> Result<()> {
    let vector = Vector::read(file)?;
    let mut ran = run_cases(&vector, &mut Host::default(), false)?;
    if vector.ecmp.is_some() {
        let ecmp = run_ecmp(&vector, &mut Host::default())?;
        ran.packets += ecmp.packets;
        ran.failures.extend(ecmp.failures);
    }
    assert!(ran.failures.is_empty(), "{file}: {}\n{}", vector.name, ran.failures.join("\n"));
    assert!(ran.packets > 0, "{file} has run no packet");
    assert!(ran.skipped.is_empty(), "nothing is skipped on the host: {:?}", ran.skipped);
    Ok(())
}

/// Facts of the data plane that must have a vector.
#[test]
fn the_facts_of_routing_are_covered() -> Result<()> {
    let mut covered = BTreeSet::new();
    for file in files()? {
        covered.extend(Vector::read(&file)?.covers);
    }
    let wanted = ["R1", "R2", "R3", "R10", "R11", "R12", "R14", "N10", "N11", "X1", "X3"];
    let missing: Vec<_> = wanted.into_iter().filter(|id| !covered.contains(*id)).collect();
    assert!(missing.is_empty(), "no vector covers {missing:?}");
    Ok(())
}
