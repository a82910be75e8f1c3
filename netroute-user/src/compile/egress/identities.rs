//! Numbers of identities. What stays keeps its number, and one that is given up is not given out in
//! the same compilation.

use std::collections::{BTreeMap, BTreeSet};

use netroute_common::layout::egress::{FIRST_IDENTITY, IDENTITY_NODE, Identity};
use netroute_common::layout::service::Address;

use super::image::EgressImage;
use super::sources::Owner;

/// Of those that there is no room for. The others are counted from the other end.
const CLOSED: Identity = Identity::MAX;

/// What has a number: all that the same policies select.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// There is no room for what would be asked about them: they send nothing out of the cluster.
    Closed,
    /// By the names of the policies in their order, one a line: one text is compared faster than many.
    Sources(Owner, String),
}

/// `anew`: who is to have another number than before. `members`: the addresses of each. `whole_node`: who has the number of the node, if all of its
/// addresses are selected alike.
pub(super) fn number(
    before: &BTreeMap<Who, Identity>,
    anew: &BTreeSet<Who>,
    members: &BTreeMap<Who, Vec<Address>>,
    whole_node: Option<&Who>,
    installed: &EgressImage,
) -> BTreeMap<Who, Identity> {
    let mut given = BTreeMap::from([(Who::Closed, CLOSED)]);
    if let Some(who) = whole_node {
        given.insert(who.clone(), IDENTITY_NODE);
    }
    for (who, id) in before {
        let stays = members.contains_key(who) && !anew.contains(who) && !given.contains_key(who);
        if stays && *id >= FIRST_IDENTITY {
            given.insert(who.clone(), *id);
        }
    }
    if before.is_empty() {
        recognise(&mut given, anew, members, installed);
    }
    if members.keys().all(|who| given.contains_key(who)) {
        return given;
    }
    let held = installed.sources.values().chain(installed.destinations.keys()).chain(before.values());
    let mut taken: Vec<Identity> = held.chain(given.values()).copied().collect();
    taken.sort_unstable();
    let mut free = (FIRST_IDENTITY..).filter(|id| taken.binary_search(id).is_err());
    for who in members.keys() {
        if !given.contains_key(who)
            && let Some(id) = free.next()
        {
            given.insert(who.clone(), id);
        }
    }
    given
}

/// After a start the maps alone tell which number was whose. Only where all that had it and is still
/// there belongs together: else some would be judged by what is written for others.
fn recognise(
    given: &mut BTreeMap<Who, Identity>,
    anew: &BTreeSet<Who>,
    members: &BTreeMap<Who, Vec<Address>>,
    installed: &EgressImage,
) {
    let mut claims: BTreeMap<Identity, BTreeSet<&Who>> = BTreeMap::new();
    for (who, addresses) in members {
        for id in addresses.iter().filter_map(|address| installed.sources.get(address)) {
            claims.entry(*id).or_default().insert(who);
        }
    }
    for (id, whos) in claims {
        let [who] = whos.into_iter().collect::<Vec<_>>()[..] else { continue };
        if id >= FIRST_IDENTITY && !given.contains_key(who) && !anew.contains(who) {
            given.insert(who.clone(), id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pods(names: &[&str]) -> Who {
        Who::Sources(Owner::Pod, names.join("\n"))
    }

    fn address(last: u8) -> Address {
        Address::v4([10, 244, 1, last])
    }

    #[test]
    fn e4_identities_keep_their_number_as_long_as_the_same_policies_select_them() {
        let members = BTreeMap::from([(pods(&["a"]), vec![address(1)]), (pods(&["b"]), vec![address(2)])]);
        let first = number(&BTreeMap::new(), &BTreeSet::new(), &members, None, &EgressImage::default());
        assert_eq!(first, BTreeMap::from([(Who::Closed, CLOSED), (pods(&["a"]), 2), (pods(&["b"]), 3)]));
        let installed =
            EgressImage { sources: [(address(1), 2), (address(2), 3)].into(), ..EgressImage::default() };
        let members = BTreeMap::from([(pods(&["b"]), vec![address(1)]), (pods(&["c"]), vec![address(2)])]);
        let second = number(&first, &BTreeSet::new(), &members, None, &installed);
        assert_eq!(
            second,
            BTreeMap::from([(Who::Closed, CLOSED), (pods(&["b"]), 3), (pods(&["c"]), 4)]),
            "2 is in the maps"
        );
        let third = number(&second, &[pods(&["c"])].into(), &members, None, &installed);
        assert_eq!(third, BTreeMap::from([(Who::Closed, CLOSED), (pods(&["b"]), 3), (pods(&["c"]), 5)]));
    }

    #[test]
    fn e4_after_a_start_a_number_is_known_by_who_has_it() {
        let sources = [(address(1), 7), (address(2), 7), (address(3), 9), (address(4), 9)].into();
        let installed = EgressImage { sources, ..EgressImage::default() };
        let members = BTreeMap::from([
            (pods(&["a"]), vec![address(1), address(2), address(5)]),
            (pods(&["b"]), vec![address(3)]),
            (pods(&["c"]), vec![address(4)]),
        ]);
        let found = number(&BTreeMap::new(), &BTreeSet::new(), &members, None, &installed);
        assert_eq!(
            found,
            BTreeMap::from([(Who::Closed, CLOSED), (pods(&["a"]), 7), (pods(&["b"]), 2), (pods(&["c"]), 3)])
        );
    }
}
