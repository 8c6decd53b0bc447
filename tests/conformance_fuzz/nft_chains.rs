//! Draws base chains of native tables: type, hook, priority, policy.

use super::nft_rules::{Chain, Kind, Place};
use super::rng::Rng;
use super::rules::Hook::*;

/// A base chain, with the command that makes it.
pub fn base(table: &str, i: usize, out: &mut String, rng: &mut Rng) -> Chain {
    let kind = rng.weighted(&[(58, Kind::Filter), (34, Kind::Nat), (8, Kind::Route)]);
    let hook = match kind {
        Kind::Filter => *rng.pick(&[Prerouting, Input, Forward, Forward, Output, Postrouting]),
        Kind::Nat => *rng.pick(&[
            Prerouting,
            Prerouting,
            Input,
            Output,
            Postrouting,
            Postrouting,
        ]),
        Kind::Route => Output,
    };
    let usual = match hook {
        Prerouting | Output => -100,
        _ => 100,
    };
    let priority = match kind {
        Kind::Nat if rng.chance(70) => usual,
        Kind::Nat => *rng.pick(&[-150, -100, 0, 50, 100]),
        Kind::Route => *rng.pick(&[-150, -300, 0]),
        _ => *rng.pick(&[
            0, 0, 0, -300, -250, -199, -150, -100, -99, 50, 100, 225, 300, 400,
        ]),
    };
    let drop = kind == Kind::Filter && rng.chance(12);
    let word = match hook {
        Prerouting => "prerouting",
        Input => "input",
        Forward => "forward",
        Output => "output",
        Postrouting => "postrouting",
    };
    let type_ = match kind {
        Kind::Filter => "filter",
        Kind::Nat => "nat",
        Kind::Route => "route",
    };
    let policy = if drop { "drop" } else { "accept" };
    *out += &format!(
        "add chain {table} b{i} {{ type {type_} hook {word} priority {priority}; policy {policy}; }}\n"
    );
    let place = Place {
        kind,
        hook,
        early: priority < -200 && matches!(hook, Prerouting | Output),
    };
    Chain {
        name: format!("b{i}"),
        places: vec![place],
    }
}
