use super::*;
use crate::desired::service::Protocol;
use crate::input::yaml::documents;

fn read(rest: &str) -> Result<EndpointSlice, String> {
    let text = format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
         metadata: {{name: web-1, labels: {{kubernetes.io/service-name: web}}}}\n{rest}\n"
    );
    let object: discovery::EndpointSlice = documents(&text)[0].parse().expect("a slice");
    endpoint_slice(&object).map_err(|error| error.to_string())
}

#[test]
fn a_slice_is_read_in_full() {
    let slice = read(
        "addressType: IPv4\nports: [{name: http, port: 8080}, {name: all}]\nendpoints:\n\
         - {addresses: [10.244.001.010], nodeName: worker-1, zone: a,\n   \
         hints: {forNodes: [{name: worker-1}], forZones: [{name: a}, {name: b}]}}\n",
    )
    .unwrap();
    let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
    let expected = SliceEndpoint {
        address: "10.244.1.10".parse().unwrap(),
        ready: true,
        serving: true,
        terminating: false,
        node: Some("worker-1".to_owned()),
        node_hints: words(&["worker-1"]),
        zone_hints: words(&["a", "b"]),
    };
    assert_eq!(
        (slice.key.to_string(), slice.service.to_string()),
        ("default/web-1".into(), "default/web".into())
    );
    assert_eq!(slice.ports, [SlicePort { name: "http".into(), protocol: Protocol::Tcp, port: 8080 }]);
    assert_eq!((slice.family, slice.endpoints), (Family::V4, vec![expected]));
}

#[test]
fn s1_conditions_that_are_not_written_follow_from_ready() {
    let conditions = |written: &str| {
        let text = format!(
            "addressType: IPv6\nendpoints: [{{addresses: [\"fd00:244::1\"], conditions: {{{written}}}}}]"
        );
        let endpoint = read(&text).unwrap().endpoints.remove(0);
        (endpoint.ready, endpoint.serving, endpoint.terminating)
    };
    assert_eq!(conditions(""), (true, true, false));
    assert_eq!(conditions("ready: false"), (false, false, false));
    assert_eq!(conditions("ready: false, serving: true, terminating: true"), (false, true, true));
}

#[test]
fn what_cannot_be_used_is_refused_with_its_field() {
    for (rest, expected) in [
        ("addressType: FQDN\nendpoints: []", "addressType: unknown value \"FQDN\"; known are: IPv4, IPv6"),
        ("addressType: \"\"\nendpoints: []", "addressType: is missing; write IPv4 or IPv6"),
        (
            "addressType: IPv4\nendpoints: [{addresses: [10.244.1.1]}, {addresses: []}]",
            "endpoints[1].addresses: is missing; give one address",
        ),
        (
            "addressType: IPv4\nendpoints: [{addresses: [pod]}]",
            "endpoints[0].addresses[0]: \"pod\" is not an IP address",
        ),
        (
            "addressType: IPv4\nendpoints: []\nports: [{port: 99999}]",
            "ports[0].port: 99999 is outside 1 to 65535",
        ),
        (
            "addressType: IPv4\nendpoints: []\nports: [{port: 1, protocol: ICMP}]",
            "ports[0].protocol: unknown value \"ICMP\"",
        ),
    ] {
        let message = read(rest).unwrap_err();
        assert!(message.starts_with(expected), "{rest}\n got {message}\nwant {expected}");
    }
    let text = "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: web-1}\n\
                addressType: IPv4\nendpoints: []\n";
    let object: discovery::EndpointSlice = documents(text)[0].parse().unwrap();
    assert_eq!(
        endpoint_slice(&object).unwrap_err().to_string(),
        "metadata.labels.kubernetes.io/service-name: is missing; name the Service whose endpoints these are"
    );
}
