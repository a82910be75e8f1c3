//! The layouts of all maps, read from the BTF that the kernel will see, and kept in a committed file:
//! a change of what lies in pinned maps is then a visible line of a commit.

mod layout;

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use object::read::elf::ElfFile64;
use object::{LittleEndian, Object, ObjectSection};

use crate::build;
use crate::paths::Paths;

const HEADER: &str = "# Layouts of all maps, from the BTF of the BPF object. Written by `cargo xtask abi`.\n";
const VERSION_FILE: &str = "netroute-common/src/abi.rs";

#[derive(clap::Args)]
pub struct Args {
    /// Compare instead of writing; fails if the committed file differs
    #[arg(long)]
    check: bool,
    /// Read this object instead of building the workspace's
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
    let layouts =
        layouts(&bytes).with_context(|| format!("cannot read the layouts of {}", path.display()))?;
    let built = format!("{HEADER}\nabi version {}\n{layouts}", version(&paths)?);

    let file = paths.abi();
    let committed = fs::read_to_string(&file).unwrap_or_default();
    if built == committed {
        println!("{}: up to date", paths.shown(&file));
    } else if args.check {
        show_difference(&file.display().to_string(), &built)?;
        bail!("{}", advice(&committed, &built));
    } else {
        fs::write(&file, &built).with_context(|| format!("cannot write {}", file.display()))?;
        println!("{}: written", paths.shown(&file));
        if !committed.is_empty() {
            println!("{}", advice(&committed, &built));
        }
    }
    Ok(())
}

fn layouts(object: &[u8]) -> Result<String> {
    let file = ElfFile64::<LittleEndian>::parse(object).context("no ELF object")?;
    let section = file.section_by_name(".BTF").context("no section .BTF: was it linked with --btf?")?;
    layout::describe(section.data()?)
}

/// The number in `pub const ABI_VERSION: u32 = N;`.
fn version(paths: &Paths) -> Result<String> {
    let file = paths.workspace.join(VERSION_FILE);
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let value = text.lines().find_map(|line| {
        line.strip_prefix("pub const ABI_VERSION: u32 = ")?.strip_suffix(';').map(str::to_owned)
    });
    value.with_context(|| format!("{VERSION_FILE} has no `pub const ABI_VERSION: u32 = N;`"))
}

/// What to do about a difference.
fn advice(committed: &str, built: &str) -> String {
    let version = |text: &str| text.lines().find(|line| line.starts_with("abi version ")).map(str::to_owned);
    if version(committed) == version(built) {
        format!(
            "map layouts changed: bump ABI_VERSION (and PIN_FOLDER) in {VERSION_FILE} if this version was \
             ever released, run `cargo xtask abi`, and commit netroute-common/abi.txt"
        )
    } else {
        "run `cargo xtask abi` and commit netroute-common/abi.txt".to_owned()
    }
}

fn show_difference(committed: &str, built: &str) -> Result<()> {
    let mut diff = Command::new("diff")
        .args(["--unified", "--new-file", "--label", "committed", "--label", "built", committed, "-"])
        .stdin(Stdio::piped())
        .spawn()
        .context("cannot start `diff`")?;
    if let Some(mut input) = diff.stdin.take() {
        input.write_all(built.as_bytes())?;
    }
    diff.wait()?;
    Ok(())
}
