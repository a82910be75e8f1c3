use super::*;

fn web() -> ServiceView {
    let endpoint = |address: &str, ready, local| EndpointView {
        address: address.parse().unwrap(),
        ready,
        serving: true,
        terminating: !ready,
        local,
        used: ready,
    };
    ServiceView {
        namespace: "default".into(),
        name: "web".into(),
        kind: "NodePort".into(),
        port: 80,
        port_name: "http".into(),
        protocol: "TCP".into(),
        front_ends: vec![FrontEndView {
            kind: "ClusterIP".into(),
            address: "10.96.0.10:80".parse().unwrap(),
            policy: "Cluster".into(),
            endpoints: 1,
            without_endpoint: "reject".into(),
        }],
        endpoints: vec![endpoint("10.244.1.5:8080", true, true), endpoint("10.244.2.5:8080", false, false)],
        packets: 1500,
        bytes: 9,
        new_flows: 12,
        no_endpoint: 0,
        conditions: vec!["port 80/TCP has no\nnode port".into()],
        refused: None,
    }
}

#[test]
fn the_list_has_a_row_for_each_port_and_says_what_is_wrong_once() {
    let refused = ServiceView {
        port: 443,
        front_ends: Vec::new(),
        endpoints: Vec::new(),
        refused: Some("the endpoint list is full".into()),
        ..web()
    };
    let text = list_table(&[web(), refused], false);
    assert_eq!(
        text,
        "SERVICE      TYPE      ADDRESS            USED  FLOWS  PACKETS  BYTES\n\
         default/web  NodePort  10.96.0.10:80/TCP   1/2     12     1.5k     9B\n    \
         port 80/TCP has no\\nnode port\n\
         default/web  NodePort  443/TCP             0/0     12     1.5k     9B\n    \
         not served: the endpoint list is full\n"
    );
    assert_eq!(list_table(&[], false), "no Services\n");
}

#[test]
fn one_service_is_shown_with_its_front_ends_and_endpoints() {
    assert_eq!(
        show_text(&[web()], false),
        "service      default/web\ntype         NodePort\n\n\
         port         80/TCP (http)\n\
         traffic      1.5k packets, 9B, 12 new flows, 0 packets without an endpoint\n\
         problem      port 80/TCP has no\\nnode port\n\n\
         FRONT END      KIND       POLICY   ENDPOINTS  WITHOUT\n\
         10.96.0.10:80  ClusterIP  Cluster          1  reject\n\n\
         ENDPOINT         NODE    STATE                 USED\n\
         10.244.1.5:8080  local   ready                 yes\n\
         10.244.2.5:8080  remote  serving, terminating  no\n"
    );
}
