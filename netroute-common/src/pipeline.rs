//! The order of the stages, from a frame at a hook to its verdict.

use crate::packet::Packet;
use crate::stage::forward::forward;
use crate::stage::outgoing::outgoing;
use crate::stage::stages::Stages;
use crate::verdict::{Exit, Fate, Hook, Reason, Verdict};
use crate::wire::eth::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_QINQ, ETHERTYPE_VLAN, Eth};
use crate::wire::ipv4::Ipv4;
use crate::wire::ipv6::Ipv6;

/// Where a packet is judged.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Arrival {
    pub hook: Hook,
    /// Interface it came in on.
    pub ifindex: u32,
}

impl Default for Arrival {
    fn default() -> Self {
        Self { hook: Hook::XdpNic, ifindex: 0 }
    }
}

impl Arrival {
    #[inline(always)]
    pub fn at_xdp<P: Packet>(self) -> bool {
        P::AT_XDP.unwrap_or(self.hook as u8 == Hook::XdpNic as u8)
    }
}

/// Judges one frame, rewrites it if it is forwarded, and counts it.
#[inline(always)]
pub fn run<P: Packet, T: Stages<P>>(packet: &mut P, tables: &T, arrival: Arrival) -> Verdict {
    // Before the rewrite: the frame's length is what came in.
    let bytes = packet.frame_length();
    let verdict = match judge(packet, tables, arrival) {
        Ok(exit) => Verdict::Forward(exit),
        Err(reason) => match reason.fate() {
            Fate::Pass => Verdict::Pass(reason),
            Fate::Answer => Verdict::Answer(reason),
            Fate::Drop => Verdict::Drop(reason),
        },
    };
    tables.count_verdict(verdict.reason(), bytes);
    verdict
}

#[inline(always)]
fn judge<P: Packet, T: Stages<P>>(packet: &mut P, tables: &T, arrival: Arrival) -> Result<Exit, Reason> {
    if packet.vlan_tagged() {
        return Err(Reason::Vlan);
    }
    let eth: &Eth = packet.get(0).ok_or(Reason::Truncated)?;
    let ethertype = eth.ethertype.get();
    if !packet.addressed_here() {
        return Err(Reason::NotForThisMac);
    }
    if !arrival.at_xdp::<P>() && arrival.hook == Hook::TcOut {
        return match ethertype {
            ETHERTYPE_IPV4 => outgoing::<Ipv4, P, T>(packet, tables, arrival),
            ETHERTYPE_IPV6 => outgoing::<Ipv6, P, T>(packet, tables, arrival),
            _ => Err(Reason::NotIp),
        };
    }
    match ethertype {
        ETHERTYPE_IPV4 => forward::<Ipv4, P, T>(packet, tables, arrival),
        ETHERTYPE_IPV6 => forward::<Ipv6, P, T>(packet, tables, arrival),
        ETHERTYPE_VLAN | ETHERTYPE_QINQ => Err(Reason::Vlan),
        _ => Err(Reason::NotIp),
    }
}
