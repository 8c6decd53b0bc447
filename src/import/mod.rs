//! L5: parsers of what people paste: commands and dumps of real nodes, `&str -> (T, Vec<Finding>)`.
//!
//! Knows no file and no terminal. Invariant: nothing is skipped silently; what is not understood is a
//! finding.

pub mod ipcmd;
