//! What the fuzz targets share: how an input becomes what is tested, and what must hold of it.
//!
//! A target holds the product to more than not to panic; each says in its head to what.

pub mod agent;
pub mod forwarding;
pub mod routes;
pub mod story;
