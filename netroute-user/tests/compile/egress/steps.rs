//! From one state to another: after each single write every packet meets what was before or what comes
//! after, or is denied where there is no room for both.

use std::collections::BTreeMap;

use netroute_user::apply::{MapStore, MemoryStore, StoreError, apply};
use netroute_user::compile::image::{Image, Limits};
use netroute_user::plan::{Step, diff};

use super::*;

const PODS: [&str; 4] = [WEB, OTHER, "10.244.1.12", "fd00:244::10"];
const TO: [&str; 8] = [
    "8.8.8.8",
    "8.8.4.4",
    "8.9.0.1",
    "9.9.9.9",
    "192.168.20.7",
    "192.168.21.1",
    "2001:db8::1",
    "2001:db9::1",
];
const PORTS: [u16; 3] = [53, 80, 554];

/// Everything that is asked.
fn judgements(image: &EgressImage) -> BTreeMap<(&'static str, &'static str, u16), Judgement> {
    let mut all = BTreeMap::new();
    for from in PODS {
        for to in TO.iter().filter(|to| ip(to).is_ipv4() == ip(from).is_ipv4()) {
            for port in PORTS {
                all.insert((from, *to, port), judge(image, from, to, port));
            }
        }
    }
    all
}

/// Policies made of numbers, so that many different states follow each other.
fn scene(seed: u64) -> World {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = |bound: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % bound
    };
    let mut world = World::with_pods();
    if next(3) > 0 {
        let app = ["web", "other", "third"][next(3) as usize];
        world.pod(pod("third", &[("app", app)], &["10.244.1.12"]));
    }
    if next(4) == 0 {
        world.pod(pod("web", &[("app", "other")], &[WEB, "fd00:244::10"]));
    }
    world.default_egress(
        [DefaultEgress::Allow, DefaultEgress::Deny, DefaultEgress::Masquerade][next(3) as usize],
    );
    let cidrs = ["0.0.0.0/0", "8.0.0.0/8", "8.8.0.0/16", "8.8.8.0/24", "192.168.0.0/16", "192.168.20.0/24"];
    let six = ["\"::/0\"", "\"2001:db8::/32\"", "\"2001:db8::/64\""];
    let effects = [
        "action: Allow",
        "action: Deny",
        "action: Masquerade",
        "action: Snat, snat: {addresses: [172.16.3.11, \"fd16:3::11\"]}",
    ];
    for number in 0..next(6) {
        let name = format!("p{number}");
        let from =
            ["{}", "{podSelector: {matchLabels: {app: web}}}", "{podSelector: {matchLabels: {app: other}}}"];
        let from = from[next(3) as usize];
        let to = format!("{}, {}", cidrs[next(6) as usize], six[next(3) as usize]);
        let except = ["", "except: [8.8.4.0/24], ", "except: [192.168.20.7/32], "][next(3) as usize];
        let ports =
            ["", "ports: [{protocol: TCP, port: 53}]", "ports: [{protocol: TCP, port: 80, endPort: 600}]"];
        let ports = ports[next(3) as usize];
        let priority = next(4);
        let effect = effects[next(4) as usize];
        world.policy(
            &name,
            &format!("priority: {priority}, from: {from}, to: {{cidrs: [{to}], {except}{ports}}}, {effect}"),
        );
    }
    world
}

/// Looks after every write.
struct Watched<F> {
    store: MemoryStore,
    look: F,
}

impl<F: FnMut(&Step, &Image)> MapStore for Watched<F> {
    fn write(&mut self, step: &Step) -> Result<(), StoreError> {
        self.store.write(step)?;
        (self.look)(step, self.store.image());
        Ok(())
    }

    fn read(&self) -> Result<Image, StoreError> {
        self.store.read()
    }
}

fn filled(image: &Image, limits: Limits) -> MemoryStore {
    let mut store = MemoryStore::new(limits);
    apply(&diff(&Image::default(), image), &mut store).expect("filled");
    store
}

