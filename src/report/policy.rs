//! `podpath policy explain`'s output: each side with what decided, the policies that select the pod, and
//! for a denial the rule that came closest to allowing it.

use core::fmt::Write;
use std::net::IpAddr;

use serde_json::{Value, json};

use crate::base::Origin;
use crate::kube::podpath_v1alpha1::CniPluginName;
use crate::kube::policy::explain::{Explanation, Near, Selecting, SideExplained};
use crate::kube::policy::miss::Placed;
use crate::kube::policy::model::Direction;
use crate::kube::policy::{Action, PolicyKey, RuleRef, Tier, Why};

/// Who enforces what is explained.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Enforced {
    /// The input does not say: it describes no cluster.
    Unknown,
    /// Nobody: no agent runs beside this plugin.
    Nobody(CniPluginName),
    /// An agent, by its word in `spec.networkPolicy.enforcement`.
    By {
        /// Which.
        agent: &'static str,
        /// Policies of kinds that it does not implement: they were not asked.
        ignored: Vec<PolicyKey>,
    },
}

impl Enforced {
    /// What stands below a verdict.
    fn note(&self, allowed: bool) -> Option<String> {
        match self {
            Enforced::Unknown => None,
            Enforced::Nobody(plugin) if allowed => Some(format!(
                "nobody enforces policies beside {plugin}: it would open anyway"
            )),
            Enforced::Nobody(plugin) => Some(format!(
                "by the policies only: nobody enforces them beside {plugin}, and it opens all the same"
            )),
            Enforced::By { ignored, .. } if ignored.is_empty() => None,
            Enforced::By { agent, ignored } => {
                let names: Vec<String> = ignored.iter().map(ToString::to_string).collect();
                Some(format!(
                    "not asked: {}; {agent} implements NetworkPolicy only",
                    names.join(", ")
                ))
            }
        }
    }

    fn word(&self) -> Option<&'static str> {
        match self {
            Enforced::Unknown => None,
            Enforced::Nobody(_) => Some("none"),
            Enforced::By { agent, .. } => Some(agent),
        }
    }
}

/// What was asked, for a heading.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Asked {
    /// Who sends, as typed.
    pub from: String,
    /// Who is meant, as typed.
    pub to: String,
    /// Protocol and port as dialled: `TCP 80`.
    pub port: String,
    /// Who enforces it.
    pub enforced: Enforced,
}

/// A connection's ways, explained. `named` says whose an address is.
pub fn text(asked: &Asked, ways: &[Explanation], named: &dyn Fn(IpAddr) -> String) -> String {
    let mut out = String::new();
    let Asked {
        from,
        to,
        port,
        enforced,
    } = asked;
    if ways.is_empty() {
        let _ = writeln!(
            out,
            "{from} -> {to} {port}: no endpoint to go to; policies are not asked"
        );
    }
    for (index, way) in ways.iter().enumerate() {
        if index > 0 {
            out.push('\n');
        }
        let verdict = if way.allowed { "allowed" } else { "denied" };
        let (a, b) = (way.way.ingress.from, way.way.ingress.to);
        let through = match &way.way.service {
            Some(_) => {
                let more = match way.alike {
                    0 => String::new(),
                    1 => ", and by another endpoint alike".into(),
                    n => format!(", and by {n} other endpoints alike"),
                };
                format!(", by {} at {}{more}", named(b), way.way.ingress.l4)
            }
            None => String::new(),
        };
        let _ = writeln!(out, "{from} -> {to} {port}: {verdict}{through}");
        if let Some(note) = enforced.note(way.allowed) {
            let _ = writeln!(out, "  {note}");
        }
        if way.way.egress.from != a {
            let seen = named(a);
            let _ = writeln!(
                out,
                "  the receiver's node sees {seen}: masqueraded on the way"
            );
        }
        for side in &way.sides {
            out.push('\n');
            one_side(&mut out, side, named);
        }
    }
    out
}

