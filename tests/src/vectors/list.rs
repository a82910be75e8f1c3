//! Every vector as a test of its own, in each test crate that asks for it.

/// Makes one test per vector; each calls `$run` with the vector's file. [`files`](super::files)
/// is compared with this list by a test, so that no file is forgotten.
#[macro_export]
macro_rules! each_vector {
    ($run:path) => {
        $crate::each_vector! { @all $run;
            arp "route/arp.toml",
            checksum "route/checksum.toml",
            ecmp_addresses "route/ecmp-addresses.toml",
            ecmp_fragments4 "route/ecmp-fragments4.toml",
            ecmp_fragments6 "route/ecmp-fragments6.toml",
            ecmp_ports "route/ecmp-ports.toml",
            ecmp_sixteen "route/ecmp-sixteen.toml",
            ecmp_tiers "route/ecmp-tiers.toml",
            ecmp_weights "route/ecmp-weights.toml",
            extensions6 "route/extensions6.toml",
            forward4 "route/forward4.toml",
            forward6 "route/forward6.toml",
            fragments "route/fragments.toml",
            gso "route/gso.toml",
            hop_by_hop "route/hop-by-hop.toml",
            kinds "route/kinds.toml",
            lengths4 "route/lengths4.toml",
            lengths6 "route/lengths6.toml",
            link_layer "route/link-layer.toml",
            longest_prefix "route/longest-prefix.toml",
            martians4 "route/martians4.toml",
            martians6 "route/martians6.toml",
            mtu "route/mtu.toml",
            next_hop_down "route/next-hop-down.toml",
            no_xdp_transmit "route/no-xdp-transmit.toml",
            on_link_next_hop "route/on-link-next-hop.toml",
            options4 "route/options4.toml",
            padding "route/padding.toml",
            pod "route/pod.toml",
            same_nic "route/same-nic.toml",
            table_inconsistent "route/table-inconsistent.toml",
            truncated4 "route/truncated4.toml",
            truncated6 "route/truncated6.toml",
            ttl4 "route/ttl4.toml",
            ttl6 "route/ttl6.toml",
            versions "route/versions.toml",
            vlan "route/vlan.toml",
            service_affinity_policy "service/affinity-policy.toml",
            service_affinity "service/affinity.toml",
            service_answer_fragments "service/answer-fragments.toml",
            service_echo "service/echo.toml",
            service_endpoint_gone "service/endpoint-gone.toml",
            service_fragments "service/fragments.toml",
            service_hairpin_node_port "service/hairpin-node-port.toml",
            service_hairpin "service/hairpin.toml",
            service_half_closed "service/half-closed.toml",
            service_icmp_errors "service/icmp-errors.toml",
            service_icmp_pods "service/icmp-pods.toml",
            service_icmp_translated "service/icmp-translated.toml",
            service_masquerade "service/masquerade.toml",
            service_no_endpoint "service/no-endpoint.toml",
            service_no_such_port "service/no-such-port.toml",
            service_node_port "service/node-port.toml",
            service_options "service/options.toml",
            service_pod_endpoint "service/pod-endpoint.toml",
            service_probe_range "service/probe-range.toml",
            service_protocols "service/protocols.toml",
            service_resets "service/resets.toml",
            service_same_endpoint "service/same-endpoint.toml",
            service_short "service/short.toml",
            service_source_port_class "service/source-port-class.toml",
            service_source_ranges "service/source-ranges.toml",
            service_syn "service/syn.toml",
            service_table_full "service/table-full.toml",
            service_timers "service/timers.toml",
            service_too_big "service/too-big.toml",
            service_udp_checksum "service/udp-checksum.toml",
            service_way_back "service/way-back.toml",
            service_way_to_endpoint "service/way-to-endpoint.toml",
        }
    };
    (@all $run:path; $($name:ident $file:literal,)+) => {
        $(#[test] fn $name() -> anyhow::Result<()> { $run($file) })+

        #[test]
        fn every_file_is_in_the_list() -> anyhow::Result<()> {
            assert_eq!($crate::vectors::files()?, [$($file),+]);
            Ok(())
        }
    };
}
