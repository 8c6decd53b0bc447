//! The command line as a person meets it: the real binary, its words, its exit codes, its files.
//!
//! Every test starts the built `podpath` and looks at nothing else. What is promised is in README.md (exit codes),
//! docs/json.md (keys) and design.md section 9.

#![allow(missing_docs, reason = "a test binary")]

#[path = "cli/determinism.rs"]
mod determinism;
#[path = "cli/errors.rs"]
mod errors;
#[path = "cli/exits.rs"]
mod exits;
#[path = "cli/json.rs"]
mod json;
#[path = "cli/nft.rs"]
mod nft;
#[path = "cli/replay.rs"]
mod replay;
#[path = "cli/start.rs"]
mod start;
#[path = "cli/words.rs"]
mod words;
