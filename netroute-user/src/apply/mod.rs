//! Writes what `compile` and `plan` decided into the kernel.

pub mod fib;
pub mod neighbours;
