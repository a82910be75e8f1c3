//! What can go wrong between the agent and the kernel, each with what to do about it.

use std::io;
use std::path::PathBuf;

use aya::programs::ProgramError;

/// Loading, adopting or removing failed as a whole.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("no BPF rights: run as root or with CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN (missing: {missing})")]
    NoRights { missing: String },
    #[error("the kernel has no BTF ({path} is missing): use a kernel built with CONFIG_DEBUG_INFO_BTF=y")]
    NoBtf { path: &'static str },
    #[error(
        "{path} is not on a BPF file system: `mount -t bpf bpf /sys/fs/bpf`, or set `bpffs` in the \
         agent's configuration to a folder on one"
    )]
    NotBpffs { path: PathBuf },
    #[error("cannot raise the locked-memory limit: run with CAP_SYS_RESOURCE or `ulimit -l unlimited`")]
    MemoryLimit { source: io::Error },
    #[error("another agent uses {path}: stop it, or give this one a folder of its own (`bpffs`)")]
    InUse { path: PathBuf },
    #[error("the agent using {path} is still running: stop it, then detach")]
    AgentRunning { path: PathBuf },
    #[error("cannot {operation} {path}")]
    Folder { operation: &'static str, path: PathBuf, source: io::Error },
    #[error("the BPF object is damaged: build or install netroute again")]
    Object { source: Box<aya_obj::ParseError> },
    #[error("the BPF object has no {what} `{name}`: agent and object are of different versions")]
    Missing { what: &'static str, name: &'static str },
    #[error("cannot create the maps in {folder}")]
    Maps { folder: PathBuf, source: Box<aya::EbpfError> },
    #[error("cannot open the pinned map {path}: `netroute detach` removes it, then start the agent again")]
    PinnedMap { path: PathBuf, source: Box<aya::maps::MapError> },
    #[error(
        "the maps in use cannot be carried over into those of other capacities: set `limits` as they were, or \
         begin anew after `netroute detach`"
    )]
    CarryOver(#[source] Box<crate::apply::StoreError>),
    #[error("cannot pin the map {path}")]
    PinMap { path: PathBuf, source: Box<aya::pin::PinError> },
    #[error("the programs of sockets cannot be taken off")]
    Sockets(#[source] Box<super::sockets::SocketsError>),
    #[error("the kernel refused the program `{name}`")]
    Program { name: &'static str, source: Box<ProgramError> },
}

/// One interface could not be served; the others go on.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    #[error(
        "{interface}: another XDP program (id {program}) is attached; remove it with \
         `ip link set {interface} xdp off` if nobody needs it (TC serves the interface meanwhile)"
    )]
    ForeignXdp { interface: String, program: u32 },
    #[error("{interface}: neither native nor generic XDP works here (native: {native})")]
    Xdp { interface: String, native: io::Error, source: Box<ProgramError> },
    #[error("{interface}: the kernel has no XDP links: Linux 5.9 or newer is needed")]
    NoXdpLinks { interface: String },
    #[error("{interface}: cannot attach to TC ingress")]
    Tc { interface: String, source: Box<ProgramError> },
    #[error("{interface}: a foreign TC filter has priority {priority}; remove it or move it")]
    ForeignFilter { interface: String, priority: u16 },
    #[error("{interface}: cannot ask the kernel about it")]
    Query { interface: String, source: io::Error },
    #[error("{interface}: the interface is gone")]
    Gone { interface: String },
    #[error("{interface}: cannot pin {path}")]
    Pin { interface: String, path: PathBuf, source: Box<aya::pin::PinError> },
    #[error("{interface}: cannot remove {path}")]
    Unpin { interface: String, path: PathBuf, source: io::Error },
    #[error("{interface}: its program cannot be loaded")]
    Load {
        interface: String,
        #[source]
        source: Box<LoadError>,
    },
}

/// The error number behind an aya error, where there is one.
pub(super) fn errno(error: &ProgramError) -> Option<i32> {
    use aya::programs::tc::TcError;
    use aya::programs::xdp::XdpError;
    match error {
        ProgramError::SyscallError(e) => e.io_error.raw_os_error(),
        ProgramError::LoadError { io_error, .. } => io_error.raw_os_error(),
        ProgramError::NetlinkError(e)
        | ProgramError::TcError(TcError::NetlinkError(e))
        | ProgramError::XdpError(XdpError::NetlinkError(e)) => e.raw_os_error(),
        ProgramError::TcError(TcError::IoError(e)) => e.raw_os_error(),
        _ => None,
    }
}
