//! The built binary as a user calls it: output, refusals and exit status.
#![forbid(unsafe_code)]

mod agent;

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use agent::Agent;

const BINARY: &str = env!("CARGO_BIN_EXE_netroute");

fn netroute(line: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.args(line).env_remove("NETROUTE_SOCKET").stdin(Stdio::null());
    command
}

#[track_caller]
fn expect(output: &Output, status: i32, stdout: &str, stderr: &str) {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(status), "stdout: {out}\nstderr: {err}");
    assert!(out.contains(stdout), "stdout: {out}");
    assert!(err.contains(stderr), "stderr: {err}");
    assert!(status == 2 || err.lines().count() <= 1, "one line: {err}");
}

#[test]
fn a_route_is_added_listed_and_removed() {
    let agent = Agent::start();
    let add =
        ["route", "add", "192.168.20.0/24", "--via", "192.168.20.1", "--dev", "Port3", "--metric", "100"];
    expect(&agent.run(&add), 0, "added 192.168.20.0/24 via 192.168.20.1 dev Port3 metric 100: active\n", "");
    expect(&agent.run(&["route", "list"]), 0, "192.168.20.0/24  192.168.20.1  Port3         100  active", "");
    let json = agent.run(&["-o", "json", "route", "list", "--dev", "port3"]);
    let list: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(list[0]["nextHop"], "192.168.20.1");
    assert_eq!(list[0]["state"], "active");
    expect(&agent.run(&["route", "list", "-o", "yaml"]), 0, "destination: 192.168.20.0/24\n", "");
    let remove = ["route", "remove", "192.168.20.0/24", "--dev", "Port3"];
    expect(&agent.run(&remove), 0, "removed 192.168.20.0/24", "");
    expect(&agent.run(&remove), 1, "", "netroute: there is no route to 192.168.20.0/24 on Port3\n");
}

#[test]
fn the_cmdlets_work_as_words_and_as_names_of_the_binary() {
    let agent = Agent::start();
    let add = "Add-HcsNetRoute -InterfaceAlias Port3 -DestinationPrefix 192.168.20.0/24 -NextHop 192.168.20.1 -RouteMetric 100";
    let words: Vec<&str> = add.split(' ').collect();
    let what_if: Vec<&str> = words.iter().copied().chain(["-WhatIf"]).collect();
    expect(&agent.run(&what_if), 0, "What if: Performing the operation \"Add-HcsNetRoute\" on target", "");
    expect(&agent.run(&["Get-HcsNetRoute"]), 0, "", "");
    expect(&agent.run(&words), 0, "added 192.168.20.0/24", "");
    let shape = "InterfaceAlias    : Port3\nDestinationPrefix : 192.168.20.0/24\nNextHop           : 192.168.20.1\n\
                 RouteMetric       : 100\nState             : Active\n";
    expect(&agent.run(&["get-hcsnetroute", "-interfacealias:port3"]), 0, shape, "");
    expect(&agent.run(&["-o", "json", "Get-HcsNetRoute"]), 0, "\"nextHop\": \"192.168.20.1\"", "");

    let called = |name: &str, words: &[&str]| {
        let mut command = Command::new(BINARY);
        command.arg0(name).args(words).env("NETROUTE_SOCKET", agent.socket()).output().unwrap()
    };
    expect(&called("/usr/bin/Get-HcsNetRoute", &["-d", "192.168.20.0/24"]), 0, shape, "");
    let remove = ["-InterfaceAlias", "Port3", "-DestinationPrefix", "192.168.20.0/24", "-Confirm:$false"];
    expect(&called("REMOVE-HCSNETROUTE", &remove), 0, "removed", "");
    expect(&called("Get-HcsNetRoute", &[]), 0, "", "");
}

#[test]
fn r3_refusals_have_status_1_and_usage_has_2() {
    let agent = Agent::start();
    let add = |destination, via| agent.run(&["route", "add", destination, "--via", via, "--dev", "Port3"]);
    expect(&add("192.168.20.7/24", "192.168.20.1"), 1, "", "the prefix is 192.168.20.0/24");
    expect(&add("192.168.020.0/24", "192.168.20.1"), 1, "", "write 192.168.20.0");
    expect(&add("192.168.20.0/24", "fe80::1"), 1, "", "nextHop: fe80::1 is IPv6");
    expect(&add("224.0.0.0/4", "192.168.20.1"), 1, "", "multicast");
    expect(&agent.run(&["route", "list"]), 0, "no custom routes", "");
    expect(&agent.run(&["route", "add", "10.0.0.0/8"]), 2, "", "--via");
    expect(&agent.run(&["route", "frobnicate"]), 2, "", "");
    expect(
        &agent.run(&["Add-HcsNetRoute", "-InterfaceAlias", "Port3"]),
        2,
        "",
        "-DestinationPrefix is missing",
    );
    expect(&agent.run(&["--help"]), 0, "Exit status", "");
}

