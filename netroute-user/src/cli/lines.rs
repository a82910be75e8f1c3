//! The text form of routes that `route import` reads and `route export` writes:
//! `DEST via ADDR dev IFACE [metric N] [weight N] [force]`, as `ip route` has it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use crate::api::types::RouteEntry;
use crate::desired::route::RouteKey;
use crate::input::address::LeadingZeros;
use crate::input::objects::NetRoute;
use crate::input::problem::Problem;
use crate::input::yaml::{Document, Step, documents};

/// All routes of a file, or everything that is wrong with it. `tick` hears every route.
///
/// # Errors
/// At least one problem, each with its line.
pub fn read(text: &str, file: &Path, tick: impl Fn()) -> Result<Vec<RouteEntry>, Vec<Problem>> {
    let mut list = List { file, routes: Vec::new(), problems: Vec::new(), lines: BTreeMap::new() };
    if holds_objects(text) {
        for document in documents(text) {
            match object(&document) {
                Ok((line, route)) => list.add(line, route),
                Err((line, message)) => list.problems.push(Problem::new(file, line, message)),
            }
            tick();
        }
    } else {
        for (number, line) in (1..).zip(text.lines()) {
            match parse(line) {
                Ok(Some(route)) => list.add(Some(number), route),
                Ok(None) => continue,
                Err(message) => list.problems.push(Problem::new(file, Some(number), message)),
            }
            tick();
        }
    }
    if list.problems.is_empty() { Ok(list.routes) } else { Err(list.problems) }
}

/// By content, since a file that was moved away has any name.
fn holds_objects(text: &str) -> bool {
    let first = text.lines().find(|line| !line.trim().is_empty() && !line.starts_with('#'));
    first.is_some_and(|line| ["---", "{", "apiVersion:", "kind:"].iter().any(|start| line.starts_with(start)))
}

struct List<'a> {
    file: &'a Path,
    routes: Vec<RouteEntry>,
    problems: Vec<Problem>,
    lines: BTreeMap<RouteKey, Option<u32>>,
}

impl List<'_> {
    fn add(&mut self, line: Option<u32>, entry: RouteEntry) {
        let message = match entry.clone().route(None) {
            Err(refusal) => refusal.to_string(),
            Ok(route) => match self.lines.get(&route.key) {
                Some(first) => format!("the same route as in line {}", first.unwrap_or_default()),
                None => {
                    self.lines.insert(route.key, line);
                    self.routes.push(entry);
                    return;
                }
            },
        };
        self.problems.push(Problem::new(self.file, line, message));
    }
}

fn object(document: &Document<'_>) -> Result<(Option<u32>, RouteEntry), (Option<u32>, String)> {
    let object: NetRoute = document.parse().map_err(|error| (error.line, error.message))?;
    let line = document.locate(&[Step::Key("kind")]);
    if object.spec.probe.is_some() || !object.spec.node_selector.is_empty() {
        let message = "routes of the command line have no probe and no nodeSelector; \
                       put this object into the manifests directory";
        return Err((line, message.to_owned()));
    }
    let forced = object.is_forced();
    // Objects may carry leading zeros; from here on nothing does.
    let route =
        object.spec.route(LeadingZeros::Decimal, None, forced, crate::desired::route::Origin::Cli).map_err(
            |error| (document.locate(&[Step::Key("spec"), Step::Key(error.key())]), format!("spec.{error}")),
        )?;
    Ok((line, RouteEntry::from(&route)))
}

/// `None` for a line without content.
fn parse(line: &str) -> Result<Option<RouteEntry>, String> {
    let words = words(line)?;
    let mut words = words.into_iter();
    let Some(destination) = words.next() else { return Ok(None) };
    let destination = match destination.as_str() {
        // Said for both families; the next hop decides which.
        "default" => return Err("write 0.0.0.0/0 or ::/0 for default".to_owned()),
        _ => destination,
    };
    let (mut next_hop, mut interface, mut metric, mut weight, mut force) = (None, None, None, None, false);
    while let Some(word) = words.next() {
        if word == "force" {
            force = true;
            continue;
        }
        let mut value = || words.next().ok_or_else(|| format!("\"{word}\" has no value"));
        let again = match word.as_str() {
            "via" => next_hop.replace(value()?).is_some(),
            "dev" => interface.replace(value()?).is_some(),
            "metric" => metric.replace(number(&word, &value()?)?).is_some(),
            "weight" => weight.replace(number(&word, &value()?)?).is_some(),
            _ => {
                return Err(format!(
                    "\"{word}\" is not known; the form is: DEST via ADDR dev IFACE [metric N] [weight N] [force]"
                ));
            }
        };
        if again {
            return Err(format!("\"{word}\" is there twice"));
        }
    }
    let missing = |word: &str| format!("\"{word}\" is missing; the form is: DEST via ADDR dev IFACE");
    Ok(Some(RouteEntry {
        destination,
        next_hop: next_hop.ok_or_else(|| missing("via"))?,
        interface: interface.ok_or_else(|| missing("dev"))?,
        metric,
        weight,
        force,
    }))
}

