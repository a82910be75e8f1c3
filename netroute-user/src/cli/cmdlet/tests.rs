use super::*;

/// Splits like a shell that only knows double quotes.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    for (index, part) in line.split('"').enumerate() {
        if index % 2 == 1 {
            words.last_mut().unwrap().push_str(part);
            continue;
        }
        let mut pieces = part.split(' ');
        words.last_mut().unwrap().push_str(pieces.next().unwrap());
        words.extend(pieces.map(str::to_owned));
    }
    words.retain(|word| !word.is_empty());
    words
}

fn parse(line: &str) -> Result<Invocation, String> {
    let words = words(line);
    let cmdlet = Cmdlet::named(&words[0]).expect("a cmdlet");
    cmdlet.parse(&words[1..]).map_err(|failure| failure.to_string())
}

fn added(line: &str) -> AddRoute {
    match parse(line) {
        Ok(Invocation { action: Action::Add(route), .. }) => route,
        other => panic!("{line}: {other:?}"),
    }
}

fn refused(line: &str) -> String {
    parse(line).expect_err(line)
}

#[test]
fn the_documented_line_works_as_it_is() {
    let route = added(
        r#"Add-HcsNetRoute -InterfaceAlias "Port3" -DestinationPrefix "192.168.20.0/24" -NextHop "192.168.20.1" -RouteMetric 100"#,
    );
    assert_eq!(
        (route.dev.as_str(), route.destination.as_str(), route.via.as_str(), route.metric, route.force),
        ("Port3", "192.168.20.0/24", "192.168.20.1", Some(100), false)
    );
}

#[test]
fn names_have_no_case_and_may_be_shortened() {
    for line in [
        "add-hcsnetroute -interfacealias Port3 -DESTINATIONPREFIX 10.0.0.0/8 -nexthop 192.168.20.1 -routemetric 7",
        "ADD-HCSNETROUTE -i Port3 -d 10.0.0.0/8 -n 192.168.20.1 -r 7",
        "Add-HcsNetRoute -i:Port3 -Dest:10.0.0.0/8 -Next:192.168.20.1 -Metric:7",
        "Add-HcsNetRoute -ifAlias 'Port3' -d: 10.0.0.0/8 -n 192.168.20.1 -m 7",
        "/usr/sbin/Add-HcsNetRoute –i Port3 –d 10.0.0.0/8 –n 192.168.20.1 –m 7",
    ] {
        let route = added(line);
        assert_eq!(
            (route.dev.as_str(), route.destination.as_str(), route.via.as_str(), route.metric),
            ("Port3", "10.0.0.0/8", "192.168.20.1", Some(7)),
            "{line}"
        );
    }
}

#[test]
fn an_ipv6_value_may_stand_after_a_colon() {
    let route = added("Add-HcsNetRoute -i \"Port 3\" -d:2001:db8::/32 -n:fe80::1");
    assert_eq!(
        (route.dev.as_str(), route.destination.as_str(), route.via.as_str()),
        ("Port 3", "2001:db8::/32", "fe80::1")
    );
    assert_eq!(route.metric, None);
}

#[test]
fn switches_take_true_and_false() {
    let base = "Remove-HcsNetRoute -i Port3 -d 10.0.0.0/8";
    let flags = |more: &str| parse(&format!("{base} {more}")).map(|line| (line.what_if, line.confirm));
    assert_eq!(flags(""), Ok((false, false)));
    assert_eq!(flags("-WhatIf -Confirm:$false"), Ok((true, false)));
    assert_eq!(flags("-wi:$FALSE -Confirm"), Ok((false, true)));
    assert!(flags("-Confirm:$maybe").unwrap_err().contains("is a switch"));
    assert!(added("Add-HcsNetRoute -i P -d 1.0.0.0/8 -n 1.1.1.1 -Force").force);
}

#[test]
fn mistakes_are_named() {
    let add = "Add-HcsNetRoute -i Port3 -d 10.0.0.0/8";
    for (line, expected) in [
        (add.to_owned(), "-NextHop is missing"),
        (
            format!("{add} -n 1.1.1.1 -Gateway 2.2.2.2"),
            "-Gateway is not known; the parameters are -InterfaceAlias,",
        ),
        (format!("{add} -n 1.1.1.1 -RouteMetric many"), "-RouteMetric \"many\" is not a number"),
        (format!("{add} -n 1.1.1.1 -r -1"), "-RouteMetric \"-1\" is not a number"),
        (format!("{add} -n 1.1.1.1 -n 1.1.1.2"), "-NextHop is given twice"),
        (format!("{add} -n"), "-NextHop has no value"),
        (format!("{add} -n -Force"), "-NextHop has no value"),
        (format!("{add} 1.1.1.1"), "\"1.1.1.1\" stands alone"),
        ("Get-HcsNetRoute -Force".to_owned(), "-Force is not known"),
    ] {
        let message = refused(&line);
        assert!(message.contains(expected), "{line}: {message}");
    }
}

#[test]
fn a_parameter_and_its_alias_are_not_ambiguous() {
    // Only `InterfaceAlias` and its alias begin with i: they are one parameter.
    assert!(parse("Get-HcsNetRoute -i Port3").is_ok());
    let line = Line { cmdlet: Cmdlet::Add, given: vec![], socket: None, format: None };
    assert_eq!(line.parameter("c").unwrap(), CONFIRM);
    assert!(line.parameter("").is_err());
}

#[test]
fn the_alias_is_optional_for_get_and_global_options_work() {
    let line = parse("get-hcsnetroute --socket /run/x.sock --output=json").unwrap();
    assert!(matches!(line.action, Action::Get { interface: None, destination: None, next_hop: None }));
    assert_eq!((line.socket, line.format), (Some("/run/x.sock".into()), Some(Format::Json)));
    assert!(matches!(parse("Get-HcsNetRoute -?").unwrap().action, Action::Help(_)));
    assert!(matches!(parse("Add-HcsNetRoute --help").unwrap().action, Action::Help(_)));
}

#[test]
fn only_the_cmdlets_are_cmdlets() {
    assert_eq!(Cmdlet::named("/opt/bin/get-HCSnetroute"), Some(Cmdlet::Get));
    assert_eq!(Cmdlet::named("/usr/sbin/netroute"), None);
    assert_eq!(Cmdlet::named("route"), None);
}
