//! Puts the BPF object where `load::object` embeds it from.
//!
//! It comes from `cargo xtask build`, or from the path in `NETROUTE_BPF_OBJECT`. Without it the
//! library still builds, so that all that needs no kernel can be worked on and tested.

use std::env;
use std::error::Error;
use std::fs;
use std::path::PathBuf;

const VARIABLE: &str = "NETROUTE_BPF_OBJECT";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-env-changed={VARIABLE}");
    let embedded = PathBuf::from(env::var("OUT_DIR")?).join("netroute.bpf.o");
    let object = match env::var_os(VARIABLE) {
        Some(path) => {
            let path = PathBuf::from(path);
            println!("cargo:rerun-if-changed={}", path.display());
            path
        }
        None => {
            let folder = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("../target/bpf");
            // Cargo takes a watched path that does not exist for changed on every build.
            fs::create_dir_all(&folder)?;
            println!("cargo:rerun-if-changed={}", folder.display());
            folder.join("netroute.bpf.o")
        }
    };
    let bytes = fs::read(&object).unwrap_or_else(|error| {
        println!(
            "cargo:warning=no BPF object at {} ({error}): the agent can load nothing; run `cargo xtask build`",
            object.display()
        );
        Vec::new()
    });
    fs::write(embedded, bytes)?;
    Ok(())
}
