//! Rules as the kernel runs them: chains, every match, every target.
//!
//! Values that are not obvious were taken from a kernel (6.18, iptables-legacy 1.8.9) and say so.

#[path = "../common/nf.rs"]
mod nf;

mod chains;
mod connections;
mod ip;
mod kubeskoop;
mod l4;
mod load;
mod memory;
mod place;
mod targets;
