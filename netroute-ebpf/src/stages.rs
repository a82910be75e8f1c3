//! The stages as global functions, two of each: a function for both IP versions would need the stack of both.

use aya_ebpf::bindings::{__sk_buff, xdp_md};
use aya_ebpf::programs::{TcContext, XdpContext};
use netroute_common::pipeline::Arrival;
use netroute_common::stage::answer::{Answering, answer};
use netroute_common::stage::hold::hold;
use netroute_common::stage::leave::leave;
use netroute_common::stage::open::enter;
use netroute_common::stage::port::{await_answers, reclaim};
use netroute_common::stage::relate::{carry_related, relate};
use netroute_common::stage::serve::{Decision, carry, decide};
use netroute_common::stage::stages::{NewFlows, Stages};
use netroute_common::verdict::{Hook, Reason};
use netroute_common::wire::ipv4::Ipv4;
use netroute_common::wire::ipv6::Ipv6;

use crate::frame::Frame;
use crate::maps;
use crate::skb::Skb;
use crate::tables::Maps;

/// For what does not ask at which hook it is.
const TC: Maps = Maps { hook: Hook::TcNic };
const XDP: Maps = Maps { hook: Hook::XdpNic };

/// `$call::<F>` calls the global function `$four` or `$six`, both of which do what the body says of `F`.
macro_rules! global {
    ($call:ident: $four:ident, $six:ident; |$($name:ident: $type:ty),*| $body:expr) => {
        #[inline(always)]
        fn $call<F: Answering>($($name: $type),*) -> u32 {
            #[inline(never)]
            #[unsafe(no_mangle)]
            extern "C" fn $four($($name: $type),*) -> u32 {
                type F = Ipv4;
                $body
            }
            #[inline(never)]
            #[unsafe(no_mangle)]
            extern "C" fn $six($($name: $type),*) -> u32 {
                type F = Ipv6;
                $body
            }
            if F::VERSION == 4 { $four($($name),*) } else { $six($($name),*) }
        }
    };
}

#[inline(always)]
fn tc_arrival(hook: u32, ifindex: u32) -> Arrival {
    let hook = match hook {
        hook if hook == Hook::TcPod as u32 => Hook::TcPod,
        hook if hook == Hook::TcOut as u32 => Hook::TcOut,
        _ => Hook::TcNic,
    };
    Arrival { hook, ifindex }
}

global!(tc_decide: tc_decide4, tc_decide6; |ctx: *mut __sk_buff, hook: u32, ifindex: u32, destination: u32| {
    let (skb, arrival) = (Skb::again(TcContext::new(ctx)), tc_arrival(hook, ifindex));
    decide::<F, _, _>(&skb, &Maps { hook: arrival.hook }, arrival, destination as u8).number()
});

global!(tc_relate: tc_relate4, tc_relate6; |ctx: *mut __sk_buff, hook: u32, ifindex: u32, destination: u32| {
    let (mut skb, arrival) = (Skb::again(TcContext::new(ctx)), tc_arrival(hook, ifindex));
    relate::<F, _, _>(&mut skb, &Maps { hook: arrival.hook }, arrival, destination as u8).number()
});

global!(tc_carry: tc_carry4, tc_carry6; |ctx: *mut __sk_buff, decision: u32, obstacle: u32| {
    let (decision, obstacle) = (Decision::from_number(decision), Decision::from_number(obstacle));
    carry::<F, _, _>(&mut Skb::again(TcContext::new(ctx)), &TC, decision, obstacle).number()
});

global!(tc_carry_related: tc_carry_related4, tc_carry_related6; |ctx: *mut __sk_buff, decision: u32, obstacle: u32| {
    let (decision, obstacle) = (Decision::from_number(decision), Decision::from_number(obstacle));
    carry_related::<F, _, _>(&mut Skb::again(TcContext::new(ctx)), &TC, decision, obstacle).number()
});

global!(tc_answer: tc_answer4, tc_answer6; |ctx: *mut __sk_buff, reason: u32, mtu: u32| {
    let Some(reason) = Reason::from_number(reason as u8) else { return 0 };
    answer::<F, _>(&mut Skb::again(TcContext::new(ctx)), reason, mtu).is_some().into()
});

global!(xdp_decide: xdp_decide4, xdp_decide6; |ctx: *mut xdp_md, ifindex: u32, destination: u32| {
    let ctx = XdpContext::new(ctx);
    let frame = Frame::new(&ctx, maps::nic().mac);
    let arrival = Arrival { hook: Hook::XdpNic, ifindex };
    decide::<F, _, _>(&frame, &XDP, arrival, destination as u8).number()
});

