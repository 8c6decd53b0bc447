//! The texts of `conntrack` (conntrack-tools 1.4.7) and of `/proc/net/nf_conntrack`.
//!
//! [`Entry`] is one printed connection; it is read by [`parse`], made from a [`super::Conn`] by
//! [`Entry::of`], and prints itself. Invariant: what the tools print is read and printed back byte for
//! byte; a line that is not understood is a finding and stands aside, the rest loads.

mod entry;
mod event;
mod expect;
mod list;
mod parse;
mod stats;

pub use entry::{Entry, Mode, Side, State};
pub use event::{EventLine, event_line, parse_events};
pub use expect::list_expectations;
pub use list::{Style, list};
pub use parse::{Dump, parse};
pub use stats::{parse_stats, stats_line};
