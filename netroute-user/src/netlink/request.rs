//! Requests with their answers: dumps, single questions, and pipelined batches.

use std::io;

use netlink_packet_core::{
    Emitable, NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NLMSG_NOOP,
    NLMSG_OVERRUN,
};

use super::NetlinkError;
use super::frame::Frame;
use super::socket::{Protocol, Socket};

const HEADER_BYTES: usize = 16;
/// Requests per datagram of a batch: the kernel works a datagram off within one system call.
const BATCH: usize = 256;
/// A dump that the kernel marks as inconsistent is read again this often.
const DUMP_ATTEMPTS: u32 = 8;
/// Room for one error answer per request of a batch.
const RECEIVE_BUFFER: usize = 4 << 20;

/// One message to send.
#[derive(Clone, Debug)]
pub struct Request {
    /// `nlmsg_type`.
    pub kind: u16,
    /// `NLM_F_*` beside `NLM_F_REQUEST` and `NLM_F_ACK`.
    pub flags: u16,
    pub body: Vec<u8>,
}

impl Request {
    pub fn new(kind: u16, flags: u16, message: &impl Emitable) -> Self {
        Self { kind, flags, body: emit(message) }
    }
}

/// The bytes of a message.
pub fn emit(message: &impl Emitable) -> Vec<u8> {
    let mut body = vec![0; message.buffer_len()];
    message.emit(&mut body);
    body
}

/// A socket that asks and waits for its answers; never subscribed to anything.
pub struct Requests {
    socket: Socket,
    sequence: u32,
}

impl Requests {
    pub fn open(protocol: Protocol) -> Result<Self, NetlinkError> {
        let socket = Socket::open(protocol)?;
        socket.set_receive_buffer(RECEIVE_BUFFER)?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Asks the kernel to filter dumps by what the request's header says (Linux 4.20).
    pub fn filter_dumps(&self) {
        self.socket.filter_dumps();
    }

    /// Port that notifications caused by these requests carry.
    #[must_use]
    pub fn port(&self) -> u32 {
        self.socket.port()
    }

    /// Reads a whole table. `each` gets every message; `restart` is called before the dump is
    /// read anew because the table changed meanwhile.
    pub async fn dump<S>(
        &mut self,
        what: &'static str,
        request: &Request,
        mut start: impl FnMut() -> S,
        mut each: impl FnMut(&mut S, &Frame<'_>),
    ) -> Result<S, NetlinkError> {
        for _ in 0..DUMP_ATTEMPTS {
            let mut collected = start();
            let flags = NLM_F_DUMP | request.flags;
            match self.converse(what, request, flags, |frame| each(&mut collected, frame)).await {
                Ok(true) => {}
                Ok(false) => return Ok(collected),
                Err(NetlinkError::Refused { source, .. }) if source.raw_os_error() == Some(libc::EINTR) => {}
                Err(error) => return Err(error),
            }
        }
        Err(NetlinkError::Interrupted { what })
    }

    /// One request with its answers (none for most) up to the acknowledgement.
    pub async fn ask(
        &mut self,
        what: &'static str,
        request: &Request,
        each: impl FnMut(&Frame<'_>),
    ) -> Result<(), NetlinkError> {
        self.converse(what, request, NLM_F_ACK | request.flags, each).await.map(drop)
    }

    /// Sends one request and hands on what comes back until it is done; true = the dump was
    /// interrupted by a change.
    async fn converse(
        &mut self,
        what: &'static str,
        request: &Request,
        flags: u16,
        mut each: impl FnMut(&Frame<'_>),
    ) -> Result<bool, NetlinkError> {
        let sequence = self.next_sequence();
        let mut datagram = Vec::with_capacity(HEADER_BYTES + request.body.len());
        append(&mut datagram, request, flags, sequence);
        self.socket.send(&datagram).await.map_err(|source| NetlinkError::Send { what, source })?;
        let mut interrupted = false;
        loop {
            let frames =
                self.socket.receive().await.map_err(|source| NetlinkError::Receive { what, source })?;
            for frame in frames.filter(|frame| frame.sequence == sequence) {
                interrupted |= frame.flags & NLM_F_DUMP_INTR != 0;
                match frame.kind {
                    NLMSG_DONE | NLMSG_ERROR => return finished(what, &frame).map(|()| interrupted),
                    NLMSG_NOOP | NLMSG_OVERRUN => {}
                    _ => each(&frame),
                }
            }
        }
    }

    /// Sends many requests, many per system call; the outcome of each, in order. Only the last
    /// of a datagram asks for an ack: failures are answered anyway, and in order.
    pub async fn batch(
        &mut self,
        what: &'static str,
        requests: &[Request],
    ) -> Result<Vec<Result<(), io::Error>>, NetlinkError> {
        let mut outcomes = Vec::with_capacity(requests.len());
        for chunk in requests.chunks(BATCH) {
            let first = self.sequence.wrapping_add(1);
            let mut datagram = Vec::with_capacity(chunk.len() * 96);
            for (index, request) in chunk.iter().enumerate() {
                let last = index + 1 == chunk.len();
                let flags = request.flags | if last { NLM_F_ACK } else { 0 };
                let sequence = self.next_sequence();
                append(&mut datagram, request, flags, sequence);
            }
            self.socket.send(&datagram).await.map_err(|source| NetlinkError::Send { what, source })?;
            outcomes.extend(self.outcomes(what, first, chunk.len()).await?);
            // A batch of 100k requests must not keep other tasks of this thread waiting.
            tokio::task::yield_now().await;
        }
        Ok(outcomes)
    }

    async fn outcomes(
        &mut self,
        what: &'static str,
        first: u32,
        count: usize,
    ) -> Result<Vec<Result<(), io::Error>>, NetlinkError> {
        let mut outcomes: Vec<_> = (0..count).map(|_| Ok(())).collect();
        loop {
            let frames =
                self.socket.receive().await.map_err(|source| NetlinkError::Receive { what, source })?;
            for frame in frames.filter(|frame| frame.kind == NLMSG_ERROR) {
                let index = frame.sequence.wrapping_sub(first) as usize;
                let Some(outcome) = outcomes.get_mut(index) else { continue };
                if frame.errno() != 0 {
                    *outcome = Err(io::Error::from_raw_os_error(frame.errno()));
                }
                if index + 1 == count {
                    return Ok(outcomes);
                }
            }
        }
    }

    fn next_sequence(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }
}

fn finished(what: &'static str, frame: &Frame<'_>) -> Result<(), NetlinkError> {
    match frame.errno() {
        0 => Ok(()),
        errno => Err(NetlinkError::Refused { what, source: io::Error::from_raw_os_error(errno) }),
    }
}

fn append(datagram: &mut Vec<u8>, request: &Request, flags: u16, sequence: u32) {
    let length = HEADER_BYTES + request.body.len();
    datagram.extend((length as u32).to_ne_bytes());
    datagram.extend(request.kind.to_ne_bytes());
    datagram.extend((flags | NLM_F_REQUEST).to_ne_bytes());
    datagram.extend(sequence.to_ne_bytes());
    datagram.extend(0_u32.to_ne_bytes());
    datagram.extend(&request.body);
    datagram.resize(datagram.len() + (length.next_multiple_of(4) - length), 0);
}
