//! Two hosts, the node between them, and an agent's folder.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aya::programs::{ProgramError, SchedClassifier, TcAttachType};
use aya::util::KernelVersion;
use netroute_common::layout::route::{Group, KIND_NEIGHBOUR, Member, NextHop, Route};
use netroute_common::verdict::Hook;
use netroute_tests::namespace::{Namespace, enter, ifindex, mac, output, sh};
use netroute_tests::stream::{self, Receiver};
use netroute_user::apply::{MapStore, apply};
use netroute_user::compile::image::{Image, Limits};
use netroute_user::load::{
    Attachments, LoadError, Loaded, Loader, Mode, NicDevice, PodDevice, Switched, detach,
};
use netroute_user::plan::diff;

/// The agent's folder of one test; gone with it.
pub struct Folder {
    pub path: PathBuf,
}

impl Folder {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = format!("/sys/fs/bpf/nrtest-{}-{number}", std::process::id());
        Self { path: path.into() }
    }

    pub fn open(&self, limits: Limits) -> Result<Loaded, LoadError> {
        Loader::new(object(), &self.path, limits).open()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = detach(&self.path);
    }
}

pub fn object() -> &'static [u8] {
    netroute_user::load::object::bpf_object()
}

pub fn limits() -> Limits {
    Limits {
        routes4: 1024,
        blocks4: 64,
        routes6: 1024,
        groups: 64,
        next_hops: 64,
        route_stats: 256,
        ..Limits::DEFAULT
    }
}

pub fn nic(name: &str) -> Result<NicDevice> {
    Ok(NicDevice { ifindex: ifindex(name)?, name: name.to_owned(), mac: mac(name)? })
}

pub fn switched(loaded: Loaded, nics: &[NicDevice], pods: &[PodDevice]) -> Result<Attachments> {
    let Switched { attachments, refused, sockets_refused: _ } = loaded.switch_programs(nics, pods)?;
    ensure!(refused.is_empty(), "{refused:?}");
    Ok(attachments)
}

/// Two hosts and the node between them. The node's kernel does not forward: what arrives came
/// through our programs.
pub struct Wire {
    pub left: Namespace,
    pub right: Namespace,
    pub image: Image,
}

impl Wire {
    pub fn new() -> Result<Self> {
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
            xdp: u8::from(veth_takes_xdp()),
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

    /// Where the stream is forwarded.
    pub fn hook(&self) -> Hook {
        if veth_takes_xdp() { Hook::XdpNic } else { Hook::TcNic }
    }

    pub fn nics() -> Result<[NicDevice; 2]> {
        Ok([nic("left")?, nic("right")?])
    }

    /// One run of an agent: whatever was there before, `image` is in the maps and the programs
    /// run afterwards.
    pub fn agent(&self, folder: &Folder, limits: Limits) -> Result<(bool, Attachments)> {
        let loaded = folder.open(limits)?;
        let adopted = loaded.adopted;
        let mut store = loaded.store()?;
        apply(&diff(&store.read()?, &self.image), &mut store)?;
        Ok((adopted, switched(loaded, &Self::nics()?, &[])?))
    }

    /// Runs `during` under a stream of datagrams; none may be lost.
    pub fn without_loss(&self, during: impl FnOnce() -> Result<()>) -> Result<u64> {
        let to = "10.2.0.2:9000".parse()?;
        let receiver = self.right.run(move || Receiver::bind(to))?;
        let stop = Arc::new(AtomicBool::new(false));
        let total = Arc::new(OnceLock::new());
        let receiving = {
            let total = Arc::clone(&total);
            self.right.start(move || receiver.count(Duration::from_millis(500), &total))
        };
        let sending = {
            let stop = Arc::clone(&stop);
            self.left.start(move || {
                let sent = stream::send("10.1.0.2:9000".parse()?, to, &stop);
                let _ = total.set(*sent.as_ref().unwrap_or(&0));
                sent
            })
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

/// The XDP program an interface runs; an error if none.
pub fn xdp_program(name: &str) -> Result<u32> {
    let text = output("ip", &["-d", "link", "show", "dev", name])?;
    let id = text.split_once("prog/xdp id ").context("no XDP program")?.1;
    Ok(id.split_whitespace().next().context("no id")?.parse()?)
}

/// A veth with GRO takes what XDP redirects to its peer since Linux 5.13; before, only with a program of its
/// own.
fn veth_takes_xdp() -> bool {
    KernelVersion::current().is_ok_and(|version| version >= KernelVersion::new(5, 13, 0))
}

/// How TC programs are attached here; asks the kernel whether it knows TCX.
pub fn tc_mode() -> Result<Mode> {
    Ok(if query_tcx("lo")?.is_some() { Mode::Tcx } else { Mode::Clsact })
}

pub fn tcx_programs(name: &str) -> Result<usize> {
    Ok(query_tcx(name)?.unwrap_or(0))
}

/// TC programs by links and by filters.
pub fn tc_programs(name: &str) -> Result<usize> {
    let filters = output("tc", &["filter", "show", "dev", name, "ingress"])?;
    Ok(tcx_programs(name)? + filters.matches("direct-action").count())
}

/// `None` before Linux 6.6.
fn query_tcx(name: &str) -> Result<Option<usize>> {
    match SchedClassifier::query_tcx(name, TcAttachType::Ingress) {
        Ok((_, programs)) => Ok(Some(programs.len())),
        Err(ProgramError::SyscallError(error))
            if error.io_error.raw_os_error() == Some(nix::libc::EINVAL) =>
        {
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}
