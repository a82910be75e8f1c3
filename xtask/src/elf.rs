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

/// Readable form of a mangled name; bpf-linker leaves few of them.
fn demangle(name: &str) -> String {
    let Some(mut rest) = name.strip_prefix("_ZN") else { return name.to_owned() };
    let mut parts = Vec::new();
    while let Some(end) = rest.find(|c: char| !c.is_ascii_digit()).filter(|end| *end > 0) {
        let length: usize = rest.get(..end).and_then(|digits| digits.parse().ok()).unwrap_or(0);
        let Some(part) = rest.get(end..end.saturating_add(length)) else { break };
        parts.push(part);
        rest = rest.get(end.saturating_add(length)..).unwrap_or("");
    }
    // The last part is a hash.
    if parts.len() > 1 {
        parts.pop();
    }
    parts.join("::")
}
