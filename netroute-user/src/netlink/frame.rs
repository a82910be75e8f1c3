//! Cuts a received datagram into netlink messages.

use netlink_packet_core::{NLMSG_ALIGNTO, NetlinkBuffer};

/// One message, borrowed from the receive buffer.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// `nlmsg_type`.
    pub kind: u16,
    /// `NLM_F_*`.
    pub flags: u16,
    pub sequence: u32,
    /// Port of the socket whose request caused it; 0 = the kernel itself.
    pub port: u32,
    pub payload: &'a [u8],
}

impl Frame<'_> {
    /// Code of an `NLMSG_ERROR` or `NLMSG_DONE` message: 0 or a positive errno.
    #[must_use]
    pub fn errno(&self) -> i32 {
        self.payload.first_chunk::<4>().map_or(0, |code| i32::from_ne_bytes(*code).saturating_neg())
    }
}

/// Iterator over the messages of one datagram; ends at the first that is cut short.
#[derive(Clone, Debug)]
pub struct Frames<'a> {
    rest: &'a [u8],
}

impl<'a> Frames<'a> {
    #[must_use]
    pub fn new(datagram: &'a [u8]) -> Self {
        Self { rest: datagram }
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Frame<'a>;

    fn next(&mut self) -> Option<Frame<'a>> {
        let buffer = NetlinkBuffer::new_checked(self.rest).ok()?;
        let length = buffer.length() as usize;
        let payload = self.rest.get(16..length)?;
        let frame = Frame {
            kind: buffer.message_type(),
            flags: buffer.flags(),
            sequence: buffer.sequence_number(),
            port: buffer.port_number(),
            payload,
        };
        let next = length.next_multiple_of(usize::from(NLMSG_ALIGNTO));
        self.rest = self.rest.get(next..).unwrap_or_default();
        Some(frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let mut bytes = (16 + body.len() as u32).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 2]);
        bytes.extend(7_u32.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend(body);
        bytes
    }

    #[test]
    fn walks_padded_messages() {
        let mut datagram = message(16, &[1, 2, 3, 4, 5]);
        datagram.extend([0; 3]);
        datagram.extend(message(17, &[9]));
        let seen: Vec<_> = Frames::new(&datagram).map(|f| (f.kind, f.sequence, f.payload.to_vec())).collect();
        assert_eq!(seen, [(16, 7, vec![1, 2, 3, 4, 5]), (17, 7, vec![9])]);
    }

    #[test]
    fn stops_at_a_message_that_is_cut_short() {
        let mut datagram = message(16, &[]);
        datagram.extend(message(17, &[1; 40]).iter().take(30));
        assert_eq!(Frames::new(&datagram).count(), 1);
    }

    #[test]
    fn reads_the_errno() {
        let bytes = message(2, &(-17_i32).to_ne_bytes());
        assert_eq!(Frames::new(&bytes).next().map(|f| f.errno()), Some(17));
    }
}