/// One state after the other. Returns how many writes were looked at, and how many states took another
/// compilation to get to.
fn walk(limits: Limits, seeds: std::ops::Range<u64>, may_deny: bool) -> (usize, usize) {
    let mut world = World { limits, ..scene(seeds.start) };
    world.install();
    let (mut written, mut again) = (0, 0);
    for seed in seeds.skip(1) {
        loop {
            let before = world.installed.clone();
            world = World { installed: before.clone(), egress: world.egress, limits, ..scene(seed) };
            let compiled = world.install();
            written += follow(seed, &before, &compiled.image, limits, may_deny);
            if !compiled.egress.again {
                break;
            }
            let generation = |image: &Image| image.egress.policies.get(&0).map(|policy| policy.generation);
            assert_eq!(generation(&before), generation(&compiled.image), "flows go on until all is there");
            again += 1;
        }
    }
    (written, again)
}

/// Writes what leads from one image to the other.
fn follow(seed: u64, before: &Image, after: &Image, limits: Limits, may_deny: bool) -> usize {
    let (old, new) = (judgements(&before.egress), judgements(&after.egress));
    let action = |image: &Image| image.egress.policies.get(&0).map(|policy| policy.action);
    // There is one default, which no packet can have both ways.
    let may_deny = may_deny || action(before) != action(after);
    let mut written = 0;
    let look = |step: &Step, now: &Image| {
        written += 1;
        for (packet, now) in judgements(&now.egress) {
            let (old, new) = (&old[&packet], &new[&packet]);
            let right = now == *old || now == *new || (may_deny && !now.leaves());
            assert!(right, "{seed}: {packet:?} after `{step}`: {old:?} {now:?} {new:?}");
        }
    };
    let mut store = Watched { store: filled(before, limits), look };
    apply(&diff(before, after), &mut store).unwrap_or_else(|error| panic!("{seed}: {error:?}"));
    assert_eq!(store.read().expect("read").egress, after.egress, "{seed}");
    written
}

#[test]
fn e4_no_packet_meets_a_half_applied_policy() {
    let (written, again) = walk(Limits::DEFAULT, 0..400, false);
    assert!(written > 3000 && again == 0, "{written} writes looked at, {again} detours");
}

#[test]
fn e4_where_there_is_no_room_for_both_packets_are_denied_meanwhile() {
    let limits = Limits { egress: 28, ..Limits::DEFAULT };
    let (written, again) = walk(limits, 0..400, true);
    assert!(written > 3000 && again > 0, "{written} writes looked at, {again} detours");
    let limits = Limits { egress_rules: 10, ..Limits::DEFAULT };
    let (written, again) = walk(limits, 0..400, true);
    assert!(written > 3000 && again > 0, "{written} writes looked at, {again} detours");
}

#[test]
fn e4_cut_short_anywhere_it_can_be_finished_and_flows_are_judged_anew() {
    let mut world = scene(3);
    world.install();
    let before = world.installed.clone();
    let memory = world.egress.clone();
    let next = World { installed: before.clone(), egress: memory.clone(), ..scene(9) };
    let wanted = next.compile().image;
    let total = diff(&before, &wanted).steps.len() as u64;
    assert!(total > 5);
    for stop in 0..total {
        let store = filled(&before, Limits::DEFAULT);
        let written = store.writes();
        let mut store = store.failing_at(written + stop);
        apply(&diff(&before, &wanted), &mut store).expect_err("cut short");
        store.heal();
        let held = store.read().expect("read");
        let again = World { installed: held.clone(), egress: Arc::new(memory.unsettled()), ..scene(9) };
        let finished = again.compile().image;
        apply(&diff(&held, &finished), &mut store).expect("finished");
        assert_eq!(judgements(&store.image().egress), judgements(&wanted.egress), "after {stop} of {total}");
        let generation = |image: &Image| image.egress.policies[&0].generation;
        assert_ne!(generation(store.image()), generation(&before), "after {stop} of {total}");
    }
}

#[test]
fn e4_a_new_pod_is_known_after_what_it_is_judged_by() {
    let mut world = World::with_pods();
    world.policy("third", "from: {podSelector: {matchLabels: {app: third}}}, action: Deny");
    world.install();
    world.pod(pod("third", &[("app", "third")], &["10.244.1.12"]));
    let after = world.compile().image;
    let steps: Vec<String> = diff(&world.installed, &after).steps.iter().map(ToString::to_string).collect();
    assert_eq!(
        steps,
        [
            "set EGRESS_RULES 1 and 0 more",
            "set EGRESS 3 0.0.0.0/0 to 1 rules",
            "set EGRESS 3 ::/0 to 1 rules",
            "set SOURCES 10.244.1.12 to identity 3",
        ]
    );
}
