//! x
pub mod ipam;
pub mod plugin;
