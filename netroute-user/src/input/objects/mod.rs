//! Objects as Kubernetes and manifests have them, our own group's and those of others, and their
//! conversion into desired state.

mod egress_effect;
mod egress_matches;
mod egress_policy;
mod endpoint_slice;
mod field;
pub mod net_route;
mod node;
mod pod;
mod refusal;
mod service;

pub use egress_policy::{EgressPolicy, check_effect, egress_policy};
pub use endpoint_slice::{SERVICE_LABEL, endpoint_slice};
pub use field::{Fault, FieldError};
pub use net_route::{FORCE_ANNOTATION, NetRoute, NetRouteSpec};
pub use node::node;
pub use pod::{namespace, pod};
pub use refusal::RouteRefusal;
pub use service::{DEFAULT_NAMESPACE, service};
