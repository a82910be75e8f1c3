//! The loader against the kernel: attach, adopt, reload, refuse, remove. Needs root.

mod carry;
mod sockets;
mod traffic;
mod wire;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use netroute_common::verdict::Hook;
use netroute_tests::namespace::{enter, output, sh};
use netroute_user::apply::MapStore;
use netroute_user::compile::image::Limits;
use netroute_user::load::{AttachError, LoadError, Loader, Mode, PodDevice, Switched, detach};

use wire::{Folder, Wire, limits, nic, object, switched, tc_mode, tc_programs, xdp_program};

#[test]
fn same_limits_adopt_and_other_limits_build_anew() -> Result<()> {
    let wire = Wire::new()?;
    let folder = Folder::new();
    let larger = Limits { routes4: 2048, ..limits() };
    assert!(!wire.agent(&folder, limits())?.0, "nothing to adopt at first");
    assert!(wire.agent(&folder, limits())?.0, "adopts what it made");
    assert!(!wire.agent(&folder, larger)?.0, "another capacity is another map");
    assert!(wire.agent(&folder, larger)?.0);
    let loaded = folder.open(larger)?;
    assert_eq!(loaded.store()?.read()?, wire.image, "adopted with its content");
    let entries: Vec<_> =
        std::fs::read_dir(folder.path.join("v4"))?.map(|e| e.unwrap().file_name()).collect();
    assert_eq!(entries.len(), 2, "maps and links only: {entries:?}");
    Ok(())
}

#[test]
fn x1_a_foreign_xdp_program_stays_and_is_named() -> Result<()> {
    let _wire = Wire::new()?;
    let (mine, theirs) = (Folder::new(), Folder::new());
    let owner = switched(theirs.open(limits())?, &[nic("left")?], &[])?;
    let id = xdp_program("left")?;
    let Switched { attachments, refused, .. } = mine.open(limits())?.switch_programs(&Wire::nics()?, &[])?;
    // Two agents' filters would be one; TCX links stand side by side.
    let beside = tc_mode()? == Mode::Tcx;
    match refused.as_slice() {
        [AttachError::ForeignXdp { interface, program }] if beside => {
            assert_eq!((interface.as_str(), *program), ("left", id));
        }
        [AttachError::ForeignFilter { interface, .. }] if !beside => assert_eq!(interface, "left"),
        other => panic!("{other:?}"),
    }
    assert_eq!(xdp_program("left")?, id, "not replaced");
    let served: Vec<_> = attachments.list().map(|a| (a.interface.as_str(), a.hook)).collect();
    let all = [
        ("left", Hook::TcNic),
        ("left", Hook::TcOut),
        ("right", Hook::XdpNic),
        ("right", Hook::TcNic),
        ("right", Hook::TcOut),
    ];
    assert_eq!(served, all[if beside { 0 } else { 2 }..]);
    drop(owner);
    Ok(())
}

#[test]
fn x2_an_interface_made_anew_is_attached_once() -> Result<()> {
    enter()?;
    let folder = Folder::new();
    let make = "ip link add nic0 index 77 type veth peer name peer0; ip link set nic0 up";
    sh(make)?;
    let mut attachments = switched(folder.open(limits())?, &[nic("nic0")?], &[])?;
    // The worst case: the same name and the same index.
    sh(&format!("ip link del nic0; {make}"))?;
    assert!(xdp_program("nic0").is_err(), "a new device runs nothing");
    assert_eq!(attachments.attach_nic(&nic("nic0")?)?, Mode::Native);
    let first = xdp_program("nic0")?;
    assert_eq!(attachments.attach_nic(&nic("nic0")?)?, Mode::Native);
    assert_ne!(xdp_program("nic0")?, first, "replaced in place");
    assert_eq!(tc_programs("nic0")?, 1);
    assert_eq!(attachments.list().count(), 3);
    attachments.detach_interface(77)?;
    assert!(xdp_program("nic0").is_err());
    assert_eq!((tc_programs("nic0")?, attachments.list().count()), (0, 0));
    Ok(())
}

#[test]
fn interfaces_no_longer_asked_for_are_let_go() -> Result<()> {
    let _wire = Wire::new()?;
    let folder = Folder::new();
    let [left, right] = Wire::nics()?;
    let pod = PodDevice { ifindex: right.ifindex, name: right.name.clone() };
    drop(switched(folder.open(limits())?, &[left, right.clone()], &[])?);
    let now = switched(folder.open(limits())?, &[], &[pod])?;
    assert!(xdp_program("left").is_err() && xdp_program("right").is_err());
    assert_eq!((tc_programs("left")?, tc_programs("right")?), (0, 1));
    let attached: Vec<_> = now.list().map(|a| (a.hook, a.ifindex)).collect();
    assert_eq!(attached, [(Hook::TcPod, right.ifindex), (Hook::TcOut, right.ifindex)]);
    Ok(())
}

