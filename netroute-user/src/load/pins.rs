//! Where things are pinned, and nothing of what they are.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use netroute_common::abi;
use netroute_common::verdict::Hook;

use super::error::LoadError;

/// The agent's folder on the BPF file system. No name below it holds a dot: the kernel reserves
/// such names (`bpf_lookup`, Linux 5.10).
#[derive(Clone, Debug)]
pub(super) struct Pins {
    root: PathBuf,
}

/// What holds a program at its hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hold {
    /// A pinned BPF link.
    Link,
    /// A netlink TC filter; the pinned program beside it only records that it is there.
    Filter,
}

/// One pinned attachment, of any ABI version.
#[derive(Clone, Debug)]
pub(super) struct Pin {
    pub(super) path: PathBuf,
    pub(super) hold: Hold,
    pub(super) hook: Hook,
    pub(super) ifindex: u32,
}

impl Pins {
    pub(super) fn new(bpffs: &Path) -> Self {
        Self { root: bpffs.to_path_buf() }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    fn version(&self) -> PathBuf {
        self.root.join(abi::PIN_FOLDER)
    }

    /// The set of maps in use: complete, or not there.
    pub(super) fn maps(&self) -> PathBuf {
        self.version().join("maps")
    }

    /// A set that is being filled.
    pub(super) fn fresh_maps(&self) -> PathBuf {
        self.version().join("maps_new")
    }

    fn former_maps(&self) -> PathBuf {
        self.version().join("maps_old")
    }

    fn links(&self) -> PathBuf {
        self.version().join("links")
    }

    pub(super) fn path(&self, hold: Hold, hook: Hook, ifindex: u32) -> PathBuf {
        let name = hook.name().replace('-', "_");
        self.links().join(match hold {
            Hold::Link => format!("{name}_{ifindex}"),
            Hold::Filter => format!("filter_{name}_{ifindex}"),
        })
    }

    /// The link of a program of sockets.
    pub(super) fn socket(&self, program: &str) -> PathBuf {
        self.links().join(program)
    }

    /// A link that is to take the place of another.
    pub(super) fn fresh_socket(&self, program: &str) -> PathBuf {
        self.links().join(format!("{program}_new"))
    }

    /// Makes the folders of this version and clears away what a reload that was cut short left. Was it
    /// cut short between two names, the programs run over the filled set already.
    pub(super) fn prepare(&self) -> Result<(), LoadError> {
        if !self.maps().exists() && self.former_maps().exists() && self.fresh_maps().exists() {
            rename(&self.fresh_maps(), &self.maps())?;
        }
        for folder in [self.fresh_maps(), self.former_maps()] {
            remove(&folder)?;
        }
        make(&self.links())
    }

    pub(super) fn make_fresh_maps(&self) -> Result<(), LoadError> {
        make(&self.fresh_maps())
    }

    /// Gives up a set that is not filled: it would hold its memory for nothing.
    pub(super) fn drop_fresh_maps(&self) {
        if let Err(error) = remove(&self.fresh_maps()) {
            tracing::warn!(error = %crate::error::chain(&error), "maps that are not used stay");
        }
    }

    /// The filled set takes the place of the former one. Programs hold their maps by themselves:
    /// if this is cut short, only the names are missing, and [`Pins::prepare`] puts them right.
    pub(super) fn promote_fresh_maps(&self) -> Result<(), LoadError> {
        if self.maps().exists() {
            rename(&self.maps(), &self.former_maps())?;
        }
        rename(&self.fresh_maps(), &self.maps())?;
        remove(&self.former_maps())
    }

    /// Attachments of this version and of others (an upgrade takes theirs over).
    pub(super) fn attachments(&self) -> Result<Vec<Pin>, LoadError> {
        let mut pins = Vec::new();
        for version in self.versions()? {
            for path in entries(&version.join("links"))? {
                pins.extend(parse(path));
            }
        }
        Ok(pins)
    }

    /// The pin of one attachment; this version's before another's.
    pub(super) fn find(&self, hold: Hold, hook: Hook, ifindex: u32) -> Result<Option<PathBuf>, LoadError> {
        let own = self.path(hold, hook, ifindex);
        if own.exists() {
            return Ok(Some(own));
        }
        let wanted = |pin: &Pin| (pin.hold, pin.hook, pin.ifindex) == (hold, hook, ifindex);
        Ok(self.attachments()?.into_iter().find(wanted).map(|pin| pin.path))
    }

    fn versions(&self) -> Result<Vec<PathBuf>, LoadError> {
        let is_version = |path: &PathBuf| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
            name.strip_prefix('v').is_some_and(|number| number.parse::<u32>().is_ok())
        };
        Ok(entries(&self.root)?.into_iter().filter(is_version).collect())
    }

    pub(super) fn remove_other_versions(&self) -> Result<(), LoadError> {
        let own = self.version();
        self.versions()?.iter().filter(|path| **path != own).try_for_each(|path| remove(path))
    }

