//! The servers of the application, as processes of `netroute-lab-peer`.
//!
//! The database answers a line with its name; the web answers a request with a page that has its own name and
//! what databases of both families answered.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};

use super::{DATABASE, DATABASE_PORT, WEB_TARGET_PORT};
use crate::peer::READY;

/// How long the web waits for the database: longer than a busy machine lets a process wait for a processor. A
/// connection that is broken never answers, however long this is.
const TIMEOUT: Duration = Duration::from_secs(10);
const QUERY: &[u8] = b"SELECT name\n";

/// Which server, by the word that starts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Replica {
    Web,
    Database,
}

/// What a client gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The replica that made it.
    pub web: String,
    /// The databases that it asked, by IPv4 and by IPv6.
    pub databases: [String; 2],
}

impl Replica {
    pub const ALL: [Self; 2] = [Self::Database, Self::Web];

    pub const fn word(self) -> &'static str {
        match self {
            Self::Web => "web",
            Self::Database => "database",
        }
    }

    /// Serves in the caller's namespace until the process ends.
    ///
    /// # Errors
    /// When the port is taken.
    pub fn serve(self, name: &str) -> Result<()> {
        let port = match self {
            Self::Web => WEB_TARGET_PORT,
            Self::Database => DATABASE_PORT,
        };
        let listener = TcpListener::bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)))?;
        writeln!(std::io::stdout(), "{READY}")?;
        for stream in listener.incoming() {
            let name = name.to_owned();
            // A client that goes away in mid-sentence is its own affair.
            thread::spawn(move || match self {
                Self::Web => serve_page(&stream?, &name),
                Self::Database => answer_query(&stream?, &name),
            });
        }
        bail!("no more connections")
    }
}

fn answer_query(mut stream: &TcpStream, name: &str) -> Result<()> {
    let mut query = String::new();
    BufReader::new(stream).read_line(&mut query)?;
    Ok(stream.write_all(format!("{name}\n").as_bytes())?)
}

fn query(address: IpAddr) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&(address, DATABASE_PORT).into(), TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.write_all(QUERY)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.strip_suffix('\n').context("the database broke off")?.to_owned())
}

fn serve_page(mut stream: &TcpStream, name: &str) -> Result<()> {
    let mut lines = BufReader::new(stream).lines();
    // A request has no body here: it ends with an empty line.
    while !lines.next().context("no request")??.is_empty() {}
    let databases = DATABASE.both().map(query);
    let (status, body) = match databases {
        [Ok(v4), Ok(v6)] => ("200 OK", Page { web: name.to_owned(), databases: [v4, v6] }.text()),
        [Err(error), _] | [_, Err(error)] => ("502 Bad Gateway", format!("{name}: no database: {error}\n")),
    };
    let length = body.len();
    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
    Ok(stream.write_all(answer.as_bytes())?)
}

impl Page {
    fn text(&self) -> String {
        let Self { web, databases: [v4, v6] } = self;
        format!("web {web}\ndatabase by IPv4 {v4}\ndatabase by IPv6 {v6}\n")
    }

    /// Reads a page as a client.
    ///
    /// # Errors
    /// When it is something else.
    pub fn parse(text: &str) -> Result<Self> {
        let value = |key| text.lines().find_map(|line| line.strip_prefix(key)).map(str::to_owned);
        let page = || {
            let databases = [value("database by IPv4 ")?, value("database by IPv6 ")?];
            Some(Self { web: value("web ")?, databases })
        };
        page().with_context(|| format!("not a page: {text:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_read_as_it_was_written() {
        let databases = ["worker-pod2", "master-pod1"].map(str::to_owned);
        let page = Page { web: "master-pod2".into(), databases };
        assert_eq!(Page::parse(&page.text()).unwrap(), page);
        assert!(Page::parse("web master-pod2\n").is_err());
    }
}
