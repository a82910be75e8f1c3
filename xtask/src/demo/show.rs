//! How the demonstration looks, in 100 columns.

use netroute_tests::lab::plan;
use netroute_tests::traffic::Target;
use serde_json::Value;

use super::flow::{Flow, Seen};

pub const PICTURE: &str = "
  internet server ── gateway ── internal switch (NAT) ── Port2 ┐
                                                               ├ VM (agent) ── two pods
  camera ── 192.168.20.1 ────── external switch ──────── Port3 ┘
";

/// One flow before and after, and what the agent says of its destination.
pub struct Row<'a> {
    pub flow: &'a Flow,
    pub before: &'a Seen,
    pub after: &'a Seen,
    /// `route get -o json`
    pub decided: Value,
}

impl Row<'_> {
    pub fn client_is_right(&self) -> bool {
        self.after.request.as_ref().is_ok_and(|client| client.ip() == self.flow.expected_client())
    }

    pub fn decision_is_right(&self) -> bool {
        let port = self.after.port().map(|port| plan::PORTS[port]);
        port.is_some() && self.decided["interface"].as_str() == port
    }
}

pub fn heading(text: &str) {
    println!("\n== {text}");
}

pub fn table(rows: &[Row<'_>]) {
    println!("{:24}{:19}{:18}{:30}", "", "BEFORE", "AFTER", "PACKETS AFTER, COUNTED BY");
    println!(
        "{:12}{:12}{:13}{:6}{:11}{:7}{:14}{:>6}{:>8}{:>8}",
        "FROM", "TO", "RESULT", "BY", "RESULT", "BY", "NEXT HOP", "NIC", "SWITCH", "SERVER"
    );
    for Row { flow, before, after, decided } in rows {
        let family = if flow.to.is_ipv4() { "v4" } else { "v6" };
        let expected = usize::from(flow.server == Target::Camera);
        println!(
            "{:12}{:9}{family} {:13}{:6}{:11}{:7}{:14}{:>6}{:>8}{:>8}",
            flow.from,
            flow.server.name(),
            result(before),
            port(before),
            result(after),
            port(after),
            decided["nextHop"].as_str().unwrap_or("-"),
            after.nic[after.port().unwrap_or(expected)],
            after.switch[after.port().unwrap_or(expected)],
            after.server
        );
    }
}

fn result(seen: &Seen) -> String {
    match &seen.request {
        Ok(_) if seen.echoed == seen.sent => "answered".to_owned(),
        Ok(_) => format!("{}/{} echoed", seen.echoed, seen.sent),
        Err(reason) => reason.chars().take(12).collect(),
    }
}

fn port(seen: &Seen) -> &'static str {
    seen.port().map_or("?", |port| plan::PORTS[port])
}

/// The lines of a map's dump that make up the entry with `bytes` in its key.
pub fn entry(dump: &str, bytes: &str) -> Option<String> {
    let lines: Vec<&str> = dump.lines().collect();
    let within = lines.iter().position(|line| line.contains(bytes))?;
    let first =
        lines.get(..within)?.iter().rposition(|line| line.ends_with("[{") || line.ends_with("},{"))?;
    let after = lines.get(within..)?.iter().position(|line| line.starts_with("    }"))?;
    let body = lines.get(first + 1..within + after)?;
    Some(format!("    {{\n{}\n    }}", body.join("\n")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_entry_is_cut_out_of_a_dump() {
        let entry_of = |address: &str, group: u32| {
            format!(
                "        \"key\": {{\n            \"prefix_len\": 24,\n            \"data\": {{\n                \
                 \"address\": [{address}\n                ]\n            }}\n        }},\n        \
                 \"value\": {{\n            \"group\": {group},\n            \"stats\": 1\n        }}"
            )
        };
        let (one, two) = (entry_of("10,0,0,0", 3), entry_of("192,168,20,0", 5));
        let dump = format!("[{{\n{one}\n    }},{{\n{two}\n    }}\n]");
        for (bytes, body) in [("10,0,0,0", &one), ("192,168,20,0", &two)] {
            let cut = entry(&dump, bytes).unwrap();
            assert!(cut.starts_with(&format!("    {{\n{}", body.lines().next().unwrap())), "{cut}");
            assert_eq!(cut.matches("prefix_len").count(), 1, "{cut}");
            assert_eq!(cut.matches("stats").count(), 1, "{cut}");
        }
        assert_eq!(entry(&dump, "10,9,9,9"), None);
    }
}
