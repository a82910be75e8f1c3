use super::*;
use crate::api::explain_types::MemberView;
use crate::api::types::FlowState;

fn neighbour() -> NeighbourView {
    NeighbourView { state: "reachable".into(), mac: Some("02:00:00:00:00:09".into()) }
}

/// A pod's packet that leaves with another address.
fn at_pod() -> HookStepView {
    HookStepView {
        hook: "tc-pod".into(),
        interface: "vethpod1".into(),
        source_check: Some(SourceCheckView { passed: true, owner: Some("vethpod1".into()), in_force: true }),
        service: None,
        flow: Some(FlowStageView {
            kind: FlowKind::New,
            state: None,
            reply: false,
            source: "10.128.44.21:40000".parse().ok(),
            destination: "203.0.113.10:80".parse().ok(),
        }),
        policy: Some(PolicyStageView {
            policy: Some("fixed".into()),
            priority: Some(30),
            action: "Snat".into(),
            shadows: vec!["internet".into(), "rest".into()],
            conditions: vec!["the address fd44::21 is on no interface".into()],
            reason: String::new(),
        }),
        snat: Some(SnatStageView {
            address: "10.128.44.21".parse().unwrap(),
            port: Some(40_000),
            first_port: Some(32_768),
            last_port: Some(60_999),
        }),
        route: Some(RouteStageView {
            destination: "203.0.113.10".parse().unwrap(),
            prefix: "0.0.0.0/0".parse().ok(),
            origin: "kernel".into(),
            metric: Some(0),
            why: "its only next hop".into(),
            next_hops: vec![MemberView {
                address: "10.128.44.1".parse().ok(),
                interface: "Port2".into(),
                metric: Some(0),
                tier: 0,
                weight: 1,
                alive: true,
                chosen: true,
            }],
        }),
        next_hop: Some(NextHopStageView {
            address: "10.128.44.1".parse().ok(),
            interface: "Port2".into(),
            alive: true,
            reason: String::new(),
            neighbour: neighbour(),
        }),
        frame: Some(FrameView {
            interface: "Port2".into(),
            source_mac: "02:00:00:00:00:01".into(),
            destination_mac: "02:00:00:00:00:09".into(),
            source: "10.128.44.21:40000".parse().unwrap(),
            destination: "203.0.113.10:80".parse().unwrap(),
        }),
        verdict: "forward".into(),
        reason: "forwarded".into(),
        explanation: "Sent to the next hop of its route.".into(),
    }
}

fn view(steps: Vec<StepView>) -> ExplainView {
    ExplainView {
        from: "shop/fixed".into(),
        to: "203.0.113.10".into(),
        protocol: "TCP".into(),
        source: "10.244.1.10:40000".parse().unwrap(),
        destination: "203.0.113.10:80".parse().unwrap(),
        steps,
        notes: vec!["the source port\nis 40000".into()],
    }
}

#[test]
fn each_stage_is_one_line() {
    let shown = text(&view(vec![StepView::Hook(Box::new(at_pod()))]));
    let expected = "\
from       shop/fixed 10.244.1.10:40000
to         203.0.113.10:80 TCP
hook       tc-pod on vethpod1
source     ok: an address of the pod behind vethpod1
flow       new: 10.128.44.21:40000 -> 203.0.113.10:80
policy     fixed (priority 30, Snat); comes before internet, rest
condition  the address fd44::21 is on no interface
snat       10.128.44.21:40000, ports 32768-60999
route      0.0.0.0/0 (kernel) metric 0: its only next hop
next hop   10.128.44.1 on Port2, alive, neighbour reachable 02:00:00:00:00:09
frame      out of Port2, 02:00:00:00:00:01 -> 02:00:00:00:00:09, 10.128.44.21:40000 -> 203.0.113.10:80
verdict    forward: forwarded: Sent to the next hop of its route.
note       the source port\\nis 40000
";
    assert_eq!(shown, expected);
}

