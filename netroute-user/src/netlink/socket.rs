//! A non-blocking netlink socket under tokio.

use std::fmt;
use std::io;

use netlink_sys::protocols::{NETLINK_GENERIC, NETLINK_ROUTE};
use netlink_sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket};
use nix::sys::socket::{setsockopt, sockopt};

use super::NetlinkError;
use super::frame::Frames;

/// The kernel sends dumps in pieces of at most 32 KiB (`NLMSG_GOODSIZE` limit since Linux 4.5).
const BUFFER_BYTES: usize = 64 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Route,
    Generic,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Route => "routing",
            Self::Generic => "generic",
        })
    }
}

/// Must be created inside a tokio runtime, in the network namespace it is to speak for.
pub struct Socket {
    socket: TokioSocket,
    buffer: Vec<u8>,
    port: u32,
}

impl Socket {
    pub fn open(protocol: Protocol) -> Result<Self, NetlinkError> {
        Self::try_open(protocol).map_err(|source| NetlinkError::Open { protocol, source })
    }

    fn try_open(protocol: Protocol) -> io::Result<Self> {
        let mut socket = TokioSocket::new(match protocol {
            Protocol::Route => NETLINK_ROUTE,
            Protocol::Generic => NETLINK_GENERIC,
        })?;
        let port = socket.socket_mut().bind_auto()?.port_number();
        socket.socket_ref().connect(&SocketAddr::new(0, 0))?;
        // Acks of failed requests need not carry the request back.
        socket.socket_ref().set_cap_ack(true)?;
        Ok(Self { socket, buffer: Vec::with_capacity(BUFFER_BYTES), port })
    }

    /// The socket's netlink port: notifications that its requests cause carry this number.
    #[must_use]
    pub fn port(&self) -> u32 {
        self.port
    }

    /// Makes room for `bytes` of unread messages, beyond `net.core.rmem_max` if permitted.
    pub fn set_receive_buffer(&self, bytes: usize) -> Result<(), NetlinkError> {
        let socket = self.socket.socket_ref();
        if setsockopt(socket, sockopt::RcvBufForce, &bytes).is_ok() {
            return Ok(());
        }
        socket
            .set_rx_buf_sz(libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX))
            .map_err(|source| NetlinkError::Receive { what: "receive buffer", source })
    }

    pub fn join(&self, group: u32) -> Result<(), NetlinkError> {
        let joined = self.socket.socket_ref().add_membership(group);
        joined.map_err(|source| NetlinkError::Join { group, source })
    }

    /// `NETLINK_GET_STRICT_CHK`; without effect on kernels before 4.20.
    pub fn filter_dumps(&self) {
        if let Err(error) = self.socket.socket_ref().set_netlink_get_strict_chk(true) {
            tracing::debug!(%error, "this kernel does not filter dumps");
        }
    }

    /// The next datagram. `ENOBUFS` means that messages were lost. Cancel safe.
    pub async fn receive(&mut self) -> io::Result<Frames<'_>> {
        self.buffer.clear();
        self.socket.recv(&mut self.buffer).await?;
        Ok(Frames::new(&self.buffer))
    }

    pub async fn send(&self, datagram: &[u8]) -> io::Result<()> {
        self.socket.send(datagram).await.map(drop)
    }
}
