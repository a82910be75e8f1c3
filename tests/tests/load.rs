//! The loader against the kernel: attach, adopt, reload, refuse, remove. Needs root.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use netroute_common::layout::route::{Group, KIND_NEIGHBOUR, Member, NextHop, Route};
use netroute_common::verdict::{Hook, Reason};
use netroute_tests::namespace::{Namespace, enter, ifindex, mac, output, sh};
use netroute_tests::stream::{self, Receiver};
use netroute_user::apply::{MapStore, apply};
use netroute_user::compile::image::{Image, Limits};
use netroute_user::load::{
    AttachError, Attachments, LoadError, Loaded, Loader, Mode, NicDevice, PodDevice, Switched, detach,
};
use netroute_user::plan::diff;

/// The agent's folder of one test; gone with it.
struct Folder {
    path: PathBuf,
}

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = format!("/sys/fs/bpf/nrtest-{}-{number}", std::process::id());
        Self { path: path.into() }
    }

    fn open(&self, limits: Limits) -> Result<Loaded, LoadError> {
        Loader::new(object(), &self.path, limits).open()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = detach(&self.path);
    }
}

fn object() -> &'static [u8] {
    netroute_user::load::object::bpf_object()
}

fn limits() -> Limits {
    Limits { routes4: 1024, routes6: 1024, groups: 64, next_hops: 64, route_stats: 256 }
}

fn nic(name: &str) -> Result<NicDevice> {
    Ok(NicDevice { ifindex: ifindex(name)?, name: name.to_owned(), mac: mac(name)? })
}

fn switched(loaded: Loaded, nics: &[NicDevice], pods: &[PodDevice]) -> Result<Attachments> {
    let Switched { attachments, refused } = loaded.switch_programs(nics, pods)?;
    ensure!(refused.is_empty(), "{refused:?}");
    Ok(attachments)
}

/// Two hosts and the node between them. The node's kernel does not forward: what arrives came
/// through our programs.
struct Wire {
    left: Namespace,
    right: Namespace,
    image: Image,
}

impl Wire {
    fn new() -> Result<Self> {
        enter()?;
        sh("sysctl -qw net.ipv4.ip_forward=0")?;
        let left = host("left", "10.1.0", "10.2.0.0/24")?;
        let right = host("right", "10.2.0", "10.1.0.0/24")?;
        let far = right.run(|| mac("eth0"))?;
        let next_hop = NextHop {
            ifindex: ifindex("right")?,
            mtu: 1500,
            port: 0,
            kind: KIND_NEIGHBOUR,
            alive: 1,
            xdp: 1,
            family: 4,
            source_mac: mac("right")?,
            destination_mac: far,
            gateway: [10, 2, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        };
        let mut group = Group { len: 1, members: [Member::default(); 16] };
        group.members[0] = Member { next_hop: 8, tier: 0, weight: 1, inverse: Member::inverse_of(1) };
        let mut image = Image::default();
        image.next_hops.insert(8, next_hop);
        image.groups.insert(8, group);
        image.ports.insert(0, ifindex("right")?);
        image.routes4.insert("10.2.0.0/24".parse()?, Route { group: 8, stats: 16 });
        Ok(Self { left, right, image })
    }

    fn nics() -> Result<[NicDevice; 2]> {
        Ok([nic("left")?, nic("right")?])
    }

    /// One run of an agent: whatever was there before, `image` is in the maps and the programs
    /// run afterwards.
    fn agent(&self, folder: &Folder, limits: Limits) -> Result<(bool, Attachments)> {
        let loaded = folder.open(limits)?;
        let adopted = loaded.adopted;
        let mut store = loaded.store()?;
        apply(&diff(&store.read()?, &self.image), &mut store)?;
        Ok((adopted, switched(loaded, &Self::nics()?, &[])?))
    }

    /// Runs `during` under a stream of datagrams; none may be lost.
    fn without_loss(&self, during: impl FnOnce() -> Result<()>) -> Result<u64> {
        let to = "10.2.0.2:9000".parse()?;
        let receiver = self.right.run(move || Receiver::bind(to))?;
        let receiving = self.right.start(move || receiver.count(Duration::from_millis(500)));
        let stop = Arc::new(AtomicBool::new(false));
        let sending = {
            let stop = Arc::clone(&stop);
            self.left.start(move || stream::send("10.1.0.2:9000".parse()?, to, &stop))
        };
        let done = during();
        stop.store(true, Ordering::Relaxed);
        let sent = sending.join()?;
        let received = receiving.join()?;
        done?;
        ensure!(sent > 0 && received.datagrams == sent, "sent {sent}, received {received:?}");
        Ok(sent)
    }
}

/// A host on a veth whose node end is `name`. Checksums are real, as on a wire; GRO lets the veth
/// take frames that XDP redirects.
fn host(name: &str, net: &str, beyond: &str) -> Result<Namespace> {
    let host = Namespace::new()?;
    sh(&format!("ip link add {name} type veth peer name eth0 netns {}", host.path().display()))?;
    sh(&format!("ip link set {name} up; ip addr add {net}.1/24 dev {name}"))?;
    let gateway = mac(name)?.map(|byte| format!("{byte:02x}")).join(":");
    host.sh(&format!(
        "ip link set eth0 up; ethtool -K eth0 tx off gro on >/dev/null; ip addr add {net}.2/24 dev eth0
         ip neigh add {net}.1 lladdr {gateway} dev eth0 nud permanent
         ip route add {beyond} via {net}.1"
    ))?;
    Ok(host)
}

#[test]
fn programs_forward_and_count() -> Result<()> {
    let wire = Wire::new()?;
    let folder = Folder::new();
    let loaded = folder.open(limits())?;
    assert!(!loaded.adopted);
    let mut store = loaded.store()?;
    let counters = loaded.counters()?;
    apply(&diff(&store.read()?, &wire.image), &mut store)?;
    let attachments = switched(loaded, &Wire::nics()?, &[])?;
    let modes: Vec<Mode> = attachments.list().map(|attached| attached.mode).collect();
    assert_eq!(modes, [Mode::Native, Mode::Tcx, Mode::Native, Mode::Tcx]);
    let sent = wire.without_loss(|| {
        std::thread::sleep(Duration::from_millis(200));
        Ok(())
    })?;
    let forwarded = counters.verdict(Hook::XdpNic, Reason::Forwarded)?;
    assert_eq!(forwarded.packets, sent);
    assert_eq!(counters.route(16)?, forwarded);
    assert_eq!(counters.next_hop(8)?.packets, sent);
    // Empty tries take nothing.
    let memory = attachments.map_memory()?;
    assert!(
        memory.iter().all(|map| map.capacity > 0 && (map.bytes > 0 || map.map == "ROUTES6")),
        "{memory:?}"
    );
    Ok(())
}

#[test]
fn restarts_and_reloads_lose_nothing() -> Result<()> {
    let wire = Wire::new()?;
    let folder = Folder::new();
    drop(wire.agent(&folder, limits())?);
    let sent = wire.without_loss(|| {
        for larger in [0, 0, 512, 512, 0] {
            // Dropping closes every descriptor, as the death of the process does.
            let (adopted, attachments) =
                wire.agent(&folder, Limits { routes4: 1024 + larger, ..limits() })?;
            drop(attachments);
            let _ = adopted;
        }
        Ok(())
    })?;
    ensure!(sent > 100, "the stream was too short to prove anything: {sent}");
    Ok(())
}

/// The control for the test above: a moment without programs is seen.
#[test]
fn a_gap_would_be_noticed() -> Result<()> {
    let wire = Wire::new()?;
    let folder = Folder::new();
    drop(wire.agent(&folder, limits())?);
    let outcome = wire.without_loss(|| {
        detach(&folder.path)?;
        drop(wire.agent(&folder, limits())?);
        Ok(())
    });
    let error = outcome.err().context("the stream did not notice that nobody forwarded it")?.to_string();
    ensure!(error.starts_with("sent"), "{error}");
    Ok(())
}

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
        std::fs::read_dir(folder.path.join("v1"))?.map(|e| e.unwrap().file_name()).collect();
    assert_eq!(entries.len(), 2, "maps and links only: {entries:?}");
    Ok(())
}

