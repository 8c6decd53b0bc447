//! Address translation: choices recorded from the kernel, whole checksums, connections there and back.

mod choice;
mod flow;
mod mangle;
mod router;
#[allow(dead_code, reason = "shared with other tests, which use the rest")]
#[path = "../common/t2.rs"]
mod t2;
mod wire;
mod world;