    /// Removes every version and, if nothing foreign is in it, the folder itself.
    pub(super) fn remove_all(&self) -> Result<(), LoadError> {
        self.versions()?.iter().try_for_each(|path| remove(path))?;
        match std::fs::remove_dir(&self.root) {
            Err(source)
                if !matches!(
                    source.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::ResourceBusy
                ) =>
            {
                Err(LoadError::Folder { operation: "remove", path: self.root.clone(), source })
            }
            _ => Ok(()),
        }
    }
}

fn parse(path: PathBuf) -> Option<Pin> {
    let name = path.file_name()?.to_str()?;
    let (hold, rest) = match name.strip_prefix("filter_") {
        Some(rest) => (Hold::Filter, rest),
        None => (Hold::Link, name),
    };
    let (hook, ifindex) = rest.rsplit_once('_')?;
    let hook = Hook::ALL.into_iter().find(|known| known.name().replace('-', "_") == hook)?;
    let ifindex = ifindex.parse().ok()?;
    Some(Pin { path, hold, hook, ifindex })
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, LoadError> {
    let failed = |source| LoadError::Folder { operation: "list", path: folder.to_path_buf(), source };
    match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(failed(error)),
        Ok(found) => {
            let mut paths: Vec<PathBuf> =
                found.map(|entry| entry.map(|e| e.path())).collect::<Result<_, _>>().map_err(failed)?;
            paths.sort();
            Ok(paths)
        }
    }
}

fn make(folder: &Path) -> Result<(), LoadError> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|source| LoadError::Folder {
        operation: "create",
        path: folder.to_path_buf(),
        source,
    })
}

fn rename(from: &Path, to: &Path) -> Result<(), LoadError> {
    std::fs::rename(from, to).map_err(|source| LoadError::Folder {
        operation: "rename",
        path: from.to_path_buf(),
        source,
    })
}

fn remove(folder: &Path) -> Result<(), LoadError> {
    match std::fs::remove_dir_all(folder) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(LoadError::Folder { operation: "remove", path: folder.to_path_buf(), source })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pin_name_is_read_back() {
        let pins = Pins::new(Path::new("/sys/fs/bpf/netroute"));
        for hook in Hook::ALL {
            for hold in [Hold::Link, Hold::Filter] {
                let pin = parse(pins.path(hold, hook, 42)).unwrap();
                assert_eq!((pin.hold, pin.hook, pin.ifindex), (hold, hook, 42));
                assert!(!pin.path.file_name().unwrap().to_str().unwrap().contains('.'));
            }
        }
    }

    #[test]
    fn a_promotion_that_was_cut_short_is_finished() {
        let folder = tempfile::tempdir().unwrap();
        let pins = Pins::new(folder.path());
        let mark = |set: PathBuf, name: &str| {
            std::fs::create_dir_all(&set).unwrap();
            std::fs::write(set.join(name), "").unwrap();
        };
        mark(pins.maps(), "old");
        mark(pins.fresh_maps(), "unused");
        pins.prepare().unwrap();
        assert!(pins.maps().join("old").exists() && !pins.fresh_maps().exists(), "not switched to");
        mark(pins.fresh_maps(), "new");
        std::fs::rename(pins.maps(), pins.former_maps()).unwrap();
        pins.prepare().unwrap();
        assert!(pins.maps().join("new").exists() && !pins.former_maps().exists());
    }

    #[test]
    fn a_set_that_is_given_up_leaves_the_one_in_use() {
        let folder = tempfile::tempdir().unwrap();
        let pins = Pins::new(folder.path());
        for set in [pins.maps(), pins.fresh_maps()] {
            std::fs::create_dir_all(&set).unwrap();
            std::fs::write(set.join("MAP"), "").unwrap();
        }
        pins.drop_fresh_maps();
        assert!(pins.maps().join("MAP").exists() && !pins.fresh_maps().exists());
    }

    #[test]
    fn links_of_another_version_are_found_after_our_own() {
        let folder = tempfile::tempdir().unwrap();
        let pins = Pins::new(folder.path());
        let older = folder.path().join("v0/links/xdp_nic_7");
        std::fs::create_dir_all(older.parent().unwrap()).unwrap();
        std::fs::write(&older, "").unwrap();
        pins.prepare().unwrap();
        assert_eq!(pins.find(Hold::Link, Hook::XdpNic, 7).unwrap(), Some(older));
        let own = pins.path(Hold::Link, Hook::XdpNic, 7);
        std::fs::write(&own, "").unwrap();
        assert_eq!(pins.find(Hold::Link, Hook::XdpNic, 7).unwrap(), Some(own));
        pins.remove_other_versions().unwrap();
        assert_eq!(pins.attachments().unwrap().len(), 1);
        pins.remove_all().unwrap();
        assert!(!folder.path().exists());
    }
}
