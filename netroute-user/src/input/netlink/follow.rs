//! The task behind a `Watch`: receives, merges with what it read, and tells.
//!
//! Links are received on a socket of their own and before everything else, so that the loss of a
//! carrier waits neither for dumps nor for a flood of routes.

use std::io;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};
use tracing::{debug, warn};

use super::devices::Devices;
use super::notice::{Notice, XdpTransmit, absorb, parse};
use super::{Event, Options, snapshot};
use crate::kernel::{Change, KernelState, difference};
use crate::netlink::NetlinkError;
use crate::netlink::socket::{Protocol, Socket};

const RTNLGRP_LINK: u32 = 1;
const RTNLGRP_NEIGH: u32 = 3;
const RTNLGRP_IPV4_IFADDR: u32 = 5;
const RTNLGRP_IPV4_ROUTE: u32 = 7;
const RTNLGRP_IPV6_IFADDR: u32 = 9;
const RTNLGRP_IPV6_ROUTE: u32 = 11;
const RTNLGRP_NEXTHOP: u32 = 32;

/// A link that goes down changes many routes at once, silently; they are read once.
const SETTLE: Duration = Duration::from_millis(20);
/// Pause after a dump that failed.
const RETRY: Duration = Duration::from_millis(200);

type Read = Result<(KernelState, XdpTransmit), NetlinkError>;

/// Nobody listens any more.
struct Closed;

pub struct Follower {
    links: Socket,
    hosts: Socket,
    routes: Socket,
    features: Option<Socket>,
    devices: Option<Devices>,
    mirror_port: Option<u32>,
    events: mpsc::Sender<Event>,
    state: KernelState,
    xdp: XdpTransmit,
    /// The dump under way.
    reading: Option<oneshot::Receiver<Read>>,
    /// What was notified since it began; goes on top of its result.
    meanwhile: Vec<Notice>,
    /// When to read again.
    reread: Option<Instant>,
    /// The whole state was told once.
    synced: bool,
    /// The state told may miss something: tell the whole next time.
    lost: bool,
}

impl Follower {
    pub async fn open(options: Options, events: mpsc::Sender<Event>) -> Result<Self, NetlinkError> {
        let listen = |protocol, groups: &[u32]| {
            let socket = Socket::open(protocol)?;
            socket.set_receive_buffer(options.receive_buffer)?;
            groups.iter().try_for_each(|&group| socket.join(group))?;
            Ok::<_, NetlinkError>(socket)
        };
        let devices = Devices::find().await?;
        let features = match devices.as_ref().and_then(Devices::group) {
            Some(group) => Some(listen(Protocol::Generic, &[group])?),
            None => None,
        };
        let routes = listen(Protocol::Route, &[RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE])?;
        if let Err(error) = routes.join(RTNLGRP_NEXTHOP) {
            debug!(%error, "no nexthop objects on this kernel");
        }
        Ok(Self {
            links: listen(Protocol::Route, &[RTNLGRP_LINK])?,
            hosts: listen(Protocol::Route, &[RTNLGRP_NEIGH, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR])?,
            routes,
            features,
            devices,
            mirror_port: options.mirror_port,
            events,
            state: KernelState::default(),
            xdp: XdpTransmit::new(),
            reading: None,
            meanwhile: Vec::new(),
            reread: Some(Instant::now()),
            synced: false,
            lost: true,
        })
    }

    pub async fn run(mut self) {
        while self.step().await.is_ok() {}
    }

