//! Golden cases of the control plane: a node's state in, the content of maps and FIB out.

mod cluster;
mod egress;
mod identity;
mod priority;
mod service_limits;
mod service_routes;
mod service_scale;
mod services;
mod states;
mod world;
