//! What a port answers, in the shape of kube-proxy's.

use axum::http::header::{CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::http::{Response, StatusCode};
use bytes::Bytes;
use http_body_util::Full;
use serde::Serialize;

use super::Check;
use crate::desired::service::ServiceKey;

/// How many endpoints this node has, for balancers that weigh nodes.
const WEIGHT: &str = "x-load-balancing-endpoint-weight";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    service: Name<'a>,
    local_endpoints: usize,
    service_proxy_healthy: bool,
}

#[derive(Serialize)]
struct Name<'a> {
    namespace: &'a str,
    name: &'a str,
}

/// 200 if clients that are sent to this node are served here, else 503.
pub fn answer(check: &Check, healthy: bool) -> Response<Full<Bytes>> {
    let &Check { service: ServiceKey { ref namespace, ref name }, local_endpoints, served: _ } = check;
    let status =
        if healthy && local_endpoints > 0 { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = Body { service: Name { namespace, name }, local_endpoints, service_proxy_healthy: healthy };
    // Strings and numbers always become JSON.
    let text = serde_json::to_vec(&body).unwrap_or_default();
    let response = Response::builder()
        .status(status)
        .header(CONTENT_TYPE, "application/json")
        .header(X_CONTENT_TYPE_OPTIONS, "nosniff")
        .header(WEIGHT, local_endpoints)
        .body(Full::new(Bytes::from(text)));
    response.unwrap_or_else(|_| unavailable())
}

/// When nothing can be said.
pub fn unavailable() -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    response
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::{Duration, Instant};

    use super::super::{Checks, SILENCE};
    use super::*;

    fn check(local_endpoints: usize, served: bool) -> Check {
        let service = ServiceKey { namespace: "shop".into(), name: "web".into() };
        Check { service, local_endpoints, served }
    }

    #[tokio::test]
    async fn s15_the_answer_has_the_shape_of_kube_proxys() {
        use http_body_util::BodyExt;
        for (endpoints, healthy, status) in [(2, true, 200), (0, true, 503), (2, false, 503), (0, false, 503)]
        {
            let (head, body) = answer(&check(endpoints, true), healthy).into_parts();
            assert_eq!(head.status, status);
            assert_eq!(head.headers[WEIGHT], endpoints.to_string());
            assert_eq!(head.headers["content-type"], "application/json");
            let expected = format!(
                r#"{{"service":{{"namespace":"shop","name":"web"}},"localEndpoints":{endpoints},"serviceProxyHealthy":{healthy}}}"#
            );
            assert_eq!(body.collect().await.unwrap().to_bytes(), expected);
        }
    }

    #[test]
    fn s15_a_node_is_healthy_that_works_serves_the_service_and_says_so() {
        let now = Instant::now();
        let checks = |healthy| Checks { ports: BTreeMap::new(), healthy, told: now };
        let late = now + SILENCE;
        assert!(checks(true).is_healthy(&check(1, true), late - Duration::from_millis(1)));
        assert!(!checks(true).is_healthy(&check(1, true), late), "the agent is stuck");
        assert!(!checks(true).is_healthy(&check(1, false), now), "the Service found no room in the maps");
        assert!(!checks(false).is_healthy(&check(1, true), now));
    }
}
