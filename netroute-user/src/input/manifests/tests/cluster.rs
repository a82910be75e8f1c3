//! Services, EndpointSlices and Nodes in manifests.

use super::*;

fn service(metadata: &str, port: u32) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{{metadata}}}\nspec:\n  \
         clusterIP: 10.96.0.10\n  ports:\n  - port: {port}\n"
    )
}

const SLICE: &str = "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
                     metadata: {name: web-1, labels: {kubernetes.io/service-name: web}}\n\
                     addressType: IPv4\nports: [{port: 8080}]\nendpoints: [{addresses: [10.244.1.10]}]\n";
const NODE: &str = "---\napiVersion: v1\nkind: Node\nmetadata: {name: worker-1, namespace: lost}\n\
                    status: {addresses: [{type: InternalIP, address: 10.128.44.11}]}\n";

/// Names of all Services with the number of their first port.
fn services(set: &ManifestSet) -> Vec<(String, u16)> {
    set.cluster.services.iter().map(|(key, service)| (key.to_string(), service.ports[0].port)).collect()
}

#[test]
fn objects_of_the_cluster_are_read() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.yaml"), service("name: web", 80) + SLICE + NODE).unwrap();
    let set = ManifestReader::new(source(dir.path())).read();
    assert_eq!((&set.problems, &set.notes), (&vec![], &vec![]));
    assert_eq!(services(&set), [("default/web".to_owned(), 80)]);
    let slices: Vec<_> = set.cluster.endpoint_slices.values().collect();
    assert_eq!(
        (slices[0].service.to_string(), slices[0].endpoints[0].address.to_string()),
        ("default/web".to_owned(), "10.244.1.10".to_owned())
    );
    assert_eq!(set.cluster.nodes["worker-1"].addresses, ["10.128.44.11".parse().unwrap()].into());
}

#[test]
fn the_namespace_is_part_of_the_name() {
    let dir = tempfile::tempdir().unwrap();
    let text = service("name: web", 80)
        + &service("name: web, namespace: shop", 81)
        + &service("name: web, namespace: default", 82);
    fs::write(dir.path().join("a.yaml"), text).unwrap();
    fs::write(dir.path().join("b.yaml"), service("name: web, namespace: shop", 83)).unwrap();
    let set = ManifestReader::new(source(dir.path())).read();
    assert_eq!(services(&set), [("default/web".to_owned(), 80), ("shop/web".to_owned(), 81)]);
    let problems = problems(&set, dir.path());
    let expected =
        "a.yaml:19: Service default/web: the same kind and name as in line 3; this one is left out";
    assert_eq!(problems[0], expected);
    assert!(
        problems[1].starts_with("b.yaml:3: Service shop/web: the same kind and name is in "),
        "{problems:?}"
    );
    assert_eq!(problems.len(), 2);
}

#[test]
fn a_wrong_object_is_a_problem_with_its_line_and_the_others_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let text = service("name: ports", 70_000)
        + &service("name: kind", 80).replace("  ports:", "  type: Ingress\n  ports:")
        + &service("name: version", 80).replace("v1", "v2")
        + &service("name: number", 80).replace("port: 80", "port: http")
        + &SLICE.replace("10.244.1.10", "10.244.1")
        + &service("name: web", 80)
        + &net_route("x", "10.1.0.0/16");
    fs::write(dir.path().join("a.yaml"), text).unwrap();
    let set = ManifestReader::new(source(dir.path())).read();
    let problems = problems(&set, dir.path());
    for (problem, expected) in problems.iter().zip([
        "a.yaml:8: Service default/ports: spec.ports[0].port: 70000 is outside 1 to 65535",
        "a.yaml:15: Service default/kind: spec.type: unknown value \"Ingress\"; known are: ClusterIP, NodePort, ",
        "a.yaml:20: Service version: apiVersion \"v2\" is not known for Service; use v1",
        "a.yaml:33: Service default/number: spec.ports[0].port: invalid type: string \"http\", expected i32",
        "a.yaml:40: EndpointSlice default/web-1: endpoints[0].addresses[0]: \"10.244.1\" is not an IP address",
    ]) {
        assert!(problem.starts_with(expected), "\n got {problem}\nwant {expected}");
    }
    assert_eq!(problems.len(), 5);
    assert_eq!(services(&set), [("default/web".to_owned(), 80)]);
    assert_eq!(destinations(&set), ["10.1.0.0/16"]);
}

#[test]
fn a_service_that_breaks_stays_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.yaml");
    let mut reader = ManifestReader::new(source(dir.path()));
    fs::write(&file, service("name: web", 80) + &service("name: shop", 81)).unwrap();
    reader.read();
    fs::write(&file, service("name: web", 0) + &service("name: shop", 82)).unwrap();
    let set = reader.read();
    assert_eq!(services(&set), [("default/shop".to_owned(), 82), ("default/web".to_owned(), 80)]);
    assert!(set.problems[0].message.ends_with("(1 object that the file gave before stays in force)"));
    fs::write(&file, service("name: shop", 82)).unwrap();
    assert_eq!(services(&reader.read()), [("default/shop".to_owned(), 82)]);
}
