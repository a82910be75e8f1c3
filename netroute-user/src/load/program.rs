//! From the BPF object to loaded programs over the pinned maps.

use std::borrow::Cow;
use std::path::Path;
use std::time::{Duration, Instant};

use aya::programs::{CgroupSockAddr, ProgramError, SchedClassifier, Xdp};
use aya::{Ebpf, EbpfLoader};
use netroute_common::abi;
use netroute_common::layout::config::Nic;

use super::definition;
use super::error::{LoadError, errno};
use super::undisturbed::undisturbed;
use crate::compile::image::Limits;

/// How long one program is tried again. Verifying takes a tenth of a second, some seconds on a slow machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// The object and the capacities its maps are made with. What loads it holds signals back throughout: aya finds
/// out what the kernel can do by loading small programs, and takes a verifier that gave up for one that cannot.
#[derive(Clone, Copy)]
pub(super) struct Source {
    pub(super) object: &'static [u8],
    pub(super) limits: Limits,
    /// TC by filters even where the kernel has TCX links.
    pub(super) filters: bool,
}

impl Source {
    /// The TC programs, shared by all interfaces. Creates in `folder` the maps that it lacks.
    pub(super) fn classifiers(&self, folder: &Path) -> Result<Ebpf, LoadError> {
        undisturbed(|| {
            let mut object = self.open(folder, &Nic::default())?;
            for name in abi::CLASSIFIERS {
                let program = classifier(&mut object, name)?;
                verified(name, || program.load())?;
            }
            Ok(object)
        })
    }

    /// The XDP program of one NIC, with the NIC's constants in its read-only data.
    pub(super) fn xdp(&self, folder: &Path, nic: &Nic) -> Result<Ebpf, LoadError> {
        undisturbed(|| {
            let mut object = self.open(folder, nic)?;
            let program = xdp(&mut object)?;
            verified(abi::PROGRAM_XDP_NIC, || program.load())?;
            Ok(object)
        })
    }

    /// The programs of sockets. That the kernel lets them name errors is found out by trying.
    pub(super) fn sockets(&self, folder: &Path) -> Result<Ebpf, LoadError> {
        undisturbed(|| match self.sockets_naming(folder, 1) {
            Err(LoadError::Program { .. }) => self.sockets_naming(folder, 0),
            loaded => loaded,
        })
    }

    fn sockets_naming(&self, folder: &Path, names_errors: u32) -> Result<Ebpf, LoadError> {
        let mut object = self
            .over(folder)
            .override_global(abi::GLOBAL_NAMES_ERRORS, &names_errors, true)
            .load(self.object)
            .map_err(|source| LoadError::Maps { folder: folder.to_path_buf(), source: source.into() })?;
        for name in abi::SOCKET_PROGRAMS {
            let program = socket(&mut object, name)?;
            verified(name, || program.load())?;
        }
        Ok(object)
    }

    /// A loader of the object over the maps pinned in `folder`.
    fn over<'a>(&self, folder: &Path) -> EbpfLoader<'a> {
        let mut loader = self.loader();
        for name in definition::names() {
            loader.map_pin_path(name, Cow::Owned(folder.join(name)));
        }
        loader
    }

    fn open(&self, folder: &Path, nic: &Nic) -> Result<Ebpf, LoadError> {
        self.over(folder)
            .override_global(abi::GLOBAL_NIC, nic, true)
            .load(self.object)
            .map_err(|source| LoadError::Maps { folder: folder.to_path_buf(), source: source.into() })
    }

    /// The programs over maps that nobody else sees: for running them on test packets.
    pub(super) fn private(&self, nic: &Nic) -> Result<Ebpf, LoadError> {
        undisturbed(|| self.over_own_maps(nic))
    }

    fn over_own_maps(&self, nic: &Nic) -> Result<Ebpf, LoadError> {
        let mut object = self
            .loader()
            .override_global(abi::GLOBAL_NIC, nic, true)
            .load(self.object)
            .map_err(|source| LoadError::Maps { folder: "memory".into(), source: source.into() })?;
        let program = xdp(&mut object)?;
        verified(abi::PROGRAM_XDP_NIC, || program.load())?;
        for name in abi::CLASSIFIERS {
            let program = classifier(&mut object, name)?;
            verified(name, || program.load())?;
        }
        Ok(object)
    }

    fn loader<'a>(&self) -> EbpfLoader<'a> {
        let mut loader = EbpfLoader::new();
        for (name, entries) in definition::capacities(&self.limits) {
            loader.map_max_entries(name, entries);
        }
        loader
    }
}

pub(super) fn xdp(object: &mut Ebpf) -> Result<&mut Xdp, LoadError> {
    let name = abi::PROGRAM_XDP_NIC;
    let program = object.program_mut(name).ok_or(LoadError::Missing { what: "program", name })?;
    program.try_into().map_err(refused(name))
}

pub(super) fn classifier<'a>(
    object: &'a mut Ebpf,
    name: &'static str,
) -> Result<&'a mut SchedClassifier, LoadError> {
    let program = object.program_mut(name).ok_or(LoadError::Missing { what: "program", name })?;
    program.try_into().map_err(refused(name))
}

pub(super) fn socket<'a>(
    object: &'a mut Ebpf,
    name: &'static str,
) -> Result<&'a mut CgroupSockAddr, LoadError> {
    let program = object.program_mut(name).ok_or(LoadError::Missing { what: "program", name })?;
    program.try_into().map_err(refused(name))
}

/// Loads until the verifier has come to its end. It gives up with EAGAIN as soon as a signal waits for the
/// thread (`do_check` in kernel/bpf/verifier.c, 6.18), and a child of any thread that ends is enough. Signals
/// are held back, then, by [`undisturbed`]; what remains is the kernel's own work for the thread
/// (`TIF_NOTIFY_SIGNAL`) and stops. That says nothing of the program, however often it happens: only time
/// bounds how long it is tried. The first try is made in any case, and one that is under way is not cut off.
fn verified(name: &'static str, mut load: impl FnMut() -> Result<(), ProgramError>) -> Result<(), LoadError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match load() {
            Err(error) if errno(&error) == Some(libc::EAGAIN) && Instant::now() < deadline => {}
            ended => return ended.map_err(refused(name)),
        }
    }
}

fn refused(name: &'static str) -> impl Fn(ProgramError) -> LoadError {
    move |source| LoadError::Program { name, source: source.into() }
}
