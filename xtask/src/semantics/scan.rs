//! Tests and vectors, and the facts that they name.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::facts::Id;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Test {
    /// Relative to the workspace.
    pub file: String,
    /// Of the function, or of the vector.
    pub name: String,
    pub ids: Vec<Id>,
}

/// All tests below `folder` that name a fact, in the order of their files.
pub fn tests(folder: &Path) -> Result<Vec<Test>> {
    let mut tests = Vec::new();
    walk(folder, folder, &mut tests)?;
    Ok(tests)
}

fn walk(root: &Path, folder: &Path, tests: &mut Vec<Test>) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut paths: Vec<_> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    paths.sort();
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() {
            if name != "target" && !name.starts_with('.') {
                walk(root, &path, tests)?;
            }
            continue;
        }
        let read = || fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()));
        let file = path.strip_prefix(root)?.display().to_string();
        if name.ends_with(".rs") {
            tests.extend(functions(&file, &read()?));
        } else if name.ends_with(".toml") && path.iter().any(|part| part == "vectors") {
            tests.push(vector(&file, &read()?).with_context(|| format!("in {file}"))?);
        }
    }
    Ok(())
}

/// Functions under `#[test]` or `#[tokio::test]` whose name begins with ids.
fn functions(file: &str, text: &str) -> Vec<Test> {
    let (mut tests, mut marked) = (Vec::new(), false);
    for line in text.lines().map(str::trim_start) {
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            marked = true;
        } else if let Some((_, rest)) = line.split_once("fn ").filter(|_| marked) {
            marked = false;
            let name = rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
            let ids: Vec<Id> = name.split('_').map_while(|word| word.parse().ok()).collect();
            if !ids.is_empty() {
                tests.push(Test { file: file.to_owned(), name: name.to_owned(), ids });
            }
        }
    }
    tests
}

fn vector(file: &str, text: &str) -> Result<Test> {
    let vector: toml::Table = text.parse()?;
    let name = vector.get("name").and_then(toml::Value::as_str).context("no `name`")?.to_owned();
    let covers = vector.get("covers").and_then(toml::Value::as_array).context("no `covers`")?;
    let ids = covers
        .iter()
        .map(|id| id.as_str().context("an id that is no text")?.parse())
        .collect::<Result<_>>()?;
    Ok(Test { file: file.to_owned(), name, ids })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_the_first_words_of_a_name() {
        let text = "#[test]\nfn r6_r14_a_cable() {}\n#[test]\nfn a_x1_later() {}\nfn r1_no_test() {}\n\
                    #[tokio::test]\nasync fn x2_again() {}\n#[test]\nfn echo4() {}\n";
        let found = functions("f.rs", text);
        let shown: Vec<_> =
            found.iter().map(|t| (t.name.as_str(), t.ids.iter().map(Id::to_string).collect())).collect();
        let ids = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
        assert_eq!(shown, [("r6_r14_a_cable", ids(&["R6", "R14"])), ("x2_again", ids(&["X2"]))]);
    }

    #[test]
    fn a_vector_without_ids_is_an_error() {
        assert!(vector("v.toml", "name = \"v\"\n").is_err());
        assert!(vector("v.toml", "name = \"v\"\ncovers = [\"many\"]\n").is_err());
    }
}
