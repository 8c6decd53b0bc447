//! A capture: reads it, plays it through podpath, compares.

use super::recordings::{Recording, Recordings};
use super::verdict::Verdict;

/// Judges one capture.
pub fn judge(_r: &Recording<'_>, _all: &Recordings) -> Verdict {
    Verdict::cannot("needs the emulator")
}
