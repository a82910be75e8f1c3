//! The command line. It talks to the agent over its socket and never to maps; the two commands
//! that need more (`agent`, `detach` without an agent) are handed in by `main`.

pub mod args;
mod check;
pub mod cmdlet;
pub mod egress;
mod explain;
pub mod failure;
mod flows;
mod generate;
pub mod lines;
mod logging;
mod output;
mod routes;
mod services;
mod show;
mod table;
mod version;

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::parser::ValueSource;

use crate::api::client::{Client, ClientError};
use crate::config::{AgentConfig, DEFAULT_BPFFS, DEFAULT_PATH};
use args::{Cli, Command, Config, Format, Global, NextHop};
use cmdlet::{Action, Cmdlet, Invocation};
use failure::{Failure, refused};
use output::{Output, print};

/// What the command line needs from the rest of the program.
#[derive(Clone, Copy)]
pub struct Seams {
    /// Runs the agent until it is told to stop.
    pub agent: fn(AgentConfig) -> anyhow::Result<()>,
    /// Removes what an agent left below this folder, and its routes; says in one line what it did.
    pub detach: fn(&Path) -> anyhow::Result<String>,
}

/// The whole program.
#[must_use]
pub fn run(arguments: Vec<OsString>, seams: Seams) -> ExitCode {
    let result = match cmdlet_line(&arguments) {
        Some((cmdlet, words)) => cmdlet.parse(&words).and_then(run_cmdlet),
        None => return run_command(&arguments, seams),
    };
    conclude(result)
}

fn conclude(result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let message = failure.to_string();
            if !message.is_empty() {
                // Nothing is left to do when standard error is closed.
                let _ = writeln!(io::stderr(), "netroute: {message}");
            }
            failure.status()
        }
    }
}

/// The cmdlet asked for, by the name of the binary or by the first word after `netroute`'s own
/// options, and all other words.
fn cmdlet_line(arguments: &[OsString]) -> Option<(Cmdlet, Vec<String>)> {
    let words: Vec<String> = arguments.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let (called, rest) = words.split_first()?;
    if let Some(cmdlet) = Cmdlet::named(called) {
        return Some((cmdlet, rest.to_vec()));
    }
    let mut at = 0;
    let mut options = Vec::new();
    while let Some(option) = rest.get(at).filter(|word| word.starts_with('-')) {
        let takes_value = matches!(option.as_str(), "--socket" | "--output" | "-o");
        let end = (at + if takes_value { 2 } else { 1 }).min(rest.len());
        options.extend(rest.get(at..end)?.iter().map(|word| match word.strip_prefix("-o") {
            Some("") => "--output".to_owned(),
            Some(format) => format!("--output={}", format.trim_start_matches('=')),
            None => word.clone(),
        }));
        at = end;
    }
    let cmdlet = Cmdlet::named(rest.get(at)?)?;
    options.extend(rest.iter().skip(at + 1).cloned());
    Some((cmdlet, options))
}

fn run_cmdlet(invocation: Invocation) -> Result<(), Failure> {
    let Invocation { action, what_if, confirm, socket, format } = invocation;
    let from_environment = || std::env::var_os("NETROUTE_SOCKET").map(PathBuf::from);
    let socket = socket.or_else(from_environment).unwrap_or_else(|| crate::config::DEFAULT_SOCKET.into());
    let client = Client::new(&socket);
    let output = Output::new(format.unwrap_or(Format::Table));
    if let Some((operation, target)) = operation(&action) {
        if what_if {
            return print(&format!(
                "What if: Performing the operation \"{operation}\" on target \"{target}\".\n"
            ));
        }
        if confirm && !confirmed(operation, &target)? {
            return Ok(());
        }
    }
    block_on(async {
        match action {
            Action::Help(text) => print(text),
            Action::Add(route) => routes::add(route, &client, output).await,
            Action::Remove { interface, destination, next_hop } => {
                routes::remove(&destination, &interface, next_hop.as_deref(), &client, output).await
            }
            Action::Get { interface, destination, next_hop } => {
                let filter = routes::Filter::new(destination.as_deref(), next_hop.as_deref())?;
                let mut list = client.routes(interface.as_deref(), false).await?;
                list.retain(|route| filter.takes(route));
                routes::print_powershell(&list, output)
            }
        }
    })?
}

