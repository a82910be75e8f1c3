//! The appliance's cmdlets, in PowerShell's grammar: names and parameters without regard to case,
//! parameters by any unambiguous beginning, `-Name value` or `-Name:value`.

use std::path::PathBuf;

use clap::ValueEnum;

use super::args::{AddRoute, Format};
use super::failure::Failure;

/// What a cmdlet line asks for.
#[derive(Debug)]
pub struct Invocation {
    pub action: Action,
    /// Only say what would be done.
    pub what_if: bool,
    /// Ask before it is done.
    pub confirm: bool,
    pub socket: Option<PathBuf>,
    pub format: Option<Format>,
}

#[derive(Debug)]
pub enum Action {
    Add(AddRoute),
    Get { interface: Option<String>, destination: Option<String>, next_hop: Option<String> },
    Remove { interface: String, destination: String, next_hop: Option<String> },
    Help(&'static str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cmdlet {
    Add,
    Get,
    Remove,
}

const INTERFACE: &str = "InterfaceAlias";
const DESTINATION: &str = "DestinationPrefix";
const NEXT_HOP: &str = "NextHop";
const METRIC: &str = "RouteMetric";
const FORCE: &str = "Force";
const WHAT_IF: &str = "WhatIf";
const CONFIRM: &str = "Confirm";
const VERBOSE: &str = "Verbose";
const HELP: &str = "Help";

/// Switches stand alone or with `:$true` / `:$false`.
const SWITCHES: &[&str] = &[FORCE, WHAT_IF, CONFIRM, VERBOSE, HELP];

/// Other names of parameters.
const ALIASES: &[(&str, &str)] =
    &[("Metric", METRIC), ("ifAlias", INTERFACE), ("wi", WHAT_IF), ("cf", CONFIRM), ("?", HELP)];

impl Cmdlet {
    pub const ALL: [Self; 3] = [Self::Add, Self::Get, Self::Remove];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Add => "Add-HcsNetRoute",
            Self::Get => "Get-HcsNetRoute",
            Self::Remove => "Remove-HcsNetRoute",
        }
    }

    /// By a word of the command line or the name the binary was called by, with or without path.
    #[must_use]
    pub fn named(word: &str) -> Option<Self> {
        let name = word.rsplit(['/', '\\']).next()?;
        Self::ALL.into_iter().find(|cmdlet| cmdlet.name().eq_ignore_ascii_case(name))
    }

    const fn parameters(self) -> &'static [&'static str] {
        match self {
            Self::Add => &[INTERFACE, DESTINATION, NEXT_HOP, METRIC, FORCE, WHAT_IF, CONFIRM, VERBOSE, HELP],
            Self::Get => &[INTERFACE, DESTINATION, NEXT_HOP, VERBOSE, HELP],
            Self::Remove => &[INTERFACE, DESTINATION, NEXT_HOP, WHAT_IF, CONFIRM, VERBOSE, HELP],
        }
    }

    const fn help(self) -> &'static str {
        match self {
            Self::Add => {
                "Add-HcsNetRoute -InterfaceAlias <name> -DestinationPrefix <prefix> -NextHop <address>\n    \
                 [-RouteMetric <number>] [-Force] [-WhatIf] [-Confirm]\n"
            }
            Self::Get => {
                "Get-HcsNetRoute [-InterfaceAlias <name>] [-DestinationPrefix <prefix>] [-NextHop <address>]\n"
            }
            Self::Remove => {
                "Remove-HcsNetRoute -InterfaceAlias <name> -DestinationPrefix <prefix>\n    \
                 [-NextHop <address>] [-WhatIf] [-Confirm]\n"
            }
        }
    }

    /// # Errors
    /// [`Failure::Usage`].
    pub fn parse(self, words: &[String]) -> Result<Invocation, Failure> {
        Line { cmdlet: self, given: Vec::new(), socket: None, format: None }.read(words)
    }
}

/// A cmdlet line while it is read.
struct Line {
    cmdlet: Cmdlet,
    given: Vec<(&'static str, String)>,
    socket: Option<PathBuf>,
    format: Option<Format>,
}

impl Line {
    fn usage(&self, message: &str) -> Failure {
        let name = self.cmdlet.name();
        Failure::Usage(format!("{name}: {message}; see `{name} -Help`"))
    }

    fn read(mut self, words: &[String]) -> Result<Invocation, Failure> {
        let mut words = words.iter().map(String::as_str);
        while let Some(word) = words.next() {
            if let Some(option) = word.strip_prefix("--") {
                self.global(option, &mut words)?;
                continue;
            }
            let Some(written) = parameter_name(word) else {
                return Err(self.usage(&format!("\"{word}\" stands alone; write -Parameter value")));
            };
            let (name, attached) = match written.split_once(':') {
                Some((name, value)) => (name, Some(value)),
                None => (written, None),
            };
            let parameter = self.parameter(name)?;
            let value = match attached {
                Some("") | None if SWITCHES.contains(&parameter) => "$true",
                Some("") | None => match words.next() {
                    Some(value) if parameter_name(value).is_none() => value,
                    _ => return Err(self.usage(&format!("-{parameter} has no value"))),
                },
                Some(value) => value,
            };
            if self.given.iter().any(|(known, _)| *known == parameter) {
                return Err(self.usage(&format!("-{parameter} is given twice")));
            }
            self.given.push((parameter, unquoted(value).to_owned()));
        }
        self.invocation()
    }

