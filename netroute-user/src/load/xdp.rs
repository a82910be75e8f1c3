//! XDP on one NIC: native, else generic; adopted in place where we are already attached.

use std::io;
use std::path::Path;

use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::xdp::{XdpLink, XdpLinkId};
use aya::programs::{Xdp, XdpMode};
use netroute_common::verdict::Hook;

use super::attachments::{Mode, NicDevice};
use super::error::{AttachError, LoadError, errno};
use super::pins::{Hold, Pins};
use super::release;
use super::xdp_state::{self, XdpState};

/// Attaches the loaded program, or puts it in the place of the one our pinned link runs, without
/// a moment in between (`BPF_LINK_UPDATE`, Linux 5.9).
pub(super) fn attach(pins: &Pins, nic: &NicDevice, program: &mut Xdp) -> Result<Mode, AttachError> {
    let wanted = pins.path(Hold::Link, Hook::XdpNic, nic.ifindex);
    let pinned = pins.find(Hold::Link, Hook::XdpNic, nic.ifindex).map_err(|e| loading(nic, e))?;
    if let Some(pinned) = pinned {
        if let Some(mode) = adopt(nic, program, &pinned, &wanted)? {
            return Ok(mode);
        }
        // The device went away, or the index now means another one.
        let link = release::unpin(&pinned, Hook::XdpNic, nic.ifindex)
            .map_err(|source| unpin(nic, &pinned, source))?;
        release::wait_gone(link.as_slice());
    }
    match state(nic)? {
        Some(foreign) => {
            Err(AttachError::ForeignXdp { interface: nic.name.clone(), program: foreign.program })
        }
        None => attach_new(nic, program, &wanted),
    }
}

/// `None` if the pinned link does not serve this NIC.
fn adopt(
    nic: &NicDevice,
    program: &mut Xdp,
    pinned: &Path,
    wanted: &Path,
) -> Result<Option<Mode>, AttachError> {
    let link = PinnedLink::from_pin(pinned).and_then(|link| XdpLink::try_from(FdLink::from(link)));
    let Ok(link) = link else { return Ok(None) };
    let id = match program.attach_to_link(link) {
        Ok(id) => id,
        Err(error) => {
            tracing::info!(interface = nic.name, %error, "pinned XDP link is defunct");
            return Ok(None);
        }
    };
    let ours = program.info().map(|info| info.id()).ok();
    match state(nic)? {
        Some(now) if Some(now.program) == ours => {
            if pinned != wanted {
                pin(nic, program, id, wanted)?;
                release::unpin(pinned, Hook::XdpNic, nic.ifindex)
                    .map_err(|source| unpin(nic, pinned, source))?;
            }
            Ok(Some(if now.native { Mode::Native } else { Mode::Generic }))
        }
        _ => {
            // Drops this process's hold on the link; the pin is the caller's to remove.
            let _ = program.detach(id);
            Ok(None)
        }
    }
}

fn attach_new(nic: &NicDevice, program: &mut Xdp, wanted: &Path) -> Result<Mode, AttachError> {
    let (id, mode) = match program.attach_to_if_index(nic.ifindex, XdpMode::Driver) {
        Ok(id) => (id, Mode::Native),
        Err(error) => match errno(&error) {
            Some(libc::ENODEV) => return Err(AttachError::Gone { interface: nic.name.clone() }),
            Some(libc::EBUSY | libc::EEXIST) if state(nic)?.is_some() => {
                let program = state(nic)?.map_or(0, |foreign| foreign.program);
                return Err(AttachError::ForeignXdp { interface: nic.name.clone(), program });
            }
            code => {
                let native =
                    code.map_or_else(|| io::Error::other(error.to_string()), io::Error::from_raw_os_error);
                tracing::warn!(interface = nic.name, %native, "no native XDP, using generic mode (slower)");
                let generic = program.attach_to_if_index(nic.ifindex, XdpMode::Skb).map_err(|source| {
                    AttachError::Xdp { interface: nic.name.clone(), native, source: source.into() }
                })?;
                (generic, Mode::Generic)
            }
        },
    };
    pin(nic, program, id, wanted)?;
    Ok(mode)
}

fn pin(nic: &NicDevice, program: &mut Xdp, id: XdpLinkId, wanted: &Path) -> Result<(), AttachError> {
    let link = program
        .take_link(id)
        .ok()
        .and_then(|link| FdLink::try_from(link).ok())
        .ok_or_else(|| AttachError::NoXdpLinks { interface: nic.name.clone() })?;
    link.pin(wanted).map(drop).map_err(|source| AttachError::Pin {
        interface: nic.name.clone(),
        path: wanted.to_path_buf(),
        source: source.into(),
    })
}

fn state(nic: &NicDevice) -> Result<Option<XdpState>, AttachError> {
    xdp_state::of(nic.ifindex).map_err(|source| match source.raw_os_error() {
        Some(libc::ENODEV) => AttachError::Gone { interface: nic.name.clone() },
        _ => AttachError::Query { interface: nic.name.clone(), source },
    })
}

fn unpin(nic: &NicDevice, path: &Path, source: io::Error) -> AttachError {
    AttachError::Unpin { interface: nic.name.clone(), path: path.to_path_buf(), source }
}

fn loading(nic: &NicDevice, source: LoadError) -> AttachError {
    AttachError::Load { interface: nic.name.clone(), source: Box::new(source) }
}
