//! What is in the BPF object: no path to a panic, nothing unresolved, and how large each program is.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use object::read::elf;
use object::{
    LittleEndian, Object, ObjectSection, ObjectSymbol, RelocationTarget, SectionIndex, SectionKind,
    SymbolKind,
};

use crate::build;
use crate::paths::Paths;

/// One BPF instruction slot; `ld_imm64` takes two, as the kernel counts it too.
const INSTRUCTION: u64 = 8;

#[derive(clap::Args)]
pub struct Args {
    /// Look into this object instead of building the workspace's
    #[arg(long)]
    object: Option<PathBuf>,
}

pub fn run(args: &Args) -> Result<()> {
    let paths = Paths::find()?;
    let path = match &args.object {
        Some(path) => path.clone(),
        None => build::object(&paths)?,
    };
    let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let file = File::parse(&*bytes).with_context(|| format!("{} is no ELF object", path.display()))?;

    println!("{:<24} {:<16} {:>12}", "PROGRAM", "SECTION", "INSTRUCTIONS");
    for function in functions(&file) {
        println!(
            "{:<24} {:<16} {:>12}",
            demangle(&function.symbol),
            function.section,
            function.size / INSTRUCTION
        );
    }
    let faults = faults(&file);
    if faults.is_empty() {
        return Ok(());
    }
    for fault in &faults {
        eprintln!("{fault}");
    }
    bail!("{}: {} fault(s), see above", paths.shown(&path), faults.len())
}

type File<'a> = elf::ElfFile64<'a, LittleEndian>;
type ElfSymbol<'a, 'f> = elf::ElfSymbol64<'a, 'f, LittleEndian>;

struct Function {
    symbol: String,
    section: String,
    section_index: SectionIndex,
    address: u64,
    size: u64,
}

/// By section and place in it. `.text` holds the functions that programs call.
fn functions(file: &File) -> Vec<Function> {
    let mut functions: Vec<Function> = file
        .symbols()
        .filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.size() > 0)
        .filter_map(|symbol| {
            let section_index = symbol.section_index()?;
            let section = file.section_by_index(section_index).ok()?.name().ok()?.to_owned();
            let (name, address, size) = (symbol.name().ok()?.to_owned(), symbol.address(), symbol.size());
            Some(Function { symbol: name, section, section_index, address, size })
        })
        .collect();
    functions.sort_by(|a, b| (&a.section, a.address).cmp(&(&b.section, b.address)));
    functions
}

fn faults(file: &File) -> BTreeSet<String> {
    let functions = functions(file);
    let mut faults = BTreeSet::new();
    for symbol in file.symbols() {
        if let Some(name) = symbol.name().ok().filter(|name| is_panic(name)) {
            faults.insert(format!("{}: linked in, so some program can reach it", demangle(name)));
        }
    }
    for section in file.sections().filter(|section| section.kind() == SectionKind::Text) {
        let code = section.data().unwrap_or_default();
        for (offset, relocation) in section.relocations() {
            let RelocationTarget::Symbol(index) = relocation.target() else { continue };
            let Some(symbol) = file.symbol_by_index(index).ok() else { continue };
            let owner = owner(&functions, section.index(), offset);
            let at = offset / INSTRUCTION;
            match callee(&functions, &symbol, code, offset) {
                Some(callee) if is_panic(&callee) => faults.insert(format!(
                    "{owner} calls {} at instruction {at} of its section: \
                     an index, slice, division or unwrap there can panic",
                    demangle(&callee)
                )),
                Some(callee) if symbol.is_undefined() => {
                    let callee = demangle(&callee);
                    faults.insert(format!(
                        "{owner} refers to {callee} at instruction {at}, which nothing defines"
                    ))
                }
                _ => false,
            };
        }
    }
    faults
}

/// Whom a relocation means. For a static function that is its section, and the place in it is in the
/// instruction: `imm` is the distance in instructions from the one after the call.
fn callee(functions: &[Function], symbol: &ElfSymbol, code: &[u8], offset: u64) -> Option<String> {
    if symbol.kind() != SymbolKind::Section {
        return symbol.name().ok().map(str::to_owned);
    }
    let at = usize::try_from(offset).ok()?.checked_add(4)?;
    let immediate = i32::from_le_bytes(code.get(at..)?.first_chunk::<4>().copied()?);
    let address = u64::try_from(i64::from(immediate) + 1).ok()?.checked_mul(INSTRUCTION)?;
    let section = symbol.section_index()?;
    functions.iter().find(|f| f.section_index == section && f.address == address).map(|f| f.symbol.clone())
}

