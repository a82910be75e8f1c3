//! The programs of sockets, on a control group of version 2: loaded beside the others, held by pinned links.
//!
//! A new set is attached beside the running one, pinned, and takes its names; the kernel lets go of the old
//! one with that. For a moment both run, which changes nothing: what the first has translated is to no Service
//! any more. aya has no `BPF_LINK_UPDATE` for these links.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::{CgroupAttachMode, CgroupSockAddr, loaded_programs};
use netroute_common::abi::SOCKET_PROGRAMS;
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};

use super::attachments::Attachments;
use super::error::LoadError;
use super::pins::Pins;
use super::program::{self, Source};
use crate::config::SocketGroup;

/// How long the kernel may take to let go of unpinned links.
const PATIENCE: Duration = Duration::from_secs(2);

const OTHER_KERNEL: &str = "use a kernel with CONFIG_CGROUP_BPF=y, Linux 5.8 or newer, or `sockets: null`";

/// Why processes get no translation at their sockets; packets are translated all the same.
#[derive(Debug, thiserror::Error)]
pub enum SocketsError {
    #[error("no control groups of version 2 are mounted")]
    NoGroups,
    #[error("the control group {path} cannot be opened")]
    NoFolder { path: PathBuf, source: io::Error },
    #[error("{path} is no control group of version 2")]
    OtherFileSystem { path: PathBuf },
    #[error("the socket programs cannot be loaded")]
    Load(#[source] Box<LoadError>),
    #[error("cannot attach `{program}` to {path}")]
    Attach { program: &'static str, path: PathBuf, source: Box<aya::programs::ProgramError> },
    #[error("the kernel has no links for control groups: Linux 5.7 or newer is needed")]
    NoLinks,
    #[error("cannot pin {path}")]
    Pin { path: PathBuf, source: Box<aya::pin::PinError> },
    #[error("cannot rename or remove {path}")]
    Unpin { path: PathBuf, source: io::Error },
}

impl SocketsError {
    /// What to do about it, in one line.
    #[must_use]
    pub fn fix(&self) -> &'static str {
        match self {
            Self::NoGroups => {
                "mount -t cgroup2 none /sys/fs/cgroup, or `sockets: null` in the agent's configuration"
            }
            Self::NoFolder { .. } | Self::OtherFileSystem { .. } => {
                "name a folder that exists on a cgroup2 file system as `sockets.cgroup`, or leave it out"
            }
            Self::Load(error) => match **error {
                LoadError::Program { .. } => OTHER_KERNEL,
                LoadError::Object { .. } | LoadError::Missing { .. } => "build or install netroute again",
                _ => "see the agent's log; it is tried again",
            },
            Self::Attach { .. } | Self::NoLinks => OTHER_KERNEL,
            Self::Pin { .. } | Self::Unpin { .. } => "see the agent's log",
        }
    }
}

/// One socket program as the kernel names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketProgram {
    pub name: &'static str,
    /// `None` where its pin is gone.
    pub id: Option<u32>,
    pub tag: Option<u64>,
}

impl Attachments {
    /// Translates at the sockets of the group's processes, or keeps from it if `group` is none. If that
    /// fails, no program of this kind stays.
    pub fn serve_sockets(&mut self, group: Option<&SocketGroup>) -> Result<(), SocketsError> {
        self.sockets = None;
        let attached = group.map(|group| attach(&self.pins, &self.source, &self.maps, group)).transpose();
        match attached {
            Ok(Some(group)) => {
                self.sockets = Some(group);
                Ok(())
            }
            Ok(None) => detach(&self.pins).map(drop),
            Err(error) => detach(&self.pins).and(Err(error)),
        }
    }

    /// The control group whose processes are served.
    #[must_use]
    pub fn sockets(&self) -> Option<&Path> {
        self.sockets.as_ref().map(|group| group.path.as_path())
    }

    /// Whether another group has its path by now, or none: the programs went with the one they were on.
    #[must_use]
    pub fn sockets_moved(&self) -> bool {
        self.sockets.as_ref().is_some_and(Group::is_moved)
    }

    /// The programs that serve it.
    pub fn socket_programs(&self) -> Vec<SocketProgram> {
        if self.sockets.is_none() {
            return Vec::new();
        }
        let tags: BTreeMap<u32, u64> =
            loaded_programs().filter_map(Result::ok).map(|program| (program.id(), program.tag())).collect();
        let view = |name| {
            let id = program_of(&self.pins.socket(name));
            SocketProgram { name, id, tag: id.and_then(|id| tags.get(&id).copied()) }
        };
        SOCKET_PROGRAMS.into_iter().map(view).collect()
    }
}

/// The control group that programs are on.
#[derive(Debug)]
pub(super) struct Group {
    path: PathBuf,
    /// Device and inode, by which it is told from one that was made in its place.
    identity: (u64, u64),
}

impl Group {
    fn of(path: PathBuf, folder: &File) -> io::Result<Self> {
        let identity = identity(&folder.metadata()?);
        Ok(Self { path, identity })
    }

    fn is_moved(&self) -> bool {
        match std::fs::metadata(&self.path) {
            Ok(now) => identity(&now) != self.identity,
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        }
    }
}

fn identity(folder: &std::fs::Metadata) -> (u64, u64) {
    (folder.dev(), folder.ino())
}

