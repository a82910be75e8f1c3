//! What each map costs.

use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use aya::maps::{MapData, MapError};

use super::definition::names;
use super::error::LoadError;

/// One map's size.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct MapMemory {
    pub map: String,
    /// Entries it can hold.
    pub capacity: u32,
    /// Kernel memory it takes now, by the kernel's own account (since Linux 6.4 a trie's grows
    /// with its entries from 0; before, it is an estimate for a full one).
    pub bytes: u64,
}

/// Every map pinned in the folder.
pub(super) fn of(folder: &Path) -> Result<Vec<MapMemory>, LoadError> {
    names().map(|name| one(folder, name)).collect()
}

fn one(folder: &Path, name: &str) -> Result<MapMemory, LoadError> {
    let path = folder.join(name);
    let failed = |source: MapError| LoadError::PinnedMap { path: path.clone(), source: source.into() };
    let map = MapData::from_pin(&path).map_err(failed)?;
    let capacity = map.info().map_err(failed)?.max_entries();
    Ok(MapMemory { map: name.to_owned(), capacity, bytes: bytes(&map)? })
}

/// What an open map takes.
pub(super) fn bytes(map: &MapData) -> Result<u64, LoadError> {
    let fdinfo = format!("/proc/self/fdinfo/{}", map.fd().as_fd().as_raw_fd());
    let text = std::fs::read_to_string(&fdinfo).map_err(|source| LoadError::Folder {
        operation: "read",
        path: fdinfo.into(),
        source,
    })?;
    Ok(memlock(&text))
}

fn memlock(fdinfo: &str) -> u64 {
    fdinfo
        .lines()
        .find_map(|line| line.strip_prefix("memlock:"))
        .and_then(|bytes| bytes.trim().parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::memlock;

    #[test]
    fn the_kernels_line_is_read() {
        assert_eq!(memlock("pos:\t0\nmap_type:\t11\nmax_entries:\t8\nmemlock:\t4096\n"), 4096);
    }
}
