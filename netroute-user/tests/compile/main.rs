//! Golden cases of the control plane: a node's state in, the content of maps and FIB out.

mod identity;
mod priority;
mod states;
mod world;
