//! Address translation against full checksums and against choices recorded from the kernel.

mod choice;
mod mangle;
