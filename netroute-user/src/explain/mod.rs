//! What the data plane would do with a packet, found out by the data plane's own code over the live maps.
//!
//! [`LiveMaps`] are the open maps and [`LiveTables`] one packet's view of them: what the logic asks is read, what
//! it would write stays in memory, and what it asked on the way is noted in a [`Trace`]. [`query`] is what people
//! ask, [`packet`] the frame that stands for it. Knows no names of pods, Services and policies.

mod egress;
mod maps;
mod memo;
mod overlay;
pub mod packet;
pub mod query;
mod services;
mod stages;
mod tables;
mod trace;

pub use maps::LiveMaps;
pub use tables::{Judged, LiveTables, Worked};
pub use trace::Trace;
