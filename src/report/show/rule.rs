//! `ip rule` (iproute2: ip/iprule.c `print_rule`).

use super::Ctx;
use super::out::Obj;
use crate::net::text::table_name;
use crate::net::{NetNs, PolicyRule, RuleAction};
use crate::wire::proto;
use ipnetwork::IpNetwork;
use serde_json::Value;

/// `ip rule`: IPv4's unless `-6`.
pub(super) fn list(ns: &NetNs, cx: &Ctx<'_>) -> Vec<Obj> {
    let families = cx.family.or_v4().iter();
    families
        .flat_map(|v4| ns.fib().rules(*v4))
        .map(|r| one(ns, r))
        .collect()
}

fn one(ns: &NetNs, r: &PolicyRule) -> Obj {
    let mut o = Obj::default();
    o.both("priority", r.priority, format_args!("{}:\t", r.priority));
    if r.not {
        o.both("not", Value::Null, "not ");
    }
    prefix(&mut o, ("src", "srclen", "from"), r.from, true);
    prefix(&mut o, ("dst", "dstlen", "to"), r.to, false);
    if r.tos != 0 {
        o.word("tos", "tos", format!("{:#04x}", r.tos));
    }
    if let Some((mark, mask)) = r.fwmark {
        o.both(
            "fwmark",
            format!("{mark:#x}"),
            format_args!("fwmark {mark:#x}"),
        );
        if mask != u32::MAX {
            o.both("fwmask", format!("{mask:#x}"), format_args!("/{mask:#x}"));
        }
        o.say(" ");
    }
    for (key, detached, name) in [
        ("iif", "iif_detached", &r.iif),
        ("oif", "oif_detached", &r.oif),
    ] {
        let Some(name) = name else { continue };
        o.word(key, key, name.clone());
        if ns.dev_by_name(name).is_none() {
            o.both(detached, Value::Null, "[detached] ");
        }
    }
    if let Some(p) = r.ipproto {
        o.word("ipproto", "ipproto", protocol(p));
    }
    ports(&mut o, "sport", r.sport);
    ports(&mut o, "dport", r.dport);
    action(&mut o, r);
    o
}

fn prefix(o: &mut Obj, (key, len, word): (&str, &str, &str), net: Option<IpNetwork>, always: bool) {
    let Some(net) = net else {
        if always {
            o.word(key, word, "all");
        }
        return;
    };
    let host = if net.is_ipv4() { 32 } else { 128 };
    o.both(
        key,
        net.ip().to_string(),
        format_args!("{word} {}", net.ip()),
    );
    if net.prefix() != host {
        o.both(len, net.prefix(), format_args!("/{}", net.prefix()));
    }
    o.say(" ");
}

fn ports(o: &mut Obj, word: &str, range: Option<(u16, u16)>) {
    match range {
        Some((lo, hi)) if lo == hi => {
            o.word(word, word, lo);
        }
        Some((lo, hi)) => {
            o.say(format_args!("{word} {lo}-{hi} "));
            o.key(&format!("{word}_start"), lo)
                .key(&format!("{word}_end"), hi);
        }
        None => {}
    }
}

/// `/etc/protocols`
fn protocol(p: u8) -> String {
    match p {
        proto::ICMP => "icmp".to_owned(),
        proto::TCP => "tcp".to_owned(),
        proto::UDP => "udp".to_owned(),
        proto::ICMPV6 => "ipv6-icmp".to_owned(),
        n => format!("ipproto-{n}"),
    }
}

fn action(o: &mut Obj, r: &PolicyRule) {
    match r.action {
        RuleAction::Table(id) => {
            let name = table_name(id);
            o.both("table", name.clone(), format_args!("lookup {name}"));
            if let Some(n) = r.suppress_prefixlength {
                let text = format_args!(" suppress_prefixlength {n}");
                o.both("suppress_prefixlength", n, text);
            }
        }
        RuleAction::Goto(to) => {
            o.both("goto", to, format_args!("goto {to}"));
        }
        RuleAction::Nop => {
            o.both("nop", Value::Null, "nop");
        }
        RuleAction::Blackhole => say_action(o, "blackhole"),
        RuleAction::Unreachable => say_action(o, "unreachable"),
        RuleAction::Prohibit => say_action(o, "prohibit"),
    }
}

fn say_action(o: &mut Obj, name: &str) {
    o.both("action", name, name);
}
