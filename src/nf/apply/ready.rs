//! A command that the tool itself has nothing against: its rule read, before any table is looked at.
//!
//! The checks are those of xshared.c `do_parse` and the extensions' own, which come before the tool reads
//! or changes a table. Invariant: what is refused here is refused on every table of the name.

use super::command::{At, Line, Verb};
use super::refused::Reason;
use super::verify;
use crate::nf::rule::Parsed;
use crate::nf::table::{Counters, TableName};
use crate::nf::{Match, Target};

/// A command with its rule.
#[derive(Clone, Debug)]
pub(super) struct Ready {
    pub line: Line,
    /// One rule's matches for each pair of source and destination.
    pub matches: Vec<Vec<Match>>,
    pub target: Target,
    pub counters: Option<Counters>,
}

impl Ready {
    /// Reads the rule of a command on a table.
    pub(super) fn new(line: Line, table: TableName) -> Result<Self, At> {
        let Parsed {
            matches,
            target,
            counters,
        } = line.read(&|_| false)?;
        let drop = match &line.second {
            Some(w) if line.verb == Verb::Policy => (w.text == "DROP").then_some(w.at),
            _ => (target == Target::Drop).then(|| line.word_at("DROP")),
        };
        if let Some(at) = drop.filter(|_| table == TableName::Nat) {
            let text = "\nThe \"nat\" table is not intended for filtering, \
                        the use of DROP is therefore inhibited.\n\n";
            return Err((at, Reason::Usage(text.to_owned())));
        }
        let wrong = |text: String| Err((line.at, Reason::Usage(text)));
        if line.takes_rule() {
            let first = matches.first().map(Vec::as_slice).unwrap_or_default();
            if let Err(text) = wrong_side(named(&line).0, first) {
                return wrong(text);
            }
            if let Err(text) = verify::usage(first, &target) {
                return wrong(text.to_owned());
            }
            if line.verb == Verb::Replace && matches.len() > 1 {
                return wrong("Replacement rule does not specify a unique address".to_owned());
            }
        }
        Ok(Ready {
            line,
            matches,
            target,
            counters,
        })
    }
}

/// The chain's name, empty for none, and where it stands.
pub(super) fn named(line: &Line) -> (&str, usize) {
    let chain = line.chain.as_ref();
    chain.map_or(("", line.at), |c| (c.text.as_str(), c.at))
}

/// Devices that a built-in chain cannot know (xshared.c `check_inverse`, `do_parse`).
fn wrong_side(chain: &str, matches: &[Match]) -> Result<(), String> {
    let (none_in, none_out) = (
        matches!(chain, "POSTROUTING" | "OUTPUT"),
        matches!(chain, "PREROUTING" | "INPUT"),
    );
    for m in matches {
        match m {
            Match::InInterface(_) if none_in => {
                return Err(format!("Can't use -i with {chain}\n"));
            }
            Match::OutInterface(_) if none_out => {
                return Err(format!("Can't use -o with {chain}\n"));
            }
            _ => {}
        }
    }
    Ok(())
}
