//! The lab: what probes see (by the measured signatures), that they see it twice, and whose frames are whose.

#[path = "../common/t2.rs"]
mod t2;

mod basics;
mod determinism;
mod judge;
mod signatures;
