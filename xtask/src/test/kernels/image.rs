//! Kernel images and modules as they lie in a package, made ready for a machine to start from.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, Result, bail};
use object::{Object, ObjectSection};

/// Fields of the setup header (Linux: `Documentation/arch/x86/boot.rst`).
const SETUP_SECTORS: usize = 0x1f1;
const PAYLOAD_OFFSET: usize = 0x248;
const PAYLOAD_LENGTH: usize = 0x24c;
const SECTOR: usize = 512;
/// The build appends the uncompressed size where the format has none.
const SIZE_BYTES: usize = 4;

/// Takes the ELF file out of a bootable image: QEMU starts it directly, and the guest need not unpack it.
pub fn uncompress(image: &Path, into: &Path) -> Result<()> {
    let bytes = fs::read(image).with_context(|| format!("cannot read {}", image.display()))?;
    let (program, payload) = payload(&bytes).with_context(|| format!("{} is no image", image.display()))?;
    unpack(program, payload.to_vec(), into)?;
    if !fs::read(into)?.starts_with(b"\x7fELF") {
        bail!("{} holds no ELF file", image.display());
    }
    Ok(())
}

/// What unpacks the kernel, and the bytes to unpack.
fn payload(image: &[u8]) -> Option<(&'static str, &[u8])> {
    let word = |at: usize| Some(u32::from_le_bytes(image.get(at..at + 4)?.try_into().ok()?) as usize);
    let sectors = match image.get(SETUP_SECTORS)? {
        0 => 4,
        sectors => usize::from(*sectors),
    };
    let start = (sectors + 1) * SECTOR + word(PAYLOAD_OFFSET)?;
    let payload = image.get(start..start.checked_add(word(PAYLOAD_LENGTH)?)?)?;
    let program = packer(payload)?;
    let appended = if program == "gzip" { 0 } else { SIZE_BYTES };
    Some((program, payload.get(..payload.len().checked_sub(appended)?)?))
}

fn packer(bytes: &[u8]) -> Option<&'static str> {
    let known: [(&[u8], _); 4] = [
        (b"\x1f\x8b", "gzip"),
        (b"\xfd7zXZ\0", "xz"),
        (b"\x28\xb5\x2f\xfd", "zstd"),
        // The old frame format, which the kernel's own unpacker reads.
        (b"\x02\x21\x4c\x18", "lz4"),
    ];
    known.into_iter().find(|(magic, _)| bytes.starts_with(magic)).map(|(_, program)| program)
}

fn unpack(program: &str, bytes: Vec<u8>, into: &Path) -> Result<()> {
    let file = File::create(into).with_context(|| format!("cannot write {}", into.display()))?;
    let mut child = Command::new(program)
        .arg("-dc")
        .stdin(Stdio::piped())
        .stdout(file)
        .spawn()
        .with_context(|| format!("cannot start `{program}`"))?;
    let mut input = child.stdin.take().context("no standard input")?;
    let feeding = thread::spawn(move || input.write_all(&bytes));
    let status = child.wait()?;
    let fed = feeding.join().unwrap_or(Ok(()));
    if !status.success() || fed.is_err() {
        bail!("`{program} -dc` failed ({status})");
    }
    Ok(())
}

/// The modules of one kernel.
pub struct Modules {
    /// Name -> file, all below the kernel's folder.
    files: BTreeMap<String, PathBuf>,
    builtin: String,
}

impl Modules {
    pub fn of(folder: &Path) -> Result<Self> {
        let mut files = BTreeMap::new();
        let mut folders = vec![folder.join("kernel")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder)? {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    folders.push(entry.path());
                } else if let Some(name) = entry.file_name().to_str().and_then(module_name) {
                    files.insert(name, entry.path());
                }
            }
        }
        let builtin = fs::read_to_string(folder.join("modules.builtin")).unwrap_or_default();
        Ok(Self { files, builtin })
    }

    /// Puts these modules, and those they need, into `folder`; their names in the order of loading.
    ///
    /// # Errors
    /// If one of them is neither a module of this kernel nor a part of it.
    pub fn unpack(&self, wanted: &[&str], folder: &Path) -> Result<Vec<String>> {
        let mut order = Vec::new();
        for name in wanted {
            self.add(name, folder, &mut order)?;
        }
        Ok(order)
    }

    fn add(&self, name: &str, folder: &Path, order: &mut Vec<String>) -> Result<()> {
        if order.iter().any(|known| known == name) {
            return Ok(());
        }
        let Some(file) = self.files.get(name) else {
            let built_in =
                |line: &str| line.rsplit('/').next().and_then(module_name).is_some_and(|it| it == name);
            if self.builtin.lines().any(built_in) {
                return Ok(());
            }
            bail!("the kernel has no module {name}");
        };
        let unpacked = folder.join(format!("{name}.ko"));
        let bytes = fs::read(file)?;
        match packer(&bytes) {
            Some(program) => unpack(program, bytes, &unpacked)?,
            None => fs::write(&unpacked, bytes)?,
        }
        for needed in needs(&fs::read(&unpacked)?).with_context(|| format!("in {}", file.display()))? {
            self.add(&needed, folder, order)?;
        }
        order.push(name.to_owned());
        Ok(())
    }
}

/// `sch_ingress.ko.xz` -> `sch_ingress`; files spell some names with a hyphen, modules never do.
fn module_name(file: &str) -> Option<String> {
    let (name, rest) = file.split_once(".ko")?;
    (rest.is_empty() || rest.starts_with('.')).then(|| name.replace('-', "_"))
}

/// The modules that a module says it needs.
fn needs(module: &[u8]) -> Result<Vec<String>> {
    let file = object::File::parse(module).context("no ELF file")?;
    let Some(section) = file.section_by_name(".modinfo") else { bail!("no .modinfo") };
    let entries = section.data()?.split(|byte| *byte == 0);
    let listed = entries.filter_map(|entry| entry.strip_prefix(b"depends="));
    let text = String::from_utf8_lossy(&listed.collect::<Vec<_>>().join(&b',')).into_owned();
    Ok(text.split(',').filter(|name| !name.is_empty()).map(|name| name.replace('-', "_")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_packed_kernel_is_found_by_the_header() {
        let mut image = vec![0; 4096];
        image[SETUP_SECTORS] = 1;
        image[PAYLOAD_OFFSET..PAYLOAD_OFFSET + 4].copy_from_slice(&16_u32.to_le_bytes());
        image[PAYLOAD_LENGTH..PAYLOAD_LENGTH + 4].copy_from_slice(&10_u32.to_le_bytes());
        assert!(payload(&image).is_none(), "an unknown format");
        image[1040..1044].copy_from_slice(b"\x28\xb5\x2f\xfd");
        assert_eq!(payload(&image), Some(("zstd", &b"\x28\xb5\x2f\xfd\0\0"[..])), "without the size");
        image[1040..1042].copy_from_slice(b"\x1f\x8b");
        assert_eq!(payload(&image).map(|(program, bytes)| (program, bytes.len())), Some(("gzip", 10)));
        assert!(payload(&image[..600]).is_none(), "cut off");
    }

    #[test]
    fn modules_go_by_their_names() {
        assert_eq!(module_name("nf-nat.ko.xz").as_deref(), Some("nf_nat"));
        assert_eq!(module_name("veth.ko").as_deref(), Some("veth"));
        assert_eq!(module_name("modules.order"), None);
    }
}
