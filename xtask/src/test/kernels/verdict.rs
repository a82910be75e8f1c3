//! What a machine's report and its end amount to. Pure.

use std::collections::BTreeMap;

use netroute_tests::guest::END_COMPLETE;

use super::machine::Ended;
use crate::test::libtest::{self, Outcome};

/// How a kernel came through.
#[derive(Debug, Default)]
pub struct Verdict {
    /// By name of the suite.
    pub suites: BTreeMap<String, Ran>,
    /// What is wrong, in the order in which it is worth reading; empty if all is well.
    pub failures: Vec<String>,
}

#[derive(Debug)]
pub struct Ran {
    pub outcome: Outcome,
    pub seconds: f32,
    /// What it printed.
    pub output: Vec<String>,
}

impl Verdict {
    /// Facts that tests told, by name.
    pub fn facts(&self) -> BTreeMap<&str, &str> {
        let facts = self.suites.values().flat_map(|ran| &ran.outcome.facts);
        facts.filter_map(|fact| fact.split_once(' ')).collect()
    }
}

/// `expected` are the names of the suites that must have run, each with at least one test.
pub fn judge(ended: &Ended, expected: &[&str]) -> Verdict {
    let Ended { code, console, report, .. } = ended;
    let mut verdict = Verdict::default();
    let panic = console.lines().find(|line| line.contains("Kernel panic"));
    if let Some(line) = panic {
        verdict.failures.push(line.trim().to_owned());
    }
    let oops = |line: &&str| line.contains("BUG:") || line.contains("Oops:") || line.contains("WARNING:");
    verdict
        .failures
        .extend(console.lines().find(oops).map(|line| format!("the kernel complained: {}", line.trim())));
    let read = read(report);
    verdict.failures.extend(read.broken.map(|what| format!("the machine was broken: {what}")));
    for &name in expected {
        if !read.suites.contains_key(name) {
            verdict.failures.push(format!("{name}: did not come to its end"));
        }
    }
    for (name, ran) in &read.suites {
        let outcome = &ran.outcome;
        verdict.failures.extend(outcome.failed.iter().map(|test| format!("{name}: {test}")));
        if outcome.passed + outcome.failed.len() + outcome.skipped.len() == 0 {
            verdict.failures.push(format!("{name}: ran no test"));
        }
    }
    if read.done != Some(expected.len()) {
        verdict.failures.push("the machine did not say that it was done".to_owned());
    }
    // QEMU makes 2n + 1 of n.
    let wanted = i32::from(END_COMPLETE) * 2 + 1;
    match code {
        Some(code) if *code == wanted => {}
        Some(code) => verdict.failures.push(format!("the machine ended with {code} instead of {wanted}")),
        None => verdict.failures.push(format!("killed after {} s", ended.elapsed.as_secs())),
    }
    verdict.suites = read.suites;
    verdict
}

#[derive(Default)]
struct Report {
    suites: BTreeMap<String, Ran>,
    /// Number of suites that the machine counted.
    done: Option<usize>,
    broken: Option<String>,
}

/// A suite counts only with its end.
fn read(report: &str) -> Report {
    let mut read = Report::default();
    let mut output: Vec<String> = Vec::new();
    for line in report.lines().map(|line| line.trim_end_matches('\r')) {
        if let Some(line) = line.strip_prefix('|') {
            output.push(line.to_owned());
            continue;
        }
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["suite", _] => output.clear(),
            ["end", name, code, seconds] => {
                let output = std::mem::take(&mut output);
                let outcome = libtest::read(&output, code == "0");
                let seconds = seconds.parse().unwrap_or(0.0);
                read.suites.insert(name.to_owned(), Ran { outcome, seconds, output });
            }
            ["done", count] => read.done = count.parse().ok(),
            ["broken", ..] => read.broken = Some(words[1..].join(" ")),
            _ => {}
        }
    }
    read
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const GOOD: &str = "guest 6.1.0\r\n\
        suite load\r\n|running 2 tests\r\n|\r\n|successes:\r\n|\r\n|---- a stdout ----\r\n|FACT kernel.x 7 of 9\r\n\
        |test result: ok. 2 passed; 0 failed; 0 ignored\r\nend load 0 3.5\r\n\
        suite store\r\n|test result: ok. 1 passed; 0 failed; 0 ignored\r\nend store 0 0.5\r\n\
        done 2\r\n";

    fn ended(code: i32, console: &str, report: &str) -> Ended {
        let (console, report) = (console.to_owned(), report.to_owned());
        Ended { code: Some(code), console, report, elapsed: Duration::from_secs(9) }
    }

    fn failures(code: i32, console: &str, report: &str) -> String {
        judge(&ended(code, console, report), &["load", "store"]).failures.join("; ")
    }

    #[test]
    fn a_good_end_is_good() {
        let verdict = judge(&ended(3, "", GOOD), &["load", "store"]);
        assert!(verdict.failures.is_empty(), "{:?}", verdict.failures);
        assert_eq!((verdict.suites["load"].outcome.passed, verdict.suites["load"].seconds), (2, 3.5));
        assert_eq!(verdict.facts()["kernel.x"], "7 of 9");
    }

    #[test]
    fn a_panic_is_none() {
        let cut = GOOD.split("suite store").next().unwrap();
        let found = failures(0, "[    3.1] Kernel panic - not syncing: Attempted to kill init!", cut);
        assert!(
            found.contains("Kernel panic") && found.contains("store: did not come to its end"),
            "{found}"
        );
        assert!(found.contains("ended with 0 instead of 3"), "{found}");
    }

    #[test]
    fn a_power_off_with_a_whole_report_is_none() {
        assert_eq!(failures(0, "", GOOD), "the machine ended with 0 instead of 3");
        assert_eq!(failures(5, "", GOOD), "the machine ended with 5 instead of 3");
    }

    #[test]
    fn a_wrong_or_missing_end_marker_is_none() {
        assert!(failures(3, "", &GOOD.replace("done 2", "done 1")).contains("did not say that it was done"));
        assert!(failures(3, "", &GOOD.replace("done 2", "")).contains("did not say that it was done"));
        // What a test prints is no marker.
        assert!(failures(3, "", &GOOD.replace("done 2", "|done 2")).contains("did not say that it was done"));
    }

    #[test]
    fn a_suite_without_a_summary_or_tests_is_a_failure() {
        let silent =
            GOOD.replace("|test result: ok. 1 passed; 0 failed; 0 ignored\r\nend store 0", "end store -1");
        assert!(failures(3, "", &silent).contains("store: ended without a result"));
        let none = GOOD.replace("ok. 1 passed", "ok. 0 passed");
        assert_eq!(failures(3, "", &none), "store: ran no test");
        let failed = GOOD.replace("end store 0", "end store 101");
        assert!(failures(3, "", &failed).contains("store: failed without naming a test"));
    }

    #[test]
    fn a_complaint_of_the_kernel_is_a_failure() {
        assert!(failures(3, "[  1.0] BUG: kernel NULL pointer dereference", GOOD).contains("complained"));
        assert!(failures(3, "[  1.0] clocksource: fine", GOOD).is_empty());
    }

    #[test]
    fn a_machine_that_hangs_is_a_failure() {
        let mut hung = ended(0, "", GOOD);
        hung.code = None;
        assert_eq!(judge(&hung, &["load", "store"]).failures, ["killed after 9 s"]);
    }
}
