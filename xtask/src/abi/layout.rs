//! BTF of an object -> text: each map, and each struct that its keys and values reach.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use anyhow::{Context, Result, bail};
use btf_rs::{Btf, BtfType, Datasec, Struct, Type};

const MAPS: &str = ".maps";
/// Sections with global variables that the loader may set.
const GLOBALS: [&str; 3] = [".rodata", ".data", ".bss"];

/// Map types as `enum bpf_map_type` in `include/uapi/linux/bpf.h` numbers them.
const MAP_TYPES: [(usize, &str); 15] = [
    (1, "hash"),
    (2, "array"),
    (3, "prog_array"),
    (4, "perf_event_array"),
    (5, "percpu_hash"),
    (6, "percpu_array"),
    (9, "lru_hash"),
    (10, "lru_percpu_hash"),
    (11, "lpm_trie"),
    (12, "array_of_maps"),
    (13, "hash_of_maps"),
    (14, "devmap"),
    (16, "cpumap"),
    (25, "devmap_hash"),
    (27, "ringbuf"),
];

/// Maps, globals and structs in the order of their names, so that the text depends on nothing else.
pub fn describe(btf: &[u8]) -> Result<String> {
    let btf = Btf::from_bytes(btf).context("not readable as BTF")?;
    let mut reader = Reader { btf: &btf, structs: BTreeMap::new() };
    let mut maps = BTreeMap::new();
    let mut globals = BTreeMap::new();
    for (section, name) in sections(&btf)? {
        for variable in &section.variables {
            let Type::Var(variable) = btf.resolve_chained_type(variable)? else { continue };
            let symbol = btf.resolve_name(&variable)?;
            let type_id = variable.get_type_id().context("a variable without type")?;
            if name == MAPS {
                let text = reader.map(type_id).with_context(|| format!("map {symbol}"))?;
                maps.insert(symbol, text);
            } else if GLOBALS.contains(&name.as_str()) && variable.is_global() {
                globals.insert(symbol, format!("{} in {name}", reader.name(type_id)?));
            }
        }
    }
    if maps.is_empty() {
        bail!("no maps in {MAPS}: are they declared with #[btf_map]?");
    }
    let mut text = String::new();
    for (name, map) in &maps {
        write!(text, "\nmap {name}\n{map}")?;
    }
    for (name, global) in &globals {
        write!(text, "\nglobal {name}: {global}\n")?;
    }
    for (name, layouts) in &reader.structs {
        for layout in layouts {
            write!(text, "\n{name} {layout}")?;
        }
    }
    Ok(text)
}

fn sections(btf: &Btf) -> Result<Vec<(Datasec, String)>> {
    let mut sections = Vec::new();
    let (first, last) = btf.base().type_id_range();
    for id in first..=last {
        if let Type::Datasec(section) = btf.resolve_type_by_id(id)? {
            let name = btf.resolve_name(&section)?;
            sections.push((section, name));
        }
    }
    Ok(sections)
}

struct Reader<'a> {
    btf: &'a Btf,
    /// Layouts by name; two types of one name are both kept.
    structs: BTreeMap<String, BTreeSet<String>>,
}