#[test]
fn x4_a_driver_without_native_xdp_gets_generic_mode() -> Result<()> {
    enter()?;
    sh("ip link add br0 type bridge; ip link set br0 up")?;
    let folder = Folder::new();
    for _ in 0..2 {
        let Switched { attachments, refused, .. } =
            folder.open(limits())?.switch_programs(&[nic("br0")?], &[])?;
        if let ([AttachError::Xdp { .. }], true) = (refused.as_slice(), no_xdp_on_bridges()?) {
            println!(
                "SKIP a_driver_without_native_xdp_gets_generic_mode: this kernel takes no XDP on a bridge"
            );
            return Ok(());
        }
        assert!(refused.is_empty(), "{refused:?}");
        let modes: Vec<_> = attachments.list().map(|attached| (attached.hook, attached.mode)).collect();
        let tc = tc_mode()?;
        assert_eq!(modes, [(Hook::XdpNic, Mode::Generic), (Hook::TcNic, tc), (Hook::TcOut, tc)]);
    }
    Ok(())
}

/// A child of some thread that ends is a signal to all of them, and the verifier gives up on a signal.
#[test]
fn signals_do_not_keep_programs_from_loading() -> Result<()> {
    enter()?;
    let folder = Folder::new();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let children = scope.spawn(|| -> Result<u32> {
            let mut ended = 0;
            while !done.load(Ordering::Relaxed) {
                sh("true")?;
                ended += 1;
            }
            Ok(ended)
        });
        let opened = (0..10).try_for_each(|_| folder.open(limits()).map(drop));
        done.store(true, Ordering::Relaxed);
        let ended = children.join().map_err(|_| anyhow::anyhow!("the thread with children died"))??;
        println!("{ended} children ended meanwhile");
        Ok(opened?)
    })
}

#[test]
fn the_default_maps_fit_a_small_appliance() -> Result<()> {
    enter()?;
    let folder = Folder::new();
    let attachments = switched(folder.open(Limits::default())?, &[], &[])?;
    let bytes: u64 = attachments.map_memory()?.iter().map(|map| map.bytes).sum();
    assert!(bytes > 1 << 20 && bytes <= 64 << 20, "{:?}", attachments.map_memory()?);
    Ok(())
}

#[test]
fn a_second_agent_is_refused() -> Result<()> {
    enter()?;
    let folder = Folder::new();
    let first = folder.open(limits())?;
    let error = folder.open(limits()).err().context("two agents on one folder")?;
    assert!(matches!(error, LoadError::InUse { .. }), "{error}");
    assert!(matches!(detach(&folder.path), Err(LoadError::AgentRunning { .. })));
    drop(first);
    assert!(folder.open(limits()).is_ok());
    Ok(())
}

#[test]
fn detach_leaves_nothing_and_may_be_repeated() -> Result<()> {
    let wire = Wire::new()?;
    let folder = Folder::new();
    let (_, attachments) = wire.agent(&folder, limits())?;
    let programs = [xdp_program("left")?, xdp_program("right")?];
    let maps = map_ids(&folder.path.join("v4/maps"))?;
    assert_eq!(maps.len(), 31);
    drop(attachments);
    assert_eq!(detach(&folder.path)?.programs.len(), 6);
    assert!(!folder.path.exists());
    assert!(xdp_program("left").is_err() && xdp_program("right").is_err());
    assert_eq!((tc_programs("left")?, tc_programs("right")?), (0, 0));
    gone("prog", &programs)?;
    gone("map", &maps)?;
    assert_eq!(detach(&folder.path)?.programs, []);
    Ok(())
}

#[test]
fn no_bpf_file_system_is_an_error_with_the_remedy() {
    let error = Loader::new(object(), Path::new("/tmp/nrtest-nowhere"), limits()).open().err();
    assert!(matches!(error, Some(LoadError::NotBpffs { .. })), "{error:?}");
    assert!(!Path::new("/tmp/nrtest-nowhere").exists());
}

#[test]
fn bpftool_shows_named_fields() -> Result<()> {
    let wire = Wire::new()?;
    let folder = Folder::new();
    let (_, _attachments) = wire.agent(&folder, limits())?;
    let dump = |map: &str| {
        let path = folder.path.join("v4/maps").join(map);
        output("bpftool", &["map", "dump", "pinned", &path.display().to_string()])
    };
    let routes = dump("ROUTES4")?;
    for word in ["prefix_len\": 24", "address", "\"group\": 8", "\"stats\": 16"] {
        assert!(routes.contains(word), "{word} not in {routes}");
    }
    assert!(dump("NEXTHOPS")?.contains("destination_mac"));
    Ok(())
}

/// Linux 5.10 refuses generic XDP on a bridge, 6.1 takes it.
fn no_xdp_on_bridges() -> Result<bool> {
    use aya::util::KernelVersion;
    Ok(KernelVersion::current()? < KernelVersion::new(6, 1, 0))
}

fn map_ids(folder: &Path) -> Result<Vec<u32>> {
    let entries = std::fs::read_dir(folder)?;
    entries.map(|entry| Ok(aya::maps::MapInfo::from_pin(entry?.path())?.id())).collect()
}

/// Waits until the kernel has freed them; it does so from a work queue, after a grace period.
fn gone(kind: &str, ids: &[u32]) -> Result<()> {
    for _ in 0..2000 {
        let left = |id: &u32| output("bpftool", &[kind, "show", "id", &id.to_string()]).is_ok();
        if !ids.iter().any(left) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    anyhow::bail!("{kind} still there: {ids:?}")
}
