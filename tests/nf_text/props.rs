//! Generated rules: what is printed is read back as the same rule.

use proptest::prelude::*;

use podpath::base::Origin;
use podpath::nf::matches::{
    Comment, Conntrack, CtStates, Multiport, Ports, Tcp, TcpFlagSet, TcpFlags,
};
use podpath::nf::target::{Dnat, MarkTarget, NatRange, PortSpan, XMark};
use podpath::nf::value::{AddrMask, AddrRange, IfName, Protocol, Range, Text};
use podpath::nf::{Chain, Family, Is, Match, Rule, RuleSet, Table, TableName, Target};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

fn addr(family: Family) -> BoxedStrategy<IpAddr> {
    match family {
        Family::V4 => any::<u32>()
            .prop_map(|a| IpAddr::V4(Ipv4Addr::from(a)))
            .boxed(),
        Family::V6 => any::<u128>()
            .prop_map(|a| IpAddr::V6(Ipv6Addr::from(a)))
            .boxed(),
    }
}

fn is<T: core::fmt::Debug>(s: impl Strategy<Value = T>) -> impl Strategy<Value = Is<T>> {
    (any::<bool>(), s).prop_map(|(not, value)| Is { not, value })
}

fn ports() -> impl Strategy<Value = Range<u16>> {
    (1..=u16::MAX, any::<u16>()).prop_map(|(a, b)| Range {
        min: a.min(b.max(1)),
        max: a.max(b),
    })
}

fn extension() -> impl Strategy<Value = Match> {
    let tcp = (
        prop::option::of(is(ports())),
        prop::option::of(is(ports())),
        prop::option::of(is((0u32..64, 0u32..64))),
    );
    let tcp = tcp.prop_map(|(sport, dport, flags)| {
        let pair = |f: Is<(u32, u32)>| Is {
            not: f.not,
            value: TcpFlags {
                mask: TcpFlagSet(f.value.0),
                set: TcpFlagSet(f.value.1),
            },
        };
        Match::Tcp(Box::new(Tcp {
            sport,
            dport,
            flags: flags.map(pair),
            ..Tcp::default()
        }))
    });
    let multi = is(prop::collection::vec(ports(), 1..7))
        .prop_map(|p| Is {
            not: p.not,
            value: Ports(p.value),
        })
        .prop_map(|p| {
            Match::Multiport(Box::new(Multiport {
                dports: Some(p),
                ..Multiport::default()
            }))
        });
    let states = is(1u32..128).prop_map(|s| Is {
        not: s.not,
        value: CtStates(s.value),
    });
    let states = states.prop_map(|state| {
        Match::Conntrack(Box::new(Conntrack {
            state: Some(state),
            ..Conntrack::default()
        }))
    });
    let comment = "[ -~é]{0,40}".prop_map(|t| {
        Match::Comment(Box::new(Comment {
            text: Some(Text(t)),
        }))
    });
    prop_oneof![tcp, multi, states, comment]
}

fn target(family: Family) -> impl Strategy<Value = Target> {
    let mark = (any::<u32>(), any::<u32>()).prop_map(|(value, mask)| {
        Target::Mark(Box::new(MarkTarget {
            xmark: Some(XMark { value, mask }),
        }))
    });
    let dnat = (
        addr(family),
        addr(family),
        prop::option::of(ports()),
        any::<bool>(),
    )
        .prop_map(|(a, b, p, random)| {
            let addrs = Some(AddrRange {
                from: a.min(b),
                to: a.max(b),
            });
            let to = Some(NatRange {
                addrs,
                ports: p.map(PortSpan),
                base: None,
            });
            Target::Dnat(Box::new(Dnat {
                to,
                random,
                persistent: !random,
            }))
        });
    let chain = "[A-Z]{1,12}-[0-9]{1,4}";
    prop_oneof![
        Just(Target::None),
        Just(Target::Accept),
        mark,
        dnat,
        chain.prop_map(Target::Jump),
        chain.prop_map(Target::Goto),
    ]
}

fn rule(family: Family) -> impl Strategy<Value = Rule> {
    let net = (addr(family), 1u8..=32).prop_map(|(a, len)| AddrMask::net(a, len));
    let header = (
        prop::option::of(is(net)),
        prop::option::of(is("[a-z]{1,10}[+]?".prop_map(IfName))),
        prop::option::of(is((1u8..).prop_map(Protocol))),
    );
    (
        header,
        prop::collection::vec(extension(), 0..4),
        target(family),
    )
        .prop_map(|((s, i, p), more, target)| {
            let s = s.map(Match::Source).into_iter();
            let header = s
                .chain(i.map(Match::InInterface))
                .chain(p.map(Match::Protocol));
            Rule::new(header.chain(more).collect(), target, Origin::Kernel)
        })
}

fn round_trip(family: Family, rules: Vec<Rule>) {
    let mut set = RuleSet::new(family);
    let mut chain = Chain::new("C", None);
    chain.rules = rules;
    let mut table = Table::new(TableName::Mangle);
    table.chains.push(chain);
    set.tables.push(table);
    let text = set.to_text();
    let (again, findings) = RuleSet::parse("p", &text, family);
    assert!(findings.is_empty(), "{findings:?} in\n{text}");
    assert_eq!(again.canonical(), set.canonical(), "{text}");
    assert_eq!(again.to_text(), text);
    assert_eq!(again.to_save(false), text);
}

proptest! {
    #[test]
    fn v4_rules_are_read_back(rules in prop::collection::vec(rule(Family::V4), 0..6)) {
        round_trip(Family::V4, rules);
    }

    #[test]
    fn v6_rules_are_read_back(rules in prop::collection::vec(rule(Family::V6), 0..6)) {
        round_trip(Family::V6, rules);
    }
}
