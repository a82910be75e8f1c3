//! The kernel's maps of egress policies as a store: what was written is what is read. Needs root.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use anyhow::Result;
use ipnet::IpNet;
use netroute_common::layout::config::Nic;
use netroute_common::layout::egress::{EgressRule, Policy, RuleSet, SnatAddress};
use netroute_common::layout::service::Address;
use netroute_tests::namespace::enter;
use netroute_user::apply::{MapStore, MemoryStore, apply};
use netroute_user::compile::egress::image::{Destination, Destinations, EgressImage};
use netroute_user::compile::image::{Image, Limits};
use netroute_user::compile::services::image::mapped;
use netroute_user::load::object::bpf_object;
use netroute_user::load::testrun::TestBed;
use netroute_user::plan::{EgressStep, Plan, Step, diff};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

const LIMITS: Limits =
    Limits { sources: 64, egress: 512, egress_rules: 64, egress_policies: 32, snat: 64, ..Limits::DEFAULT };
/// Runs begin at multiples of it.
const RUN: u32 = 16;

fn bed() -> Result<TestBed> {
    Ok(TestBed::load(bpf_object(), LIMITS, &Nic::default())?)
}

fn address() -> impl Strategy<Value = Address> {
    any::<IpAddr>().prop_map(mapped)
}

fn destination() -> impl Strategy<Value = Destination> {
    let four = (any::<[u8; 4]>(), 0..=32_u8).prop_map(|(address, len)| (IpAddr::from(address), len));
    let six = (any::<[u8; 16]>(), 0..=128_u8).prop_map(|(address, len)| (IpAddr::from(address), len));
    prop_oneof![four, six].prop_map(|(address, len)| IpNet::new_assert(address, len).trunc().into())
}

fn rule() -> impl Strategy<Value = EgressRule> {
    (0..32_u32, any::<u16>(), any::<u16>(), any::<u8>()).prop_map(
        |(policy, first_port, last_port, protocol)| EgressRule {
            policy,
            first_port,
            last_port,
            protocol,
            zero: [0; 3],
        },
    )
}

fn snat() -> impl Strategy<Value = SnatAddress> {
    (address(), 1..9_u32, any::<u16>(), any::<u16>())
        .prop_map(|(address, ifindex, first_port, ports)| SnatAddress { address, ifindex, first_port, ports })
}

/// Runs that nobody names are not there.
fn image() -> impl Strategy<Value = EgressImage> {
    let policy = (1..4_u8, any::<u8>(), any::<u32>(), 0..32_u32, 0..5_usize, 0..5_usize);
    (
        btree_map(address(), 1..9_u32, 0..=32),
        btree_map(0..9_u32, btree_map(destination(), (0..5_usize, 0..2_u16), 1..=16), 0..=6),
        btree_map(0..LIMITS.egress_policies, policy, 0..=16),
        proptest::array::uniform4(vec(rule(), 1..=16)),
        proptest::array::uniform4(vec(snat(), 1..=16)),
    )
        .prop_map(|(sources, destinations, policies, rules, addresses)| {
            let mut image = EgressImage { sources, ..EgressImage::default() };
            for (identity, of_one) in destinations {
                let mut entries = Destinations::new();
                for (destination, (run, flags)) in of_one {
                    let (first, count) = named(&mut image.rules, &rules, run);
                    entries.insert(destination, RuleSet { first, count, flags });
                }
                image.destinations.insert(identity, Arc::new(entries));
            }
            for (index, (action, flags, generation, group4, four, six)) in policies {
                let (snat4, snat4_count) = named(&mut image.snat, &addresses, four);
                let (snat6, snat6_count) = named(&mut image.snat, &addresses, six);
                let policy = Policy {
                    action,
                    flags,
                    generation,
                    group4,
                    snat4,
                    snat4_count,
                    snat6,
                    snat6_count,
                    ..Policy::default()
                };
                image.policies.insert(index, policy);
            }
            image
        })
}

/// First index and length of a run that is in use now; of one beyond the last, none.
fn named<T: Clone>(used: &mut BTreeMap<u32, Arc<[T]>>, all: &[Vec<T>], run: usize) -> (u32, u16) {
    let Some(entries) = all.get(run) else { return (0, 0) };
    let first = RUN * run as u32;
    used.insert(first, entries.as_slice().into());
    (first, entries.len() as u16)
}

#[test]
fn e4_any_policies_replace_any_others_and_read_back() -> Result<()> {
    enter()?;
    let kernel = RefCell::new(bed()?);
    let memory = RefCell::new(MemoryStore::new(LIMITS));
    let mut runner = TestRunner::new(Config { cases: 200, failure_persistence: None, ..Config::default() });
    runner.run(&image(), |egress| {
        let wanted = Image { egress, ..Image::default() };
        let store = &mut kernel.borrow_mut().store;
        let installed = store.read().unwrap();
        let memory = &mut *memory.borrow_mut();
        prop_assert_eq!(&installed, memory.image());
        let plan = diff(&installed, &wanted);
        apply(&plan, store).unwrap();
        apply(&plan, memory).unwrap();
        prop_assert_eq!(&store.read().unwrap(), &wanted);
        prop_assert_eq!(memory.image(), &wanted);
        prop_assert!(diff(&wanted, &store.read().unwrap()).steps.is_empty());
        Ok(())
    })?;
    Ok(())
}

#[test]
fn e8_a_policys_counter_is_read_and_reset() -> Result<()> {
    enter()?;
    let mut bed = bed()?;
    assert_eq!(bed.counters.egress(31)?, Default::default());
    let steps = vec![Step::Egress(EgressStep::ResetStats { policy: 31 })];
    apply(&Plan { steps }, &mut bed.store)?;
    assert!(bed.counters.egress(32).is_err(), "there are 32");
    Ok(())
}
