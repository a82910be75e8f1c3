//! One thing that is wrong in what an operator wrote, and where.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::one_line;

/// Shown as one line: `file:line: object: message`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Problem {
    pub file: PathBuf,
    /// Counted from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// `Kind name`, where the object is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    pub message: String,
}

impl Problem {
    #[must_use]
    pub fn new(file: &Path, line: Option<u32>, message: impl Into<String>) -> Self {
        Self { file: file.to_owned(), line, object: None, message: message.into() }
    }

    #[must_use]
    pub fn about(self, object: impl Into<String>) -> Self {
        Self { object: Some(object.into()), ..self }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, object, message } = self;
        write!(f, "{}", one_line(&file.display().to_string()))?;
        if let Some(line) = line {
            write!(f, ":{line}")?;
        }
        if let Some(object) = object {
            write!(f, ": {}", one_line(object))?;
        }
        write!(f, ": {}", one_line(message))
    }
}
