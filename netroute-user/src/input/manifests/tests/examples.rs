//! `examples/manifests`, as a node reads them.

use super::*;
use crate::desired::egress::Action;

#[test]
fn the_examples_are_good() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/manifests");
    let set = ManifestReader::new(source(&directory)).read();
    assert_eq!((&set.problems, &set.notes), (&vec![], &vec![]));
    assert_eq!(set.routes.len(), 2);
    assert_eq!((set.cluster.services.len(), set.cluster.nodes.len(), set.cluster.pods.len()), (2, 2, 4));
    let policies = set.cluster.egress_policies.values();
    let mut policies: Vec<_> =
        policies.map(|policy| (policy.priority, &policy.name, policy.effect.clone())).collect();
    policies.sort_by_key(|(priority, ..)| *priority);
    let actions: Vec<_> =
        policies.into_iter().map(|(_, name, effect)| (name.as_str(), effect.unwrap().action)).collect();
    let [
        ("cameras", Action::Allow),
        ("sealed", Action::Deny { reject: true }),
        (_, Action::Snat(addresses)),
        (_, Action::Masquerade),
    ] = &actions[..]
    else {
        panic!("{actions:?}")
    };
    assert_eq!(addresses.len(), 4);
}
