//! Any frame over any tables, the host against the programs in the kernel: the same action, the
//! same bytes, the same reason. Needs root and the BPF object.
#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::{Corpus, fuzz_target};
use netroute_common::layout::stats::Counter;
use netroute_fuzz::story::Story;
use netroute_tests::differential::dump;
use netroute_tests::kernel_run::{KernelBench, Unable, is_invalid};
use netroute_tests::vectors::{Action, Judge, judge_on_host};

/// The programs, and which tables are installed.
struct Kernel {
    bench: KernelBench,
    installed: Option<u8>,
}

thread_local!(static KERNEL: RefCell<Kernel> = RefCell::new(load()));

fn load() -> Kernel {
    match KernelBench::load() {
        Ok(Ok(bench)) => Kernel { bench, installed: None },
        Ok(Err(Unable(reason))) => panic!("this machine cannot run the programs: {reason}"),
        Err(error) => panic!("{error:#}"),
    }
}

fuzz_target!(|data: &[u8]| -> Corpus {
    let Some(story) = Story::read(data) else { return Corpus::Reject };
    let Story { tables, seed, hook, input } = &story;
    KERNEL.with_borrow_mut(|Kernel { bench, installed }| {
        // A test run takes neither; the host alone is shown them by `packet`.
        if input.nic_vlan_tag || bench.refuses(*hook, input).is_some() {
            return Corpus::Reject;
        }
        if *installed != Some(*seed) {
            bench.install(tables).expect("tables of the harness fit");
            *installed = Some(*seed);
        }
        let (verdict, on_host) = judge_on_host(&tables.on_host(), *hook, input);
        let before = bench.verdict(*hook, verdict.reason()).expect("counters");
        let (action, frame) = match bench.test_run(*hook, input) {
            Ok(ran) => ran,
            Err(error) if is_invalid(&error) => return Corpus::Reject,
            Err(error) => panic!("{error:#}"),
        };
        let after = bench.verdict(*hook, verdict.reason()).expect("counters");
        let one = Counter { packets: before.packets + 1, bytes: before.bytes + input.frame.len() as u64 };
        let same = action == Action::of(verdict, *hook) && frame == on_host && after == one;
        assert!(
            same,
            "host {verdict:?}, kernel {action:?}, counted {after:?} after {before:?}; save as a vector:\n{}",
            dump(tables, &[], *hook, input).expect("a vector")
        );
        Corpus::Keep
    })
});
