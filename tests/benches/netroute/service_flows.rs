//! Established flows of a Service whose endpoint is on another node, and of what leaves the cluster, for test
//! runs.
//!
//! The product opens them, by the first packets of each. Then the front end is taken away: what is
//! forwarded from then on, is so by the entry of its flow.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::rc::Rc;

use anyhow::{Context, Result, bail, ensure};
use aya::maps::{Array, ProgramArray};
use aya::programs::ProgramFd;
use netroute_common::layout::flow::{Masquerade, Timers};
use netroute_common::layout::route::{FIRST_FREE_ID, KIND_LOCAL, KIND_SERVICE, Route, UNCOUNTED};
use netroute_common::layout::service::{
    Address, Backend, FRONTEND_MASQUERADE, FrontEnd, FrontEndKey, SCOPE_EXTERNAL, SCOPE_INTERNAL,
};
use netroute_common::verdict::Hook;
use netroute_user::apply::apply;
use netroute_user::compile::image::Image;
use netroute_user::compile::services::image::{ServiceImage, mapped};
use netroute_user::load::testrun::{SkbContext, TestBed};
use netroute_user::plan::diff;

use crate::egress;
use crate::packet::{self, Segment};
use crate::probe::{self, Kind, Probe};
use crate::stage::{Stage, Way, limits};

/// A power of two.
pub const COUNT: u16 = 4096;
const ROUTES: usize = 4;

const ENDPOINT_PORT: u16 = 8080;
const FRONT_PORT: u16 = 80;
const FIRST_CLIENT_PORT: u16 = 20_000;
const IPPROTO_TCP: u8 = 6;
const IPPROTO_UDP: u8 = 17;
const BACKEND: u32 = 1;
const GENERATION: u32 = 1;
/// A client's port is kept where it is one of them.
const MASQUERADE_PORTS: (u16, u16) = (1024, 64_512);

/// Who takes part, in one IP version.
#[derive(Clone, Copy, Debug)]
pub struct Cast {
    client: IpAddr,
    front: IpAddr,
    endpoint: IpAddr,
    /// The router's own.
    router: IpAddr,
}

pub const V4: Cast = Cast {
    client: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 5)),
    front: IpAddr::V4(Ipv4Addr::new(10, 96, 0, 1)),
    endpoint: IpAddr::V4(Ipv4Addr::new(10, 244, 1, 7)),
    router: IpAddr::V4(Ipv4Addr::new(10, 0, 1, 1)),
};

pub const V6: Cast = Cast {
    client: IpAddr::V6(Ipv6Addr::new(0xfd10, 0, 0, 0, 0, 0, 0, 5)),
    front: IpAddr::V6(Ipv6Addr::new(0xfd10, 0, 0x96, 0, 0, 0, 0, 1)),
    endpoint: IpAddr::V6(Ipv6Addr::new(0xfd10, 0, 0x244, 0, 0, 0, 1, 7)),
    router: IpAddr::V6(Ipv6Addr::new(0xfd10, 0, 1, 0, 0, 0, 0, 1)),
};

/// What leaves the cluster, masqueraded; to no Service.
pub const EGRESS4: Cast = Cast { front: V4.endpoint, ..V4 };

impl Cast {
    fn is_egress(self) -> bool {
        self.front == self.endpoint
    }

    /// The port of what the client's packets become.
    fn endpoint_port(self) -> u16 {
        if self.is_egress() { FRONT_PORT } else { ENDPOINT_PORT }
    }
}

/// Flows that are established, and the frames that come next in them.
pub struct ServiceFlows {
    pub bed: Rc<TestBed>,
    cast: Cast,
    hook: Hook,
    frames: Vec<Vec<u8>>,
}

impl ServiceFlows {
    /// Opens flows of packets that come in at this hook of the stage's NIC. Masqueraded at XDP; a pod is not.
    pub fn open(stage: &Stage, cast: Cast, hook: Hook, tcp: bool) -> Result<Self> {
        let bed = stage.empty_bed(ROUTES)?;
        let image = image(stage, cast, if tcp { IPPROTO_TCP } else { IPPROTO_UDP });
        let mut opener = Opener { bed, nic: stage.nic, cast, hook, tcp };
        let without = Image {
            services: ServiceImage { front_ends: BTreeMap::new(), ..image.services.clone() },
            ..image.clone()
        };
        apply(&diff(&Image::default(), &image), &mut opener.bed.store).context("cannot fill the maps")?;
        let ports = FIRST_CLIENT_PORT..FIRST_CLIENT_PORT + COUNT;
        let frames = ports.map(|port| opener.open(port)).collect::<Result<Vec<_>>>()?;
        apply(&diff(&image, &without), &mut opener.bed.store).context("cannot remove the front end")?;
        Ok(Self { bed: Rc::new(opener.bed), cast, hook, frames })
    }

