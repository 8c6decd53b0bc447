//! Why a pair may or may not connect, in few words: the policies that decide.

use crate::kube::policy::reach::{PortCell, Reach, port_text};
use crate::kube::policy::{Action, Decision, Side, Why};

/// Policies and reasons that a line shows.
const SHOWN: usize = 3;

/// `NetworkPolicy a/b, NetworkPolicy a/c and 2 more`.
pub(super) fn list(all: &[String]) -> String {
    let more = all.len().saturating_sub(SHOWN);
    let shown: Vec<&str> = all.iter().take(SHOWN).map(String::as_str).collect();
    match more {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// What decided on a side, by name; empty when nothing did.
pub(super) fn names(side: &Side) -> Vec<String> {
    match &side.why {
        Why::Rule(rule) => vec![rule.to_string()],
        Why::Isolated(policies) => policies.iter().map(ToString::to_string).collect(),
        Why::NoPod | Why::Itself | Why::ResidentNode(_) | Why::Open => Vec::new(),
    }
}

/// A side in words: `ingress: isolated by NetworkPolicy shop/db`; none when nothing decides.
fn side(direction: &str, side: &Side, places: bool) -> Option<String> {
    let at = |rule: &crate::kube::policy::RuleRef| match places {
        true => format!("{rule} ({})", rule.origin),
        false => rule.to_string(),
    };
    match &side.why {
        Why::Rule(rule) => Some(match rule.action {
            Action::Accept => format!("{direction}: {}", at(rule)),
            _ => format!("{direction}: denied by {}", at(rule)),
        }),
        Why::Isolated(_) => Some(format!("{direction}: isolated by {}", list(&names(side)))),
        Why::ResidentNode(_) => Some(format!("{direction}: its own node")),
        Why::NoPod | Why::Itself | Why::Open => None,
    }
}

/// A decision: of a denial only the sides that deny.
pub(super) fn decision(d: &Decision, places: bool) -> String {
    let sides = [("egress", &d.egress), ("ingress", &d.ingress)];
    let said = sides.into_iter().filter(|(_, s)| d.allowed || !s.allowed);
    let words: Vec<String> = said.filter_map(|(name, s)| side(name, s, places)).collect();
    match (words.is_empty(), d.allowed) {
        (true, true) => "nothing isolates either side".into(),
        (true, false) => "not there".into(),
        _ => words.join("; "),
    }
}

/// All decisions of a port of a cell in a state.
pub(super) fn why(
    reach: &Reach<'_>,
    cell: (usize, usize, usize),
    state: usize,
    places: bool,
) -> String {
    let (from, to, port) = cell;
    let there = |group: usize| {
        let group = reach.groups.get(group);
        group
            .and_then(|g| g.there.get(state))
            .copied()
            .unwrap_or_default()
    };
    let all = reach.why(from, to, port, state);
    match (there(from), there(to), all.is_empty()) {
        (false, _, _) => return "the sender is not there".into(),
        (_, false, _) => return "the destination is not there".into(),
        (_, _, true) => return "no endpoint".into(),
        _ => {}
    }
    let mut texts: Vec<String> = Vec::new();
    for one in &all {
        let text = decision(one, places);
        let text = match all.len() {
            1 => text,
            _ if one.allowed => format!("an endpoint open ({text})"),
            _ => format!("an endpoint closed ({text})"),
        };
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
    texts.join("; ")
}

/// `80/TCP`, with how many pairs where it is neither all nor none.
pub(super) fn port(cell: &PortCell, state: usize) -> String {
    let open = cell.open.get(state).copied().unwrap_or_default();
    let name = port_text(&cell.l4);
    match open {
        0 => name,
        n if n == cell.pairs => name,
        n => format!("{name} ({n} of {} pairs)", cell.pairs),
    }
}

/// A word for what a state says of a port.
pub(super) fn verdict(cell: &PortCell, state: usize) -> &'static str {
    match cell.open.get(state).copied().unwrap_or_default() {
        _ if cell.pairs == 0 => "none",
        0 => "closed",
        n if n >= cell.pairs => "open",
        _ => "partly",
    }
}
