//! TC ingress on one interface: a TCX link, or a filter where the kernel has no TCX.

use std::path::Path;

use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::tc::{SchedClassifierLink, SchedClassifierLinkId, TcAttachOptions};
use aya::programs::{LinkOrder, SchedClassifier, TcAttachType};
use netroute_common::verdict::Hook;

use super::attachments::Mode;
use super::error::{AttachError, errno};
use super::filter;
use super::pins::{Hold, Pins};
use super::release;

/// Where a classifier goes.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) hook: Hook,
    pub(super) ifindex: u32,
    /// The name the interface has now.
    pub(super) name: &'a str,
}

/// Which packets of the interface a hook sees.
pub(super) fn direction(hook: Hook) -> TcAttachType {
    if hook == Hook::TcOut { TcAttachType::Egress } else { TcAttachType::Ingress }
}

/// Attaches the loaded program (by a filter if `filters`, or if there is one already) behind
/// whatever is attached there already (a CNI's policy must see the packet first), or puts it in the
/// place of the one our pinned link runs.
pub(super) fn attach(
    pins: &Pins,
    place: Place<'_>,
    program: &mut SchedClassifier,
    filters: bool,
) -> Result<Mode, AttachError> {
    let Place { hook, ifindex, name } = place;
    let loading = |source| AttachError::Load { interface: name.to_owned(), source: Box::new(source) };
    // All filters of ours have one priority and handle: what served the interface at the other hook
    // (it was a NIC and is a pod's now) is in the way, and is replaced.
    let others = [Hook::TcNic, Hook::TcPod, Hook::TcOut];
    let at_same_place = |other: &Hook| *other != hook && direction(*other) == direction(hook);
    for recorded in [hook].into_iter().chain(others.into_iter().filter(at_same_place)) {
        let Some(record) = pins.find(Hold::Filter, recorded, ifindex).map_err(loading)? else { continue };
        return filter::replace(pins, place, program, &record);
    }
    if filters {
        return filter::attach(pins, place, program);
    }
    let wanted = pins.path(Hold::Link, hook, ifindex);
    if let Some(pinned) = pins.find(Hold::Link, hook, ifindex).map_err(loading)? {
        if adopt(place, program, &pinned, &wanted)? {
            return Ok(Mode::Tcx);
        }
        let link = release::unpin(&pinned, hook, ifindex).map_err(|source| unpin(place, &pinned, source))?;
        release::wait_gone(link.as_slice());
    }
    let last = TcAttachOptions::TcxOrder(LinkOrder::last());
    match program.attach_with_options(name, direction(hook), last) {
        Ok(id) => pin(place, program, id, &wanted).map(|()| Mode::Tcx),
        Err(error) => match errno(&error) {
            // The attach type is unknown to kernels before Linux 6.6.
            Some(libc::EINVAL) => filter::attach(pins, place, program),
            Some(libc::ENODEV) => Err(AttachError::Gone { interface: name.to_owned() }),
            _ => Err(AttachError::Tc { interface: name.to_owned(), source: error.into() }),
        },
    }
}

fn adopt(
    place: Place<'_>,
    program: &mut SchedClassifier,
    pinned: &Path,
    wanted: &Path,
) -> Result<bool, AttachError> {
    let link =
        PinnedLink::from_pin(pinned).and_then(|link| SchedClassifierLink::try_from(FdLink::from(link)));
    let Ok(link) = link else { return Ok(false) };
    let id = match program.attach_to_link(link) {
        Ok(id) => id,
        Err(error) => {
            tracing::info!(interface = place.name, %error, "pinned TCX link is defunct");
            return Ok(false);
        }
    };
    if !runs(place, program) {
        let _ = program.detach(id);
        return Ok(false);
    }
    // Taken out, so that the shared program does not collect a link per interface.
    let link = program.take_link(id).ok().and_then(|link| FdLink::try_from(link).ok());
    if let (Some(link), true) = (link, pinned != wanted) {
        link.pin(wanted).map_err(|source| pinning(place, wanted, source))?;
        release::unpin(pinned, place.hook, place.ifindex).map_err(|source| unpin(place, pinned, source))?;
    }
    Ok(true)
}

/// Whether the interface of this index, in this network namespace, runs the program: a link
/// alone does not tell. Looking at others' programs takes CAP_SYS_ADMIN; without it the link is
/// believed.
fn runs(place: Place<'_>, program: &SchedClassifier) -> bool {
    let Ok(ours) = program.info().map(|info| info.id()) else { return false };
    match SchedClassifier::query_tcx(place.name, direction(place.hook)) {
        Ok((_, programs)) => programs.iter().any(|info| info.id() == ours),
        Err(error) => errno(&error) == Some(libc::EPERM),
    }
}

fn pin(
    place: Place<'_>,
    program: &mut SchedClassifier,
    id: SchedClassifierLinkId,
    wanted: &Path,
) -> Result<(), AttachError> {
    let interface = || place.name.to_owned();
    let link = program
        .take_link(id)
        .map_err(|source| AttachError::Tc { interface: interface(), source: source.into() })?;
    let link = FdLink::try_from(link).map_err(|_| AttachError::Gone { interface: interface() })?;
    link.pin(wanted).map(drop).map_err(|source| pinning(place, wanted, source))
}

fn pinning(place: Place<'_>, path: &Path, source: aya::pin::PinError) -> AttachError {
    AttachError::Pin { interface: place.name.to_owned(), path: path.to_path_buf(), source: source.into() }
}

fn unpin(place: Place<'_>, path: &Path, source: std::io::Error) -> AttachError {
    AttachError::Unpin { interface: place.name.to_owned(), path: path.to_path_buf(), source }
}
