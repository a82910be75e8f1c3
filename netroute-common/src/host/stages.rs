//! The stages in place.

use super::tables::HostTables;
use crate::packet::Packet;
use crate::pipeline::Arrival;
use crate::stage::answer::{Answering, answer};
use crate::stage::hold::hold;
use crate::stage::leave::leave;
use crate::stage::open::enter;
use crate::stage::port::{await_answers, reclaim};
use crate::stage::relate::{carry_related, relate};
use crate::stage::serve::{Decision, carry, decide};
use crate::stage::stages::{NewFlows, Stages};
use crate::verdict::Reason;

impl NewFlows for HostTables {
    fn leave<F: Answering>(&self, decision: Decision) -> Decision {
        leave::<F, Self>(self, decision)
    }

    fn hold<F: Answering>(&self, decision: Decision, obstacle: Decision, next_hop: u32) -> Decision {
        hold::<F, Self>(self, decision, obstacle, next_hop)
    }

    fn enter<F: Answering>(&self) -> Decision {
        enter::<F, Self>(self)
    }

    fn await_answers<F: Answering>(&self) -> bool {
        await_answers::<F, Self>(self)
    }

    fn reclaim<F: Answering>(&self) -> bool {
        reclaim::<F, Self>(self)
    }
}

impl<P: Packet> Stages<P> for HostTables {
    fn decide<F: Answering>(&self, packet: &mut P, arrival: Arrival, destination: u8) -> Decision {
        decide::<F, P, Self>(packet, self, arrival, destination)
    }

    fn carry<F: Answering>(&self, packet: &mut P, decision: Decision, obstacle: Decision) -> Decision {
        carry::<F, P, Self>(packet, self, decision, obstacle)
    }

    fn relate<F: Answering>(&self, packet: &mut P, arrival: Arrival, destination: u8) -> Decision {
        relate::<F, P, Self>(packet, self, arrival, destination)
    }

    fn carry_related<F: Answering>(
        &self,
        packet: &mut P,
        decision: Decision,
        obstacle: Decision,
    ) -> Decision {
        carry_related::<F, P, Self>(packet, self, decision, obstacle)
    }

    fn answer<F: Answering>(&self, packet: &mut P, reason: Reason, mtu: u32) -> bool {
        answer::<F, P>(packet, reason, mtu).is_some()
    }
}