    /// Waits for the most urgent thing there is and does it.
    async fn step(&mut self) -> Result<(), Closed> {
        let due = self.reread.filter(|_| self.reading.is_none());
        let notices = tokio::select! {
            biased;
            frames = self.links.receive() => frames.map(|frames| frames.filter_map(|f| parse(&f)).collect()),
            frames = self.hosts.receive() => frames.map(|frames| frames.filter_map(|f| parse(&f)).collect()),
            notices = features(self.features.as_mut(), self.devices.as_ref()) => notices,
            () = self.events.closed() => return Err(Closed),
            frames = self.routes.receive() => frames.map(|frames| {
                let told = frames.filter(|frame| self.mirror_port != Some(frame.port));
                told.filter_map(|f| parse(&f)).collect::<Vec<_>>()
            }),
            read = result(self.reading.as_mut()) => return self.finish(read).await,
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                self.start();
                return Ok(());
            }
        };
        match notices {
            Ok(notices) => self.take(notices).await,
            Err(error) => self.overrun(&error).await,
        }
    }

    async fn take(&mut self, notices: Vec<Notice>) -> Result<(), Closed> {
        for notice in notices {
            if self.reading.is_some() {
                self.meanwhile.push(notice.clone());
            }
            let absorbed = absorb(&mut self.state, &mut self.xdp, notice);
            if absorbed.reread {
                self.reread.get_or_insert_with(|| Instant::now() + SETTLE);
            }
            if self.synced {
                self.tell(absorbed.changes).await?;
            }
        }
        Ok(())
    }

    /// Notifications were lost. What comes is still told, since it may be a carrier loss; the
    /// whole state follows.
    async fn overrun(&mut self, error: &io::Error) -> Result<(), Closed> {
        if error.raw_os_error() != Some(libc::ENOBUFS) {
            warn!(%error, "cannot receive notifications from the kernel, reading its state again");
            tokio::time::sleep(RETRY).await;
        }
        self.meanwhile.clear();
        self.reading = None;
        self.reread = Some(Instant::now());
        self.lost = true;
        Ok(())
    }

    /// Begins to read the whole state beside the notifications.
    fn start(&mut self) {
        let (sender, receiver) = oneshot::channel();
        let devices = self.devices.clone();
        tokio::spawn(async move { drop(sender.send(snapshot::read(devices.as_ref()).await)) });
        self.reading = Some(receiver);
        self.meanwhile.clear();
        self.reread = None;
    }

    async fn finish(&mut self, read: Read) -> Result<(), Closed> {
        self.reading = None;
        let meanwhile = std::mem::take(&mut self.meanwhile);
        let (mut state, mut xdp) = match read {
            Ok(read) => read,
            Err(error) => {
                warn!(%error, "cannot read the kernel's network state, trying again");
                self.reread = Some(Instant::now() + RETRY);
                return Ok(());
            }
        };
        for notice in meanwhile {
            if absorb(&mut state, &mut xdp, notice).reread {
                self.reread.get_or_insert_with(|| Instant::now() + SETTLE);
            }
        }
        let old = std::mem::replace(&mut self.state, state);
        self.xdp = xdp;
        if std::mem::take(&mut self.lost) {
            self.synced = true;
            self.send(Event::Synced(self.state.clone())).await
        } else {
            self.tell(difference(&old, &self.state)).await
        }
    }

    async fn tell(&self, changes: Vec<Change>) -> Result<(), Closed> {
        for change in changes {
            self.send(Event::Changed(change)).await?;
        }
        Ok(())
    }

    async fn send(&self, event: Event) -> Result<(), Closed> {
        self.events.send(event).await.map_err(|_| Closed)
    }
}

/// Pends for ever on kernels without the family.
async fn features(socket: Option<&mut Socket>, devices: Option<&Devices>) -> io::Result<Vec<Notice>> {
    let (Some(socket), Some(devices)) = (socket, devices) else { return std::future::pending().await };
    Ok(socket.receive().await?.filter_map(|frame| devices.notice(&frame)).collect())
}

/// Pends while nothing is being read.
async fn result(reading: Option<&mut oneshot::Receiver<Read>>) -> Read {
    let Some(reading) = reading else { return std::future::pending().await };
    reading.await.unwrap_or(Err(NetlinkError::Interrupted { what: "the kernel's state" }))
}
