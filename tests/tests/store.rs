//! The kernel's maps as a store: what was written is what is read. Needs root.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;
use std::time::Duration;

use anyhow::Result;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use netroute_common::host::strides::Strides;
use netroute_common::layout::config::Nic;
use netroute_common::layout::flow::{Masquerade, PeerKey, Timers};
use netroute_common::layout::route::{Group, MAX_MEMBERS, Member, NextHop, Route};
use netroute_common::layout::service::{Backend, FrontEnd, FrontEndKey, SourceRange};
use netroute_common::verdict::{Hook, Reason};
use netroute_tests::namespace::{enter, ifindex, sh};
use netroute_user::apply::{MapStore, MemoryStore, StoreError, apply};
use netroute_user::compile::egress::image::EgressImage;
use netroute_user::compile::image::{Image, Limits};
use netroute_user::compile::services::build::source_range;
use netroute_user::compile::services::image::{ServiceImage, mapped};
use netroute_user::load::object::bpf_object;
use netroute_user::load::testrun::{SkbContext, TestBed};
use netroute_user::plan::{Plan, Step, diff};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

const LIMITS: Limits = Limits {
    routes4: 64,
    blocks4: 64,
    routes6: 64,
    groups: 32,
    next_hops: 32,
    route_stats: 64,
    front_ends: 64,
    slots: 64,
    backends: 32,
    source_ranges: 64,
    service_stats: 32,
    ..Limits::DEFAULT
};

fn bed(limits: Limits) -> Result<TestBed> {
    Ok(TestBed::load(bpf_object(), limits, &Nic::default())?)
}

/// A route owns a counter for each member of its group, all within the map.
fn route() -> impl Strategy<Value = Route> {
    let last_first = LIMITS.route_stats - MAX_MEMBERS as u32;
    (0..LIMITS.groups, 0..=last_first).prop_map(|(group, stats)| Route { group, stats })
}

fn prefix4() -> impl Strategy<Value = Ipv4Net> {
    (any::<[u8; 4]>(), 0..=32_u8).prop_map(|(address, len)| Ipv4Net::new_assert(address.into(), len).trunc())
}

fn prefix6() -> impl Strategy<Value = Ipv6Net> {
    (any::<[u8; 16]>(), 0..=128_u8)
        .prop_map(|(address, len)| Ipv6Net::new_assert(address.into(), len).trunc())
}

/// Never all zero: such an entry means "unused".
fn group() -> impl Strategy<Value = Group> {
    (1..=16_u32, any::<[(u32, u8, u8); 16]>()).prop_map(|(len, members)| Group {
        len,
        members: members.map(|(next_hop, tier, weight)| Member {
            next_hop,
            tier,
            weight,
            inverse: Member::inverse_of(weight),
        }),
    })
}

fn next_hop() -> impl Strategy<Value = NextHop> {
    (1..u32::MAX, any::<(u32, u32, [u8; 4])>(), any::<([u8; 6], [u8; 6], [u8; 16])>()).prop_map(
        |(ifindex, (mtu, port, [kind, alive, xdp, family]), (source_mac, destination_mac, gateway))| {
            NextHop { ifindex, mtu, port, kind, alive, xdp, family, source_mac, destination_mac, gateway }
        },
    )
}

fn front_end_key() -> impl Strategy<Value = FrontEndKey> {
    any::<(Ipv6Addr, u16, u8, bool)>().prop_map(|(address, port, protocol, scope)| FrontEndKey {
        address: mapped(address.into()),
        port,
        protocol,
        scope: scope.into(),
    })
}

/// In use, or at rest with a generation alone.
fn backend() -> impl Strategy<Value = Backend> {
    (any::<(u128, u16, u16, bool)>(), 1..u32::MAX).prop_map(|((bits, port, flags, used), generation)| {
        let address = mapped(Ipv6Addr::from_bits(bits | 1).into());
        let rests = Backend { generation, ..Backend::default() };
        if used { Backend { address, port, flags, generation } } else { rests }
    })
}

fn source_ranges() -> impl Strategy<Value = BTreeSet<(u8, SourceRange)>> {
    let of4 = (any::<u32>(), prefix4().prop_map(IpNet::V4));
    let of6 = (any::<u32>(), prefix6().prop_map(IpNet::V6));
    let range = prop_oneof![of4, of6].prop_map(|(service, prefix)| source_range(service, &prefix));
    btree_set(range, 0..=16)
}

