//! What of a lab is there: one row per namespace.

use std::fmt;

use anyhow::Result;

use super::{Lab, ROLES};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub role: &'static str,
    pub namespace: String,
    pub exists: bool,
    /// `device address…`, global addresses only.
    pub addresses: Vec<String>,
    /// `name (pid)`.
    pub processes: Vec<String>,
}

/// Rows in the order of the plan; displays as a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    pub rows: Vec<Row>,
}

pub(super) fn read(lab: &Lab) -> Result<Status> {
    let rows = ROLES.iter().map(|role| row(lab, role)).collect::<Result<_>>()?;
    Ok(Status { rows })
}

fn row(lab: &Lab, role: &'static str) -> Result<Row> {
    let ns = lab.ns(role);
    let namespace = ns.name().to_owned();
    if !ns.exists() {
        let (addresses, processes) = (Vec::new(), Vec::new());
        return Ok(Row { role, namespace, exists: false, addresses, processes });
    }
    let listing = ns.run(|| {
        let args = ["-brief", "address", "show", "scope", "global"];
        Ok(std::process::Command::new("ip").args(args).output()?.stdout)
    })?;
    let addresses = String::from_utf8_lossy(&listing)
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let device = words.next()?.split('@').next()?;
            let state = words.next()?;
            let addresses: Vec<_> = words.collect();
            let down = if state == "LOWERLAYERDOWN" || state == "DOWN" { " (no carrier)" } else { "" };
            (!addresses.is_empty()).then(|| format!("{device} {}{down}", addresses.join(" ")))
        })
        .collect();
    let processes = ns.processes()?.into_iter().map(|(pid, name)| format!("{name} ({pid})")).collect();
    Ok(Row { role, namespace, exists: true, addresses, processes })
}

impl Status {
    pub fn is_complete(&self) -> bool {
        self.rows.iter().all(|row| row.exists)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.rows.iter().map(|row| row.namespace.len()).max().unwrap_or(0);
        writeln!(f, "{:width$}  ADDRESSES", "NAMESPACE")?;
        for Row { namespace, exists, addresses, processes, .. } in &self.rows {
            let missing = (!exists).then(|| "missing".to_owned());
            let running = (!processes.is_empty()).then(|| format!("runs {}", processes.join(", ")));
            let mut name = namespace.as_str();
            for line in missing.iter().chain(addresses).chain(&running) {
                writeln!(f, "{name:width$}  {line}")?;
                name = "";
            }
            if !name.is_empty() {
                writeln!(f, "{name}")?;
            }
        }
        Ok(())
    }
}
