//! `cargo xtask test --list-semantics`: the facts of `docs/semantics.md`, each with the tests that
//! name it.
//!
//! It reads sources and vectors only and needs no build. It must not know what a test does.

mod facts;
mod scan;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::paths::Paths;
use facts::{Fact, Id};
use scan::Test;

/// The facts, relative to the workspace.
const DOCUMENT: &str = "docs/semantics.md";

pub fn run() -> Result<()> {
    let coverage = Coverage::of(&Paths::find()?.workspace)?;
    print!("{}", coverage.shown());
    coverage.ensure_complete()
}

/// Which tests name which facts.
struct Coverage {
    facts: Vec<Fact>,
    tests: BTreeMap<Id, Vec<String>>,
    /// Tests that name a fact that there is not.
    unknown: Vec<String>,
}

impl Coverage {
    fn of(workspace: &Path) -> Result<Self> {
        let document = workspace.join(DOCUMENT);
        let text =
            fs::read_to_string(&document).with_context(|| format!("cannot read {}", document.display()))?;
        let facts = facts::read(&text).with_context(|| format!("in {DOCUMENT}"))?;
        let (mut tests, mut unknown) = (BTreeMap::<Id, Vec<String>>::new(), Vec::new());
        for Test { file, name, ids } in scan::tests(workspace)? {
            for id in ids {
                let shown = format!("{file}  {name}");
                if facts.iter().any(|fact| fact.id == id) {
                    tests.entry(id).or_default().push(shown);
                } else {
                    unknown.push(format!("{shown}: there is no fact {id}"));
                }
            }
        }
        Ok(Self { facts, tests, unknown })
    }

    fn shown(&self) -> String {
        let mut lines = Vec::new();
        for fact in &self.facts {
            let tests = self.tests.get(&fact.id).map_or(&[][..], Vec::as_slice);
            lines.push(format!("{}  {}", fact.id, fact.text));
            lines.extend(tests.iter().map(|test| format!("      {test}")));
            if tests.is_empty() {
                let planned = if fact.planned { " (planned)" } else { "" };
                lines.push(format!("      no test{planned}"));
            }
        }
        let without: Vec<String> = self.without().map(|fact| fact.id.to_string()).collect();
        let covered = self.facts.len() - without.len();
        lines.push(format!(
            "\n{covered} of {} facts have a test; without one: {}",
            self.facts.len(),
            without.join(" ")
        ));
        lines.join("\n") + "\n"
    }

    fn without(&self) -> impl Iterator<Item = &Fact> {
        self.facts.iter().filter(|fact| !self.tests.contains_key(&fact.id))
    }

    fn ensure_complete(&self) -> Result<()> {
        if !self.unknown.is_empty() {
            bail!("{DOCUMENT} has no such fact:\n{}", self.unknown.join("\n"));
        }
        let missing: Vec<String> =
            self.without().filter(|fact| !fact.planned).map(|fact| fact.id.to_string()).collect();
        if !missing.is_empty() {
            bail!("no test names {}", missing.join(", "));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    /// A folder of its own, removed at the end.
    struct Tree(PathBuf);

    impl Tree {
        fn new(name: &str, files: &[(&str, &str)]) -> Self {
            let root = std::env::temp_dir().join(format!("xtask-semantics-{name}-{}", std::process::id()));
            for (file, text) in files {
                let path = root.join(file);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            Self(root)
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    const FACTS: &str =
        "# Facts\n## R. Routes\n- R1: longest prefix\n- R2: on-link\n## S. Services (planned)\n- S1: ready\n";

    #[test]
    fn tests_and_vectors_are_found_and_gaps_are_told() {
        let tree = Tree::new(
            "gaps",
            &[
                (DOCUMENT, FACTS),
                ("a/src/x.rs", "    #[test]\n    fn r1_s1_wins() {}\n#[test]\nfn other() {}\n"),
                ("a/target/y.rs", "#[test]\nfn r2_not_ours() {}\n"),
                ("tests/vectors/v.toml", "name = \"v\"\ncovers = [\"R1\"]\n"),
            ],
        );
        let coverage = Coverage::of(&tree.0).unwrap();
        let shown = coverage.shown();
        assert!(shown.starts_with("R1  longest prefix\n      a/src/x.rs  r1_s1_wins\n      tests/vectors/v.toml  v\nR2  on-link\n      no test\nS1  ready\n"), "{shown}");
        assert!(shown.ends_with("2 of 3 facts have a test; without one: R2\n"), "{shown}");
        let error = coverage.ensure_complete().unwrap_err().to_string();
        assert_eq!(error, "no test names R2");
    }

    #[test]
    fn what_is_planned_needs_no_test() {
        let tree = Tree::new(
            "planned",
            &[
                (DOCUMENT, FACTS),
                (
                    "x.rs",
                    "#[tokio::test(flavor = \"current_thread\")]\n#[allow(x)]\nasync fn r1_r2_all() {}\n",
                ),
            ],
        );
        let coverage = Coverage::of(&tree.0).unwrap();
        coverage.ensure_complete().unwrap();
        assert!(coverage.shown().contains("S1  ready\n      no test (planned)\n"));
    }

    /// Negative control.
    #[test]
    fn an_unknown_id_is_an_error() {
        for (file, text) in [
            ("x.rs", "#[test]\nfn r1_r2_r9_all() {}\n"),
            ("tests/vectors/v.toml", "name = \"v\"\ncovers = [\"R1\", \"R2\", \"R9\"]\n"),
        ] {
            let tree = Tree::new("unknown", &[(DOCUMENT, FACTS), (file, text)]);
            let error = Coverage::of(&tree.0).unwrap().ensure_complete().unwrap_err().to_string();
            assert!(error.contains("there is no fact R9"), "{error}");
        }
    }

    #[test]
    fn this_repository_is_complete() {
        Coverage::of(&Paths::find().unwrap().workspace).unwrap().ensure_complete().unwrap();
    }
}
