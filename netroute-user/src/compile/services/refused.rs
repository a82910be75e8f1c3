//! Why a Service port is not in the maps.

use super::maglev::LARGEST;

/// What there is no room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("the front-end table is full: raise limits.frontEnds (now {limit})")]
    FrontEnds { limit: u32 },
    #[error("there is no room for another endpoint table: raise limits.slots (now {limit})")]
    Slots { limit: u32 },
    #[error("the endpoint list is full: raise limits.backends (now {limit})")]
    Backends { limit: u32 },
    #[error("the table of source ranges is full: raise limits.sourceRanges (now {limit})")]
    SourceRanges { limit: u32 },
    #[error("there is no number left for another Service port: raise limits.serviceStats (now {limit})")]
    ServiceStats { limit: u32 },
    #[error("it has {endpoints} endpoints, more than {LARGEST}")]
    Endpoints { endpoints: usize },
}
