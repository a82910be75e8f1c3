//! Prometheus text over HTTP. Reads what the agent tells when asked; keeps no numbers of its own.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tracing::warn;

use crate::api::request::{Request, Requests};
use crate::api::types::{
    DropsView, EgressState, EgressView, Health, NextHopView, RouteView, ServiceView, StatusView,
};

/// An agent that does not answer within this is not healthy.
const PATIENCE: Duration = Duration::from_secs(5);

/// The address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("metrics cannot be served on {address}: {source}; set `metrics.address` to a free one, or to null")]
pub struct MetricsError {
    pub address: SocketAddr,
    pub source: std::io::Error,
}

/// Everything a scrape shows.
#[derive(Clone, Debug)]
pub struct Sample {
    pub status: StatusView,
    pub routes: Vec<RouteView>,
    pub next_hops: Vec<NextHopView>,
    pub services: Vec<ServiceView>,
    pub egress: Vec<EgressView>,
    pub verdicts: Vec<DropsView>,
    pub map_writes: u64,
    pub applies: u64,
    pub apply_errors: u64,
}

/// Takes the address.
///
/// # Errors
/// When it is in use or not an address of this machine.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, MetricsError> {
    TcpListener::bind(address).await.map_err(|source| MetricsError { address, source })
}

/// Answers `GET /metrics` until the agent ends.
pub async fn serve(listener: TcpListener, requests: Requests) {
    let scrape = move || scrape(requests.clone());
    if let Err(error) = axum::serve(listener, Router::new().route("/metrics", get(scrape))).await {
        warn!(%error, "metrics are no longer served");
    }
}

async fn scrape(requests: Requests) -> Response {
    let (reply, answer) = oneshot::channel();
    let asked = async {
        requests.send(Request::Metrics { reply }).await.ok()?;
        answer.await.ok()
    };
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(Some(Ok(sample))) => match text(&sample) {
            Ok(text) => {
                ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text)
                    .into_response()
            }
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
        },
        Ok(Some(Err(refusal))) => (StatusCode::INTERNAL_SERVER_ERROR, refusal.message).into_response(),
        _ => (StatusCode::SERVICE_UNAVAILABLE, "the agent does not answer\n").into_response(),
    }
}

