//! What the running kernel makes of the programs: told as facts, which `cargo xtask test kernels` puts into
//! its table. Needs root.

use anyhow::{Context, Result, ensure};
use aya::programs::{CgroupSockAddr, ProgramError, SchedClassifier, Xdp};
use aya::{EbpfLoader, VerifierLogLevel};
use netroute_common::abi;
use netroute_tests::kernel_run::object_path;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};

/// One test, since it takes away the process's file descriptors.
#[test]
fn the_verifier_tells_its_effort() -> Result<()> {
    // Before Linux 5.11 maps count as locked memory; later kernels may refuse, and it does not matter.
    let _ = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY);
    let mut loader = EbpfLoader::new();
    let mut object = loader.verifier_log_level(VerifierLogLevel::STATS).load_file(object_path())?;
    let (soft, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let of_packets = [abi::PROGRAM_XDP_NIC, abi::PROGRAM_TC_NIC, abi::PROGRAM_TC_POD];
    for name in of_packets.into_iter().chain(abi::SOCKET_PROGRAMS) {
        let program = object.program_mut(name).with_context(|| format!("no program {name}"))?;
        // The log of a program that loads is not kept. So the last step fails, which comes after the
        // verifier: there is no file descriptor left for the program.
        setrlimit(Resource::RLIMIT_NOFILE, 0, most)?;
        let loaded = match program {
            aya::programs::Program::Xdp(program) => Xdp::load(program),
            aya::programs::Program::SchedClassifier(program) => SchedClassifier::load(program),
            aya::programs::Program::CgroupSockAddr(program) => CgroupSockAddr::load(program),
            other => anyhow::bail!("{name} is a {:?}", other.prog_type()),
        };
        setrlimit(Resource::RLIMIT_NOFILE, soft, most)?;
        let Err(ProgramError::LoadError { verifier_log, io_error }) = loaded else {
            anyhow::bail!("{name}: {loaded:?}");
        };
        ensure!(io_error.raw_os_error() == Some(nix::libc::EMFILE), "{name}: {io_error}: {verifier_log}");
        let log = verifier_log.to_string();
        let after = |words: &str| Some(log.split_once(words)?.1.split_whitespace().next()?.to_owned());
        let processed = after("processed ").with_context(|| format!("{name}: no effort in {log}"))?;
        let stack = log.lines().find_map(|line| line.strip_prefix("stack depth "));
        let stack = stack.with_context(|| format!("{name}: no stack in {log}"))?.trim();
        println!("FACT verifier.{name} {processed} / {stack}");
    }
    Ok(())
}
