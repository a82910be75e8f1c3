//! One port: who asks, and how long he may take. Anybody on the network may, hence the limits.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, SockaddrIn6, SockaddrLike, bind, listen,
    setsockopt, socket, sockopt,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tracing::debug;

use super::Checks;
use super::answer::{answer, unavailable};

/// Open connections of one port; further ones wait until one of these ends.
const MOST_HERE: usize = 16;
/// Open connections of all ports; further ones are closed.
pub const MOST: usize = 256;
/// For the whole request line and headers.
const HEADERS: Duration = Duration::from_secs(2);
/// For a whole connection.
const WHOLE: Duration = Duration::from_secs(5);
/// Bytes of a request.
const LARGEST: usize = 8192;
/// After the kernel refused a connection, as for want of descriptors.
const BREATH: Duration = Duration::from_millis(100);

/// Listens on all addresses of the node, of both families where the kernel has both.
///
/// # Errors
/// As the kernel says, above all that another process has the port.
pub fn on_all_addresses(port: u16) -> io::Result<TcpListener> {
    let six = SockaddrIn6::from(SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, port, 0, 0));
    let four = SockaddrIn::from(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port));
    match on(AddressFamily::Inet6, &six) {
        Err(Errno::EAFNOSUPPORT) => Ok(on(AddressFamily::Inet, &four)?),
        listener => Ok(listener?),
    }
    .and_then(TcpListener::from_std)
}

fn on(family: AddressFamily, address: &dyn SockaddrLike) -> nix::Result<std::net::TcpListener> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(family, SockType::Stream, flags, None)?;
    // Connections of an agent before this one may still be closing.
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    if family == AddressFamily::Inet6 {
        setsockopt(&socket, sockopt::Ipv6V6Only, &false)?;
    }
    bind(socket.as_raw_fd(), address)?;
    listen(&socket, Backlog::new(128)?)?;
    Ok(socket.into())
}

/// Answers until it is aborted.
pub async fn serve(
    listener: TcpListener,
    port: u16,
    checks: watch::Receiver<Arc<Checks>>,
    all: Arc<Semaphore>,
) {
    let here = Arc::new(Semaphore::new(MOST_HERE));
    // Nobody closes the semaphore.
    while let Ok(slot) = here.clone().acquire_owned().await {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                debug!(port, %error, "health check not accepted");
                tokio::time::sleep(BREATH).await;
                continue;
            }
        };
        let Ok(one) = all.clone().try_acquire_owned() else { continue };
        let checks = checks.clone();
        tokio::spawn(async move {
            // Whoever takes too long is cut off; there is nobody to tell.
            let _ = tokio::time::timeout(WHOLE, connection(stream, port, &checks)).await;
            drop((slot, one));
        });
    }
}

/// One request and its answer.
async fn connection(
    stream: TcpStream,
    port: u16,
    checks: &watch::Receiver<Arc<Checks>>,
) -> hyper::Result<()> {
    let service = service_fn(|_request| {
        let response = now(port, checks);
        async move { Ok::<_, Infallible>(response) }
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS)
        .max_buf_size(LARGEST)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await
}

fn now(port: u16, checks: &watch::Receiver<Arc<Checks>>) -> Response<Full<Bytes>> {
    let checks = checks.borrow().clone();
    // A port that was just given up has nobody to speak for.
    checks
        .ports
        .get(&port)
        .map_or_else(unavailable, |check| answer(check, checks.is_healthy(check, Instant::now())))
}
