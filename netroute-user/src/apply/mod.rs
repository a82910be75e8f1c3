//! Writes what `compile` and `plan` decided into the kernel.

mod egress_maps;
pub mod fib;
pub mod flows;
pub mod maps;
pub mod neighbours;
mod service_maps;
pub mod store;
pub mod store_memory;
pub mod takeover;

pub use maps::KernelStore;
pub use store::{Applied, ApplyError, CapacityError, MapStore, StoreError, apply, check_capacity};
pub use store_memory::MemoryStore;