global!(xdp_carry: xdp_carry4, xdp_carry6; |ctx: *mut xdp_md, decision: u32, obstacle: u32| {
    let (decision, obstacle) = (Decision::from_number(decision), Decision::from_number(obstacle));
    let ctx = XdpContext::new(ctx);
    carry::<F, _, _>(&mut Frame::new(&ctx, maps::nic().mac), &XDP, decision, obstacle).number()
});

global!(tc_leave: tc_leave4, tc_leave6; |decision: u32| {
    leave::<F, _>(&TC, Decision::from_number(decision)).number()
});

// Of both hooks.
global!(hold_flow: hold4, hold6; |decision: u32, obstacle: u32, next_hop: u32| {
    let (decision, obstacle) = (Decision::from_number(decision), Decision::from_number(obstacle));
    hold::<F, _>(&TC, decision, obstacle, next_hop).number()
});
global!(enter_flow: enter4, enter6; | | enter::<F, _>(&TC).number());
global!(port_is_free: await_answers4, await_answers6; | | await_answers::<F, _>(&TC).into());
global!(port_is_given_up: reclaim4, reclaim6; | | reclaim::<F, _>(&TC).into());

impl NewFlows for Maps {
    #[inline(always)]
    fn leave<F: Answering>(&self, decision: Decision) -> Decision {
        Decision::from_number(tc_leave::<F>(decision.number()))
    }

    #[inline(always)]
    fn hold<F: Answering>(&self, decision: Decision, obstacle: Decision, next_hop: u32) -> Decision {
        Decision::from_number(hold_flow::<F>(decision.number(), obstacle.number(), next_hop))
    }

    #[inline(always)]
    fn enter<F: Answering>(&self) -> Decision {
        Decision::from_number(enter_flow::<F>())
    }

    #[inline(always)]
    fn await_answers<F: Answering>(&self) -> bool {
        port_is_free::<F>() != 0
    }

    #[inline(always)]
    fn reclaim<F: Answering>(&self) -> bool {
        port_is_given_up::<F>() != 0
    }
}

impl Stages<Skb> for Maps {
    #[inline(always)]
    fn decide<F: Answering>(&self, skb: &mut Skb, arrival: Arrival, destination: u8) -> Decision {
        let (hook, ifindex) = (arrival.hook as u32, arrival.ifindex);
        Decision::from_number(tc_decide::<F>(skb.as_ptr(), hook, ifindex, destination.into()))
    }

    #[inline(always)]
    fn carry<F: Answering>(&self, skb: &mut Skb, decision: Decision, obstacle: Decision) -> Decision {
        let (decision, obstacle) = (decision.number(), obstacle.number());
        Decision::from_number(tc_carry::<F>(skb.as_ptr(), decision, obstacle))
    }

    #[inline(always)]
    fn relate<F: Answering>(&self, skb: &mut Skb, arrival: Arrival, destination: u8) -> Decision {
        let (hook, ifindex) = (arrival.hook as u32, arrival.ifindex);
        Decision::from_number(tc_relate::<F>(skb.as_ptr(), hook, ifindex, destination.into()))
    }

    #[inline(always)]
    fn carry_related<F: Answering>(&self, skb: &mut Skb, decision: Decision, obstacle: Decision) -> Decision {
        let (decision, obstacle) = (decision.number(), obstacle.number());
        Decision::from_number(tc_carry_related::<F>(skb.as_ptr(), decision, obstacle))
    }

    #[inline(always)]
    fn answer<F: Answering>(&self, skb: &mut Skb, reason: Reason, mtu: u32) -> bool {
        tc_answer::<F>(skb.as_ptr(), reason as u32, mtu) != 0
    }
}

impl Stages<Frame<'_>> for Maps {
    #[inline(always)]
    fn decide<F: Answering>(&self, frame: &mut Frame<'_>, arrival: Arrival, destination: u8) -> Decision {
        let (ctx, ifindex, destination) = (frame.ctx.ctx, arrival.ifindex, destination.into());
        Decision::from_number(xdp_decide::<F>(ctx, ifindex, destination))
    }

    #[inline(always)]
    fn carry<F: Answering>(&self, frame: &mut Frame<'_>, decision: Decision, obstacle: Decision) -> Decision {
        let (decision, obstacle) = (decision.number(), obstacle.number());
        Decision::from_number(xdp_carry::<F>(frame.ctx.ctx, decision, obstacle))
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
