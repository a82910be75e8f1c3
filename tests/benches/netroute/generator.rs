//! The near end of the whole path: packets from a program of the benchmark, sent as they are made
//! (`BPF_PROG_TEST_RUN` with live frames, Linux 5.18).

#[path = "../../../netroute-ebpf/src/bin/bench/traffic.rs"]
#[expect(dead_code, reason = "the program alone chooses ports")]
mod traffic;

use std::net::Ipv4Addr;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use aya::maps::xdp::DevMap;
use aya::maps::{Array, MapData};
use aya::programs::Xdp;
use aya::{Ebpf, EbpfLoader, TestRun as _, TestRunAttrs, TestRunOptions};
use etherparse::PacketBuilder;
use netroute_tests::namespace::sh;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::{Pid, gettid};

use traffic::{
    ALL_DESTINATIONS, CHECKSUM, DESTINATION_MASK, FIRST_DESTINATION, FLOW_MASK, HEADER_WORDS, SETTINGS_LEN,
    SLOT,
};

/// Packets per batch: as many as a NIC's driver takes from its ring at once.
const BATCH: u32 = 64;
/// The third octet varies.
pub const SOURCE: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 5);
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x0a];
const DISCARD: u16 = 9;
/// Makes the frame 60 bytes, the least that Ethernet has.
const PAYLOAD: [u8; 18] = [0; 18];

pub struct Generator {
    object: Ebpf,
    wires: DevMap<MapData>,
    headers: Array<MapData, [u64; HEADER_WORDS]>,
    settings: Array<MapData, [u32; SETTINGS_LEN]>,
    destinations: Array<MapData, u32>,
    sequence: Array<MapData, u32>,
    filled: u32,
}

/// What the packets of a path differ in.
#[derive(Clone, Copy, Debug)]
pub struct Traffic {
    first: u32,
    mask: u32,
    flows: Flows,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flows {
    /// These many, a power of two, one packet of each in turn.
    Established(u32),
    /// Every packet has other addresses or ports than the ones before it.
    New,
}

impl Generator {
    /// # Errors
    /// The object is not there, or the kernel refuses it.
    pub fn load(object: &Path) -> Result<Self> {
        let mut object = EbpfLoader::new().load_file(object).context("cannot load the generator")?;
        let program: &mut Xdp = object.program_mut("generate").context("no generator")?.try_into()?;
        program.load()?;
        let mut map = |name: &str| object.take_map(name).with_context(|| format!("no map {name}"));
        Ok(Self {
            wires: map("WIRES")?.try_into()?,
            headers: map("HEADERS")?.try_into()?,
            settings: map("SETTINGS")?.try_into()?,
            destinations: map("DESTINATIONS")?.try_into()?,
            sequence: map("SEQUENCE")?.try_into()?,
            object,
            filled: 0,
        })
    }

    /// Lets packets leave by an interface.
    pub fn connect(&mut self, slot: u32, ifindex: u32) -> Result<()> {
        self.wires.set(slot, ifindex, None, 0).context("cannot redirect to the first wire")
    }

    /// Traffic to these addresses in turn; a power of two of them is used.
    pub fn traffic(&mut self, to: &[Ipv4Addr], flows: Flows) -> Result<Traffic> {
        let first = self.filled;
        let count = 1 << to.len().checked_ilog2().context("no destinations")?;
        ensure!(first as usize + count <= ALL_DESTINATIONS, "too many destinations");
        for address in to.iter().take(count) {
            self.destinations.set(self.filled, u32::from_ne_bytes(address.octets()), 0)?;
            self.filled += 1;
        }
        Ok(Traffic { first, mask: u32::try_from(count)? - 1, flows })
    }

    /// The next packets are of this traffic, leave by this slot and go to this Ethernet address.
    pub fn aim(&mut self, traffic: &Traffic, slot: u32, mac: [u8; 6]) -> Result<()> {
        let frame = frame(mac)?;
        let mut headers = [0; HEADER_WORDS];
        for (word, bytes) in headers.iter_mut().zip(frame.chunks_exact(8)) {
            *word = u64::from_ne_bytes(bytes.try_into()?);
        }
        self.headers.set(0, headers, 0)?;
        let mut settings = [0; SETTINGS_LEN];
        settings[SLOT] = slot;
        settings[FLOW_MASK] = match traffic.flows {
            Flows::Established(count) => count - 1,
            Flows::New => u32::MAX,
        };
        settings[FIRST_DESTINATION] = traffic.first;
        settings[DESTINATION_MASK] = traffic.mask;
        settings[CHECKSUM] = sum_without_addresses(&frame);
        self.settings.set(0, settings, 0)?;
        Ok(self.sequence.set(0, 0, 0)?)
    }

    /// Sends some packets and then those that are measured, and asks before and after these what
    /// has arrived: the packets that arrived meanwhile, and the time.
    pub fn send(
        &self,
        [warm_up, measured]: [u32; 2],
        arrived: impl Fn() -> Result<u64> + Sync,
    ) -> Result<(u64, Duration)> {
        // On one processor, where the receiving ends of the wires run too.
        thread::scope(|scope| {
            let sending = scope.spawn(|| {
                alone()?;
                self.make(warm_up)?;
                let before = arrived()?;
                let begin = Instant::now();
                self.make(measured)?;
                let after = arrived()?;
                Ok((after - before, begin.elapsed()))
            });
            sending.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    fn make(&self, packets: u32) -> Result<()> {
        let program: &Xdp = self.object.program("generate").context("no generator")?.try_into()?;
        let frame = frame(MAC)?;
        let mut options = TestRunOptions::new();
        options.data_in = Some(&frame);
        options.repeat = packets;
        options.attrs = TestRunAttrs::new().xdp_live_frames(BATCH);
        program.test_run(options).context("cannot send: live frames need Linux 5.18")?;
        Ok(())
    }
}

/// Gives the last processor to the calling thread, before all others that want it. Nice values
/// count within a session only (autogroups), so it takes the real-time class.
fn alone() -> Result<()> {
    let mut processors = CpuSet::new();
    processors.set(thread::available_parallelism()?.get() - 1)?;
    sched_setaffinity(Pid::from_raw(0), &processors).context("cannot choose a processor")?;
    sh(&format!("chrt --fifo --pid 1 {}", gettid())).context("cannot take the real-time class")
}

fn frame(to: [u8; 6]) -> Result<Vec<u8>> {
    let builder = PacketBuilder::ethernet2(MAC, to);
    let builder = builder.ipv4(SOURCE.octets(), [0; 4], 64).udp(0, DISCARD);
    let mut frame = Vec::with_capacity(builder.size(PAYLOAD.len()));
    builder.write(&mut frame, &PAYLOAD)?;
    // No UDP checksum: kernels that translate addresses then need not mend it.
    frame[40..42].fill(0);
    Ok(frame)
}

fn sum_without_addresses(frame: &[u8]) -> u32 {
    let words = frame[14..24].chunks_exact(2);
    words.map(|word| u32::from(u16::from_ne_bytes([word[0], word[1]]))).sum()
}
