//! Small servers for cameras and internet hosts, usable in process and as `netroute-lab-peer`.
//!
//! They say which source address they saw, because that is what NAT and route tests ask for.
//! Protocols are only as real as clients in tests need them.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::AsRawFd,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nix::sys::socket::{Shutdown, shutdown};

use crate::netns::Netns;

/// The line by which `netroute-lab-peer` says that it listens.
pub const READY: &str = "ready";

/// How often a UDP server looks whether it shall end.
const TICK: Duration = Duration::from_millis(100);

/// What a server does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// TCP: sends back what it gets.
    Echo,
    /// TCP: answers any request with 200, the client's address in header and body; `/bytes/N`
    /// answers with N bytes.
    Http,
    /// TCP: answers any request with `RTSP/1.0 200 OK`, its `CSeq` and the client's address.
    Rtsp,
    /// UDP: sends back what it gets; `PLAY count rate` is answered by `count` numbered datagrams
    /// at `rate` per second, as a camera streams.
    Udp,
}

impl FromStr for Service {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self> {
        Ok(match name {
            "echo" => Self::Echo,
            "http" => Self::Http,
            "rtsp" => Self::Rtsp,
            "udp" => Self::Udp,
            _ => bail!("no service {name:?}: use echo, http, rtsp or udp"),
        })
    }
}

/// A running server, of both families. Dropping it ends it; open connections live on.
#[derive(Debug)]
pub struct Server {
    socket: Socket,
    port: u16,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Udp,
}

impl Server {
    /// Serves inside a namespace; port 0 chooses a free one.
    pub fn start(ns: &Netns, service: Service, port: u16) -> Result<Self> {
        ns.run(|| Self::bind(service, port))
    }

    /// Serves in the caller's namespace.
    pub fn bind(service: Service, port: u16) -> Result<Self> {
        let address = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
        let cannot = || format!("cannot listen on port {port}");
        let stopping = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&stopping);
        let (socket, port, thread) = if service == Service::Udp {
            let socket = UdpSocket::bind(address).with_context(cannot)?;
            socket.set_read_timeout(Some(TICK))?;
            let port = socket.local_addr()?.port();
            (Socket::Udp, port, thread::spawn(move || serve_udp(&Arc::new(socket), &stop)))
        } else {
            let listener = TcpListener::bind(address).with_context(cannot)?;
            let port = listener.local_addr()?.port();
            let own = listener.try_clone()?;
            (Socket::Tcp(own), port, thread::spawn(move || serve_tcp(&listener, service, &stop)))
        };
        Ok(Self { socket, port, stopping, thread: Some(thread) })
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Serves until the process ends.
    pub fn wait(mut self) {
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        if let Socket::Tcp(listener) = &self.socket {
            // Wakes the thread that waits in accept().
            let _ = shutdown(listener.as_raw_fd(), Shutdown::Both);
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve_tcp(listener: &TcpListener, service: Service, stop: &AtomicBool) {
    for stream in listener.incoming() {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let Ok(stream) = stream else { continue };
        // A client that goes away in mid-sentence is its own affair.
        thread::spawn(move || match service {
            Service::Rtsp => requests(&stream, rtsp_answer),
            Service::Http => requests(&stream, http_answer),
            Service::Echo | Service::Udp => echo(&stream),
        });
    }
}

fn echo(mut stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            return stream.shutdown(std::net::Shutdown::Write);
        }
        stream.write_all(&buffer[..length])?;
    }
}

/// Reads requests as lines up to an empty one, and answers each.
fn requests(stream: &TcpStream, answer: fn(&[String], SocketAddr) -> Vec<u8>) -> io::Result<()> {
    let client = canonical(stream.peer_addr()?);
    let mut reader = BufReader::new(stream);
    let mut request = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let line = line.trim_end();
        if !line.is_empty() {
            request.push(line.to_owned());
        } else if !request.is_empty() {
            let mut out = stream;
            out.write_all(&answer(&request, client))?;
            request.clear();
        }
    }
}

fn rtsp_answer(request: &[String], client: SocketAddr) -> Vec<u8> {
    let cseq = request
        .iter()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("cseq"))
        .map_or("0", |(_, value)| value.trim());
    format!(
        "RTSP/1.0 200 OK\r\nCSeq: {cseq}\r\nPublic: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n\
         X-Client: {client}\r\n\r\n"
    )
    .into_bytes()
}

fn http_answer(request: &[String], client: SocketAddr) -> Vec<u8> {
    let path = request.first().and_then(|line| line.split(' ').nth(1)).unwrap_or("/");
    let length = path.strip_prefix("/bytes/").and_then(|count| count.parse().ok());
    let body = length.map_or_else(
        || format!("you are {client}\n").into_bytes(),
        |count: usize| (0..=u8::MAX).cycle().take(count).collect(),
    );
    let mut answer =
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nX-Client: {client}\r\n\r\n", body.len())
            .into_bytes();
    answer.extend(body);
    answer
}

fn serve_udp(socket: &Arc<UdpSocket>, stop: &AtomicBool) {
    let mut buffer = vec![0; 64 * 1024];
    while !stop.load(Ordering::Relaxed) {
        // Time-outs and ICMP errors of earlier answers arrive here; neither ends the service.
        let Ok((length, client)) = socket.recv_from(&mut buffer) else {
            continue;
        };
        let datagram = &buffer[..length];
        if let Some((count, rate)) = play_request(datagram) {
            let socket = Arc::clone(socket);
            thread::spawn(move || play(&socket, client, count, rate));
        } else {
            let _ = socket.send_to(datagram, client);
        }
    }
}

fn play_request(datagram: &[u8]) -> Option<(u32, u32)> {
    let mut words = std::str::from_utf8(datagram).ok()?.split_whitespace();
    let (verb, count, rate) = (words.next()?, words.next()?, words.next()?);
    Some((count.parse().ok()?, rate.parse().ok()?)).filter(|(_, rate)| verb == "PLAY" && *rate > 0)
}

fn play(socket: &UdpSocket, client: SocketAddr, count: u32, rate: u32) {
    let begin = Instant::now();
    for number in 0..count {
        let due = begin + Duration::from_secs(1) * number / rate;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let mut datagram = [0; 1200];
        datagram[..4].copy_from_slice(&number.to_be_bytes());
        let _ = socket.send_to(&datagram, client);
    }
}

/// A client of a dual-stack socket as its user knows it: without the `::ffff:` of IPv4.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(IpAddr::to_canonical(&address.ip()), address.port())
}
