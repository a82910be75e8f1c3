//! The stages as global functions, two of each: one for each IP version.

use aya_ebpf::bindings::{__sk_buff, xdp_md};
use aya_ebpf::programs::{TcContext, XdpContext};
use netroute_common::pipeline::Arrival;
use netroute_common::stage::answer::{Answering, answer};
use netroute_common::stage::open::{await_answers, reclaim};
use netroute_common::stage::relate::{carry_related, relate};
use netroute_common::stage::serve::{Decision, carry, decide};
use netroute_common::stage::stages::Stages;
use netroute_common::verdict::{Hook, Reason};
use netroute_common::wire::ipv4::Ipv4;
use netroute_common::wire::ipv6::Ipv6;

use crate::frame::Frame;
use crate::maps;
use crate::skb::Skb;
use crate::tables::Maps;

#[inline(always)]
fn hook(number: u32) -> Hook {
    if number == Hook::TcPod as u32 { Hook::TcPod } else { Hook::TcNic }
}

#[inline(always)]
fn tc_decide<F: Answering>(ctx: *mut __sk_buff, number: u32, ifindex: u32, destination: u32) -> u32 {
    let hook = hook(number);
    let skb = Skb::again(TcContext::new(ctx));
    decide::<F, _, _>(&skb, &Maps { hook }, Arrival { hook, ifindex }, destination as u8).number()
}

#[inline(always)]
fn tc_carry<F: Answering>(ctx: *mut __sk_buff, decision: u32, obstacle: u32, ifindex: u32) -> u32 {
    let (decision, obstacle) = (Decision::from_number(decision), Decision::from_number(obstacle));
    let mut skb = Skb::again(TcContext::new(ctx));
    carry::<F, _, _>(&mut skb, &Maps { hook: Hook::TcNic }, decision, obstacle, ifindex).number()
}

#[inline(always)]
fn tc_relate<F: Answering>(ctx: *mut __sk_buff, number: u32, ifindex: u32, destination: u32) -> u32 {
    let hook = hook(number);
    let mut skb = Skb::again(TcContext::new(ctx));
    relate::<F, _, _>(&mut skb, &Maps { hook }, Arrival { hook, ifindex }, destination as u8).number()
}

#[inline(always)]
fn tc_carry_related<F: Answering>(ctx: *mut __sk_buff, decision: u32, obstacle: u32) -> u32 {
    let (decision, obstacle) = (Decision::from_number(decision), Decision::from_number(obstacle));
    let mut skb = Skb::again(TcContext::new(ctx));
    carry_related::<F, _, _>(&mut skb, &Maps { hook: Hook::TcNic }, decision, obstacle).number()
}

#[inline(always)]
fn tc_answer<F: Answering>(ctx: *mut __sk_buff, reason: u32, mtu: u32) -> u32 {
    let Some(reason) = Reason::from_number(reason as u8) else { return 0 };
    answer::<F, _>(&mut Skb::again(TcContext::new(ctx)), reason, mtu).is_some().into()
}

#[inline(always)]
fn xdp_decide<F: Answering>(ctx: *mut xdp_md, ifindex: u32, destination: u32) -> u32 {
    let ctx = XdpContext::new(ctx);
    let arrival = Arrival { hook: Hook::XdpNic, ifindex };
    let frame = Frame::new(&ctx, maps::nic().mac);
    decide::<F, _, _>(&frame, &Maps { hook: Hook::XdpNic }, arrival, destination as u8).number()
}

#[inline(always)]
fn xdp_carry<F: Answering>(ctx: *mut xdp_md, decision: u32, obstacle: u32, ifindex: u32) -> u32 {
    let (decision, obstacle) = (Decision::from_number(decision), Decision::from_number(obstacle));
    let ctx = XdpContext::new(ctx);
    let mut frame = Frame::new(&ctx, maps::nic().mac);
    carry::<F, _, _>(&mut frame, &Maps { hook: Hook::XdpNic }, decision, obstacle, ifindex).number()
}

#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn tc_decide4(ctx: *mut __sk_buff, hook: u32, ifindex: u32, destination: u32) -> u32 {
    tc_decide::<Ipv4>(ctx, hook, ifindex, destination)
}

