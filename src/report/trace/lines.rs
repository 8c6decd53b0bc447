//! The words of a step and of an end, and what a frame's summary says.

use crate::base::Origin;
use crate::net::text::table_name;
use crate::path::{Disposition, DropReason, IcmpSent, RuleAt, Step};
use crate::wire::print::icmp_name;
use std::net::{IpAddr, SocketAddr};

/// A step in words.
pub(super) struct Line {
    /// What kind of thing was done, at most nine letters.
    pub label: &'static str,
    /// What.
    pub text: String,
    /// Who made the state it followed from, where that is worth saying.
    pub origin: Option<String>,
}

/// How well a way ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Mood {
    Good,
    Bad,
    Open,
}

/// An end in words.
pub(super) struct End {
    pub mood: Mood,
    /// `delivered`, `dropped`...
    pub label: &'static str,
    pub text: String,
    /// Further facts, each worth a line.
    pub facts: Vec<(&'static str, String)>,
}

fn line(label: &'static str, text: impl Into<String>) -> Line {
    Line {
        label,
        text: text.into(),
        origin: None,
    }
}

/// One step.
pub(super) fn step(s: &Step) -> Line {
    match s {
        Step::FdbLearn { mac, port } => line("learned", format!("{mac} is behind {port}")),
        Step::BridgeForward { port } => line("bridge", format!("to port {port}")),
        Step::BridgeFlood { ports, why } => {
            line("flood", format!("{why}: to {}", ports.join(", ")))
        }
        Step::BridgeUp { bridge } => line("bridge", format!("up to the host by {bridge}")),
        Step::Route {
            table,
            rule,
            route,
            origin,
        } => Line {
            origin: Some(origin.to_string()),
            ..line(
                "route",
                format!("{route} (table {}, rule {rule})", table_name(*table)),
            )
        },
        Step::Ttl { to } => line("ttl", format!("{} → {to}", u16::from(*to) + 1)),
        Step::NeighHit { ip, mac, state } => line("neigh", format!("{ip} lladdr {mac} {state}")),
        Step::NeighWait { ip, queued } => line(
            "neigh",
            format!("{ip} unknown: asked for, {queued} waiting"),
        ),
        Step::NeighResolved { ip, mac } => line(
            "neigh",
            format!("{ip} lladdr {mac}: found, the packet goes on"),
        ),
        Step::Encap { kind, outer, vni } => {
            let id = if *kind == "vxlan" {
                format!(" vni {vni}")
            } else {
                String::new()
            };
            line("encap", format!("{kind}{id}: {} > {}", outer.0, outer.1))
        }
        Step::Decap { kind, dev } => line("decap", format!("{kind} at {dev}")),
        Step::Fragment { count, mtu } => line("fragment", format!("{count} pieces for mtu {mtu}")),
        Step::FragmentQueued => line("fragment", "waits for the others"),
        Step::Reassembled { len } => line("fragment", format!("whole again, {len} bytes")),
        Step::Answer { what } => line("answer", *what),
        Step::IcmpError { icmp, to } => line("icmp", format!("{} to {to}", icmp_text(*icmp))),
        Step::IcmpSuppressed { why } => line("icmp", format!("no error sent: {why}")),
        Step::PmtuLearned { dst, mtu } => line("pmtu", format!("{dst} takes {mtu} bytes")),
        Step::Rule {
            at,
            skipped,
            chance,
        } => rule(at, *skipped, *chance),
        Step::Policy { at, skipped } => rule(at, *skipped, None),
        Step::Conntrack { hook, state, text } => {
            line("conntrack", format!("{hook} {state} {text}"))
        }
        Step::NatSetup { what, from, to, at } => {
            let by = at.as_ref().map_or(String::new(), |r| format!(" ({r})"));
            line("nat", format!("{what} {from} becomes {to}{by}"))
        }
        Step::NatPacket { hook, from, to } => line("nat", format!("{hook} {from} → {to}")),
        Step::Ipvs {
            reply: true,
            virt,
            server,
            ..
        } => line("ipvs", format!("reply of {server} → {virt}")),
        Step::Ipvs {
            virt,
            server,
            forward,
            open,
            origin,
            ..
        } => {
            let undecided = match open {
                0 => String::new(),
                n => format!("; the dump does not say which of {n} is next"),
            };
            Line {
                origin: Some(origin.to_string()),
                ..line("ipvs", format!("{virt} → {server} ({forward}){undecided}"))
            }
        }
        Step::Note(text) => line("note", text.clone()),
    }
}

/// `nat PREROUTING 1. -j KUBE-SERVICES, 3 rules passed over, chance 1 of 3, 33%`
fn rule(at: &RuleAt, skipped: u32, chance: Option<u32>) -> Line {
    let own = format!("-A {} ", at.chain);
    let text = at.text.strip_prefix(&own).unwrap_or(&at.text);
    let number = at.number.map_or(String::new(), |n| format!(" {n}."));
    let passed = match skipped {
        0 => String::new(),
        1 => ", 1 rule passed over".to_owned(),
        n => format!(", {n} rules passed over"),
    };
    let chance = chance.map_or(String::new(), |c| format!(", chance {}", chance_text(c)));
    Line {
        origin: at.number.map(|_| at.origin.to_string()),
        ..line(
            "rule",
            format!("{} {}{number} {text}{chance}{passed}", at.table, at.chain),
        )
    }
}

/// A chance in 1/2^31: `1 of 3, 33%`.
fn chance_text(c: u32) -> String {
    let share = f64::from(c) / f64::from(1u32 << 31);
    let n = (1.0 / share).round();
    let percent = format!("{:.0}%", share * 100.0);
    if share > 0.0 && n <= 10_000.0 && (1.0 / n - share).abs() < 1e-6 {
        format!("1 of {n:.0}, {percent}")
    } else {
        percent
    }
}

/// `ICMP host unreachable`
pub(super) fn icmp_text(i: IcmpSent) -> String {
    let family = if i.v6 { "ICMPv6" } else { "ICMP" };
    format!("{family} {}", icmp_name(i.v6, i.typ, i.code))
}

fn ended(mood: Mood, label: &'static str, text: impl Into<String>) -> End {
    End {
        mood,
        label,
        text: text.into(),
        facts: Vec::new(),
    }
}

/// One end; `dev` is where it came.
pub(super) fn end(how: &Disposition, dev: &str) -> End {
    match how {
        Disposition::Delivered(s) => ended(Mood::Good, "delivered", format!("to socket {}", s.0)),
        Disposition::LeftTheCluster => ended(Mood::Good, "left", format!("the cluster by {dev}")),
        Disposition::Consumed(what) => ended(Mood::Good, "consumed", *what),
        Disposition::Loop => ended(Mood::Bad, "loop", "it passed too many devices"),
        Disposition::Unknown { origin } => ended(
            Mood::Open,
            "depends",
            format!("on what podpath does not understand: {origin}"),
        ),
        Disposition::Dropped {
            reason,
            detail,
            origin,
        } => End {
            facts: facts(*reason, detail, origin),
            ..ended(Mood::Bad, "dropped", reason.text())
        },
        Disposition::Rejected {
            icmp,
            reason,
            detail,
            origin,
        } => {
            let mut e = ended(Mood::Bad, "rejected", reason.text());
            e.facts = facts(*reason, detail, origin);
            e.facts.insert(0, ("told", icmp_text(*icmp)));
            e
        }
    }
}

fn facts(reason: DropReason, detail: &str, origin: &Origin) -> Vec<(&'static str, String)> {
    let mut v = vec![(
        "reason",
        format!("{} · kernel {}", reason.name(), reason.kernel()),
    )];
    if !detail.is_empty() {
        v.push(("detail", detail.to_owned()));
    }
    v.push(("origin", origin.to_string()));
    v
}

/// The innermost packet's source and destination, from a frame's summary.
pub(super) fn endpoints(summary: &str) -> Option<(IpAddr, IpAddr)> {
    let inner = summary.rsplit(" | ").next()?;
    let (left, right) = inner.split_once(" > ")?;
    Some((
        host(left.rsplit(' ').next()?)?,
        host(right.split([' ', ',']).next()?)?,
    ))
}

fn host(word: &str) -> Option<IpAddr> {
    let plain = word.parse().ok();
    plain.or_else(|| word.parse::<SocketAddr>().ok().map(|s| s.ip()))
}

/// Whether a frame asks for or tells a link address.
pub(super) fn is_resolution(summary: &str) -> bool {
    question(summary).is_some() || answer(summary).is_some()
}

/// Whose link address a frame asks for.
pub(super) fn question(summary: &str) -> Option<IpAddr> {
    let arp = summary.strip_prefix("ARP who-has ");
    let nd = || {
        summary
            .strip_prefix("ICMPv6 ")?
            .split_once(" who has ")
            .map(|x| x.1)
    };
    arp.or_else(nd)?.split([' ', ',']).next()?.parse().ok()
}

/// Whose link address a frame tells.
pub(super) fn answer(summary: &str) -> Option<IpAddr> {
    let arp = || {
        summary
            .strip_prefix("ARP ")?
            .split_once(" is-at ")
            .map(|x| x.0)
    };
    let nd = || {
        summary
            .strip_prefix("ICMPv6 ")?
            .split_once(" tgt is ")
            .map(|x| x.1)
    };
    arp().or_else(nd)?.split([' ', ',']).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chances_read_as_kube_proxy_means_them() {
        // 0.33333333349 and 0.50000000000 as iptables-save prints them.
        let of = |p: f64| chance_text((p * f64::from(1u32 << 31)).round() as u32);
        assert_eq!(of(0.333_333_333_49), "1 of 3, 33%");
        assert_eq!(of(0.5), "1 of 2, 50%");
        assert_eq!(of(0.9), "90%");
        assert_eq!(of(0.0), "0%");
    }
}