fn owner(functions: &[Function], section: SectionIndex, offset: u64) -> String {
    let holds = |f: &&Function| {
        f.section_index == section && (f.address..f.address.saturating_add(f.size)).contains(&offset)
    };
    functions.iter().find(holds).map_or_else(
        || "code outside of all functions".to_owned(),
        |function| format!("{} ({})", demangle(&function.symbol), function.section),
    )
}

/// Both mangling schemes write the length in front of each part of a path.
fn is_panic(name: &str) -> bool {
    name.contains("4core9panicking") || name.contains("core::panicking") || name.contains("rust_begin_unwind")
}

/// Without the hash.
fn demangle(name: &str) -> String {
    format!("{:#}", rustc_demangle::demangle(name))
}

#[cfg(test)]
mod tests {
    use object::write::{Object, Relocation, SectionId, Symbol, SymbolId, SymbolSection};
    use object::{Architecture, BinaryFormat, Endianness, RelocationFlags, SymbolFlags, SymbolScope, elf};

    use super::*;

    const PANIC: &str = "_ZN4core9panicking18panic_bounds_check17h0123456789abcdefE";
    /// `call`; the relocation says whom.
    const CALL: [u8; 8] = [0x85, 0x10, 0, 0, 0xff, 0xff, 0xff, 0xff];

    fn symbol(object: &mut Object, name: &str, kind: SymbolKind, section: SymbolSection) -> SymbolId {
        let size = if section == SymbolSection::Undefined { 0 } else { 8 };
        object.add_symbol(Symbol {
            name: name.into(),
            value: 0,
            size,
            kind,
            scope: SymbolScope::Linkage,
            weak: false,
            section,
            flags: SymbolFlags::None,
        })
    }

    /// A program `xdp_nic` of one call to `callee`.
    fn program(callee: impl FnOnce(&mut Object) -> SymbolId) -> Vec<u8> {
        let mut object = Object::new(BinaryFormat::Elf, Architecture::Bpf, Endianness::Little);
        let section = text(&mut object, "xdp");
        symbol(&mut object, "xdp_nic", SymbolKind::Text, SymbolSection::Section(section));
        let symbol = callee(&mut object);
        let flags = RelocationFlags::Elf { r_type: elf::R_BPF_64_32 };
        object.add_relocation(section, Relocation { offset: 0, symbol, addend: 0, flags }).unwrap();
        object.write().unwrap()
    }

    fn text(object: &mut Object, name: &str) -> SectionId {
        let section = object.add_section(Vec::new(), name.into(), SectionKind::Text);
        object.append_section_data(section, &CALL, 8);
        section
    }

    fn faults_of(bytes: &[u8]) -> String {
        faults(&File::parse(bytes).unwrap()).into_iter().collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_call_of_a_panic_names_caller_and_panic() {
        let bytes = program(|object| {
            let section = text(object, ".text.unlikely.");
            symbol(object, PANIC, SymbolKind::Text, SymbolSection::Section(section))
        });
        let faults = faults_of(&bytes);
        assert!(faults.contains("xdp_nic (xdp) calls core::panicking::panic_bounds_check"), "{faults}");
    }

    #[test]
    fn a_panic_called_through_its_section_is_found() {
        let bytes = program(|object| {
            let section = text(object, ".text.unlikely.");
            symbol(object, PANIC, SymbolKind::Text, SymbolSection::Section(section));
            object.section_symbol(section)
        });
        let faults = faults_of(&bytes);
        assert!(faults.contains("xdp_nic (xdp) calls core::panicking::panic_bounds_check"), "{faults}");
    }

    #[test]
    fn what_nothing_defines_is_named() {
        let bytes = program(|object| symbol(object, "ghost", SymbolKind::Text, SymbolSection::Undefined));
        assert_eq!(
            faults_of(&bytes),
            "xdp_nic (xdp) refers to ghost at instruction 0, which nothing defines"
        );
    }

    #[test]
    fn a_call_of_an_ordinary_function_is_no_fault() {
        let bytes = program(|object| {
            let section = text(object, ".text");
            symbol(object, "stage", SymbolKind::Text, SymbolSection::Section(section))
        });
        assert_eq!(faults_of(&bytes), "");
        let sizes: Vec<_> = functions(&File::parse(&*bytes).unwrap())
            .into_iter()
            .map(|f| (f.symbol, f.section, f.size / INSTRUCTION))
            .collect();
        let expected = [("stage", ".text", 1), ("xdp_nic", "xdp", 1)];
        assert_eq!(sizes, expected.map(|(symbol, section, size)| (symbol.into(), section.into(), size)));
    }
}