fn masquerade() -> impl Strategy<Value = Masquerade> {
    any::<([u8; 4], Ipv6Addr, u16, u16)>().prop_map(|(address4, address6, first_port, ports)| Masquerade {
        address4,
        address6: mapped(address6.into()),
        first_port,
        ports,
    })
}

fn peer() -> impl Strategy<Value = PeerKey> {
    any::<(u32, [u8; 6])>().prop_map(|(ifindex, mac)| PeerKey { ifindex, mac, zero: 0 })
}

/// Front ends share four blocks, or have none.
fn services() -> impl Strategy<Value = ServiceImage> {
    let front_end = (0..LIMITS.service_stats, 0..5_usize, any::<u32>(), any::<u32>());
    (
        btree_map(front_end_key(), front_end, 0..=32),
        proptest::array::uniform4(vec(any::<u32>(), 1..=16)),
        btree_map(0..LIMITS.backends, backend(), 0..=16),
        source_ranges(),
        btree_map(any::<u32>(), masquerade(), 0..=8),
        btree_map(peer(), any::<u32>(), 0..=8),
        any::<bool>(),
    )
        .prop_map(|(front_ends, tables, backends, source_ranges, masquerade, peers, timed)| {
            let mut blocks = BTreeMap::new();
            let with_block = |(key, (service, table, affinity, flags)): (_, (u32, usize, u32, u32))| {
                let mut front_end = FrontEnd { service, affinity, flags, ..FrontEnd::default() };
                if let Some(slots) = tables.get(table) {
                    front_end.block = 16 * table as u32;
                    front_end.size = slots.len() as u32;
                    blocks.insert(front_end.block, slots.as_slice().into());
                }
                (key, front_end)
            };
            let front_ends = front_ends.into_iter().map(with_block).collect();
            let timers = timed.then_some(Timers::DEFAULT);
            ServiceImage { front_ends, blocks, backends, source_ranges, masquerade, peers, timers }
        })
}

/// Ports can only be interfaces that exist.
fn image(interfaces: Vec<u32>) -> impl Strategy<Value = Image> {
    (
        btree_map(prefix4(), route(), 0..=32),
        btree_map(prefix6(), route(), 0..=32),
        btree_map(0..LIMITS.groups, group(), 0..=16),
        btree_map(0..LIMITS.next_hops, next_hop(), 0..=16),
        btree_map(0..64_u32, proptest::sample::select(interfaces), 0..=8),
        services(),
    )
        .prop_map(|(routes4, routes6, groups, next_hops, ports, services)| {
            let numbers = routes4
                .iter()
                .map(|(prefix, route)| (prefix.network().to_bits(), prefix.prefix_len(), *route));
            let strides = Strides::build(numbers, LIMITS.blocks4, &Strides::default());
            let egress = EgressImage::default();
            Image { routes4, routes6, strides, groups, next_hops, ports, services, egress }
        })
}

#[test]
fn any_image_replaces_any_other_and_reads_back() -> Result<()> {
    enter()?;
    sh("ip link add port0 type veth peer name port1")?;
    let kernel = RefCell::new(bed(LIMITS)?);
    let memory = RefCell::new(MemoryStore::new(LIMITS));
    let mut runner = TestRunner::new(Config { cases: 200, failure_persistence: None, ..Config::default() });
    runner.run(&image(vec![ifindex("port0")?, ifindex("port1")?]), |wanted| {
        let store = &mut kernel.borrow_mut().store;
        let installed = store.read().unwrap();
        let plan = diff(&installed, &wanted);
        let memory = &mut *memory.borrow_mut();
        prop_assert_eq!(&installed, memory.image());
        apply(&plan, store).unwrap();
        apply(&plan, memory).unwrap();
        prop_assert_eq!(&store.read().unwrap(), &wanted);
        prop_assert_eq!(memory.image(), &wanted);
        prop_assert!(diff(&wanted, &store.read().unwrap()).steps.is_empty());
        Ok(())
    })?;
    Ok(())
}

fn routes(count: u32, first_octet: u8) -> BTreeMap<Ipv4Net, Route> {
    (0..count)
        .map(|number| {
            let address = (u32::from(first_octet) << 24 | number << 8).to_be_bytes();
            (Ipv4Net::new_assert(address.into(), 24), Route { group: 8, stats: 0 })
        })
        .collect()
}

