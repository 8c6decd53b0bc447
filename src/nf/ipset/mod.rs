//! ipsets: state, `ipset save`/`restore`/`list` text, lookups of packets.
//!
//! [`Sets`] are the sets of one namespace: [`Sets::parse`] reads a dump, [`Sets::save`] prints it back,
//! [`Sets::command`] carries out `ipset` words, [`Sets::test`] answers `-m set`, [`Sets::add`] and
//! [`Sets::del`] are
//! `-j SET`. Reads no packet and no clock: the caller hands a [`Packet`] and the time in. A set's type
//! or option that
//! is not known is kept and printed back, and lookups that depend on it answer [`Unknown`].
//! Invariants: saved text comes back byte for byte at the same time; a lookup costs the same in a set of
//! ten and of a
//! hundred thousand elements (times the prefix lengths there are).

mod addr;
mod command;
mod element;
mod elements;
mod header;
mod kind;
mod lookup;
mod member;
mod names;
mod options;
mod packet;
mod print;
mod restore;
mod sets;
mod spec;
mod store;
mod wrong;

pub use crate::nf::compound::SetRef;
pub use command::{Answer, Reply};
pub use element::{Element, Ext, IfaceName, Key, SkbInfo, Timeout};
pub use header::{CreateOption, Header};
pub use kind::{Dim, Kind, Method};
pub use lookup::{Found, Hit, TestFlags, Unknown};
pub use member::Member;
pub use packet::{L4, Packet};
pub use sets::{Set, Sets, UnknownSet};
pub use store::Compare;
pub use wrong::{Refused, Wrong};