#[test]
fn services_are_listed_and_shown() {
    let agent = Agent::start();
    expect(&agent.run(&["service", "list"]), 0, "default/web  ClusterIP  80/TCP    0/0", "");
    expect(&agent.run(&["service", "list", "-n", "shop"]), 0, "shop/web", "");
    expect(&agent.run(&["service", "show", "web"]), 0, "service      default/web\n", "");
    expect(&agent.run(&["service", "show", "web", "-n", "shop", "-o", "yaml"]), 0, "namespace: shop\n", "");
    let json = agent.run(&["-o", "json", "service", "list"]);
    let list: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!((&list[0]["type"], &list[0]["newFlows"]), (&"ClusterIP".into(), &1.into()));
    expect(&agent.run(&["service", "show", "db", "-n", "shop"]), 1, "", "there is no Service shop/db\n");
    expect(&agent.run(&["service", "show"]), 2, "", "<NAME>");
}

#[test]
fn flows_are_listed_and_flushed() {
    let agent = Agent::start();
    let list = agent.run(&["flow", "list", "--service", "default/web", "--client", "10.0.0.1"]);
    expect(&list, 0, "10.0.0.1:40000  10.96.0.10:80  10.244.1.5:8080  established", "");
    expect(&list, 0, "2 more are not shown", "");
    expect(&agent.run(&["flow", "list", "--state", "reset"]), 0, "no flows\n", "");
    let json = agent.run(&["-o", "json", "flow", "list", "--limit", "0"]);
    let view: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!((&view["total"], view["flows"].as_array().unwrap().len()), (&3.into(), 0));
    expect(&agent.run(&["flow", "list", "--state", "sleeping"]), 2, "", "established");
    expect(&agent.run(&["flow", "flush", "--client", "10.0.0.1"]), 0, "removed 1 flow\n", "");
    expect(&agent.run(&["flow", "flush", "--service", "web"]), 0, "removed 1 flow\n", "");
    expect(&agent.run(&["flow", "flush", "--all"]), 0, "removed 3 flows\n", "");
    expect(&agent.run(&["flow", "flush", "--service", "shop/web"]), 1, "", "no Service shop/web is served");
    expect(&agent.run(&["flow", "flush"]), 2, "", "--all");
    expect(&agent.run(&["flow", "flush", "--all", "--client", "10.0.0.1"]), 2, "", "cannot be used with");
}

#[test]
fn without_an_agent_the_status_is_3() {
    let output = netroute(&["--socket", "/nonexistent/netroute.sock", "status"]).output().unwrap();
    expect(&output, 3, "", "no agent answers at /nonexistent/netroute.sock");
    let output = netroute(&["Get-HcsNetRoute", "--socket=/nonexistent/netroute.sock"]).output().unwrap();
    expect(&output, 3, "", "no agent answers");
}