#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn tc_decide6(ctx: *mut __sk_buff, hook: u32, ifindex: u32, destination: u32) -> u32 {
    tc_decide::<Ipv6>(ctx, hook, ifindex, destination)
}

#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn tc_carry4(ctx: *mut __sk_buff, decision: u32, obstacle: u32, ifindex: u32) -> u32 {
    tc_carry::<Ipv4>(ctx, decision, obstacle, ifindex)
}

#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn tc_carry6(ctx: *mut __sk_buff, decision: u32, obstacle: u32, ifindex: u32) -> u32 {
    tc_carry::<Ipv6>(ctx, decision, obstacle, ifindex)
}

#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn tc_answer4(ctx: *mut __sk_buff, reason: u32, mtu: u32) -> u32 {
    tc_answer::<Ipv4>(ctx, reason, mtu)
}

#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn tc_carry_related4(ctx: *mut __sk_buff, decision: u32, obstacle: u32) -> u32 {
    tc_carry_related::<Ipv4>(ctx, decision, obstacle)
}

#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn tc_relate4(ctx: *mut __sk_buff, hook: u32, ifindex: u32, destination: u32) -> u32 {
    tc_relate::<Ipv4>(ctx, hook, ifindex, destination)
}

#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn tc_answer6(ctx: *mut __sk_buff, reason: u32, mtu: u32) -> u32 {
    tc_answer::<Ipv6>(ctx, reason, mtu)
}

#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn tc_carry_related6(ctx: *mut __sk_buff, decision: u32, obstacle: u32) -> u32 {
    tc_carry_related::<Ipv6>(ctx, decision, obstacle)
}

#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn tc_relate6(ctx: *mut __sk_buff, hook: u32, ifindex: u32, destination: u32) -> u32 {
    tc_relate::<Ipv6>(ctx, hook, ifindex, destination)
}

#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn xdp_decide4(ctx: *mut xdp_md, ifindex: u32, destination: u32) -> u32 {
    xdp_decide::<Ipv4>(ctx, ifindex, destination)
}

#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn xdp_decide6(ctx: *mut xdp_md, ifindex: u32, destination: u32) -> u32 {
    xdp_decide::<Ipv6>(ctx, ifindex, destination)
}

#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn xdp_carry4(ctx: *mut xdp_md, decision: u32, obstacle: u32, ifindex: u32) -> u32 {
    xdp_carry::<Ipv4>(ctx, decision, obstacle, ifindex)
}

#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn xdp_carry6(ctx: *mut xdp_md, decision: u32, obstacle: u32, ifindex: u32) -> u32 {
    xdp_carry::<Ipv6>(ctx, decision, obstacle, ifindex)
}

#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn await_answers4() -> u32 {
    await_answers::<Ipv4, _>(&Maps { hook: Hook::TcNic }).into()
}

#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn await_answers6() -> u32 {
    await_answers::<Ipv6, _>(&Maps { hook: Hook::TcNic }).into()
}

#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn reclaim4() -> u32 {
    reclaim::<Ipv4, _>(&Maps { hook: Hook::TcNic }).into()
}

#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn reclaim6() -> u32 {
    reclaim::<Ipv6, _>(&Maps { hook: Hook::TcNic }).into()
}

#[inline(always)]
fn reclaimed<F: Answering>() -> bool {
    let reclaimed = match F::VERSION {
        4 => reclaim4(),
        _ => reclaim6(),
    };
    reclaimed != 0
}

#[inline(always)]
fn awaited<F: Answering>() -> bool {
    let awaited = match F::VERSION {
        4 => await_answers4(),
        _ => await_answers6(),
    };
    awaited != 0
}

impl Stages<Skb> for Maps {
    #[inline(always)]
    fn decide<F: Answering>(&self, skb: &mut Skb, arrival: Arrival, destination: u8) -> Decision {
        let (ctx, hook, ifindex) = (skb.as_ptr(), arrival.hook as u32, arrival.ifindex);
        let destination = destination.into();
        Decision::from_number(match F::VERSION {
            4 => tc_decide4(ctx, hook, ifindex, destination),
            _ => tc_decide6(ctx, hook, ifindex, destination),
        })
    }

