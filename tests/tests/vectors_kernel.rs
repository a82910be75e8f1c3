//! Every vector, by the BPF programs in the kernel.

use anyhow::Result;
use netroute_tests::kernel_run::{KernelBench, Unable};
use netroute_tests::vectors::{Vector, run_cases, run_ecmp};

netroute_tests::each_vector!(run);

fn run(file: &str) -> Result<()> {
    let vector = Vector::read(file)?;
    let mut bench = match KernelBench::load()? {
        Ok(bench) => bench,
        Err(Unable(reason)) => {
            println!("SKIPPED: {file}: {reason}");
            return Ok(());
        }
    };
    let mut ran = run_cases(&vector, &mut bench, true)?;
    if vector.ecmp.is_some() {
        let ecmp = run_ecmp(&vector, &mut bench)?;
        ran.packets += ecmp.packets;
        ran.failures.extend(ecmp.failures);
    }
    // The test as a whole has run, so this is not what a runner counts as skipped.
    for skipped in &ran.skipped {
        println!("on the host only: {file}: {skipped}");
    }
    assert!(ran.failures.is_empty(), "{file}: {}\n{}", vector.name, ran.failures.join("\n"));
    assert!(ran.packets > 0, "{file} has run no packet");
    Ok(())
}
