//! Traffic between namespaces: TCP with integrity check, UDP streams with a loss report, ping,
//! and one request to a server of the lab.

mod ask;
mod http;
mod ping;
mod tcp;
mod udp;
mod udp_report;

pub use ask::{Target, http_get, reason, rtsp_options};
pub use http::{HttpAnswer, http, request};
pub use ping::{Ping, ping};
pub(crate) use tcp::pattern;
pub use tcp::{Connection, Transfer};
pub use udp::{Loss, StreamReport, StreamSpec, UdpStream};
