//! L2: netfilter: rules and their evaluation, sets, connection tracking, NAT; their texts in and out.
//!
//! [`RuleSet::parse`] reads what iptables-save prints and what iptables-restore accepts;
//! [`RuleSet::to_text`] gives it back byte for byte, [`RuleSet::to_save`] prints it as the kernel's
//! tools would. [`Netfilter`] is all of it in one namespace. Invariant: nothing is lost: what is not
//! understood is [`Match::Unknown`], [`Target::Unknown`] or a raw line with a finding, and stays where
//! it stood.

mod cells;
mod compound;
mod field;
mod flags;
mod language;
mod normal;
mod parse;
mod print;
mod rate;
pub mod record;
mod rule;
mod words;

pub mod apply;
pub mod ct;
pub mod eval;
pub mod forced;
pub mod hook;
pub mod ipset;
pub mod matches;
pub mod nat;
pub mod netfilter;
pub mod nft;
pub mod queue;
pub mod table;
pub mod target;
pub mod value;

pub use field::{Is, Module};
pub use hook::Hook;
pub use matches::Match;
pub use netfilter::{Backend, Netfilter};
pub use table::{Chain, Command, Counters, Family, Policy, Rule, RuleSet, Table, TableName};
pub use target::Target;
