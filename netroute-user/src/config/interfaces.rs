//! The `interfaces` list: aliases and the devices they stand for.

use serde::Deserialize;

use crate::desired::interface::{DeviceRef, Interface, Role};
use crate::input::yaml::Step::{self, Index, Key};

/// Longest altname the kernel takes (`ALTIFNAMSIZ` - 1).
const LONGEST_NAME: usize = 127;

/// One entry of `interfaces`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InterfaceEntry {
    /// The name used in routes and cmdlets (`Port3`); compared without regard to case.
    pub alias: String,
    /// Device name, altname or MAC address.
    pub device: String,
    /// `internal`: towards the port with the default gateway; `external`: a compute port.
    pub role: Role,
}

/// What is wrong with the entry at `index`, in its `key`.
pub struct EntryError {
    index: usize,
    key: &'static str,
    pub message: String,
}

impl EntryError {
    pub fn path(&self) -> [Step<'static>; 3] {
        [Key("interfaces"), Index(self.index), Key(self.key)]
    }
}

pub fn interfaces(entries: &[InterfaceEntry]) -> Result<Vec<Interface>, EntryError> {
    let mut known: Vec<Interface> = Vec::with_capacity(entries.len());
    for (index, entry) in entries.iter().enumerate() {
        let InterfaceEntry { alias, device, role } = entry;
        let error = |key, message| EntryError { index, key, message };
        check_alias(alias).map_err(|message| error("alias", message))?;
        let device = parse_device(device).map_err(|message| error("device", message))?;
        for other in &known {
            if other.alias.to_lowercase() == alias.to_lowercase() {
                let message = format!(
                    "the alias \"{alias}\" is already taken by the interface with device {}; \
                     aliases are compared without regard to case",
                    other.device
                );
                return Err(error("alias", message));
            }
            if other.device == device {
                let message =
                    format!("the device {device} already has the alias \"{}\"; list it once", other.alias);
                return Err(error("device", message));
            }
            if names(alias, &other.device) || names(&other.alias, &device) {
                let message = format!(
                    "the alias of one interface is the device name of another (\"{alias}\", \"{}\"); \
                     choose another alias",
                    other.alias
                );
                return Err(error("alias", message));
            }
        }
        known.push(Interface { alias: alias.clone(), device, role: *role });
    }
    Ok(known)
}

fn names(alias: &str, device: &DeviceRef) -> bool {
    matches!(device, DeviceRef::Name(name) if name.eq_ignore_ascii_case(alias))
}

fn check_alias(alias: &str) -> Result<(), String> {
    if alias.is_empty() {
        return Err("the alias is empty; give the interface a name like Port3".to_owned());
    }
    if alias.trim() != alias || alias.chars().any(char::is_control) || alias.contains('"') {
        return Err(format!(
            "the alias {alias:?} has spaces around it, quotes or control characters; use a name like Port3"
        ));
    }
    Ok(())
}

fn parse_device(text: &str) -> Result<DeviceRef, String> {
    if let Some(mac) = parse_mac(text) {
        if mac == [0; 6] || mac[0] & 1 == 1 {
            return Err(format!("{text} is no MAC address of a device (zero or multicast)"));
        }
        return Ok(DeviceRef::Mac(mac));
    }
    if text.is_empty() {
        return Err(
            "the device is empty; give a device name, altname or MAC address (see `ip link`)".to_owned()
        );
    }
    let impossible = text.len() > LONGEST_NAME
        || matches!(text, "." | "..")
        || text.contains(|c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control());
    if impossible {
        return Err(format!(
            "{text:?} is no device name, altname or MAC address; `ip link` lists the devices"
        ));
    }
    Ok(DeviceRef::Name(text.to_owned()))
}

/// `00:15:5d:01:02:03`, or with dashes.
fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let separator = if text.contains('-') { '-' } else { ':' };
    let mut mac = [0u8; 6];
    let mut parts = text.split(separator);
    for octet in &mut mac {
        let part = parts.next()?;
        if part.len() != 2 || !part.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        *octet = u8::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then_some(mac)
}
