//! From the BPF object to programs on interfaces and maps that are pinned.

pub mod object;