#[test]
fn a_foreign_xdp_program_stays_and_is_named() -> Result<()> {
    let _wire = Wire::new()?;
    let (mine, theirs) = (Folder::new(), Folder::new());
    let owner = switched(theirs.open(limits())?, &[nic("left")?], &[])?;
    let id = xdp_program("left")?;
    let Switched { attachments, refused } = mine.open(limits())?.switch_programs(&Wire::nics()?, &[])?;
    match refused.as_slice() {
        [AttachError::ForeignXdp { interface, program }] => {
            assert_eq!((interface.as_str(), *program), ("left", id));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(xdp_program("left")?, id, "not replaced");
    let served: Vec<_> = attachments.list().map(|a| (a.interface.as_str(), a.hook)).collect();
    assert_eq!(served, [("left", Hook::TcNic), ("right", Hook::XdpNic), ("right", Hook::TcNic)]);
    drop(owner);
    Ok(())
}

#[test]
fn an_interface_made_anew_is_attached_once() -> Result<()> {
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
    assert_eq!(tcx_programs("nic0")?, 1);
    assert_eq!(attachments.list().count(), 2);
    attachments.detach_interface(77)?;
    assert!(xdp_program("nic0").is_err());
    assert_eq!((tcx_programs("nic0")?, attachments.list().count()), (0, 0));
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
    assert_eq!((tcx_programs("left")?, tcx_programs("right")?), (0, 1));
    let attached: Vec<_> = now.list().map(|a| (a.hook, a.ifindex)).collect();
    assert_eq!(attached, [(Hook::TcPod, right.ifindex)]);
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
    let maps = map_ids(&folder.path.join("v1/maps"))?;
    assert_eq!(maps.len(), 8);
    drop(attachments);
    assert_eq!(detach(&folder.path)?.programs.len(), 4);
    assert!(!folder.path.exists());
    assert!(xdp_program("left").is_err() && xdp_program("right").is_err());
    assert_eq!((tcx_programs("left")?, tcx_programs("right")?), (0, 0));
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
        let path = folder.path.join("v1/maps").join(map);
        output("bpftool", &["map", "dump", "pinned", &path.display().to_string()])
    };
    let routes = dump("ROUTES4")?;
    for word in ["prefix_len\": 24", "address", "\"group\": 8", "\"stats\": 16"] {
        assert!(routes.contains(word), "{word} not in {routes}");
    }
    assert!(dump("NEXTHOPS")?.contains("destination_mac"));
    Ok(())
}

/// The XDP program an interface runs; an error if none.
fn xdp_program(name: &str) -> Result<u32> {
    let text = output("ip", &["-d", "link", "show", "dev", name])?;
    let id = text.split_once("prog/xdp id ").context("no XDP program")?.1;
    Ok(id.split_whitespace().next().context("no id")?.parse()?)
}

fn tcx_programs(name: &str) -> Result<usize> {
    use aya::programs::{SchedClassifier, TcAttachType};
    Ok(SchedClassifier::query_tcx(name, TcAttachType::Ingress)?.1.len())
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
