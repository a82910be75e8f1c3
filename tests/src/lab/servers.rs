//! The lab's servers: processes that outlive the command that builds the lab.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, ensure};

use super::{Lab, plan};
use crate::{netns::kill_if, peer::READY};

/// Roles that serve.
pub(super) const HOSTS: [&str; 2] = ["inet", "cam"];
const PROGRAM: &str = "netroute-lab-peer";
/// The kernel keeps 15 bytes of a process's name.
const COMM_LEN: usize = 15;

/// Starts the servers side by side and returns when all of them listen.
pub(super) fn start(lab: &Lab) -> Result<Vec<Child>> {
    let program = program()?;
    let mut started = HOSTS.map(|role| spawn(lab, role, &program)).into_iter().collect::<Result<Vec<_>>>()?;
    for (server, role) in started.iter_mut().zip(HOSTS) {
        let mut line = String::new();
        let out = server.stdout.take().context("no standard output")?;
        BufReader::new(out).read_line(&mut line)?;
        let log = log(lab, role);
        ensure!(line.trim() == READY, "the server in {} did not start: see {}", lab.ns(role), log.display());
    }
    Ok(started)
}

/// Kills servers and agents also where their namespace has lost its name.
pub(super) fn kill(lab: &Lab) -> Result<()> {
    let servers = HOSTS.map(|role| (pid_file(lab, role), log(lab, role)));
    let agents = lab.vms().map(|vm| (vm.pid_file(), vm.log()));
    for (pid_file, log) in servers.into_iter().chain(agents) {
        let Ok(text) = fs::read_to_string(pid_file) else {
            continue;
        };
        let Ok(pid) = text.trim().parse() else {
            continue;
        };
        // A process of the lab is known by the log that it alone writes.
        kill_if(pid, || fs::read_link(format!("/proc/{pid}/fd/2")).is_ok_and(|open| open == log))?;
    }
    Ok(())
}

pub(super) fn is_server(name: &str) -> bool {
    name == &PROGRAM[..COMM_LEN]
}

fn spawn(lab: &Lab, role: &str, program: &PathBuf) -> Result<Child> {
    let mut services = vec![format!("echo={}", plan::ECHO_PORT), format!("udp={}", plan::ECHO_PORT)];
    match role {
        "cam" => {
            services.push(format!("rtsp={}", plan::RTSP_PORT));
            services.push(format!("udp={}", plan::CAMERA_UDP_PORT));
        }
        _ => services.push(format!("http={}", plan::HTTP_PORT)),
    }
    let server = lab
        .ns(role)
        .command(program)
        .args(services)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(File::create(log(lab, role))?)
        .spawn()
        .with_context(|| format!("cannot start {} in {}", program.display(), lab.ns(role)))?;
    fs::write(pid_file(lab, role), format!("{}\n", server.id()))?;
    Ok(server)
}

fn pid_file(lab: &Lab, role: &str) -> PathBuf {
    lab.dir().join(format!("{role}.pid"))
}

fn log(lab: &Lab, role: &str) -> PathBuf {
    lab.dir().join(format!("{role}.log"))
}

/// Builds the server program; cargo does that by itself only for this crate's own tests.
pub fn build() -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--quiet", "--release", "--workspace", "--bin", PROGRAM])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .status()
        .context("cannot run cargo")?;
    ensure!(status.success(), "cannot build {PROGRAM}");
    Ok(())
}

/// The server program lies beside the running one, or one folder up from a test.
pub fn program() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    own.ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join(PROGRAM))
        .find(|path| path.exists())
        .with_context(|| {
            let own = own.display();
            format!("{PROGRAM} is missing beside {own}: run `cargo build -p netroute-tests`")
        })
}
