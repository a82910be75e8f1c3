//! What the tests share: namespaces, veths and traffic.

pub mod namespace;
pub mod traffic;
