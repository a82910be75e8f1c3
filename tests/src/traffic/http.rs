//! One HTTP request on a connection of its own, and the whole answer.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context, Result};

use crate::netns::Netns;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpAnswer {
    pub status: u16,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

impl HttpAnswer {
    fn parse(text: &str) -> Option<Self> {
        let (head, body) = text.split_once("\r\n\r\n")?;
        let mut lines = head.lines();
        let status = lines.next()?.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
        let header = |line: &str| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_ascii_lowercase(), value.trim().to_owned()))
        };
        let headers: BTreeMap<String, String> = lines.filter_map(header).collect();
        // What was cut off is not an answer.
        let length = headers.get("content-length").and_then(|length| length.parse().ok());
        (length.unwrap_or(body.len()) == body.len()).then(|| Self { status, headers, body: body.to_owned() })
    }
}

/// `GET path` from a namespace; `timeout` holds for the connect and for each read.
///
/// # Errors
/// When there is no answer, or not all of it.
pub fn http(ns: &Netns, server: SocketAddr, path: &str, timeout: Duration) -> Result<HttpAnswer> {
    ns.run(|| request(server, path, timeout)).with_context(|| format!("{ns} asking {server}"))
}

/// The same from the caller's namespace.
///
/// # Errors
/// As [`http`].
pub fn request(server: SocketAddr, path: &str, timeout: Duration) -> Result<HttpAnswer> {
    let mut stream = TcpStream::connect_timeout(&server, timeout)?;
    stream.set_read_timeout(Some(timeout))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    HttpAnswer::parse(&text).with_context(|| format!("not an answer: {text:?}"))
}