/// The sample in the OpenMetrics text format.
///
/// # Errors
/// Never in practice: formatting into a string.
pub fn text(sample: &Sample) -> Result<String, std::fmt::Error> {
    let mut registry = Registry::with_prefix("netroute");
    let collector = collector::Collector(sample.clone());
    registry.register_collector(Box::new(collector));
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

mod collector {
    use std::collections::BTreeMap;
    use std::net::IpAddr;

    use prometheus_client::collector;
    use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
    use prometheus_client::metrics::MetricType;

    use super::{ConstCounter, ConstGauge, EgressState, EgressView, Health, Sample, ServiceView};
    use crate::api::types::FlowTableView;

    #[derive(Debug)]
    pub struct Collector(pub Sample);

    type Encoder<'a> = DescriptorEncoder<'a>;
    type Row = (Vec<(&'static str, String)>, u64);

    impl collector::Collector for Collector {
        fn encode(&self, mut encoder: Encoder<'_>) -> Result<(), std::fmt::Error> {
            let Sample {
                status,
                routes,
                next_hops,
                services,
                egress,
                verdicts,
                map_writes,
                applies,
                apply_errors,
            } = &self.0;
            let verdict = |of: fn(&crate::api::types::DropsView) -> u64| -> Vec<Row> {
                let labels = |v: &crate::api::types::DropsView| {
                    vec![
                        ("hook", v.hook.clone()),
                        ("verdict", v.verdict.clone()),
                        ("reason", v.reason.clone()),
                    ]
                };
                verdicts.iter().map(|v| (labels(v), of(v))).collect()
            };
            counters(
                &mut encoder,
                "verdict_packets",
                "Packets by hook, verdict and reason",
                verdict(|v| v.packets),
            )?;
            counters(
                &mut encoder,
                "verdict_bytes",
                "Bytes by hook, verdict and reason",
                verdict(|v| v.bytes),
            )?;
            let route = |of: fn(&crate::api::types::RouteView) -> u64| -> Vec<Row> {
                let labels = |r: &crate::api::types::RouteView| {
                    let next_hop = r.next_hop.map(|address| address.to_string()).unwrap_or_default();
                    vec![
                        ("destination", r.destination.to_string()),
                        ("next_hop", next_hop),
                        ("interface", r.interface.clone()),
                    ]
                };
                routes.iter().map(|r| (labels(r), of(r))).collect()
            };
            counters(
                &mut encoder,
                "route_packets",
                "Packets sent by each custom route",
                route(|r| r.packets),
            )?;
            counters(&mut encoder, "route_bytes", "Bytes sent by each custom route", route(|r| r.bytes))?;
            let hop = |of: fn(&crate::api::types::NextHopView) -> u64| -> Vec<Row> {
                let labels = |n: &crate::api::types::NextHopView| {
                    let address = n.address.map(|address| address.to_string()).unwrap_or_default();
                    vec![("address", address), ("interface", n.interface.clone())]
                };
                next_hops.iter().map(|n| (labels(n), of(n))).collect()
            };
            counters(&mut encoder, "next_hop_packets", "Packets sent to each next hop", hop(|n| n.packets))?;
            counters(&mut encoder, "next_hop_bytes", "Bytes sent to each next hop", hop(|n| n.bytes))?;
            gauges(&mut encoder, "next_hop_alive", "1 if the next hop is used", hop(|n| u64::from(n.alive)))?;
            self::services(&mut encoder, services)?;
            self::egress(&mut encoder, egress)?;
            flows(&mut encoder, &status.flows)?;
            let map = |of: fn(&crate::api::types::MapView) -> u64| -> Vec<Row> {
                status.maps.iter().map(|map| (vec![("map", map.name.clone())], of(map))).collect()
            };
            gauges(&mut encoder, "map_entries", "Entries in use", map(|map| u64::from(map.used)))?;
            gauges(&mut encoder, "map_capacity", "Entries the map can hold", map(|map| u64::from(map.max)))?;
            gauges(&mut encoder, "map_bytes", "Kernel memory of the map", map(|map| map.bytes))?;
            counters(
                &mut encoder,
                "failovers",
                "Next hops that failed",
                vec![(vec![], status.counts.failovers)],
            )?;
            counters(&mut encoder, "map_writes", "Single writes to maps", vec![(vec![], *map_writes)])?;
            counters(&mut encoder, "applies", "Plans carried out", vec![(vec![], *applies)])?;
            counters(&mut encoder, "apply_errors", "Plans that failed", vec![(vec![], *apply_errors)])?;
            let micros = status.last_apply.as_ref().map_or(0, |apply| apply.duration_micros);
            gauges(
                &mut encoder,
                "last_apply_microseconds",
                "Duration of the last plan",
                vec![(vec![], micros)],
            )?;
            let healthy = u64::from(status.health == Health::Ok);
            gauges(&mut encoder, "healthy", "1 if the agent has no problem", vec![(vec![], healthy)])
        }
    }

    fn services(encoder: &mut Encoder<'_>, services: &[ServiceView]) -> Result<(), std::fmt::Error> {
        let rows = |of: fn(&ServiceView) -> u64| -> Vec<Row> {
            let labels = |service: &ServiceView| {
                vec![
                    ("namespace", service.namespace.clone()),
                    ("service", service.name.clone()),
                    ("port", service.port.to_string()),
                    ("protocol", service.protocol.clone()),
                ]
            };
            services.iter().map(|service| (labels(service), of(service))).collect()
        };
        counters(
            encoder,
            "service_packets",
            "Packets of each Service port, both directions",
            rows(|s| s.packets),
        )?;
        counters(encoder, "service_bytes", "Bytes of each Service port, both directions", rows(|s| s.bytes))?;
        counters(encoder, "service_new_flows", "Flows begun to each Service port", rows(|s| s.new_flows))?;
        counters(
            encoder,
            "service_no_endpoint_packets",
            "Packets that met no usable endpoint of the Service port",
            rows(|s| s.no_endpoint),
        )?;
        gauges(
            encoder,
            "service_refused",
            "1 if there is no room for the Service port",
            rows(|s| u64::from(s.refused.is_some())),
        )
    }

    fn egress(encoder: &mut Encoder<'_>, policies: &[EgressView]) -> Result<(), std::fmt::Error> {
        let rows = |of: fn(&EgressView) -> u64| -> Vec<Row> {
            policies.iter().map(|policy| (vec![("policy", policy.name.clone())], of(policy))).collect()
        };
        let out = "that each policy let out, both directions";
        counters(encoder, "egress_packets", &format!("Packets {out}"), rows(|policy| policy.packets))?;
        counters(encoder, "egress_bytes", &format!("Bytes {out}"), rows(|policy| policy.bytes))?;
        counters(encoder, "egress_new_flows", "Flows begun under each policy", rows(|p| p.new_flows))?;
        counters(encoder, "egress_denied", "Packets that each policy denied", rows(|policy| policy.denied))?;
        gauges(
            encoder,
            "egress_degraded",
            "1 if traffic of the policy is denied for what it asks for and does not get",
            rows(|policy| u64::from(policy.state == EgressState::Degraded)),
        )
    }

    fn flows(encoder: &mut Encoder<'_>, tables: &[FlowTableView]) -> Result<(), std::fmt::Error> {
        let labels =
            |table: &FlowTableView| vec![("map", table.map.clone()), ("family", table.family.clone())];
        let entries = tables.iter().flat_map(|table| {
            table.states.iter().map(|(state, entries)| {
                let state = ("state", state.name().to_owned());
                (labels(table).into_iter().chain([state]).collect(), u64::from(*entries))
            })
        });
        let mut translated: BTreeMap<IpAddr, u64> = BTreeMap::new();
        for (address, flows) in tables.iter().flat_map(|table| &table.translated) {
            let sum = translated.entry(*address).or_default();
            *sum = sum.saturating_add(u64::from(*flows));
        }
        let translated =
            translated.iter().map(|(address, flows)| (vec![("address", address.to_string())], *flows));
        let help = "Flows that leave with each address of this node in the place of their client's";
        gauges(encoder, "flow_translated", help, translated.collect())?;
        gauges(encoder, "flow_entries", "Entries of the flow tables, two for each flow", entries.collect())?;
        let capacities = tables.iter().map(|table| (labels(table), u64::from(table.capacity)));
        gauges(encoder, "flow_capacity", "Entries that the flow table can hold", capacities.collect())
    }

    fn counters(
        encoder: &mut Encoder<'_>,
        name: &str,
        help: &str,
        rows: Vec<Row>,
    ) -> Result<(), std::fmt::Error> {
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in rows {
            ConstCounter::new(value).encode(metric.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn gauges(
        encoder: &mut Encoder<'_>,
        name: &str,
        help: &str,
        rows: Vec<Row>,
    ) -> Result<(), std::fmt::Error> {
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in rows {
            ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX))
                .encode(metric.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::{CountsView, FlowState, FlowTableView};

    #[test]
    fn e8_services_policies_and_flows_are_told_by_name() {
        let status = StatusView {
            health: Health::Ok,
            node_name: String::new(),
            version: String::new(),
            abi: 2,
            uptime_seconds: 0,
            interfaces: Vec::new(),
            programs: Vec::new(),
            maps: Vec::new(),
            flows: vec![FlowTableView {
                map: "FLOWS4".into(),
                family: "IPv4".into(),
                translated: [(std::net::IpAddr::from([192, 168, 20, 2]), 5)].into(),
                states: [(FlowState::Established, 12)].into(),
                capacity: 64,
            }],
            map_bytes: 0,
            counts: CountsView::default(),
            last_apply: None,
            problems: Vec::new(),
        };
        let service = ServiceView {
            namespace: "default".into(),
            name: "web".into(),
            kind: "ClusterIP".into(),
            port: 80,
            port_name: String::new(),
            protocol: "TCP".into(),
            front_ends: Vec::new(),
            endpoints: Vec::new(),
            packets: 7,
            bytes: 9,
            new_flows: 2,
            no_endpoint: 1,
            conditions: Vec::new(),
            refused: None,
        };
        let policy = EgressView {
            name: "cameras".into(),
            priority: 100,
            action: "Masquerade".into(),
            state: EgressState::Degraded,
            conditions: Vec::new(),
            from: String::new(),
            to: Vec::new(),
            ports: Vec::new(),
            snat: Vec::new(),
            via: Vec::new(),
            pods: 1,
            packets: 70,
            bytes: 90,
            new_flows: 3,
            denied: 4,
            last_hit_seconds: None,
        };
        let sample = Sample {
            status,
            routes: Vec::new(),
            next_hops: Vec::new(),
            services: vec![service],
            egress: vec![policy],
            verdicts: Vec::new(),
            map_writes: 0,
            applies: 0,
            apply_errors: 0,
        };
        let text = text(&sample).unwrap();
        let labels = "{namespace=\"default\",service=\"web\",port=\"80\",protocol=\"TCP\"}";
        for line in [
            format!("netroute_service_packets_total{labels} 7\n"),
            format!("netroute_service_new_flows_total{labels} 2\n"),
            format!("netroute_service_no_endpoint_packets_total{labels} 1\n"),
            "netroute_egress_packets_total{policy=\"cameras\"} 70\n".to_owned(),
            "netroute_egress_bytes_total{policy=\"cameras\"} 90\n".to_owned(),
            "netroute_egress_new_flows_total{policy=\"cameras\"} 3\n".to_owned(),
            "netroute_egress_denied_total{policy=\"cameras\"} 4\n".to_owned(),
            "netroute_egress_degraded{policy=\"cameras\"} 1\n".to_owned(),
            "netroute_flow_entries{map=\"FLOWS4\",family=\"IPv4\",state=\"established\"} 12\n".to_owned(),
            "netroute_flow_translated{address=\"192.168.20.2\"} 5\n".to_owned(),
            "netroute_flow_capacity{map=\"FLOWS4\",family=\"IPv4\"} 64\n".to_owned(),
        ] {
            assert!(text.contains(&line), "{line}{text}");
        }
    }
}
