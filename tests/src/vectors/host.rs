//! Vectors on the host: the pipeline over a packet and tables in memory.

use anyhow::Result;
use netroute_common::host::{HostPacket, HostTables};
use netroute_common::pipeline::{Arrival, run};
use netroute_common::verdict::{Hook, Verdict};

use super::cast::{NIC, NIC_MAC};
use super::check::{Input, Judge};
use super::outcome::{Action, Outcome};
use super::tables::TableSet;

/// The packet logic as a library.
#[derive(Default)]
pub struct Host {
    tables: TableSet,
}

impl Judge for Host {
    fn install(&mut self, tables: &TableSet) -> Result<()> {
        self.tables = tables.clone();
        Ok(())
    }

    fn run(&mut self, hook: Hook, input: &Input) -> Result<Outcome> {
        let tables = self.tables.on_host();
        let (verdict, frame) = judge(&tables, hook, input);
        let exit = match verdict {
            Verdict::Forward(exit) => Some(exit),
            Verdict::Pass(_) | Verdict::Answer(_) | Verdict::Drop(_) => None,
        };
        Ok(Outcome { action: Action::of(verdict, hook), frame, counted: tables.counted(), exit })
    }

    fn forward(&mut self, hook: Hook, input: &Input) -> Result<Vec<u8>> {
        Ok(judge(&self.tables.on_host(), hook, input).1)
    }

    fn refuses(&self, _hook: Hook, _input: &Input) -> Option<&'static str> {
        None
    }
}

/// One packet through the pipeline: the verdict, and the frame as it is then.
pub fn judge(tables: &HostTables, hook: Hook, input: &Input) -> (Verdict, Vec<u8>) {
    let mut packet = HostPacket::new(&input.frame, NIC_MAC);
    if hook != Hook::XdpNic {
        if let Some(segment) = input.segment {
            packet = packet.with_segment(segment);
        }
        if input.nic_vlan_tag {
            packet = packet.with_vlan_tag();
        }
    }
    let verdict = run(&mut packet, tables, Arrival { hook, ifindex: NIC.index });
    (verdict, packet.frame().to_vec())
}
