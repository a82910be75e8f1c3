//! Delivers the whole set again whenever something in the directory changes.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode, CreateKind, ModifyKind};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::watch;

use super::{ManifestReader, ManifestSet, ManifestSource};

/// An editor's save is several events: read after this long without one …
const QUIET: Duration = Duration::from_millis(100);
/// … or, while a file is being written, after this long without more of it …
const WRITING: Duration = Duration::from_secs(2);
/// … but not later than this after the first.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    #[error("the directory {} cannot be watched: {error}; raise fs.inotify.max_user_instances or max_user_watches", directory.display())]
    Notify { directory: PathBuf, error: notify::Error },
    #[error("the thread that watches {} cannot be started: {error}", directory.display())]
    Thread { directory: PathBuf, error: std::io::Error },
}

enum Wake {
    /// A file is open for writing: what it says now may be half of it.
    Writing,
    Changed,
    Stop,
}

/// Watches until it is dropped.
pub struct ManifestWatch {
    sets: watch::Receiver<ManifestSet>,
    wake: mpsc::Sender<Wake>,
    thread: Option<JoinHandle<()>>,
}

impl ManifestWatch {
    /// Holds the latest set; the first is there from the beginning.
    #[must_use]
    pub fn sets(&self) -> watch::Receiver<ManifestSet> {
        self.sets.clone()
    }

    /// Reads again although nothing was seen to change.
    pub fn reread(&self) {
        // The thread ends only when this value is dropped.
        let _ = self.wake.send(Wake::Changed);
    }
}

impl Drop for ManifestWatch {
    fn drop(&mut self) {
        let _ = self.wake.send(Wake::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Reads the directory once and starts watching it.
///
/// # Errors
/// When the kernel gives no watch. A missing directory is no error but a problem in the set.
pub fn watch(source: ManifestSource) -> Result<ManifestWatch, WatchError> {
    let directory = source.directory.clone();
    let (wake, wakes) = mpsc::channel();
    let waker = wake.clone();
    let path = directory.clone();
    let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
        // An error means that events were lost.
        if let Some(wanted) = event.map_or(Some(Wake::Changed), |event| meaning(&event, &path)) {
            let _ = waker.send(wanted);
        }
    })
    .map_err(|error| WatchError::Notify { directory: directory.clone(), error })?;
    let mut watches = Watches { watcher, directory: directory.clone(), watched: Vec::new() };
    watches.renew()?;
    let mut reader = ManifestReader::new(source);
    let (sender, sets) = watch::channel(reader.read());
    let thread = std::thread::Builder::new()
        .name("manifests".to_owned())
        .spawn(move || follow(&wakes, &mut watches, &mut reader, &sender))
        .map_err(|error| WatchError::Thread { directory, error })?;
    Ok(ManifestWatch { sets, wake, thread: Some(thread) })
}

fn follow(
    wakes: &mpsc::Receiver<Wake>,
    watches: &mut Watches,
    reader: &mut ManifestReader,
    sender: &watch::Sender<ManifestSet>,
) {
    while let Ok(wake) = wakes.recv() {
        if !is_quiet(wakes, wake) {
            return;
        }
        // Watched before it is read: what changes in between wakes the loop again.
        if let Err(error) = watches.renew() {
            tracing::warn!(%error, "changes of manifests may go unnoticed");
        }
        let set = reader.read();
        sender.send_if_modified(|current| {
            let changed = *current != set;
            *current = set;
            changed
        });
    }
}

/// Waits until nothing happens any more; `false` when it is time to stop.
fn is_quiet(wakes: &mpsc::Receiver<Wake>, first: Wake) -> bool {
    let begin = Instant::now();
    let mut last = first;
    loop {
        let pause = match last {
            Wake::Stop => return false,
            Wake::Writing => WRITING,
            Wake::Changed => QUIET,
        };
        let left = PATIENCE.saturating_sub(begin.elapsed());
        last = match wakes.recv_timeout(pause.min(left)) {
            Ok(wake) => wake,
            Err(RecvTimeoutError::Timeout) => return true,
            Err(RecvTimeoutError::Disconnected) => return false,
        };
    }
}

struct Watches {
    watcher: RecommendedWatcher,
    directory: PathBuf,
    watched: Vec<PathBuf>,
}

impl Watches {
    /// Watches the directory and its nearest existing parent, so that its deletion, replacement
    /// and creation are seen. Inotify watches an inode, hence again after every change.
    fn renew(&mut self) -> Result<(), WatchError> {
        for path in self.watched.drain(..) {
            // Already gone with the inode.
            let _ = self.watcher.unwatch(&path);
        }
        let parent = self.directory.ancestors().skip(1).find(|path| path.is_dir());
        let mut failed = None;
        for path in parent.into_iter().chain([self.directory.as_path()]) {
            match self.watcher.watch(path, RecursiveMode::NonRecursive) {
                Ok(()) => self.watched.push(path.to_owned()),
                Err(error) if is_absent(&error) => {}
                Err(error) => failed = Some(error),
            }
        }
        let Some(error) = failed else { return Ok(()) };
        Err(WatchError::Notify { directory: self.directory.clone(), error })
    }
}

fn is_absent(error: &notify::Error) -> bool {
    match &error.kind {
        notify::ErrorKind::PathNotFound => true,
        notify::ErrorKind::Io(error) => error.kind() == std::io::ErrorKind::NotFound,
        _ => false,
    }
}

/// `None` for our own reads, which open files, and for neighbours of the directory.
fn meaning(event: &Event, directory: &Path) -> Option<Wake> {
    let Event { kind, paths, .. } = event;
    let ours = |path: &PathBuf| path.starts_with(directory) || directory.starts_with(path);
    if !paths.is_empty() && !paths.iter().any(ours) {
        return None;
    }
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => Some(Wake::Changed),
        EventKind::Access(_) => None,
        EventKind::Create(CreateKind::File) | EventKind::Modify(ModifyKind::Data(_)) => Some(Wake::Writing),
        _ => Some(Wake::Changed),
    }
}