    /// The program of the hook behind one that makes the next flow's packet.
    pub fn probe(&self, path: &Path, kind: Kind, expected: u32) -> Result<Probe> {
        restored(path, self.bed.program_fd(self.hook)?, kind, &self.frames, expected)
    }

    /// A program of the benchmark's own in its place.
    pub fn restoring(&self, path: &Path, name: &'static str, kind: Kind, expected: u32) -> Result<Probe> {
        let object = probe::load(&mut probe::small(), path, &[name])?;
        let program = object.program(name).with_context(|| format!("no program {name}"))?.fd()?;
        restored(path, program, kind, &self.frames, expected)
    }

    /// Makes sure that this is what the endpoint should get.
    pub fn verify(&self, frame: &[u8]) -> Result<()> {
        let (source, destination) = packet::ends(frame)?;
        let endpoint = SocketAddr::new(self.cast.endpoint, self.cast.endpoint_port());
        ensure!(destination == endpoint, "sent to {destination}");
        let masqueraded = self.hook == Hook::XdpNic || self.cast.is_egress();
        let from = if masqueraded { self.cast.router } else { self.cast.client };
        let ports = FIRST_CLIENT_PORT..FIRST_CLIENT_PORT + COUNT;
        ensure!(source.ip() == from && ports.contains(&source.port()), "sent from {source}");
        ensure!(packet::is_valid(frame, packet::TTL - 1), "forwarded with a wrong TTL or checksum");
        Ok(())
    }
}

struct Opener {
    bed: TestBed,
    nic: u32,
    cast: Cast,
    hook: Hook,
    tcp: bool,
}

impl Opener {
    /// Opens the flow of this client's port; the frame that comes next in it.
    fn open(&self, port: u16) -> Result<Vec<u8>> {
        let Cast { client, front, .. } = self.cast;
        let (client, front) = (SocketAddr::new(client, port), SocketAddr::new(front, FRONT_PORT));
        let answers_at = if self.hook == Hook::TcPod { Hook::TcNic } else { self.hook };
        let [first, answer, data] =
            if self.tcp { [Segment::Syn, Segment::SynAck, Segment::Ack] } else { [Segment::Udp; 3] };
        let (source, endpoint) =
            packet::ends(&self.send(self.hook, &packet::frame_between(client, front, first)?)?)?;
        self.send(answers_at, &packet::frame_between(endpoint, source, answer)?)?;
        let data = packet::frame_between(client, front, data)?;
        self.send(self.hook, &data)?;
        Ok(data)
    }

    /// The frame as it leaves.
    fn send(&self, hook: Hook, frame: &[u8]) -> Result<Vec<u8>> {
        let (outcome, forwarded) = match hook {
            Hook::XdpNic => (self.bed.xdp(frame, 1)?, probe::XDP_REDIRECT),
            Hook::TcNic | Hook::TcPod | Hook::TcOut => {
                let context = SkbContext { ifindex: self.nic, ..SkbContext::default() };
                (self.bed.tc(hook, frame, context, 1)?, probe::TC_ACT_REDIRECT)
            }
        };
        if outcome.action != forwarded {
            bail!("not forwarded: {:?}", self.bed.counters.verdicts()?.keys());
        }
        Ok(outcome.packet)
    }
}

