//! The BPF object inside of this binary. Knows nothing of maps, programs or the kernel.

/// An ELF file, aligned as its parser wants it; empty if the crate was built before the object was
/// (`cargo xtask build` makes both).
pub fn bpf_object() -> &'static [u8] {
    aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/netroute.bpf.o"))
}