    /// `netroute`'s own options work here too.
    fn global<'a>(&mut self, option: &str, words: &mut impl Iterator<Item = &'a str>) -> Result<(), Failure> {
        let (name, value) = match option.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (option, None),
        };
        if name == "help" {
            self.given.push((HELP, "$true".to_owned()));
            return Ok(());
        }
        let value = match value {
            Some(value) => value,
            None => words.next().ok_or_else(|| self.usage(&format!("--{name} has no value")))?,
        };
        match name {
            "socket" => self.socket = Some(value.into()),
            "output" => {
                let format = Format::from_str(value, true);
                self.format = Some(format.map_err(|_| self.usage("--output is table, json or yaml"))?);
            }
            _ => return Err(self.usage(&format!("--{name} is not known"))),
        }
        Ok(())
    }

    /// The exact name, an alias, or the only parameter that begins like this.
    fn parameter(&self, name: &str) -> Result<&'static str, Failure> {
        let parameters = self.cmdlet.parameters();
        let aliases = || ALIASES.iter().filter(|(_, parameter)| parameters.contains(parameter));
        let exact = parameters.iter().copied().find(|known| known.eq_ignore_ascii_case(name)).or_else(|| {
            aliases().find(|(alias, _)| alias.eq_ignore_ascii_case(name)).map(|&(_, parameter)| parameter)
        });
        if let Some(parameter) = exact {
            return Ok(parameter);
        }
        let begins = |known: &str| {
            known.get(..name.len()).is_some_and(|beginning| beginning.eq_ignore_ascii_case(name))
        };
        let mut candidates: Vec<&'static str> =
            parameters.iter().copied().filter(|known| !name.is_empty() && begins(known)).collect();
        candidates
            .extend(aliases().filter(|(alias, _)| !name.is_empty() && begins(alias)).map(|&(_, of)| of));
        candidates.sort_unstable();
        candidates.dedup();
        match candidates.as_slice() {
            [one] => Ok(one),
            [] => {
                let known = parameters.join(", -");
                Err(self.usage(&format!("-{name} is not known; the parameters are -{known}")))
            }
            several => {
                Err(self.usage(&format!("-{name} is ambiguous; it could be -{}", several.join(", -"))))
            }
        }
    }

    fn take(&mut self, parameter: &'static str) -> Option<String> {
        let at = self.given.iter().position(|(known, _)| *known == parameter)?;
        Some(self.given.swap_remove(at).1)
    }

    fn require(&mut self, parameter: &'static str) -> Result<String, Failure> {
        match self.take(parameter) {
            Some(value) if !value.is_empty() => Ok(value),
            _ => Err(self.usage(&format!("-{parameter} is missing"))),
        }
    }

    fn switch(&mut self, parameter: &'static str) -> Result<bool, Failure> {
        let Some(value) = self.take(parameter) else { return Ok(false) };
        match value.trim_start_matches('$').to_ascii_lowercase().as_str() {
            "true" | "1" => Ok(true),
            "false" | "0" => Ok(false),
            _ => Err(self.usage(&format!("-{parameter} is a switch: $true or $false, not \"{value}\""))),
        }
    }

    fn invocation(mut self) -> Result<Invocation, Failure> {
        let help = self.switch(HELP)?;
        let (what_if, confirm, force) = (self.switch(WHAT_IF)?, self.switch(CONFIRM)?, self.switch(FORCE)?);
        self.switch(VERBOSE)?;
        let action = match self.cmdlet {
            cmdlet if help => Action::Help(cmdlet.help()),
            Cmdlet::Add => Action::Add(AddRoute {
                dev: self.require(INTERFACE)?,
                destination: self.require(DESTINATION)?,
                via: self.require(NEXT_HOP)?,
                metric: self.metric()?,
                weight: None,
                force,
            }),
            Cmdlet::Get => Action::Get {
                interface: self.take(INTERFACE),
                destination: self.take(DESTINATION),
                next_hop: self.take(NEXT_HOP),
            },
            Cmdlet::Remove => Action::Remove {
                interface: self.require(INTERFACE)?,
                destination: self.require(DESTINATION)?,
                next_hop: self.take(NEXT_HOP),
            },
        };
        let Self { cmdlet: _, given: _, socket, format } = self;
        Ok(Invocation { action, what_if, confirm, socket, format })
    }

    fn metric(&mut self) -> Result<Option<u32>, Failure> {
        let Some(text) = self.take(METRIC) else { return Ok(None) };
        let wrong = || self.usage(&format!("-{METRIC} \"{text}\" is not a number from 1 to 4294967295"));
        text.parse().map(Some).map_err(|_| wrong())
    }
}

/// `-Name`: PowerShell also takes an en or em dash, which word processors make of a hyphen.
fn parameter_name(word: &str) -> Option<&str> {
    let name = word.strip_prefix(['-', '\u{2013}', '\u{2014}'])?;
    name.starts_with(|c: char| c.is_alphabetic() || c == '?').then_some(name)
}

/// Quotes that the shell left, as when the line comes from a script.
fn unquoted(value: &str) -> &str {
    let inner = |quote: char| value.strip_prefix(quote)?.strip_suffix(quote);
    inner('"').or_else(|| inner('\'')).unwrap_or(value)
}

#[cfg(test)]
mod tests;
