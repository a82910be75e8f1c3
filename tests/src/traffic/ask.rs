//! One question to a server of the lab, and which source address it saw.

use std::{
    io::{BufRead, BufReader, Write},
    net::{IpAddr, SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context, Result, ensure};

use crate::{lab::plan, netns::Netns};

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
