//! One question to a server of the lab, and which source address it saw.

use std::{
    io::{BufRead, BufReader, ErrorKind, Write},
    net::{IpAddr, SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context, Result, ensure};

use crate::{
    lab::plan::{self, Dual},
    netns::Netns,
};

/// A server of the lab that says which client address it saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Camera,
    Internet,
    /// The web server at the internal switch's address of its uplink, where `egress::serve_uplink` has one: as no
    /// NAT of the switch is on the way to it, it sees with which address a packet left the VM.
    Uplink,
}

impl Target {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Camera => "camera",
            Self::Internet => "internet",
            Self::Uplink => "uplink",
        }
    }

    pub const fn addresses(self) -> Dual {
        match self {
            Self::Camera => plan::CAMERA,
            Self::Internet => plan::INTERNET,
            Self::Uplink => plan::UPLINK,
        }
    }

    /// One request to `server`, an address of this target; the client address that it saw.
    ///
    /// # Errors
    /// When there is no answer; `reason` has a word for it.
    pub fn ask(self, ns: &Netns, server: IpAddr, timeout: Duration) -> Result<SocketAddr> {
        match self {
            Self::Camera => rtsp_options(ns, server, timeout),
            Self::Internet | Self::Uplink => http_get(ns, server, timeout),
        }
    }

    pub const fn port(self) -> u16 {
        match self {
            Self::Camera => plan::RTSP_PORT,
            Self::Internet | Self::Uplink => plan::HTTP_PORT,
        }
    }
}

/// Why a request got no answer: `refused`, `no answer`, or what else went wrong.
pub fn reason(error: &anyhow::Error) -> String {
    let kind = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
    match kind {
        Some(ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable | ErrorKind::ConnectionRefused) => {
            "refused".to_owned()
        }
        Some(ErrorKind::TimedOut | ErrorKind::WouldBlock) => "no answer".to_owned(),
        _ => error.root_cause().to_string(),
    }
}

/// Asks the HTTP server at `server` and returns the client address it saw.
pub fn http_get(ns: &Netns, server: IpAddr, timeout: Duration) -> Result<SocketAddr> {
    let request = format!("GET / HTTP/1.1\r\nHost: {server}\r\n\r\n");
    ask(ns, (server, plan::HTTP_PORT).into(), &request, "HTTP/1.1 200 OK", timeout)
}

/// Asks the camera at `server` for its options and returns the client address it saw.
pub fn rtsp_options(ns: &Netns, server: IpAddr, timeout: Duration) -> Result<SocketAddr> {
    ask(
        ns,
        (server, plan::RTSP_PORT).into(),
        "OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n",
        "RTSP/1.0 200 OK",
        timeout,
    )
}

fn ask(ns: &Netns, server: SocketAddr, request: &str, status: &str, timeout: Duration) -> Result<SocketAddr> {
    ns.run(|| {
        let mut stream = TcpStream::connect_timeout(&server, timeout)?;
        stream.set_read_timeout(Some(timeout))?;
        stream.write_all(request.as_bytes())?;
        let mut lines = BufReader::new(stream).lines();
        let first = lines.next().context("closed without an answer")??;
        ensure!(first == status, "answered {first:?}");
        for line in lines {
            if let Some(client) = line?.strip_prefix("X-Client: ") {
                return Ok(client.parse()?);
            }
        }
        anyhow::bail!("the answer names no client")
    })
    .with_context(|| format!("{ns} asking {server}"))
}