#[test]
fn what_is_not_asked_has_no_line_and_what_goes_nowhere_says_why() {
    let denied = HookStepView {
        source_check: Some(SourceCheckView { passed: false, owner: None, in_force: true }),
        service: Some(ServiceStageView {
            service: "shop/web".into(),
            front_end: "10.96.0.10:80".parse().unwrap(),
            endpoints: 1,
            endpoint: None,
        }),
        flow: Some(FlowStageView {
            kind: FlowKind::Known,
            state: Some(FlowState::Established),
            reply: true,
            source: None,
            destination: None,
        }),
        policy: Some(PolicyStageView {
            policy: None,
            priority: None,
            action: String::new(),
            shadows: Vec::new(),
            conditions: Vec::new(),
            reason: "no policy is in force".into(),
        }),
        snat: Some(SnatStageView {
            address: "10.128.44.21".parse().unwrap(),
            port: None,
            first_port: Some(1),
            last_port: Some(2),
        }),
        route: Some(RouteStageView {
            destination: "203.0.113.10".parse().unwrap(),
            prefix: None,
            origin: String::new(),
            metric: None,
            why: "No route in the compiled table.".into(),
            next_hops: Vec::new(),
        }),
        next_hop: Some(NextHopStageView {
            address: None,
            interface: "Port3".into(),
            alive: false,
            reason: "no carrier".into(),
            neighbour: NeighbourView { state: "none".into(), mac: None },
        }),
        frame: None,
        verdict: "drop".into(),
        reason: "spoofed-source".into(),
        explanation: "Not an address of the pod that sent it: dropped.".into(),
        ..at_pod()
    };
    let shown = text(&ExplainView { notes: Vec::new(), ..view(vec![StepView::Hook(Box::new(denied))]) });
    let stages = "\
source     spoofed: no pod's address that is known
service    shop/web: 10.96.0.10:80 -> none chosen here, of 1 endpoint
flow       established, an answer
policy     none: no policy is in force
snat       10.128.44.21, and no port is free, ports 1-2
route      none to 203.0.113.10: No route in the compiled table.
next hop   - on Port3, down: no carrier, neighbour none
verdict    drop: spoofed-source: Not an address of the pod that sent it: dropped.
";
    assert!(shown.ends_with(stages), "{shown}");
}

#[test]
fn the_kernel_and_sockets_have_lines_of_their_own() {
    let endpoint = "10.244.1.11:80".parse().ok();
    let steps = vec![
        StepView::Socket(SocketStepView { service: "shop/web".into(), endpoints: 2, endpoint }),
        StepView::Kernel(KernelStepView {
            interface: Some("Port2".into()),
            next_hop: "10.128.44.1".parse().ok(),
            neighbour: Some(neighbour()),
            local: false,
            reason: String::new(),
        }),
    ];
    let shown = text(&ExplainView {
        from: "10.244.1.10".into(),
        protocol: "ICMP".into(),
        destination: "203.0.113.10:0".parse().unwrap(),
        notes: Vec::new(),
        ..view(steps)
    });
    let expected = "\
from       10.244.1.10:40000
to         203.0.113.10 ICMP
socket     shop/web: the call goes to one of 2 endpoints, say 10.244.1.11:80
kernel     via 10.128.44.1 on Port2, neighbour reachable 02:00:00:00:00:09
";
    assert_eq!(shown, expected);
}

#[test]
fn names_of_fields_are_fixed() {
    let view = view(vec![StepView::Hook(Box::new(at_pod()))]);
    let json = serde_json::to_value(&view).unwrap();
    let step = &json["steps"][0];
    assert_eq!((&step["step"], &step["hook"]), (&"hook".into(), &"tc-pod".into()));
    for pointer in [
        "/sourceCheck/inForce",
        "/flow/kind",
        "/policy/shadows/0",
        "/snat/firstPort",
        "/route/nextHops/0/chosen",
        "/nextHop/neighbour/state",
        "/frame/sourceMac",
    ] {
        assert!(step.pointer(pointer).is_some_and(|value| !value.is_null()), "{pointer}: {step:#}");
    }
    assert!(step["service"].is_null() && step.get("service").is_some());
    let again: ExplainView = serde_json::from_value(json).unwrap();
    assert_eq!(again, view);
}
