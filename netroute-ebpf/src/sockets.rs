//! The programs of sockets, in a control group: a process calls, and the address that it names or is told
//! is another than the kernel's. All decisions are in `netroute-common`.

use core::ffi::c_void;
use core::intrinsics::{AtomicOrdering, atomic_xadd};
use core::ptr::{null_mut, read_volatile, write_volatile};

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::{BPF_ANY, bpf_sock, bpf_sock_addr};
use aya_ebpf::helpers::{bpf_get_netns_cookie, bpf_get_prandom_u32, bpf_get_socket_cookie, bpf_set_retval};
use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use netroute_common::layout::service::Address;
use netroute_common::layout::socket::{SocketKey, SocketPeer};
use netroute_common::sockets::{Socket, SocketEvent, Sockets};
use netroute_common::stage::socket::{Peer, Ruling, connect, name, send};
use netroute_common::verdict::Hook;

use crate::maps::{SERVICE_STATS, SOCKETS};
use crate::tables::Maps;

/// The hook is only asked for where packets are counted.
const MAPS: Maps = Maps { hook: Hook::TcPod };
const ECONNREFUSED: i32 = 111;

/// Whether the kernel has `bpf_set_retval` for these programs (Linux 5.18); set by the loader. The verifier
/// does not look at the call where this is 0.
#[unsafe(no_mangle)]
static NAMES_ERRORS: u32 = 0;

#[cgroup_sock_addr(connect4)]
pub fn sock_connect4(ctx: SockAddrContext) -> i32 {
    let call = Call(ctx.sock_addr);
    let mut peer = call.peer4();
    let ruling = connect(&call, &MAPS, &mut peer);
    call.rule(ruling, || call.set_peer4(&peer))
}

#[cgroup_sock_addr(connect6)]
pub fn sock_connect6(ctx: SockAddrContext) -> i32 {
    let call = Call(ctx.sock_addr);
    let mut peer = call.peer6();
    let ruling = connect(&call, &MAPS, &mut peer);
    call.rule(ruling, || call.set_peer6(&peer))
}

#[cgroup_sock_addr(sendmsg4)]
pub fn sock_sendmsg4(ctx: SockAddrContext) -> i32 {
    let call = Call(ctx.sock_addr);
    let mut peer = call.peer4();
    let ruling = send(&call, &MAPS, &mut peer);
    call.rule(ruling, || call.set_peer4(&peer))
}

#[cgroup_sock_addr(sendmsg6)]
pub fn sock_sendmsg6(ctx: SockAddrContext) -> i32 {
    let call = Call(ctx.sock_addr);
    let mut peer = call.peer6();
    let ruling = send(&call, &MAPS, &mut peer);
    call.rule(ruling, || call.set_peer6(&peer))
}

#[cgroup_sock_addr(recvmsg4)]
pub fn sock_recvmsg4(ctx: SockAddrContext) -> i32 {
    name4(&ctx)
}

#[cgroup_sock_addr(recvmsg6)]
pub fn sock_recvmsg6(ctx: SockAddrContext) -> i32 {
    name6(&ctx)
}

#[cgroup_sock_addr(getpeername4)]
pub fn sock_peername4(ctx: SockAddrContext) -> i32 {
    name4(&ctx)
}

#[cgroup_sock_addr(getpeername6)]
pub fn sock_peername6(ctx: SockAddrContext) -> i32 {
    name6(&ctx)
}

#[inline(always)]
fn name4(ctx: &SockAddrContext) -> i32 {
    let call = Call(ctx.sock_addr);
    let mut peer = call.peer4();
    if name(&call, &MAPS, &mut peer) {
        call.set_peer4(&peer);
    }
    GOES_ON
}

#[inline(always)]
fn name6(ctx: &SockAddrContext) -> i32 {
    let call = Call(ctx.sock_addr);
    let mut peer = call.peer6();
    if name(&call, &MAPS, &mut peer) {
        call.set_peer6(&peer);
    }
    GOES_ON
}

/// What a program returns for a call that goes on.
const GOES_ON: i32 = 1;
const FAILS: i32 = 0;

/// The call that a program runs for.
struct Call(*mut bpf_sock_addr);

impl Call {
    #[inline(always)]
    fn peer4(&self) -> Peer {
        // SAFETY: the kernel's context, valid for the whole run. Volatile, and in words: the verifier takes
        // no access of another width to it.
        let address = unsafe { read_volatile(&raw const (*self.0).user_ip4) };
        self.peer(Address::v4(address.to_ne_bytes()))
    }

    #[inline(always)]
    fn peer6(&self) -> Peer {
        // SAFETY: as in `peer4`.
        let words: [u32; 4] = unsafe {
            let words = &raw const (*self.0).user_ip6;
            let word = |index: usize| read_volatile(words.cast::<u32>().add(index));
            [word(0), word(1), word(2), word(3)]
        };
        self.peer(Address::of_words(words))
    }

