//! TC ingress by a netlink filter on clsact, for kernels before Linux 6.6. A filter needs no
//! process and no pin to stay; a pinned program beside it records that it is ours.

use std::io;
use std::path::Path;

use aya::programs::links::Link;
use aya::programs::tc::{self, NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle};
use aya::programs::{SchedClassifier, TcError};
use netroute_common::verdict::Hook;

use super::attachments::Mode;
use super::error::{AttachError, errno};
use super::pins::{Hold, Pins};
use super::release;
use super::tc::{Place, direction};

/// Behind the filters of others, which count up from 1 or down from 49152.
const PRIORITY: u16 = 50_000;
const HANDLE: TcHandle = TcHandle::new(0, 1);

/// Adds the filter.
pub(super) fn attach(
    pins: &Pins,
    place: Place<'_>,
    program: &mut SchedClassifier,
) -> Result<Mode, AttachError> {
    match tc::qdisc_add_clsact(place.name) {
        Err(TcError::NetlinkError(error)) if error.raw_os_error() == Some(libc::EEXIST) => {}
        Err(error) => return Err(refused(place, error.into())),
        Ok(()) => {}
    }
    // The record comes first: a filter without one would look foreign to the next start.
    let record = pins.path(Hold::Filter, place.hook, place.ifindex);
    write_record(place, program, &record)?;
    let options = TcAttachOptions::Netlink(NlOptions { priority: PRIORITY, handle: HANDLE, classid: None });
    let attached = program.attach_with_options(place.name, direction(place.hook), options);
    let kept = attached.and_then(|id| program.take_link(id)).map(std::mem::forget);
    kept.map(|()| Mode::Clsact).map_err(|error| {
        let _ = std::fs::remove_file(&record);
        match errno(&error) {
            Some(libc::EEXIST) => {
                AttachError::ForeignFilter { interface: place.name.to_owned(), priority: PRIORITY }
            }
            _ => refused(place, error),
        }
    })
}

/// Puts the program in the place of the one our filter runs; adds the filter if it is gone (the
/// interface was made anew).
pub(super) fn replace(
    pins: &Pins,
    place: Place<'_>,
    program: &mut SchedClassifier,
    record: &Path,
) -> Result<Mode, AttachError> {
    let link = filter(place.name, place.hook).map_err(|source| query(place, source))?;
    let replaced = program.attach_to_link(link).and_then(|id| program.take_link(id));
    release::unpin(record, place.hook, place.ifindex).map_err(|source| AttachError::Unpin {
        interface: place.name.to_owned(),
        path: record.to_path_buf(),
        source,
    })?;
    match replaced {
        Ok(link) => {
            std::mem::forget(link);
            write_record(place, program, &pins.path(Hold::Filter, place.hook, place.ifindex))?;
            Ok(Mode::Clsact)
        }
        Err(error) => {
            tracing::info!(interface = place.name, %error, "recorded TC filter is gone");
            attach(pins, place, program)
        }
    }
}

/// Removes our filter; fine if it or its interface is not there. The clsact qdisc stays: it is
/// empty, and others may have come to rely on it.
pub(super) fn detach(ifindex: u32, hook: Hook) -> io::Result<()> {
    let Ok(name) = nix::net::if_::if_indextoname(ifindex) else { return Ok(()) };
    let Ok(name) = name.to_str() else { return Ok(()) };
    match filter(name, hook)?.detach() {
        Err(error) if !matches!(errno(&error), Some(libc::ENOENT | libc::EINVAL | libc::ENODEV)) => {
            Err(errno(&error).map_or_else(|| io::Error::other(error), io::Error::from_raw_os_error))
        }
        _ => Ok(()),
    }
}

fn filter(name: &str, hook: Hook) -> io::Result<SchedClassifierLink> {
    SchedClassifierLink::attached(name, direction(hook), PRIORITY, HANDLE, None)
}

fn write_record(place: Place<'_>, program: &mut SchedClassifier, record: &Path) -> Result<(), AttachError> {
    program.pin(record).map_err(|source| AttachError::Pin {
        interface: place.name.to_owned(),
        path: record.to_path_buf(),
        source: source.into(),
    })
}

fn refused(place: Place<'_>, source: aya::programs::ProgramError) -> AttachError {
    AttachError::Tc { interface: place.name.to_owned(), source: source.into() }
}

fn query(place: Place<'_>, source: io::Error) -> AttachError {
    AttachError::Query { interface: place.name.to_owned(), source }
}
