//! Netfilter's part of a trace: rules by name and number, connections, translations.

use crate::base::Origin;
use crate::nf::eval::{At, NfStep, RuleRef};
use crate::nf::nat::Manip;
use crate::nf::{Backend, Family, Netfilter};
use crate::path::observer::{Observer, RuleAt, Step};
use crate::path::walker::Walker;
use crate::wire::Frame;

impl<O: Observer> Walker<'_, O> {
    /// A rule or policy for people, and who made it.
    pub(super) fn nf_rule(&self, rule: &RuleRef) -> (String, Origin) {
        let Some(nf) = self.ns.nf.as_deref() else {
            return (String::new(), Origin::Kernel);
        };
        let at = rule_at(nf, rule);
        (format!("{} {at}: {}", tool(rule), at.text), at.origin)
    }

    /// Shows what one operation did.
    pub(super) fn nf_tell(&mut self, at: &At, f: &Frame, steps: Vec<NfStep>) {
        let dev = at.input.or(at.output);
        for s in steps {
            let hook = at.hook;
            self.step(dev, f, |ns| match (s, ns.nf.as_deref()) {
                (
                    NfStep::Rule {
                        rule,
                        skipped,
                        chance,
                    },
                    Some(nf),
                ) => Step::Rule {
                    at: rule_at(nf, &rule),
                    skipped,
                    chance,
                },
                (NfStep::Policy { rule, skipped }, Some(nf)) => Step::Policy {
                    at: rule_at(nf, &rule),
                    skipped,
                },
                (NfStep::Found(text), _) => Step::Note(format!("element {text}")),
                (NfStep::Conntrack { text, state }, _) => Step::Conntrack { hook, state, text },
                (
                    NfStep::NatSetup {
                        manip,
                        rule,
                        from,
                        to,
                    },
                    nf,
                ) => Step::NatSetup {
                    what: what(manip),
                    at: rule.zip(nf).map(|(r, nf)| rule_at(nf, &r)),
                    from,
                    to,
                },
                (NfStep::NatPacket { from, to }, _) => Step::NatPacket { hook, from, to },
                (NfStep::Rule { .. } | NfStep::Policy { .. }, None) => Step::Note(String::new()),
            });
        }
    }
}

fn what(manip: Manip) -> &'static str {
    match manip {
        Manip::Src => "source",
        Manip::Dst => "destination",
    }
}

/// The command that shows the rule.
fn tool(rule: &RuleRef) -> &'static str {
    if rule.native.is_some() {
        return "nft";
    }
    match (rule.family, rule.backend) {
        (Family::V4, Backend::Legacy) => "iptables-legacy",
        (Family::V4, Backend::Nft) => "iptables",
        (Family::V6, Backend::Legacy) => "ip6tables-legacy",
        (Family::V6, Backend::Nft) => "ip6tables",
    }
}

fn native_at(nf: &Netfilter, rule: &RuleRef) -> Option<RuleAt> {
    let (table, chain, found) = nf.nft_place(rule)?;
    let policy = || {
        let policy = chain.base.as_ref().map(|b| b.policy);
        policy.map_or("return", |p| p.as_str())
    };
    Some(RuleAt {
        tool: tool(rule),
        table: format!("{} {}", table.family.as_str(), table.name).into(),
        chain: chain.name.as_ref().to_owned(),
        number: found.map(|_| rule.rule + 1),
        text: found.map_or_else(|| format!("policy {}", policy()), |r| r.text(table.family)),
        origin: found.map(|r| r.origin.clone()).unwrap_or_default(),
    })
}

fn rule_at(nf: &Netfilter, rule: &RuleRef) -> RuleAt {
    if let Some(at) = native_at(nf, rule) {
        return at;
    }
    let set = nf.rules(rule.family).backend(rule.backend);
    let chain = set
        .and_then(|s| s.table(rule.table))
        .and_then(|t| t.chains.get(rule.chain as usize));
    let found = chain.and_then(|c| c.rules.get(rule.rule as usize));
    let name = chain.map_or("?", |c| c.name.as_str());
    let policy = || {
        chain
            .and_then(|c| c.policy)
            .map_or("RETURN", |p| p.as_str())
    };
    RuleAt {
        tool: tool(rule),
        table: rule.table.as_str().into(),
        chain: name.to_owned(),
        number: found.map(|_| rule.rule + 1),
        text: found.map_or_else(|| format!("policy {}", policy()), |r| r.text(name)),
        origin: found.map(|r| r.origin.clone()).unwrap_or_default(),
    }
}