impl Reader<'_> {
    /// A map's definition is a struct of pointers: to a type for key and value, to an array whose
    /// length is the value for numbers.
    fn map(&mut self, type_id: u32) -> Result<String> {
        let definition = self.definition(type_id)?;
        let mut text = String::new();
        for member in &definition.members {
            let field = self.btf.resolve_name(member)?;
            let pointer = self.btf.resolve_chained_type(member)?;
            let Type::Ptr(pointer) = pointer else { continue };
            let target = pointer.get_type_id().context("a pointer without type")?;
            let value = match field.as_str() {
                "key" | "value" => {
                    let name = self.name(target)?;
                    format!("{name}, {} bytes", self.size(target)?)
                }
                "type" => map_type(self.length(target)?),
                "map_flags" => format!("{:#x}", self.length(target)?),
                _ => self.length(target)?.to_string(),
            };
            writeln!(text, "  {field:<12} {value}")?;
        }
        Ok(text)
    }

    /// The struct that has the field `type`, inside of whatever wraps it.
    fn definition(&self, type_id: u32) -> Result<Struct> {
        let mut next = type_id;
        while let Type::Struct(candidate) = self.btf.resolve_type_by_id(next)? {
            let mut inner = None;
            for member in &candidate.members {
                if self.btf.resolve_name(member)? == "type" {
                    return Ok(candidate);
                }
                inner = inner.or(member.get_type_id());
            }
            next = inner.context("an empty definition")?;
        }
        bail!("the definition has no field `type`")
    }

    fn length(&self, type_id: u32) -> Result<usize> {
        match self.btf.resolve_type_by_id(type_id)? {
            Type::Array(array) => Ok(array.len()),
            other => bail!("a number is encoded as {}, not as an array", other.name()),
        }
    }

    /// How Rust writes the type; structs on the way are described.
    fn name(&mut self, type_id: u32) -> Result<String> {
        let found = self.btf.resolve_type_by_id(type_id)?;
        match &found {
            Type::Void => Ok("()".to_owned()),
            Type::Array(array) => {
                let element = array.get_type_id().context("an array without type")?;
                Ok(format!("[{}; {}]", self.name(element)?, array.len()))
            }
            Type::Ptr(_) => Ok("pointer".to_owned()),
            Type::Const(t) | Type::Volatile(t) => {
                self.name(t.get_type_id().context("a qualifier of nothing")?)
            }
            Type::Struct(composite) | Type::Union(composite) => {
                let name = readable(&self.btf.resolve_name(composite)?);
                self.describe_struct(&name, composite, found.name())?;
                Ok(name)
            }
            other => {
                let named = other.as_btf_type().context("a type without name")?;
                Ok(readable(&self.btf.resolve_name(named)?))
            }
        }
    }

    fn describe_struct(&mut self, name: &str, composite: &Struct, kind: &str) -> Result<()> {
        let mut layout = format!("({kind}, {} bytes)\n", composite.size());
        for member in &composite.members {
            let type_id = member.get_type_id().context("a field without type")?;
            let field = self.btf.resolve_name(member)?;
            let (offset, size) = (member.bit_offset() / 8, self.size(type_id)?);
            writeln!(layout, "  {offset:>5} {size:>5}  {field}: {}", self.name(type_id)?)?;
        }
        self.structs.entry(name.to_owned()).or_default().insert(layout);
        Ok(())
    }

    fn size(&self, type_id: u32) -> Result<usize> {
        Ok(match self.btf.resolve_type_by_id(type_id)? {
            Type::Void => 0,
            Type::Int(t) => t.size(),
            Type::Float(t) => t.size(),
            Type::Enum(t) => t.size(),
            Type::Enum64(t) => t.size(),
            Type::Struct(t) | Type::Union(t) => t.size(),
            Type::Ptr(_) => 8,
            Type::Array(t) => {
                let element = self.size(t.get_type_id().context("an array without type")?)?;
                element.saturating_mul(t.len())
            }
            Type::Const(t) | Type::Volatile(t) => {
                self.size(t.get_type_id().context("a qualifier of nothing")?)?
            }
            other => bail!("a {} lies in no map", other.name()),
        })
    }
}

fn map_type(number: usize) -> String {
    match MAP_TYPES.iter().find(|(known, _)| *known == number) {
        Some((_, name)) => format!("{name} ({number})"),
        None => number.to_string(),
    }
}

/// bpf-linker writes what C names cannot hold as `_3C_`: `Key_3C_u32_3E_` is `Key<u32>`.
fn readable(name: &str) -> String {
    let mut text = String::new();
    let mut rest = name;
    while let Some(next) = rest.chars().next() {
        let code = rest.strip_prefix('_').and_then(|tail| {
            let (digits, after) = (tail.get(..2)?, tail.get(2..)?.strip_prefix('_')?);
            let byte = u8::from_str_radix(digits, 16).ok()?;
            let is_escaped = byte.is_ascii() && !byte.is_ascii_alphanumeric() && !byte.is_ascii_control();
            is_escaped.then_some((char::from(byte), after))
        });
        let (shown, after) = code.unwrap_or((next, rest.get(next.len_utf8()..).unwrap_or("")));
        text.push(shown);
        rest = after;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{map_type, readable};

    #[test]
    fn names_read_as_rust_writes_them() {
        assert_eq!(readable("Key_3C__5B_u8_3B__20_4_5D__3E_"), "Key<[u8; 4]>");
        assert_eq!(readable("next_hop_11_x"), "next_hop_11_x");
        assert_eq!(readable("_"), "_");
        assert_eq!(readable(""), "");
    }

    #[test]
    fn unknown_map_types_keep_their_number() {
        assert_eq!(map_type(11), "lpm_trie (11)");
        assert_eq!(map_type(99), "99");
    }
}
