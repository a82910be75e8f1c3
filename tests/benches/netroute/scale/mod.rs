//! Section `scale`: the same work with 10 to a million routes, to destinations at random.

mod load;
mod lookup;

use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use ipnet::Ipv4Net;

use crate::sample::{Outcome, Row, Section, Unit, quick};
use crate::tables;

pub const SECTION: Section = Section { name: "scale", run };

#[derive(Clone, Copy)]
struct Size {
    routes: usize,
    name: &'static str,
}

const SIZES: [Size; 4] = [
    Size { routes: 10, name: "10" },
    Size { routes: 1_000, name: "1k" },
    Size { routes: 100_000, name: "100k" },
    Size { routes: 1_000_000, name: "1M" },
];

type Part = fn(&Path, Size, &[Ipv4Net]) -> Result<Vec<Row>>;
const PARTS: [(&str, Part); 2] = [("load", load::measure), ("lookup", lookup::measure)];

fn run(object: &Path) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for size in SIZES {
        if quick() && size.routes > 100_000 {
            rows.push(Row {
                id: format!("scale.{}", size.name),
                title: "everything of this size".into(),
                unit: Unit::Count,
                outcome: Outcome::NotMeasured("left out by --quick".into()),
            });
            continue;
        }
        let prefixes = tables::prefixes4(size.routes);
        for (name, part) in PARTS {
            let started = Instant::now();
            // In a thread of its own: it moves into other namespaces, which end with it.
            let more = std::thread::scope(|scope| scope.spawn(|| part(object, size, &prefixes)).join());
            rows.extend(more.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
            eprintln!("{} routes, {name}: {:.0} s", size.name, started.elapsed().as_secs_f64());
        }
    }
    Ok(rows)
}
