//! Connections whose clients have said all they had to say, and still wait for the answer.

use std::{
    io::{Read, Write},
    net::{Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::mpsc::{Sender, channel},
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context, Result, ensure};

use crate::{netns::Netns, traffic::pattern};

/// Fits into the sockets' buffers.
const BYTES: u64 = 50_000;
const TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub struct HalfClosed {
    clients: Vec<TcpStream>,
    go: Sender<()>,
    server: JoinHandle<Result<()>>,
}

impl HalfClosed {
    /// Each client connects to the server in `ns` by its own address of it, sends and closes its side.
    ///
    /// # Errors
    /// When one gets no connection.
    pub fn open(ns: &Netns, port: u16, clients: &[(&Netns, SocketAddr)]) -> Result<Self> {
        let listener = ns.run(|| Ok(TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))?))?;
        let (go, may_go) = channel();
        let count = clients.len();
        let server = thread::spawn(move || {
            let streams: Vec<TcpStream> = listener.incoming().take(count).collect::<std::io::Result<_>>()?;
            let mut asked = Vec::new();
            for mut stream in streams {
                let mut bytes = Vec::new();
                stream.read_to_end(&mut bytes)?;
                asked.push((stream, bytes));
            }
            may_go.recv().context("nobody wants the answers")?;
            asked.into_iter().try_for_each(|(mut stream, bytes)| Ok(stream.write_all(&bytes)?))
        });
        let open = |(ns, to): &(&Netns, SocketAddr)| {
            let mut stream = ns.run(|| Ok(TcpStream::connect_timeout(to, TIMEOUT)?))?;
            stream.set_read_timeout(Some(TIMEOUT))?;
            stream.write_all(&pattern(0, BYTES))?;
            stream.shutdown(Shutdown::Write)?;
            Ok(stream)
        };
        Ok(Self { clients: clients.iter().map(open).collect::<Result<_>>()?, go, server })
    }

    /// Lets the server answer, and compares every byte.
    ///
    /// # Errors
    /// When an answer does not arrive whole.
    pub fn finish(self) -> Result<()> {
        let Self { clients, go, server } = self;
        go.send(()).ok().context("the server did not get all that was sent")?;
        for mut client in clients {
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).with_context(|| format!("{:?}", client.peer_addr()))?;
            ensure!(answer == pattern(0, BYTES), "{} bytes, or other ones", answer.len());
        }
        server.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}
