//! The text of `routes.yaml`: one `NetRoute` per line, and a last line with a checksum, without
//! which a cut file could pass for a whole one.

use std::fmt::Write;

use crate::desired::route::{CustomRoute, Origin, Probe};
use crate::input::address::LeadingZeros;
use crate::input::objects::{NetRoute, RouteRefusal};

const HEAD: &str =
    "# Routes of the command line, written by the netroute agent: use `netroute route`, do not edit.\n";
const TRAILER: &str = "# checksum ";

/// Why the file is not what the agent wrote.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    #[error("the last line with the checksum is missing: the file is cut off")]
    CutOff,
    #[error("the checksum does not match: the file was damaged or edited by hand")]
    Checksum,
    #[error("line {line}: {source}")]
    Object { line: usize, source: serde_json::Error },
    #[error("line {line}: {source}")]
    Route { line: usize, source: RouteRefusal },
}

#[must_use]
pub fn encode<'a>(routes: impl IntoIterator<Item = &'a CustomRoute>, default_probe: Option<Probe>) -> String {
    let mut text = HEAD.to_owned();
    for route in routes {
        text.push_str("---\n");
        // JSON is YAML, and much faster to read back. Writing strings and numbers cannot fail.
        text.push_str(&serde_json::to_string(&NetRoute::of(route, default_probe)).unwrap_or_default());
        text.push('\n');
    }
    let sum = checksum(text.as_bytes());
    let _ = writeln!(text, "{TRAILER}{sum:016x}");
    text
}

/// # Errors
/// When a single byte is missing or different, or a route in it is refused.
pub fn decode(bytes: &[u8], default_probe: Option<Probe>) -> Result<Vec<CustomRoute>, Damage> {
    let text = std::str::from_utf8(bytes).map_err(|_| Damage::Checksum)?;
    let whole = text.strip_suffix('\n').ok_or(Damage::CutOff)?;
    let trailer_at = whole.rfind('\n').map_or(0, |at| at + 1);
    let (body, trailer) = whole.split_at(trailer_at);
    let sum = trailer.strip_prefix(TRAILER).ok_or(Damage::CutOff)?;
    if sum != format!("{:016x}", checksum(body.as_bytes())) {
        return Err(Damage::Checksum);
    }
    let objects = (1..).zip(body.lines()).filter(|(_, line)| line.starts_with('{'));
    objects.map(|(line, object)| route(line, object, default_probe)).collect()
}

fn route(line: usize, object: &str, default_probe: Option<Probe>) -> Result<CustomRoute, Damage> {
    let object: NetRoute = serde_json::from_str(object).map_err(|source| Damage::Object { line, source })?;
    object
        .spec
        .route(LeadingZeros::Decimal, default_probe, object.is_forced(), Origin::Cli)
        .map_err(|source| Damage::Route { line, source })
}

/// FNV-1a, 64 bits: notices accidents, not forgers.
fn checksum(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |sum, &byte| (sum ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}