    #[inline(always)]
    fn peer(&self, address: Address) -> Peer {
        // SAFETY: as in `peer4`.
        let (port, protocol) = unsafe {
            (read_volatile(&raw const (*self.0).user_port), read_volatile(&raw const (*self.0).protocol))
        };
        // MPTCP and others have numbers that an octet does not hold.
        let protocol = if protocol < 256 { protocol as u8 } else { 0 };
        Peer { address, port: u16::from_be(port as u16), protocol, zero: 0 }
    }

    #[inline(always)]
    fn set_peer4(&self, peer: &Peer) {
        let [.., last] = peer.address.words();
        // SAFETY: as in `peer4`.
        unsafe { write_volatile(&raw mut (*self.0).user_ip4, last) };
        self.set_port(peer.port);
    }

    #[inline(always)]
    fn set_peer6(&self, peer: &Peer) {
        let [a, b, c, d] = peer.address.words();
        // SAFETY: as in `peer4`.
        unsafe {
            let words = (&raw mut (*self.0).user_ip6).cast::<u32>();
            write_volatile(words, a);
            write_volatile(words.add(1), b);
            write_volatile(words.add(2), c);
            write_volatile(words.add(3), d);
        }
        self.set_port(peer.port);
    }

    #[inline(always)]
    fn set_port(&self, port: u16) {
        // SAFETY: as in `peer4`.
        unsafe { write_volatile(&raw mut (*self.0).user_port, port.to_be().into()) }
    }

    #[inline(always)]
    fn rule(&self, ruling: Ruling, translated: impl FnOnce()) -> i32 {
        if ruling == Ruling::TRANSLATED {
            translated();
        }
        if ruling != Ruling::REFUSED {
            return GOES_ON;
        }
        // SAFETY: a static of this program's read-only data; volatile, since the loader replaces it.
        if unsafe { read_volatile(&raw const NAMES_ERRORS) } != 0 {
            // SAFETY: takes a number, keeps it for when the program has ended.
            unsafe { bpf_set_retval(-ECONNREFUSED) };
        }
        FAILS
    }

    #[inline(always)]
    fn context(&self) -> *mut c_void {
        SockAddrContext::new(self.0).as_ptr()
    }

    #[inline(always)]
    fn sk(&self) -> *mut bpf_sock {
        // SAFETY: as in `peer4`; it is the socket of the call, and never null (Linux 5.3).
        unsafe { read_volatile(&raw const (*self.0).__bindgen_anon_1.sk) }
    }
}

impl Socket for Call {
    #[inline(always)]
    fn cookie(&self) -> u64 {
        // SAFETY: the context of this program.
        unsafe { bpf_get_socket_cookie(self.context()) }
    }

    #[inline(always)]
    fn network(&self) -> u64 {
        // SAFETY: the context of this program.
        unsafe { bpf_get_netns_cookie(self.context()) }
    }

    #[inline(always)]
    fn is_of_node(&self) -> bool {
        // SAFETY: without a context it tells the first namespace's.
        self.network() == unsafe { bpf_get_netns_cookie(null_mut()) }
    }

    #[inline(always)]
    fn source(&self, v4: bool) -> Address {
        let sk = self.sk();
        // SAFETY: the kernel checks that the pointer is to a socket; in words, as it wants them.
        unsafe {
            if v4 {
                let word = read_volatile(&raw const (*sk).src_ip4);
                return if word == 0 { Address::default() } else { Address::v4(word.to_ne_bytes()) };
            }
            let words = (&raw const (*sk).src_ip6).cast::<u32>();
            let word = |index: usize| read_volatile(words.add(index));
            Address::of_words([word(0), word(1), word(2), word(3)])
        }
    }

    #[inline(always)]
    fn random(&self) -> u32 {
        // SAFETY: takes nothing and touches nothing.
        unsafe { bpf_get_prandom_u32() }
    }
}

impl Sockets for Maps {
    #[inline(always)]
    fn peer(&self, key: &SocketKey) -> Option<SocketPeer> {
        // SAFETY: copied at once. An entry is written by its socket's own calls only.
        unsafe { SOCKETS.get(key) }.copied()
    }

    #[inline(always)]
    fn set_peer(&self, key: &SocketKey, peer: &SocketPeer) {
        // Without room the process is told the endpoint's address.
        let _ = SOCKETS.insert(key, peer, u64::from(BPF_ANY));
    }

    #[inline(always)]
    fn count_socket(&self, service: u32, event: SocketEvent) {
        let Some(counter) = SERVICE_STATS.get_ptr_mut(service) else { return };
        // SAFETY: a per-CPU slot, valid for the whole run. A packet's program may come in between, hence in
        // one step; it is not interrupted itself.
        unsafe {
            let field = match event {
                SocketEvent::NewFlow => &raw mut (*counter).new_flows,
                SocketEvent::NoEndpoint => &raw mut (*counter).no_endpoint,
            };
            atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(field, 1);
        }
    }
}
