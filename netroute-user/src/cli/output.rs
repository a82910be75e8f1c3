//! Where output goes and how it looks. A reader that went away (`| head`) ends the program
//! quietly.

use std::io::{self, ErrorKind, IsTerminal, Write};

use serde::Serialize;

use super::args::Format;
use super::failure::{Failure, refused};

/// Standard output, and what it can show.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    pub format: Format,
    pub colour: bool,
    pub terminal: bool,
}

impl Output {
    #[must_use]
    pub fn new(format: Format) -> Self {
        let terminal = io::stdout().is_terminal();
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        Self { format, colour: terminal && !dumb && !set("NO_COLOR"), terminal }
    }

    /// The value as JSON or YAML, or as the text that `table` makes.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub fn show<T: Serialize + ?Sized>(
        &self,
        value: &T,
        table: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        let text = match self.format {
            Format::Table => table(),
            Format::Json => serde_json::to_string_pretty(value).map_err(refused)? + "\n",
            Format::Yaml => serde_norway::to_string(value).map_err(refused)?,
        };
        print(&text)
    }
}

/// # Errors
/// When standard output cannot be written, for another reason than that nobody reads on.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        // As SIGPIPE would end it, but with status 0: the reader has what it wanted.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => Err(Failure::Refused(format!("standard output cannot be written: {error}"))),
        Ok(()) => Ok(()),
    }
}