/// Everything is behind the other NIC, but for the Service and the router itself.
fn image(stage: &Stage, cast: Cast, protocol: u8) -> Image {
    let mut image = stage.image(&[], &[], Way::Out);
    let to = |group: u32| Route { group, stats: UNCOUNTED };
    let out = to(FIRST_FREE_ID);
    let front = if cast.is_egress() { out } else { to(KIND_SERVICE.into()) };
    let fixed = [(cast.front, front), (cast.router, to(KIND_LOCAL.into()))];
    for (address, route) in [(cast.client, out), (cast.endpoint, out)].into_iter().chain(fixed) {
        match address {
            IpAddr::V4(address) => drop(image.routes4.insert(address.into(), route)),
            IpAddr::V6(address) => drop(image.routes6.insert(address.into(), route)),
        }
    }
    image.build_strides(limits(ROUTES), &Image::default());
    let key = FrontEndKey { address: mapped(cast.front), port: FRONT_PORT, protocol, scope: SCOPE_EXTERNAL };
    let flags = FRONTEND_MASQUERADE;
    let front_end = FrontEnd { service: 1, block: 0, size: 1, flags, ..FrontEnd::default() };
    let front_ends = BTreeMap::from([
        (key, front_end),
        (FrontEndKey { scope: SCOPE_INTERNAL, ..key }, FrontEnd { flags: 0, ..front_end }),
    ]);
    let (first_port, ports) = MASQUERADE_PORTS;
    let (address4, address6) = match cast.router {
        IpAddr::V4(address) => (address.octets(), Address::default()),
        IpAddr::V6(address) => ([0; 4], Address::v6(address.octets())),
    };
    let backend =
        Backend { address: mapped(cast.endpoint), port: ENDPOINT_PORT, flags: 0, generation: GENERATION };
    image.services = ServiceImage {
        front_ends,
        blocks: BTreeMap::from([(0, [BACKEND].into())]),
        backends: BTreeMap::from([(BACKEND, backend)]),
        masquerade: BTreeMap::from([(stage.out, Masquerade { address4, address6, first_port, ports })]),
        timers: Some(Timers::DEFAULT),
        ..ServiceImage::default()
    };
    if cast.is_egress() {
        image.services.front_ends.clear();
        image.egress = egress::masquerade([cast.client]);
    }
    image
}

/// A program behind the one that makes packets of these frames, which differ in the client's port alone.
fn restored(
    path: &Path,
    program: &ProgramFd,
    kind: Kind,
    frames: &[Vec<u8>],
    expected: u32,
) -> Result<Probe> {
    let first = frames.first().context("no flows")?;
    let (name, transport) = match (kind, packet::ends(first)?.0) {
        (Kind::Xdp, SocketAddr::V4(_)) => ("restore_flow4_xdp", 17),
        (Kind::Tc { .. }, SocketAddr::V4(_)) => ("restore_flow4_tc", 17),
        (Kind::Xdp, SocketAddr::V6(_)) => ("restore_flow6_xdp", 27),
        (Kind::Tc { .. }, SocketAddr::V6(_)) => bail!("no program makes IPv6 packets at TC"),
    };
    let count = u32::try_from(frames.len())?;
    let mask = count - 1;
    let mut loader = probe::small();
    loader.override_global("FLOW_MASK", &mask, true).map_max_entries("FLOW_CLIENTS", count);
    let mut object = probe::load(&mut loader, path, &[name])?;
    let header = object.map_mut("FLOW_HEADER").context("no map FLOW_HEADER")?;
    Array::<_, [u16; HEADER_WORDS]>::try_from(header)?.set(0, words(first), 0)?;
    let clients = object.map_mut("FLOW_CLIENTS").context("no map FLOW_CLIENTS")?;
    let mut clients: Array<_, [u16; 4]> = clients.try_into()?;
    for (index, frame) in (0..).zip(frames) {
        let words: [u16; HEADER_WORDS] = words(frame);
        // The port, and where UDP and TCP have their checksums; behind UDP's that is payload.
        clients.set(index, [words[transport], words[transport + 3], words[transport + 8], 0], 0)?;
    }
    let mut next: ProgramArray<_> = object.map_mut("NEXT").context("no map NEXT")?.try_into()?;
    next.set(0, program, 0)?;
    Probe::own(object, name, kind, first.clone(), expected)
}

/// Of Ethernet, IPv6 and TCP; a frame of IPv4 has some payload there.
const HEADER_WORDS: usize = 37;

/// As they lie in memory.
fn words(frame: &[u8]) -> [u16; HEADER_WORDS] {
    std::array::from_fn(|word| u16::from_ne_bytes([frame[2 * word], frame[2 * word + 1]]))
}