    #[inline(always)]
    fn carry<F: Answering>(
        &self,
        skb: &mut Skb,
        decision: Decision,
        obstacle: Decision,
        ifindex: u32,
    ) -> Decision {
        let (decision, obstacle) = (decision.number(), obstacle.number());
        Decision::from_number(match F::VERSION {
            4 => tc_carry4(skb.as_ptr(), decision, obstacle, ifindex),
            _ => tc_carry6(skb.as_ptr(), decision, obstacle, ifindex),
        })
    }

    #[inline(always)]
    fn await_answers<F: Answering>(&self) -> bool {
        awaited::<F>()
    }

    #[inline(always)]
    fn reclaim<F: Answering>(&self) -> bool {
        reclaimed::<F>()
    }

    #[inline(always)]
    fn relate<F: Answering>(&self, skb: &mut Skb, arrival: Arrival, destination: u8) -> Decision {
        let (ctx, hook, ifindex) = (skb.as_ptr(), arrival.hook as u32, arrival.ifindex);
        let destination = destination.into();
        Decision::from_number(match F::VERSION {
            4 => tc_relate4(ctx, hook, ifindex, destination),
            _ => tc_relate6(ctx, hook, ifindex, destination),
        })
    }

    #[inline(always)]
    fn carry_related<F: Answering>(&self, skb: &mut Skb, decision: Decision, obstacle: Decision) -> Decision {
        let (ctx, decision, obstacle) = (skb.as_ptr(), decision.number(), obstacle.number());
        Decision::from_number(match F::VERSION {
            4 => tc_carry_related4(ctx, decision, obstacle),
            _ => tc_carry_related6(ctx, decision, obstacle),
        })
    }

    #[inline(always)]
    fn answer<F: Answering>(&self, skb: &mut Skb, reason: Reason, mtu: u32) -> bool {
        let (ctx, reason) = (skb.as_ptr(), reason as u32);
        let answered = match F::VERSION {
            4 => tc_answer4(ctx, reason, mtu),
            _ => tc_answer6(ctx, reason, mtu),
        };
        answered != 0
    }
}

impl Stages<Frame<'_>> for Maps {
    #[inline(always)]
    fn decide<F: Answering>(&self, frame: &mut Frame<'_>, arrival: Arrival, destination: u8) -> Decision {
        let (ctx, ifindex, destination) = (frame.ctx.ctx, arrival.ifindex, destination.into());
        Decision::from_number(match F::VERSION {
            4 => xdp_decide4(ctx, ifindex, destination),
            _ => xdp_decide6(ctx, ifindex, destination),
        })
    }

    #[inline(always)]
    fn carry<F: Answering>(
        &self,
        frame: &mut Frame<'_>,
        decision: Decision,
        obstacle: Decision,
        ifindex: u32,
    ) -> Decision {
        let (decision, obstacle) = (decision.number(), obstacle.number());
        Decision::from_number(match F::VERSION {
            4 => xdp_carry4(frame.ctx.ctx, decision, obstacle, ifindex),
            _ => xdp_carry6(frame.ctx.ctx, decision, obstacle, ifindex),
        })
    }

    #[inline(always)]
    fn await_answers<F: Answering>(&self) -> bool {
        awaited::<F>()
    }

    #[inline(always)]
    fn reclaim<F: Answering>(&self) -> bool {
        reclaimed::<F>()
    }

    /// TC's.
    #[inline(always)]
    fn relate<F: Answering>(&self, _: &mut Frame<'_>, _: Arrival, _: u8) -> Decision {
        Decision::NONE
    }

    /// TC's.
    #[inline(always)]
    fn carry_related<F: Answering>(&self, _: &mut Frame<'_>, _: Decision, _: Decision) -> Decision {
        Decision::NONE
    }

    /// TC's.
    #[inline(always)]
    fn answer<F: Answering>(&self, _: &mut Frame<'_>, _: Reason, _: u32) -> bool {
        false
    }
}
