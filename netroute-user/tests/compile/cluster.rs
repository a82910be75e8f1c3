//! Services as values, and what a test asks of their image.

use std::collections::BTreeSet;

use netroute_common::layout::service::{Backend, FrontEnd};
use netroute_user::compile::Compiled;
use netroute_user::compile::image::Image;
use netroute_user::compile::services::build::key;
use netroute_user::compile::services::image::unmapped;
use netroute_user::compile::services::selection::{
    Endpoint, FrontEndAddress, FrontEndSpec, Kind, Scope, ServicePort, WithoutEndpoint,
};
use netroute_user::desired::service::Protocol;
use netroute_user::plan::{ServiceStep, Step, diff};

use super::world::{World, ip};

pub fn port(name: &str) -> ServicePort {
    let [namespace, name] = ["shop", name].map(str::to_owned);
    ServicePort { namespace, name, protocol: Protocol::Tcp, port: 80 }
}

pub fn endpoint(address: &str) -> Endpoint {
    Endpoint { address: ip(address), port: 8080, local: false }
}

/// A front end for everybody, without anything special.
pub fn spec(name: &str, endpoints: &[&str]) -> FrontEndSpec {
    FrontEndSpec {
        service: port(name),
        kind: Kind::ClusterIp,
        endpoints: endpoints.iter().copied().map(endpoint).collect(),
        without: WithoutEndpoint::Reject,
        masquerade: false,
        affinity: None,
        source_ranges: Vec::new(),
        echo: false,
    }
}

pub fn at(address: &str, scope: Scope) -> FrontEndAddress {
    FrontEndAddress { address: ip(address), port: 80, protocol: Protocol::Tcp, scope }
}

impl World {
    /// The same for clients inside and outside.
    pub fn service(&mut self, address: &str, spec: &FrontEndSpec) {
        for scope in [Scope::External, Scope::Internal] {
            self.selection.front_ends.insert(at(address, scope), spec.clone());
        }
    }

    pub fn front_end(&self, address: &str) -> FrontEnd {
        self.installed.services.front_ends[&key(&at(address, Scope::Internal))]
    }

    /// The backends behind a front end, each once.
    pub fn behind(&self, address: &str) -> BTreeSet<u32> {
        let FrontEnd { block, size, .. } = self.front_end(address);
        let backends = self.installed.services.blocks.get(&block).map(|backends| backends.to_vec());
        let backends = backends.filter(|_| size > 0).unwrap_or_default();
        assert_eq!(backends.len(), size as usize);
        backends.into_iter().collect()
    }

    /// The backend of an endpoint behind a front end, with its number.
    pub fn backend(&self, front_end: &str, endpoint: &str) -> (u32, Backend) {
        let behind = self.behind(front_end).into_iter();
        let mut all = behind.map(|id| (id, self.installed.services.backends[&id]));
        all.find(|(_, backend)| unmapped(backend.address) == ip(endpoint))
            .expect("an endpoint of the front end")
    }

    /// Compiles and installs; the steps it takes.
    pub fn changed(&mut self) -> (Vec<ServiceStep>, Compiled) {
        let before = self.installed.clone();
        let compiled = self.install();
        (service_steps(&before, &compiled.image), compiled)
    }
}

pub fn service_steps(before: &Image, after: &Image) -> Vec<ServiceStep> {
    let steps = diff(before, after).steps.into_iter();
    let steps = steps.filter_map(|step| match step {
        Step::Service(step) => Some(step),
        _ => None,
    });
    steps.collect()
}