/// Name and target of what changes something.
fn operation(action: &Action) -> Option<(&'static str, String)> {
    match action {
        Action::Add(route) => {
            let target = format!("{} via {} dev {}", route.destination, route.via, route.dev);
            Some((Cmdlet::Add.name(), target))
        }
        Action::Remove { interface, destination, next_hop } => {
            let via = next_hop.as_ref().map_or_else(String::new, |address| format!(" via {address}"));
            Some((Cmdlet::Remove.name(), format!("{destination}{via} dev {interface}")))
        }
        Action::Get { .. } | Action::Help(_) => None,
    }
}

fn confirmed(operation: &str, target: &str) -> Result<bool, Failure> {
    if !io::stdin().is_terminal() {
        let message = format!("{operation}: -Confirm needs a terminal to ask at; use -Confirm:$false");
        return Err(Failure::Usage(message));
    }
    print(&format!("{operation} on target \"{target}\". Continue? [y/N] "))?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).map_err(refused)?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

fn run_command(arguments: &[OsString], seams: Seams) -> ExitCode {
    use clap::{CommandFactory, FromArgMatches};
    let parsed = Cli::command().try_get_matches_from(arguments).and_then(|matches| {
        let given =
            matches!(matches.value_source("socket"), Some(source) if source != ValueSource::DefaultValue);
        Ok((Cli::from_arg_matches(&matches)?, given))
    });
    match parsed {
        Ok((Cli { global, command }, socket_given)) => {
            conclude(dispatch(command, &global, socket_given, seams))
        }
        Err(error) => {
            // Help goes to standard output, where nobody may read on.
            let _ = error.print();
            if error.use_stderr() { ExitCode::from(2) } else { ExitCode::SUCCESS }
        }
    }
}

fn dispatch(command: Command, global: &Global, socket_given: bool, seams: Seams) -> Result<(), Failure> {
    let output = Output::new(global.output);
    let client = Client::new(&global.socket);
    match command {
        Command::Agent { config } => {
            let mut config = AgentConfig::load(&config).map_err(refused)?;
            if socket_given {
                config.socket.clone_from(&global.socket);
            }
            logging::start();
            Ok((seams.agent)(config)?)
        }
        Command::Route(command) => block_on(routes::run(command, &client, output))?,
        Command::NextHop(NextHop::List) => block_on(show::next_hops(&client, output))?,
        Command::Service(command) => block_on(services::run(command, &client, output))?,
        Command::Egress(command) => block_on(egress::run(command, &client, output))?,
        Command::Explain(question) => block_on(explain::run(question, &client, output))?,
        Command::Flow(command) => block_on(flows::run(command, &client, output))?,
        Command::Drops { watch } => block_on(show::drops(&client, watch, output))?,
        Command::Status => block_on(show::status(&client, output))?,
        Command::Doctor => block_on(show::doctor(&client, output))?,
        Command::Diff => block_on(show::diff(&client, output))?,
        Command::Config(Config::Check { file }) => check::run(&file, output),
        Command::Version => output.show(&version::VERSION, || format!("{}\n", version::VERSION)),
        Command::Detach { config } => detach(config.as_deref(), global, socket_given, seams),
        Command::Completions { shell } => generate::completions(shell),
        Command::Man { folder } => generate::man(folder.as_deref()),
        Command::Crds { folder } => generate::crds(&folder),
    }
}

/// By the agent while one runs, so that it does not put back what is removed; else directly.
fn detach(config: Option<&Path>, global: &Global, socket_given: bool, seams: Seams) -> Result<(), Failure> {
    let loaded = match config {
        Some(path) => Some(AgentConfig::load(path).map_err(refused)?),
        None if Path::new(DEFAULT_PATH).exists() => {
            Some(AgentConfig::load(Path::new(DEFAULT_PATH)).map_err(refused)?)
        }
        None => None,
    };
    let socket = match &loaded {
        Some(config) if !socket_given => &config.socket,
        _ => &global.socket,
    };
    match block_on(Client::new(socket).detach())? {
        Ok(()) => print("detached; the agent ended\n"),
        Err(ClientError::NoAgent { .. }) => {
            let bpffs = loaded.map_or_else(|| PathBuf::from(DEFAULT_BPFFS), |config| config.bpffs);
            let done = (seams.detach)(&bpffs)?;
            print(&format!("{done}\n"))
        }
        Err(error) => Err(error.into()),
    }
}

/// The outer failure is the runtime's own.
fn block_on<T>(work: impl Future<Output = T>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    Ok(runtime.map_err(refused)?.block_on(work))
}
