//! Harness of the tests: network namespaces, the lab, traffic and captures.
//!
//! It builds surroundings and measures what happens in them. It must not know how netroute
//! works inside: tests reach the product by its binary, its library or its maps.

pub mod agent;
pub mod app;
pub mod appliance;
pub mod capture;
pub mod cgroup;
pub mod crowd;
pub mod differential;
pub mod egress;
pub mod faults;
pub mod guest;
pub mod kernel_run;
pub mod lab;
pub mod namespace;
pub mod netns;
pub mod objects;
pub mod patience;
pub mod peer;
pub mod router;
pub mod stream;
pub mod traffic;
pub mod transit;
pub mod vectors;
