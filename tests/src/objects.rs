//! Manifests of one Service with its slices, for tests that make them of addresses.

use std::net::IpAddr;

use crate::lab::{Dual, Vm};

/// A Service of both families with one port.
#[derive(Clone, Debug)]
pub struct Service {
    pub name: &'static str,
    pub cluster_ip: Dual,
    /// Makes it one of type LoadBalancer.
    pub balancer: Option<Dual>,
    /// `TCP`, `UDP`, `SCTP`.
    pub protocol: &'static str,
    pub port: u16,
    /// Of its endpoints, which are pods of a VM by their index.
    pub target_port: u16,
}

impl Service {
    /// The manifest with these endpoints ready.
    #[must_use]
    pub fn manifest(&self, endpoints: &[(&Vm, usize)]) -> String {
        let Self { name, cluster_ip: Dual { v4, v6 }, balancer, protocol, port, target_port } = self;
        let kind = if balancer.is_some() { "LoadBalancer" } else { "ClusterIP" };
        let ingress = balancer.map_or_else(String::new, |Dual { v4, v6 }| {
            format!("status: {{loadBalancer: {{ingress: [{{ip: \"{v4}\"}}, {{ip: \"{v6}\"}}]}}}}\n")
        });
        let mut text = format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec:\n  type: {kind}\n  \
             ipFamilies: [IPv4, IPv6]\n  clusterIPs: [\"{v4}\", \"{v6}\"]\n  \
             ports: [{{name: one, port: {port}, protocol: {protocol}}}]\n{ingress}"
        );
        for family in ["IPv4", "IPv6"] {
            text += &format!(
                "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: {name}-{}, \
                 labels: {{kubernetes.io/service-name: {name}}}}}\naddressType: {family}\n\
                 ports: [{{name: one, port: {target_port}, protocol: {protocol}}}]\nendpoints:{}\n",
                family.to_lowercase(),
                if endpoints.is_empty() { " []" } else { "" }
            );
            for (vm, pod) in endpoints {
                let address = vm.pods()[*pod].address;
                let address: IpAddr = if family == "IPv4" { address.v4.into() } else { address.v6.into() };
                text += &format!(
                    "- {{addresses: [\"{address}\"], nodeName: {}, conditions: {{ready: true}}}}\n",
                    vm.name()
                );
            }
        }
        text
    }
}
