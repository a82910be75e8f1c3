//! Every vector, by the BPF programs in the kernel.

use anyhow::Result;
use netroute_tests::kernel_run::{KernelBench, Unable};
use netroute_tests::patience;
use netroute_tests::vectors::{Ran, Vector, run_cases, run_ecmp};

netroute_tests::each_vector!(run);

/// One object judges vector after vector: nothing of one is left for the next. For slow machines, where
/// loading takes longer than running.
#[test]
fn one_object_judges_all_vectors() -> Result<()> {
    let mut bench = match KernelBench::load()? {
        Ok(bench) => bench,
        Err(Unable(reason)) => {
            println!("SKIPPED: all vectors: {reason}");
            return Ok(());
        }
    };
    let (mut files, mut packets) = (0, 0);
    for file in netroute_tests::vectors::files()? {
        let vector = Vector::read(&file)?;
        // Ten thousand flows each; the tests of their own run them.
        if vector.ecmp.is_some() && patience::factor() > 1 {
            continue;
        }
        let ran = judge(&file, &vector, &mut bench)?;
        (files, packets) = (files + 1, packets + ran.packets);
    }
    println!("FACT vectors {files} of {packets} packets");
    Ok(())
}

fn run(file: &str) -> Result<()> {
    let vector = Vector::read(file)?;
    let mut bench = match KernelBench::load()? {
        Ok(bench) => bench,
        Err(Unable(reason)) => {
            println!("SKIPPED: {file}: {reason}");
            return Ok(());
        }
    };
    judge(file, &vector, &mut bench).map(drop)
}

fn judge(file: &str, vector: &Vector, bench: &mut KernelBench) -> Result<Ran> {
    let mut ran = run_cases(vector, bench, true)?;
    if vector.ecmp.is_some() {
        let ecmp = run_ecmp(vector, bench)?;
        ran.packets += ecmp.packets;
        ran.failures.extend(ecmp.failures);
    }
    // The test as a whole has run, so this is not what a runner counts as skipped.
    for skipped in &ran.skipped {
        println!("on the host only: {file}: {skipped}");
    }
    assert!(ran.failures.is_empty(), "{file}: {}\n{}", vector.name, ran.failures.join("\n"));
    assert!(ran.packets > 0, "{file} has run no packet");
    Ok(ran)
}
