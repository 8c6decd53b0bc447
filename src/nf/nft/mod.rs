//! Native nftables rule sets: typed model, `nft list ruleset` text, `nft -f` scripts and `nft -j` JSON.
//!
//! [`Ruleset::parse`] reads a listing, [`Script::parse`] a script, [`Ruleset::apply`] carries a
//! script out as one
//! transaction, [`Ruleset::to_text`] prints as `nft list ruleset` (1.0.6 to 1.1) does. [`eval`] runs it.
//! Invariant: what is not understood is [`expr::Stmt::Unknown`] with its text and a finding, and is
//! printed where it
//! stood.

mod apply;
mod blocks;
mod ct_proto;
mod cursor;
mod dependencies;
mod dtype;
mod fib;
mod implied;
mod json_in;
mod json_out;
mod json_place;
mod lex;
mod normal;
mod parse_expr;
mod parse_stmt;
mod print;
mod print_expr;
mod priority;
mod symbols;
mod time;

pub mod command;
mod elements;
pub mod eval;
pub mod expr;
pub mod fields;
pub mod model;
pub mod script;
pub mod types;

pub use elements::{Data, Element, Elements, Key, Part};
pub use expr::{Expr, Stmt, Verdict};
pub use model::{Chain, Family, Rule, Ruleset, Set, Table};
pub use script::Script;
pub use types::{Type, Value};
