//! One port: who asks, and how long he may take. Anybody on the network may, hence the limits.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tracing::debug;

use super::Checks;
use super::answer::{answer, unavailable};

/// Open connections of one port; for a further one the oldest that has sent nothing ends.
const MOST_HERE: usize = 16;
/// Open connections of all ports; a further one takes the place of another of its port, or is closed.
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
    let mut here = Open::default();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                debug!(port, %error, "health check not accepted");
                tokio::time::sleep(BREATH).await;
                continue;
            }
        };
        here.make_room(MOST_HERE);
        let one = match all.clone().try_acquire_owned() {
            Ok(one) => one,
            Err(_) => {
                here.make_room(here.0.len());
                // Those that ended give back theirs in a moment; nobody closes the semaphore.
                let Ok(Ok(one)) = timeout(BREATH, all.clone().acquire_owned()).await else { continue };
                one
            }
        };
        let checks = checks.clone();
        let spoke = Arc::new(AtomicBool::new(false));
        let speaks = spoke.clone();
        let task = tokio::spawn(async move {
            // Whoever takes too long is cut off; there is nobody to tell.
            let _ = timeout(WHOLE, connection(stream, port, &checks, &speaks)).await;
            drop(one);
        });
        here.0.push_back(Connection { task: task.abort_handle(), spoke });
    }
}

/// The connections of one port, the oldest first.
#[derive(Default)]
struct Open(VecDeque<Connection>);

struct Connection {
    task: AbortHandle,
    /// Has sent a byte.
    spoke: Arc<AtomicBool>,
}

impl Open {
    /// Ends connections until there is room for one more: those that have sent nothing first, so that nobody
    /// keeps balancers out by silence.
    fn make_room(&mut self, most: usize) {
        self.0.retain(|connection| !connection.task.is_finished());
        while !self.0.is_empty() && self.0.len() >= most {
            let silent = self.0.iter().position(|connection| !connection.spoke.load(Ordering::Relaxed));
            if let Some(connection) = self.0.remove(silent.unwrap_or(0)) {
                connection.task.abort();
            }
        }
    }
}

/// One request and its answer.
async fn connection(
    stream: TcpStream,
    port: u16,
    checks: &watch::Receiver<Arc<Checks>>,
    spoke: &AtomicBool,
) -> hyper::Result<()> {
    let begun = Instant::now();
    // Closed before it was sent is as good as silent.
    if !matches!(timeout(HEADERS, stream.peek(&mut [0])).await, Ok(Ok(1..))) {
        return Ok(());
    }
    spoke.store(true, Ordering::Relaxed);
    let service = service_fn(|_request| {
        let response = now(port, checks);
        async move { Ok::<_, Infallible>(response) }
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS.saturating_sub(begun.elapsed()))
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::task::JoinHandle;

    use super::super::Check;
    use super::*;
    use crate::desired::service::ServiceKey;

    /// Far below the time after which a silent client is sent away.
    const SOON: Duration = Duration::from_secs(1);

    /// A port with one endpoint here, until the task ends.
    fn port() -> (u16, watch::Sender<Arc<Checks>>, JoinHandle<()>) {
        let listener = on_all_addresses(0).unwrap();
        let port = listener.local_addr().unwrap().port();
        let service = ServiceKey { namespace: "shop".into(), name: "web".into() };
        let check = Check { service, local_endpoints: 1, served: true };
        let ports = BTreeMap::from([(port, check)]);
        let told = Arc::new(Checks { ports, healthy: true, told: Instant::now() });
        let (sender, checks) = watch::channel(told);
        (port, sender, tokio::spawn(serve(listener, port, checks, Arc::new(Semaphore::new(MOST)))))
    }

    async fn says(port: u16, text: &str) -> TcpStream {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        stream
    }

    async fn is_answered(mut stream: TcpStream) -> bool {
        let mut text = String::new();
        let read = timeout(SOON, stream.read_to_string(&mut text)).await;
        matches!(read, Ok(Ok(_))) && text.starts_with("HTTP/1.1 200 OK")
    }

    const REQUEST: &str = "GET / HTTP/1.1\r\nHost: node\r\n\r\n";

    #[tokio::test]
    async fn s15_clients_that_send_nothing_or_half_keep_nobody_waiting() {
        for half in ["", "GET / HT"] {
            let (port, _told, task) = port();
            let mut others = Vec::new();
            for _ in 0..3 * MOST_HERE {
                others.push(says(port, half).await);
            }
            assert!(is_answered(says(port, REQUEST).await).await, "behind clients that sent {half:?}");
            task.abort();
        }
    }

    #[tokio::test]
    async fn s15_the_silent_ones_end_before_one_that_speaks() {
        let (port, _told, task) = port();
        let mut slow = says(port, &REQUEST[..10]).await;
        // Once another one is answered, this one was heard.
        assert!(is_answered(says(port, REQUEST).await).await);
        let mut silent = Vec::new();
        for _ in 0..3 * MOST_HERE {
            silent.push(says(port, "").await);
        }
        assert!(is_answered(says(port, REQUEST).await).await);
        slow.write_all(&REQUEST.as_bytes()[10..]).await.unwrap();
        assert!(is_answered(slow).await);
        task.abort();
    }
}