fn attach(pins: &Pins, source: &Source, maps: &Path, group: &SocketGroup) -> Result<Group, SocketsError> {
    let path = match group {
        SocketGroup::Root => root(&read_mounts()).ok_or(SocketsError::NoGroups)?,
        SocketGroup::At(path) => path.clone(),
    };
    let folder = File::open(&path).map_err(|source| SocketsError::NoFolder { path: path.clone(), source })?;
    let magic = statfs(&path).map_err(|e| SocketsError::NoFolder { path: path.clone(), source: e.into() })?;
    if magic.filesystem_type() != CGROUP2_SUPER_MAGIC {
        return Err(SocketsError::OtherFileSystem { path });
    }
    let no_folder = |source| SocketsError::NoFolder { path: path.clone(), source };
    let group = Group::of(path.clone(), &folder).map_err(no_folder)?;
    let failed = |source| SocketsError::Load(Box::new(source));
    let mut object = source.sockets(maps).map_err(failed)?;
    for name in SOCKET_PROGRAMS {
        let program = program::socket(&mut object, name).map_err(failed)?;
        let link = attach_one(program, &folder).map_err(|source| SocketsError::Attach {
            program: name,
            path: path.clone(),
            source: source.into(),
        })?;
        let fresh = pins.fresh_socket(name);
        remove(&fresh)?;
        let link = link.ok_or(SocketsError::NoLinks)?;
        link.pin(&fresh).map_err(|source| SocketsError::Pin { path: fresh, source: source.into() })?;
    }
    // All of them run by now: a process whose datagrams are translated is also told whom they are from.
    for name in SOCKET_PROGRAMS {
        let fresh = pins.fresh_socket(name);
        std::fs::rename(&fresh, pins.socket(name))
            .map_err(|source| SocketsError::Unpin { path: fresh, source })?;
    }
    Ok(group)
}

/// Beside whatever others have there: a link always allows for others, and takes no flag that says so.
fn attach_one(
    program: &mut CgroupSockAddr,
    group: &File,
) -> Result<Option<FdLink>, aya::programs::ProgramError> {
    let id = program.attach(group, CgroupAttachMode::Single)?;
    Ok(FdLink::try_from(program.take_link(id)?).ok())
}

/// Takes them off, and says how many there were.
pub(super) fn detach(pins: &Pins) -> Result<usize, SocketsError> {
    let mut leaving = BTreeSet::new();
    for name in SOCKET_PROGRAMS {
        for path in [pins.fresh_socket(name), pins.socket(name)] {
            leaving.extend(program_of(&path));
            remove(&path)?;
        }
    }
    wait_gone(&leaving);
    Ok(leaving.len())
}

fn remove(path: &Path) -> Result<(), SocketsError> {
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(SocketsError::Unpin { path: path.to_path_buf(), source })
        }
        _ => Ok(()),
    }
}

/// The last hold on a link is dropped by a work queue, and with it the one on the program.
fn wait_gone(leaving: &BTreeSet<u32>) {
    if leaving.is_empty() {
        return;
    }
    let deadline = Instant::now() + PATIENCE;
    while loaded_programs().filter_map(Result::ok).any(|program| leaving.contains(&program.id())) {
        if Instant::now() > deadline {
            tracing::warn!(?leaving, "the kernel takes its time to release the programs of sockets");
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn program_of(pin: &Path) -> Option<u32> {
    let link = FdLink::from(PinnedLink::from_pin(pin).ok()?);
    Some(link.info().ok()?.program_id())
}

fn read_mounts() -> String {
    // Without /proc there is nothing to be found either.
    std::fs::read_to_string("/proc/self/mounts").unwrap_or_default()
}

/// Where the text of `/proc/self/mounts` has the first cgroup2 file system.
fn root(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let mut words = line.split(' ');
        let (_, place, kind) = (words.next()?, words.next()?, words.next()?);
        // A space is written in octal; a path with one is named in the configuration.
        (kind == "cgroup2" && !place.contains('\\')).then(|| PathBuf::from(place))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_is_found_where_it_is_mounted() {
        let unified = "proc /proc proc rw 0 0\ncgroup2 /sys/fs/cgroup cgroup2 rw,nosuid 0 0\n";
        assert_eq!(root(unified).unwrap(), Path::new("/sys/fs/cgroup"));
        let hybrid =
            "cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        assert_eq!(root(hybrid).unwrap(), Path::new("/sys/fs/cgroup/unified"));
        assert_eq!(root("cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n"), None);
    }

    #[test]
    fn a_group_that_is_gone_or_was_made_anew_is_told_from_the_one_served() {
        let folder = tempfile::tempdir().unwrap();
        let [path, other] = ["served", "other"].map(|name| folder.path().join(name));
        std::fs::create_dir(&path).unwrap();
        let group = Group::of(path.clone(), &File::open(&path).unwrap()).unwrap();
        assert!(!group.is_moved());
        std::fs::create_dir(path.join("below")).unwrap();
        assert!(!group.is_moved(), "its content is not what it is");
        // Made while the first is there, it has another inode.
        std::fs::create_dir(&other).unwrap();
        std::fs::remove_dir_all(&path).unwrap();
        assert!(group.is_moved(), "gone");
        std::fs::rename(&other, &path).unwrap();
        assert!(group.is_moved(), "made anew");
    }

    #[test]
    fn another_kernel_is_advised_only_where_this_one_refused() {
        let load = |error| SocketsError::Load(Box::new(error));
        let refused = LoadError::Program {
            name: "sock_connect4",
            source: aya::programs::ProgramError::NotLoaded.into(),
        };
        assert!(load(refused).fix().contains("kernel"));
        let missing = LoadError::Missing { what: "program", name: "sock_connect4" };
        assert!(load(missing).fix().contains("install netroute again"));
        let folder = LoadError::NoBtf { path: "/sys/kernel/btf/vmlinux" };
        assert!(!load(folder).fix().contains("CONFIG_CGROUP_BPF"));
    }
}