fn one_side(out: &mut String, side: &SideExplained, named: &dyn Fn(IpAddr) -> String) {
    let own = named(side.query.own(side.direction));
    let (from_to, other) = match side.direction {
        Direction::Egress => ("to", side.query.to),
        Direction::Ingress => ("from", side.query.from),
    };
    let verdict = if side.side.allowed {
        "allowed"
    } else {
        "denied"
    };
    let other = named(other);
    let _ = writeln!(
        out,
        "{} of {own} {from_to} {other}: {verdict}",
        side.direction
    );
    let _ = writeln!(out, "  {}", why(side));
    for rule in &side.side.passed {
        let _ = writeln!(out, "  passed on by {rule} ({})", rule.origin);
    }
    for (index, near) in side.near.iter().enumerate() {
        nearness(out, near, index == 0);
    }
    if matches!(side.side.why, Why::Isolated(_)) && side.near.is_empty() {
        let way = match side.direction {
            Direction::Egress => "nothing may leave",
            Direction::Ingress => "nothing may come in",
        };
        let _ = writeln!(out, "  none of them has an {} rule: {way}", side.direction);
    }
    if let Some(hint) = tier_hint(side) {
        let _ = writeln!(out, "  {hint}");
    }
    let tiers = side.selecting.iter().any(|s| s.tier != Tier::NetworkPolicy);
    if !side.selecting.is_empty() {
        let order = match tiers && side.selecting.len() > 1 {
            true => ", in the order in which they are asked",
            false => "",
        };
        let _ = writeln!(out, "  policies that select it{order}:");
    }
    for policy in &side.selecting {
        let _ = writeln!(out, "    {}", selecting(policy, side.direction));
    }
}

/// What can overrule a tier that denied.
fn tier_hint(side: &SideExplained) -> Option<String> {
    let Why::Rule(rule) = &side.side.why else {
        return None;
    };
    let direction = side.direction;
    match (rule.action, rule.tier) {
        (Action::Deny, Tier::Admin) => Some(
            "no NetworkPolicy can open it: only a rule that accepts or passes it and is asked before".into(),
        ),
        (Action::Deny, Tier::Baseline) => Some(format!(
            "a NetworkPolicy that selects the pod for {direction} would be asked instead"
        )),
        _ => None,
    }
}

/// What decided, in a sentence.
fn why(side: &SideExplained) -> String {
    let direction = side.direction;
    match &side.side.why {
        Why::NoPod => "no pod with a network of its own is there: no policy is asked".into(),
        Why::Itself => "it speaks to itself: no policy is asked".into(),
        Why::ResidentNode(node) => {
            format!("{node} is the node it runs on: always open, no policy is asked")
        }
        Why::Rule(rule) => {
            let word = match rule.action {
                Action::Accept => "allowed",
                Action::Deny => "denied",
                Action::Pass => "passed on",
            };
            let tier = match rule.tier {
                Tier::NetworkPolicy => String::new(),
                tier => format!(", tier {tier}"),
            };
            let closed = match rule.failed_closed {
                true => "; it fails closed: one of its peers has no field known here",
                false => "",
            };
            format!("{word} by {rule} ({}){tier}{closed}", rule.origin)
        }
        Why::Isolated(list) => {
            let names: Vec<String> = list.iter().map(ToString::to_string).collect();
            format!(
                "isolated for {direction} by {}; no rule of theirs matches",
                names.join(", ")
            )
        }
        Why::Open => match side.selecting.iter().any(|s| s.rules.is_some()) {
            true => format!("no rule decides and nothing isolates it for {direction}"),
            false => format!("no policy is about its {direction}"),
        },
    }
}

