//! The objects of the group `netroute.dev`, as Kubernetes and manifests have them, and their
//! conversion into desired state.

pub mod net_route;
mod refusal;

pub use net_route::{FORCE_ANNOTATION, NetRoute, NetRouteSpec};
pub use refusal::RouteRefusal;
