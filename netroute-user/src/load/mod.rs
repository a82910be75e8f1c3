//! Puts maps and programs into the kernel, keeps them there without the agent, and takes them
//! out again. Knows nothing of routes: what is written into the maps is `apply`'s business.
//!
//! Everything lives below the agent's folder on the BPF file system, so that an agent that was
//! killed, restarted or replaced finds it all again:
//!
//! ```text
//! {bpffs}/v4/maps/ROUTES4 ...     the complete set of maps in use
//! {bpffs}/v4/maps_new/...         a set being filled; takes the place of `maps` once it is in use
//! {bpffs}/v4/links/xdp_nic_3 ...  one link per hook and interface index
//! {bpffs}/v4/links/sock_connect4  one link per socket program
//! ```

mod attachments;
mod carry;
mod definition;
mod detach;
mod error;
mod filter;
mod loader;
mod lock;
mod memory;
pub mod object;
mod pins;
mod preflight;
mod program;
mod release;
mod running;
mod sockets;
mod tc;
pub mod testrun;
mod undisturbed;
mod xdp;
mod xdp_state;

pub use attachments::{Attached, Attachments, Mode, NicDevice, PodDevice};
pub use detach::{Detached, detach};
pub use error::{AttachError, LoadError};
pub use loader::{Loaded, Loader, Switched};
pub use memory::MapMemory;
pub use running::Running;
pub use sockets::{SocketProgram, SocketsError};
