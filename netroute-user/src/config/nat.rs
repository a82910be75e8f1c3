//! `nat`: with which ports flows are masqueraded, and how long one is kept without a packet.

use std::ops::RangeInclusive;
use std::time::Duration;

use netroute_common::layout::flow::Timers;
use serde::Deserialize;

use super::file::{Wrong, port_range};
use super::probe::parse_duration;
use crate::compile::services::nat::Nat;

/// Well-known ports are chosen only for flows that had one.
const FIRST_PORT: u16 = 1024;
/// A flow that is kept for longer is one that nobody will miss.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct NatEntry {
    /// First and last source port of flows that leave with an address of the node, where their own is taken. Not
    /// those of node ports. Default `61000-65535`.
    ports: Option<String>,
    #[serde(default)]
    timeouts: TimeoutsEntry,
}

/// Time without a packet after which a flow ends, at most `168h`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct TimeoutsEntry {
    /// TCP that was not answered yet. Default `4m`, which is the least (RFC 5382 REQ-5).
    tcp_opening: Option<String>,
    /// Open TCP. Default `124m`, which is the least (RFC 5382 REQ-5).
    tcp_established: Option<String>,
    /// TCP that both sides have closed. Default `4m`, which is the least (RFC 5382 REQ-5).
    tcp_closing: Option<String>,
    /// TCP after a reset. Default `4m`, which is the least (RFC 7857 section 2.2).
    tcp_reset: Option<String>,
    /// UDP, SCTP and echo that were not answered yet. Default `2m`, which is the least (RFC 4787 REQ-5).
    udp_opening: Option<String>,
    /// The same once answered. Default `5m`, at least `2m` (RFC 4787 REQ-5).
    udp_established: Option<String>,
}

impl NatEntry {
    pub(super) fn checked(self, node_ports: &RangeInclusive<u16>) -> Result<Nat, Wrong<'static>> {
        let Self { ports, timeouts } = self;
        let default = Nat::DEFAULT;
        let default_ports =
            default.first_port..=default.first_port.saturating_add(default.ports.saturating_sub(1));
        let wrong = |message: String| Wrong::at(["nat", "ports"], message);
        let (first, last) = port_range(["nat", "ports"], ports, default_ports)?.into_inner();
        if first < FIRST_PORT {
            return Err(wrong(format!("{first} is below {FIRST_PORT}, a well-known port")));
        }
        if first <= *node_ports.end() && *node_ports.start() <= last {
            let (from, to) = (node_ports.start(), node_ports.end());
            return Err(wrong(format!("{first}-{last} has ports of nodePorts.range, {from}-{to}")));
        }
        let ports = last.saturating_sub(first).saturating_add(1);
        Ok(Nat { timers: timeouts.checked()?, first_port: first, ports })
    }
}

impl TimeoutsEntry {
    fn checked(self) -> Result<Timers, Wrong<'static>> {
        let default = Timers::DEFAULT;
        Ok(Timers {
            tcp_opening: timeout("tcpOpening", self.tcp_opening, default.tcp_opening, default.tcp_opening)?,
            tcp_established: timeout(
                "tcpEstablished",
                self.tcp_established,
                default.tcp_established,
                default.tcp_established,
            )?,
            tcp_closing: timeout("tcpClosing", self.tcp_closing, default.tcp_closing, default.tcp_closing)?,
            tcp_reset: timeout("tcpReset", self.tcp_reset, default.tcp_reset, default.tcp_reset)?,
            udp_opening: timeout("udpOpening", self.udp_opening, default.udp_opening, default.udp_opening)?,
            udp_established: timeout(
                "udpEstablished",
                self.udp_established,
                default.udp_established,
                default.udp_opening,
            )?,
        })
    }
}

/// Whole seconds.
fn timeout(
    key: &'static str,
    given: Option<String>,
    default: u32,
    least: u32,
) -> Result<u32, Wrong<'static>> {
    let Some(text) = given else { return Ok(default) };
    let wrong = |message: String| Wrong::at(["nat", "timeouts", key], message);
    let duration = parse_duration(&text).map_err(|error| wrong(error.to_string()))?;
    if duration.subsec_nanos() != 0 {
        return Err(wrong(format!("{text} is no whole number of seconds")));
    }
    if duration < Duration::from_secs(least.into()) || duration > LONGEST {
        return Err(wrong(format!("{text} is outside {least}s to 168h")));
    }
    u32::try_from(duration.as_secs()).map_err(|error| wrong(error.to_string()))
}