#[test]
fn an_import_is_all_or_nothing_and_an_export_reads_back() {
    let agent = Agent::start();
    let file = agent.directory.path().join("routes.txt");
    let path = file.to_str().unwrap();
    fs::write(&file, "10.0.0.0/8 via 192.168.20.1 dev Port3\n10.0.0.1/8 via 192.168.20.1 dev Port3\n")
        .unwrap();
    let output = agent.run(&["route", "import", path]);
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(err.contains("routes.txt:2: destination: 10.0.0.1/8 has host bits set"), "{err}");
    assert!(err.ends_with("nothing was imported\n"), "{err}");
    expect(&agent.run(&["route", "list"]), 0, "no custom routes", "");

    let routes: String = (0..5000)
        .map(|n| format!("10.{}.{}.0/24 via 192.168.20.1 dev Port3 metric {}\n", n / 256, n % 256, n % 5 + 1))
        .collect();
    fs::write(&file, &routes).unwrap();
    expect(&agent.run(&["route", "import", path]), 0, "imported 5000 routes: 5000 added", "");
    let exported = agent.run(&["route", "export"]);
    assert_eq!(String::from_utf8_lossy(&exported.stdout), routes);
    let copy = agent.directory.path().join("copy.txt");
    expect(&agent.run(&["route", "export", copy.to_str().unwrap()]), 0, "", "");
    assert_eq!(fs::read_to_string(copy).unwrap(), routes);
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let agent = Agent::start();
    let file = agent.directory.path().join("routes.txt");
    // More than a pipe holds, so that the write meets the closed end.
    let routes: String = (0..20_000)
        .map(|n| format!("10.{}.{}.0/24 via 192.168.20.1 dev Port3\n", n / 256, n % 256))
        .collect();
    fs::write(&file, routes).unwrap();
    expect(&agent.run(&["route", "import", file.to_str().unwrap()]), 0, "", "");
    let mut command = netroute(&["route", "list"]);
    command.env("NETROUTE_SOCKET", agent.socket()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    expect(&child.wait_with_output().unwrap(), 0, "", "");
}

fn config(directory: &Path) -> PathBuf {
    let file = directory.join("agent.yaml");
    let text = format!(
        "interfaces:\n  - {{alias: Port3, device: eth1, role: external}}\nstateDir: {0}/state\n\
         source: {{manifests: {0}/manifests}}\n",
        directory.display()
    );
    fs::write(&file, text).unwrap();
    file
}

#[test]
fn config_check_reads_everything_without_an_agent() {
    let directory = tempfile::tempdir().unwrap();
    let file = config(directory.path());
    let check = || netroute(&["config", "check", file.to_str().unwrap()]).output().unwrap();
    expect(&check(), 0, "good; 0 routes in manifests, 0 of the command line", "");
    fs::create_dir(directory.path().join("manifests")).unwrap();
    fs::create_dir(directory.path().join("state")).unwrap();
    let route = "apiVersion: netroute.dev/v1alpha1\nkind: NetRoute\nmetadata: {name: a}\n\
                 spec: {destination: 10.0.0.0/8, nextHop: 10.0.0.1, interface: port3}\n";
    fs::write(directory.path().join("manifests/a.yaml"), route).unwrap();
    expect(&check(), 0, "good; 1 routes in manifests", "");
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\n\
                   spec: {clusterIP: 10.96.0.10, ports: [{port: 80}]}\n";
    fs::write(directory.path().join("manifests/web.yaml"), service).unwrap();
    expect(&check(), 0, "manifests: Service default/web: no EndpointSlice names this Service", "");
    expect(&check(), 0, "0 of the command line, 1 Services", "");
    fs::write(directory.path().join("manifests/b.yaml"), route.replace("a}", "b}").replace("port3", "Port9"))
        .unwrap();
    expect(&check(), 1, "b.yaml: 10.0.0.0/8 via 10.0.0.1 dev Port9: the interface \"Port9\" is not in", "");
    fs::write(directory.path().join("state/routes.yaml"), "# half").unwrap();
    expect(&check(), 1, "routes.yaml: the last line with the checksum is missing", "");
    fs::write(&file, "interfaces: []\nstateDri: /x\n").unwrap();
    expect(&check(), 1, "agent.yaml:2: unknown key \"stateDri\"; did you mean \"stateDir\"?", "");
    expect(
        &netroute(&["agent", "--config", file.to_str().unwrap()]).output().unwrap(),
        1,
        "",
        "agent.yaml:2: unknown key",
    );
    expect(
        &netroute(&["agent", "--config", "/nonexistent.yaml"]).output().unwrap(),
        1,
        "",
        "/nonexistent.yaml: cannot be read",
    );
}

#[test]
fn completions_and_manual_pages_are_made() {
    expect(&netroute(&["completions", "bash"]).output().unwrap(), 0, "_netroute()", "");
    expect(&netroute(&["man"]).output().unwrap(), 0, ".TH netroute 1", "");
    let folder = tempfile::tempdir().unwrap();
    let output = netroute(&["man", "--folder", folder.path().to_str().unwrap()]).output().unwrap();
    expect(&output, 0, "", "");
    for page in ["netroute.1", "netroute-route-add.1", "Add-HcsNetRoute.1"] {
        assert!(folder.path().join(page).exists(), "{page}");
    }
    expect(&netroute(&["version"]).output().unwrap(), 0, "netroute 0.1.0 (map layouts ", "");
}
