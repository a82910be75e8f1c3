//! One connection of a pod, captured at both ends: at its veth, and where its wire ends.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result};
use netroute_tests::capture::{Frame, Tcpdump};
use netroute_tests::egress::{REFUSED, Rule, Sender};
use netroute_tests::lab::{Lab, Vm, plan};
use netroute_tests::traffic::{Target, reason};

/// Connections that begin, of both IP versions.
const SYN: &str = "tcp[tcpflags] & (tcp-syn|tcp-ack) == tcp-syn or (ip6[6] == 6 and ip6[53] & 0x12 == 2)";
const TIMEOUT: Duration = Duration::from_secs(2);

pub struct Captures {
    /// By pod.
    veths: BTreeMap<String, Tcpdump>,
    /// By VM: the switch's port, where what XDP sends is seen too.
    port2: BTreeMap<&'static str, Tcpdump>,
    camera: Tcpdump,
}

/// What was seen of one connection.
pub struct Row {
    pub from: String,
    pub rule: Rule,
    pub target: Target,
    server: IpAddr,
    /// The pod's address of that IP version, and the one that it is to have outside.
    own: IpAddr,
    seen_as: Option<IpAddr>,
    /// Source addresses at the pod's veth, at the far end of Port2, and at the camera.
    at_veth: Option<IpAddr>,
    at_port2: Vec<IpAddr>,
    at_camera: Option<IpAddr>,
    /// The client that the server saw, or why there was no answer.
    saw: Result<IpAddr, String>,
}

impl Captures {
    /// Returns when all of them see.
    pub fn start(lab: &Lab, senders: &[Sender]) -> Result<Self> {
        let veth = |sender: &Sender| {
            let veth = Tcpdump::start(sender.vm.ns(), &sender.pod.host_device, SYN)?;
            Ok((sender.name.clone(), veth))
        };
        let port2 = |vm: Vm| {
            let port = vm.port("Port2");
            Ok((vm.name(), Tcpdump::start(&port.switch, port.switch_device, SYN)?))
        };
        Ok(Self {
            veths: senders.iter().map(veth).collect::<Result<_>>()?,
            port2: lab.vms().into_iter().map(port2).collect::<Result<_>>()?,
            camera: Tcpdump::start(&lab.ns("cam"), "eth0", SYN)?,
        })
    }

    /// One connection of each sender to each target, by both IP versions.
    pub fn rows(&self, senders: &[Sender]) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        for sender in senders {
            for target in [Target::Camera, Target::Internet, Target::Uplink] {
                for server in target.addresses().both() {
                    rows.push(self.row(sender, target, server)?);
                }
            }
        }
        Ok(rows)
    }

    fn row(&self, sender: &Sender, target: Target, server: IpAddr) -> Result<Row> {
        let Sender { name, vm, pod, rule } = sender;
        let client = target.ask(&pod.ns, server, TIMEOUT);
        let to = SocketAddr::new(server, target.port());
        let first = |capture: &Tcpdump| {
            let frames = capture.until(|frame| destination(frame) == Some(to), TIMEOUT).ok()?;
            source(frames.last()?)
        };
        let veth = self.veths.get(name).with_context(|| format!("no capture of {name}"))?;
        Ok(Row {
            from: name.clone(),
            rule: *rule,
            target,
            server,
            own: if server.is_ipv4() { pod.address.v4.into() } else { pod.address.v6.into() },
            seen_as: sender.seen_at(target, server),
            at_veth: first(veth),
            at_port2: self.left_by_port2(vm, to)?,
            at_camera: if target == Target::Camera { first(&self.camera) } else { None },
            saw: client.map(|client| client.ip()).map_err(|error| reason(&error)),
        })
    }

    /// Sources of all connections to there until now. One of the VM itself, made after them, is their end.
    fn left_by_port2(&self, vm: &Vm, to: SocketAddr) -> Result<Vec<IpAddr>> {
        let last = Target::Uplink.ask(vm.ns(), plan::UPLINK.v4.into(), TIMEOUT)?;
        let capture = self.port2.get(vm.name()).with_context(|| format!("no capture of {}", vm.name()))?;
        let mut frames =
            capture.until(|frame| frame.ends().is_some_and(|[from, _]| from == last), TIMEOUT)?;
        frames.pop();
        Ok(frames.iter().filter(|frame| destination(frame) == Some(to)).filter_map(source).collect())
    }
}

fn source(frame: &Frame) -> Option<IpAddr> {
    frame.ends().map(|[source, _]| source.ip())
}

fn destination(frame: &Frame) -> Option<SocketAddr> {
    frame.ends().map(|[_, destination]| destination)
}

impl Row {
    /// Left as it was, arrived by the right port with the right address, once, and answered; or not at all.
    pub fn is_right(&self) -> bool {
        let Self { target, server, own, seen_as, at_veth, at_port2, at_camera, saw, .. } = self;
        let (camera, port2) = match target {
            Target::Camera => (*seen_as, None),
            Target::Internet | Target::Uplink => (None, *seen_as),
        };
        let answered = match (saw, seen_as, target) {
            (Err(reason), None, _) => reason == REFUSED,
            // The switch translates on the way there.
            (Ok(client), Some(_), Target::Internet) => {
                *client
                    == if server.is_ipv4() { plan::UPLINK.v4.into() } else { IpAddr::from(plan::UPLINK.v6) }
            }
            (Ok(client), Some(seen_as), _) => client == seen_as,
            _ => false,
        };
        answered && *at_veth == Some(*own) && *at_camera == camera && at_port2.iter().copied().eq(port2)
    }

    fn print(&self) {
        let Self { from, target, server, at_veth, at_port2, at_camera, saw, .. } = self;
        let family = if server.is_ipv4() { "v4" } else { "v6" };
        let shown = |address: &Option<IpAddr>| address.map_or_else(|| "-".to_owned(), |one| one.to_string());
        let port2: Vec<String> = at_port2.iter().map(IpAddr::to_string).collect();
        let port2 = if port2.is_empty() { "-".to_owned() } else { port2.join(" ") };
        let saw = saw.as_ref().map_or_else(Clone::clone, IpAddr::to_string);
        let (veth, camera) = (shown(at_veth), shown(at_camera));
        println!("{from:13}{:9}{family}  {veth:17}{port2:17}{camera:17}{saw}", target.name());
    }
}

pub fn table(rows: &[Row]) {
    println!("{:26}{:51}THE SERVER", "", "SOURCE ADDRESS, CAPTURED AT");
    println!("{:13}{:13}{:17}{:17}{:17}SAW", "FROM", "TO", "THE POD'S VETH", "PORT2'S FAR END", "THE CAMERA");
    rows.iter().for_each(Row::print);
}
