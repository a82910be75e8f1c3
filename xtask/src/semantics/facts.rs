//! The document with the facts, read.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};

/// A letter and a number: `R14`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id {
    section: char,
    number: u8,
}

impl FromStr for Id {
    type Err = anyhow::Error;

    /// The letter may be small, as in names of functions.
    fn from_str(text: &str) -> Result<Self> {
        let letter = text.chars().next().filter(char::is_ascii_alphabetic);
        let section = letter.with_context(|| format!("`{text}` does not begin with a letter"))?;
        let digits = text.get(1..).unwrap_or_default();
        ensure!(!digits.starts_with(['0', '+']), "`{text}` is no id");
        let number = digits.parse().with_context(|| format!("`{text}` is no id"))?;
        Ok(Self { section: section.to_ascii_uppercase(), number })
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.section, self.number)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    pub id: Id,
    /// One line.
    pub text: String,
    /// The part of the product that it is about is not there yet.
    pub planned: bool,
}

/// Headings `## R. …`, or `## S. … (planned)`, and below them lines `- R1: …`.
pub fn read(document: &str) -> Result<Vec<Fact>> {
    let mut facts: Vec<Fact> = Vec::new();
    let mut section = None;
    for (number, line) in (1..).zip(document.lines()) {
        if let Some(heading) = line.strip_prefix("## ") {
            section = heading.chars().next().map(|letter| (letter, heading.ends_with(" (planned)")));
        } else if let Some((id, text)) = line.strip_prefix("- ").and_then(|item| item.split_once(": ")) {
            let id: Id = id.parse().with_context(|| format!("line {number}"))?;
            let Some((_, planned)) = section.filter(|&(letter, _)| letter == id.section) else {
                bail!("line {number}: {id} is not in a section of its letter");
            };
            ensure!(facts.iter().all(|fact| fact.id != id), "line {number}: {id} is there twice");
            facts.push(Fact { id, text: text.to_owned(), planned });
        }
    }
    ensure!(!facts.is_empty(), "there is no fact");
    Ok(facts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_in_the_document_are_told_with_their_line() {
        for (text, error) in [
            ("## R. Routes\n- R1: a\n- R1: b\n", "line 3: R1 is there twice"),
            ("## R. Routes\n- S1: a\n", "line 2: S1 is not in a section of its letter"),
            ("- R1: a\n", "line 1: R1 is not in a section of its letter"),
            ("## R. Routes\n- R01: a\n", "line 2"),
            ("# nothing\n", "there is no fact"),
        ] {
            assert_eq!(read(text).unwrap_err().to_string(), error);
        }
    }

    #[test]
    fn ids_are_read_in_either_case() {
        let id: Id = "r14".parse().unwrap();
        assert_eq!((id, id.to_string().as_str()), ("R14".parse().unwrap(), "R14"));
        for wrong in ["", "14", "R", "R-1", "R+1", "R999", "R1x", "é1"] {
            assert!(wrong.parse::<Id>().is_err(), "{wrong}");
        }
    }
}
