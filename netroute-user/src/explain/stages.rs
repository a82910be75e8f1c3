//! The stages in place, each decision noted.

use netroute_common::host::HostPacket;
use netroute_common::pipeline::Arrival;
use netroute_common::stage::answer::{Answering, answer};
use netroute_common::stage::hold::hold;
use netroute_common::stage::leave::leave;
use netroute_common::stage::open::enter;
use netroute_common::stage::port::{await_answers, reclaim};
use netroute_common::stage::relate::{carry_related, relate};
use netroute_common::stage::serve::{Decision, carry, decide};
use netroute_common::stage::stages::{NewFlows, Stages};
use netroute_common::verdict::Reason;

use super::tables::LiveTables;
use super::trace::Stage;

impl LiveTables<'_> {
    /// What `decide` says, as the decision of the stage for Services and flows.
    fn decided(&self, decide: impl FnOnce() -> Decision) -> Decision {
        self.note(|trace| trace.stage = Stage::Decide);
        let decision = decide();
        self.note(|trace| {
            trace.stage = Stage::Way;
            trace.decided = Some(decision);
            // The source's.
            trace.groups.clear();
        });
        decision
    }
}

impl NewFlows for LiveTables<'_> {
    fn leave<F: Answering>(&self, decision: Decision) -> Decision {
        self.note(|trace| trace.stage = Stage::Leave);
        let judged = leave::<F, Self>(self, decision);
        self.note(|trace| {
            trace.stage = Stage::Way;
            trace.judged = Some(judged);
        });
        judged
    }

    fn hold<F: Answering>(&self, decision: Decision, obstacle: Decision, next_hop: u32) -> Decision {
        self.note(|trace| trace.held = Some(next_hop));
        hold::<F, Self>(self, decision, obstacle, next_hop)
    }

    fn enter<F: Answering>(&self) -> Decision {
        let entered = enter::<F, Self>(self);
        self.note(|trace| trace.entered = entered == Decision::NONE);
        entered
    }

    fn await_answers<F: Answering>(&self) -> bool {
        await_answers::<F, Self>(self)
    }

    fn reclaim<F: Answering>(&self) -> bool {
        reclaim::<F, Self>(self)
    }
}

impl Stages<HostPacket> for LiveTables<'_> {
    fn decide<F: Answering>(&self, packet: &mut HostPacket, arrival: Arrival, destination: u8) -> Decision {
        self.decided(|| decide::<F, HostPacket, Self>(packet, self, arrival, destination))
    }

    fn carry<F: Answering>(
        &self,
        packet: &mut HostPacket,
        decision: Decision,
        obstacle: Decision,
    ) -> Decision {
        carry::<F, HostPacket, Self>(packet, self, decision, obstacle)
    }

    fn relate<F: Answering>(&self, packet: &mut HostPacket, arrival: Arrival, destination: u8) -> Decision {
        self.decided(|| relate::<F, HostPacket, Self>(packet, self, arrival, destination))
    }

    fn carry_related<F: Answering>(
        &self,
        packet: &mut HostPacket,
        decision: Decision,
        obstacle: Decision,
    ) -> Decision {
        carry_related::<F, HostPacket, Self>(packet, self, decision, obstacle)
    }

    fn answer<F: Answering>(&self, packet: &mut HostPacket, reason: Reason, mtu: u32) -> bool {
        answer::<F, HostPacket>(packet, reason, mtu).is_some()
    }
}
