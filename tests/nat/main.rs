//! Address translation: choices recorded from the kernel, whole checksums, connections there and back.

mod choice;
mod flow;
mod helper;
mod mangle;
mod router;