#[test]
fn a_full_table_is_exchanged_by_making_room_first() -> Result<()> {
    let mut bed = bed(LIMITS)?;
    let old = Image { routes4: routes(LIMITS.routes4, 10), ..Image::default() };
    let new = Image { routes4: routes(LIMITS.routes4, 20), ..Image::default() };
    apply(&diff(&Image::default(), &old), &mut bed.store)?;
    apply(&diff(&old, &new), &mut bed.store)?;
    assert_eq!(bed.store.read()?, new);
    Ok(())
}

#[test]
fn one_route_too_many_names_map_capacity_and_key() -> Result<()> {
    let mut bed = bed(LIMITS)?;
    let wanted = Image { routes4: routes(LIMITS.routes4 + 1, 10), ..Image::default() };
    let error = apply(&diff(&Image::default(), &wanted), &mut bed.store).unwrap_err();
    assert_eq!(error.done, 64);
    assert!(
        matches!(error.source, StoreError::Full { map: "ROUTES4", capacity: 64, key: "limits.routes4" }),
        "{error:?}"
    );
    Ok(())
}

#[test]
fn slots_and_interfaces_that_are_not_there_are_named() -> Result<()> {
    enter()?;
    let mut store = bed(LIMITS)?.store;
    let group = Group { len: 1, members: [Member::default(); 16] };
    let error = store.write(&Step::SetGroup { id: 32, group: Box::new(group) }).unwrap_err();
    assert!(matches!(error, StoreError::NoSlot { map: "GROUPS", slot: 32, capacity: 32, .. }), "{error:?}");
    let error = store.write(&Step::SetPort { slot: 3, ifindex: 4711 }).unwrap_err();
    assert!(matches!(error, StoreError::NoInterface { slot: 3, ifindex: 4711, .. }), "{error:?}");
    Ok(())
}

#[test]
fn counters_are_summed_and_reset() -> Result<()> {
    enter()?;
    let mut bed = bed(LIMITS)?;
    // Too short for anything but to be counted.
    let outcome = bed.xdp(&[0; 14], 3)?;
    assert_eq!((outcome.action, outcome.packet.len()), (2, 14), "XDP_PASS, unchanged");
    let verdicts = bed.counters.verdicts()?;
    let counted: u64 = verdicts.values().map(|counter| counter.packets).sum();
    assert_eq!(counted, 3, "{verdicts:?}");
    assert!(verdicts.keys().all(|(hook, _)| *hook == Hook::XdpNic));
    let arp = [vec![0xff; 12], vec![8, 6], vec![0; 28]].concat();
    let outcome = bed.tc(Hook::TcPod, &arp, SkbContext::default(), 1)?;
    assert_eq!(outcome.action, u32::MAX, "TC_ACT_UNSPEC");
    assert_eq!(outcome.packet, arp);
    let at_pod = |(hook, _): &(Hook, Reason)| *hook == Hook::TcPod;
    let verdicts = bed.counters.verdicts()?;
    let [(reason, counter)] = verdicts.into_iter().filter(|(key, _)| at_pod(key)).collect::<Vec<_>>()[..]
    else {
        anyhow::bail!("not one verdict");
    };
    assert_eq!((counter.packets, counter.bytes), (1, 42), "{reason:?}");
    assert_eq!(bed.counters.verdict(reason.0, reason.1)?, counter);
    bed.store.write(&Step::ResetRouteStats { slot: 5 })?;
    assert_eq!(bed.counters.route(5)?.packets, 0);
    Ok(())
}

#[test]
fn a_hundred_thousand_routes_go_in_and_come_out() -> Result<()> {
    let count = std::env::var("NETROUTE_TEST_ROUTES").map_or(100_000, |count| count.parse().unwrap());
    let limits = Limits { routes4: count, ..LIMITS };
    let mut bed = bed(limits)?;
    let routes4 = (0..count)
        .map(|number| {
            // Spread over the address space, all different.
            let address = number.wrapping_mul(0x9e37_79b1);
            (Ipv4Net::new_assert(address.into(), 32), Route { group: 8, stats: 0 })
        })
        .collect();
    let wanted = Image { routes4, ..Image::default() };
    let plan: Plan = diff(&Image::default(), &wanted);
    let applied = apply(&plan, &mut bed.store)?;
    println!("{} routes written in {:?}", applied.steps, applied.duration);
    // The target is 4 s for a million.
    assert!(applied.duration < Duration::from_secs(4), "{applied:?}");
    let started = std::time::Instant::now();
    assert_eq!(bed.store.read()?, wanted);
    println!("and read in {:?}", started.elapsed());
    Ok(())
}