fn nearness(out: &mut String, near: &Near, closest: bool) {
    let head = if closest { "closest" } else { "also near" };
    let _ = writeln!(out, "  {head}: {} ({})", near.rule, near.rule.origin);
    for placed in &near.misses {
        let _ = writeln!(out, "    {} ({})", placed.miss, placed.origin);
    }
    match (near.peer_fits, near.port_fits) {
        (true, false) => out.push_str("    its peers fit\n"),
        (false, true) => out.push_str("    its ports fit\n"),
        _ => {}
    }
}

fn selecting(policy: &Selecting, direction: Direction) -> String {
    let rules = match policy.rules {
        None => format!("says nothing of {direction}"),
        Some(0) => format!("no {direction} rule"),
        Some(1) => format!("1 {direction} rule"),
        Some(n) => format!("{n} {direction} rules"),
    };
    let tier = match (policy.tier, policy.priority) {
        (Tier::NetworkPolicy, _) => String::new(),
        (tier, Some(priority)) => format!(", tier {tier}, priority {priority}"),
        (tier, None) => format!(", tier {tier}"),
    };
    format!("{} ({}){tier}: {rules}", policy.policy, policy.origin)
}

/// The JSON: version 1, one object for each way.
pub fn json(asked: &Asked, ways: &[Explanation], named: &dyn Fn(IpAddr) -> String) -> Value {
    let ways: Vec<Value> = ways
        .iter()
        .map(|way| {
            json!({
                "allowed": way.allowed,
                "alike": way.alike,
                "service": way.way.service.as_ref().map(ToString::to_string),
                "sides": way.sides.iter().map(|s| side_json(s, named)).collect::<Vec<_>>(),
            })
        })
        .collect();
    json!({"version": 1, "from": asked.from, "to": asked.to, "port": asked.port,
        "enforcement": asked.enforced.word(), "ways": ways})
}

fn side_json(side: &SideExplained, named: &dyn Fn(IpAddr) -> String) -> Value {
    let (word, rule, isolating) = match &side.side.why {
        Why::NoPod => ("noPod", None, None),
        Why::Itself => ("itself", None, None),
        Why::ResidentNode(_) => ("residentNode", None, None),
        Why::Rule(rule) => ("rule", Some(rule_json(rule)), None),
        Why::Isolated(list) => {
            let names: Vec<String> = list.iter().map(ToString::to_string).collect();
            ("isolated", None, Some(names))
        }
        Why::Open => ("open", None, None),
    };
    let near = |near: &Near| {
        let miss = |p: &Placed| {
            let reason = p.miss.to_string();
            json!({"reason": reason, "kind": p.miss.kind(), "origin": place(&p.origin)})
        };
        json!({
            "rule": rule_json(&near.rule),
            "misses": near.misses.iter().map(miss).collect::<Vec<_>>(),
        })
    };
    let selecting = |s: &Selecting| {
        json!({"policy": s.policy.to_string(), "tier": s.tier.to_string(), "priority": s.priority,
            "rules": s.rules,
            "origin": place(&s.origin)})
    };
    json!({
        "direction": side.direction.to_string(),
        "from": {"address": side.query.from, "name": named(side.query.from)},
        "to": {"address": side.query.to, "name": named(side.query.to)},
        "port": side.query.l4.to_string(),
        "allowed": side.side.allowed,
        "why": word,
        "rule": rule,
        "isolatedBy": isolating,
        "passedBy": side.side.passed.iter().map(rule_json).collect::<Vec<_>>(),
        "selectedBy": side.selecting.iter().map(selecting).collect::<Vec<_>>(),
        "near": side.near.iter().map(near).collect::<Vec<_>>(),
    })
}

fn rule_json(rule: &RuleRef) -> Value {
    json!({"policy": rule.policy.to_string(), "tier": rule.tier.to_string(),
        "direction": rule.direction.to_string(), "index": rule.index, "name": rule.name,
        "action": rule.action.to_string(), "failedClosed": rule.failed_closed, "origin": place(&rule.origin)})
}

fn place(origin: &Origin) -> String {
    origin.to_string()
}
