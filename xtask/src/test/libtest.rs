//! What a test binary printed, read.

/// A test that did not run, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skip {
    pub test: String,
    pub reason: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    pub passed: usize,
    /// Names; never empty if the binary did not succeed.
    pub failed: Vec<String>,
    pub skipped: Vec<Skip>,
    pub measured: Vec<String>,
    /// `name value` of lines `FACT name value`: what a test found out about the kernel.
    pub facts: Vec<String>,
}

/// Where in the output a line stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Section {
    Running,
    Passed,
    Failed,
}

/// Reads the output of `--show-output`. `success` is the exit status: a binary that died without a
/// result is a failure of its own.
pub fn read(output: &[String], success: bool) -> Outcome {
    let mut outcome = Outcome::default();
    let (mut section, mut test, mut ran) = (Section::Running, None::<&str>, None::<usize>);
    let mut gave_up: Vec<&str> = Vec::new();
    for line in output {
        match line.as_str() {
            "successes:" => (section, test) = (Section::Passed, None),
            "failures:" => (section, test) = (Section::Failed, None),
            _ => {}
        }
        if let Some(counts) = line.strip_prefix("test result: ") {
            *ran.get_or_insert(0) += number_before(counts, " passed");
            (section, test) = (Section::Running, None);
        } else if let Some(name) = header(line) {
            test = Some(name);
        } else if section == Section::Running {
            outcome.skipped.extend(ignored(line));
        } else if let (Section::Passed, Some(test)) = (section, test) {
            if let Some(reason) = skip_reason(line) {
                outcome.skipped.push(Skip { test: test.to_owned(), reason: reason.to_owned() });
                // Whoever left out a part has not passed, however many parts there are.
                if gave_up.last() != Some(&test) {
                    gave_up.push(test);
                }
            }
            outcome.measured.extend(line.strip_prefix("MEASURED ").map(str::to_owned));
            outcome.facts.extend(line.strip_prefix("FACT ").map(str::to_owned));
        } else if let (Section::Failed, None, Some(name)) = (section, test, line.strip_prefix("    ")) {
            outcome.failed.push(name.to_owned());
        }
    }
    outcome.passed = ran.unwrap_or(0).saturating_sub(gave_up.len());
    if !success && outcome.failed.is_empty() {
        let what = if ran.is_some() { "failed without naming a test" } else { "ended without a result" };
        outcome.failed.push(what.to_owned());
    }
    outcome
}

/// The part of the output that tells of failures; all of it if there is no such part.
pub fn failures(output: &[String]) -> String {
    let from = output.iter().position(|line| line == "failures:").unwrap_or(0);
    output.get(from..).unwrap_or_default().join("\n")
}

/// `---- name stdout ----`
fn header(line: &str) -> Option<&str> {
    line.strip_prefix("---- ")?.strip_suffix(" stdout ----")
}

/// `test name ... ignored, reason`
fn ignored(line: &str) -> Option<Skip> {
    let (test, rest) = line.strip_prefix("test ")?.split_once(" ... ignored")?;
    let reason = rest.strip_prefix(", ").unwrap_or("marked as ignored");
    Some(Skip { test: test.to_owned(), reason: reason.to_owned() })
}

/// The reason in `SKIP name: reason` or `SKIPPED: reason`.
fn skip_reason(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("SKIPPED").or_else(|| line.strip_prefix("SKIP"))?;
    Some(rest.split_once(": ")?.1.trim())
}

fn number_before(text: &str, word: &str) -> usize {
    let number = text.split(word).next().and_then(|before| before.rsplit(' ').next());
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "
running 6 tests
test a::passes ... ok
test b::fails ... FAILED
test c::slow ... ignored, takes an hour
test d::needs_more ... ok
test e::measures ... ok
test f::parts ... ok

successes:

---- d::needs_more stdout ----
SKIP needs_more: no netkit in this kernel

---- f::parts stdout ----
SKIPPED: file: first case
SKIPPED: file: second case

---- e::measures stdout ----
some line
MEASURED gap 3 ms

successes:
    a::passes
    d::needs_more
    e::measures

failures:

---- b::fails stdout ----

thread 'b::fails' panicked at src/lib.rs:3:9:
    left: 1
MEASURED nothing

failures:
    b::fails

test result: FAILED. 4 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s
";

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn skipped_is_neither_passed_nor_failed() {
        let outcome = read(&lines(OUTPUT), false);
        assert_eq!(outcome.passed, 2);
        assert_eq!(outcome.failed, ["b::fails"]);
        let skips: Vec<_> = outcome.skipped.iter().map(|s| (s.test.as_str(), s.reason.as_str())).collect();
        let parts = [("f::parts", "file: first case"), ("f::parts", "file: second case")];
        let whole = [("c::slow", "takes an hour"), ("d::needs_more", "no netkit in this kernel")];
        assert_eq!(skips, [whole, parts].concat());
    }

    #[test]
    fn a_death_without_a_result_is_a_failure() {
        let died = read(&lines("running 2 tests\ntest a ... ok\n"), false);
        assert_eq!((died.passed, died.failed.len()), (0, 1));
        let fine = read(&lines("\ntest result: ok. 7 passed; 0 failed; 0 ignored; x\n"), true);
        assert_eq!((fine.passed, fine.failed.len()), (7, 0));
    }

    #[test]
    fn failures_are_shown_from_their_head_on() {
        assert!(failures(&lines(OUTPUT)).starts_with("failures:\n\n---- b::fails stdout ----"));
        assert_eq!(failures(&lines("killed")), "killed");
    }
}
