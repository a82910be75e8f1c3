//! A server that sends back what it gets, on any number of connections in one thread.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    os::fd::AsFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, poll};

use super::TICK;
use crate::netns::Netns;

/// Of both families. Dropping it ends it and its connections.
#[derive(Debug)]
pub struct EchoServer {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

struct Client {
    stream: TcpStream,
    /// Read, and not yet sent back.
    held: Vec<u8>,
}

impl EchoServer {
    /// # Errors
    /// When the port is taken.
    pub fn start(ns: &Netns, port: u16) -> Result<Self> {
        let address = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
        let listener = ns.run(|| TcpListener::bind(address).with_context(|| address.to_string()))?;
        listener.set_nonblocking(true)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        Ok(Self { stop, thread: Some(thread::spawn(move || serve(&listener, &stopping))) })
    }
}

impl Drop for EchoServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Its clients have noticed whatever went wrong.
            let _ = thread.join();
        }
    }
}

fn serve(listener: &TcpListener, stop: &AtomicBool) -> Result<()> {
    let mut clients: Vec<Client> = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let wanted = |client: &Client| if client.held.is_empty() { PollFlags::IN } else { PollFlags::OUT };
        let fds =
            clients.iter().map(|client| PollFd::from_borrowed_fd(client.stream.as_fd(), wanted(client)));
        let mut fds: Vec<PollFd<'_>> = fds.chain([PollFd::new(listener, PollFlags::IN)]).collect();
        poll(&mut fds, Some(&TICK))?;
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        let mut ready = ready.into_iter();
        // Those that have ended or failed go.
        clients.retain_mut(|client| !ready.next().unwrap_or(false) || client.go_on().is_ok());
        while let Ok((stream, _)) = listener.accept() {
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            clients.push(Client { stream, held: Vec::new() });
        }
    }
    Ok(())
}

impl Client {
    fn go_on(&mut self) -> std::io::Result<()> {
        let mut buffer = [0; 4096];
        if self.held.is_empty() {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(length) => self.held.extend(&buffer[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        match self.stream.write(&self.held) {
            Ok(length) => drop(self.held.drain(..length)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}