fn number<T: std::str::FromStr>(word: &str, text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("\"{text}\" is no {word}"))
}

/// At white space, but not inside double quotes; `#` begins a comment.
fn words(line: &str) -> Result<Vec<String>, String> {
    let (mut words, mut word, mut quoted, mut open) = (Vec::new(), String::new(), false, false);
    for c in line.chars() {
        match c {
            '"' => (quoted, open) = (!quoted, true),
            '#' if !quoted => break,
            c if c.is_whitespace() && !quoted => {
                if open || !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                open = false;
            }
            c => word.push(c),
        }
    }
    if quoted {
        return Err("a quote is not closed".to_owned());
    }
    if open || !word.is_empty() {
        words.push(word);
    }
    Ok(words)
}

/// Reads back as the same routes.
#[must_use]
pub fn write(routes: &[RouteEntry]) -> String {
    let mut text = String::new();
    for RouteEntry { destination, next_hop, interface, metric, weight, force } in routes {
        let quote = if interface.contains(|c: char| c.is_whitespace() || c == '#') { "\"" } else { "" };
        // Writing to a string cannot fail.
        let _ = write!(text, "{destination} via {next_hop} dev {quote}{interface}{quote}");
        if let Some(metric) = metric {
            let _ = write!(text, " metric {metric}");
        }
        if let Some(weight) = weight {
            let _ = write!(text, " weight {weight}");
        }
        text.push_str(if *force { " force\n" } else { "\n" });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<Vec<RouteEntry>, Vec<String>> {
        read(text, Path::new("routes.txt"), || ())
            .map_err(|problems| problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn what_is_written_reads_back() {
        let text = "# cameras\n\n192.168.20.0/24 via 192.168.20.1 dev Port3 metric 100 # main\n\
                    2001:db8::/32  via fe80::1\tdev \"Port 3\" weight 7 metric 5 force\n10.0.0.1 dev Port3 via 192.168.20.1";
        let routes = read_text(text).unwrap();
        assert_eq!(
            write(&routes),
            "192.168.20.0/24 via 192.168.20.1 dev Port3 metric 100\n\
             2001:db8::/32 via fe80::1 dev \"Port 3\" metric 5 weight 7 force\n\
             10.0.0.1 via 192.168.20.1 dev Port3\n"
        );
        assert_eq!(read_text(&write(&routes)).unwrap(), routes);
    }

    #[test]
    fn every_mistake_is_told_with_its_line() {
        let text = "10.0.0.0/8 via 192.168.20.1 dev Port3\n10.1.2.3/8 via 192.168.20.1 dev Port3\n\
                    10.2.0.0/16 dev Port3\n10.3.0.0/16 via 192.168.20.1 dev Port3 metric x\n\
                    10.4.0.0/16 via 192.168.20.1 dev Port3 table 7\n10.0.0.0/8 via 192.168.20.1 dev Port3 metric 9\n\
                    010.0.0.0/8 via 192.168.20.1 dev Port3\n10.5.0.0/16 via 192.168.20.1 dev\n\
                    10.6.0.0/16 via 192.168.20.1 dev \"Port3\n10.7.0.0/16 via 1.1.1.1 dev a dev b\n";
        let problems = read_text(text).unwrap_err();
        let starts = [
            "routes.txt:2: destination: 10.1.2.3/8 has host bits set",
            "routes.txt:3: \"via\" is missing",
            "routes.txt:4: \"x\" is no metric",
            "routes.txt:5: \"table\" is not known",
            "routes.txt:6: the same route as in line 1",
            "routes.txt:7: destination: 010.0.0.0 has a leading zero",
            "routes.txt:8: \"dev\" has no value",
            "routes.txt:9: a quote is not closed",
            "routes.txt:10: \"dev\" is there twice",
        ];
        assert_eq!(problems.len(), starts.len(), "{problems:#?}");
        for (problem, start) in problems.iter().zip(starts) {
            assert!(problem.starts_with(start), "{problem}");
        }
    }

    #[test]
    fn objects_are_read_too_as_the_state_file_has_them() {
        let routes = read_text("10.0.0.0/8 via 192.168.20.1 dev Port3 metric 9 force\n").unwrap();
        let route = routes[0].clone().route(None).unwrap();
        let text = crate::input::state_dir::encode(&[route], None);
        assert_eq!(read_text(&text).unwrap(), routes);
        let cut = text.split_at(text.rfind('}').unwrap()).0;
        let problems = read_text(cut).unwrap_err();
        assert!(problems[0].contains("while parsing a flow mapping"), "{problems:?}");
    }
}
