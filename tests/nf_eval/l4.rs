//! Matches on the upper layer: ports, flags, options, ICMP types, SCTP chunks, short headers, fragments.

use crate::nf::{World, packet, syn, tcp, udp};
use podpath::nf::eval::Verdict;
use podpath::wire::{Frame, build, proto};

const A: &str = "10.0.0.9";
const B: &str = "10.1.0.9";

/// Whether one rule with these words matches; a packet that a match drops is `None`.
fn says(words: &str, f: &Frame) -> Option<bool> {
    let v6 = f.l3()[0] >> 4 == 6;
    let mut w = if v6 {
        World::v6(words)
    } else {
        World::new(words)
    };
    let verdict = w.forward(&mut f.clone());
    match (verdict, w.packets("FORWARD")[0]) {
        (Verdict::Accept, n) => Some(n == 1),
        (Verdict::Drop(_), 0) => None,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn all(cases: &[(&str, Option<bool>)], f: &Frame) {
    for (words, want) in cases {
        assert_eq!(says(words, f), *want, "{words}");
    }
}

const YES: Option<bool> = Some(true);
const NO: Option<bool> = Some(false);

#[test]
fn protocols() {
    all(
        &[
            ("-p tcp", YES),
            ("-p udp", NO),
            ("! -p udp", YES),
            ("! -p tcp", NO),
            ("-p all", YES),
            ("-p 6", YES),
        ],
        &syn(80),
    );
}

#[test]
fn tcp_ports_and_flags() {
    all(
        &[
            ("-p tcp --sport 40000 --dport 80", YES),
            ("-p tcp ! --sport 40000", NO),
            ("-p tcp ! --dport 1:79", YES),
            ("-p tcp --dport :79", NO),
            ("-p tcp --dport 80:", YES),
            ("-p tcp --syn", YES),
            ("-p tcp ! --syn", NO),
            ("-p tcp --tcp-flags ALL SYN", YES),
            ("-p tcp --tcp-flags SYN,ACK SYN,ACK", NO),
            ("-p tcp ! --tcp-flags ALL NONE", YES),
            ("-p tcp --tcp-flags ACK NONE", YES),
        ],
        &syn(80),
    );
    all(
        &[("-p tcp --syn", NO), ("-p tcp ! --syn", YES)],
        &tcp(A, B, 1, 2, 0x12, &[]),
    );
}

#[test]
fn tcp_options() {
    let with = tcp(A, B, 1, 2, 2, &[1, 1, 4, 2, 2, 4, 5, 0xb4]);
    all(
        &[
            ("-p tcp --tcp-option 2", YES),
            ("-p tcp --tcp-option 4", YES),
            ("-p tcp --tcp-option 8", NO),
            ("-p tcp ! --tcp-option 8", YES),
            ("-p tcp ! --tcp-option 2", NO),
        ],
        &with,
    );
    all(
        &[
            ("-p tcp --tcp-option 2", NO),
            ("-p tcp ! --tcp-option 2", YES),
        ],
        &syn(1),
    );
    // A header that says it is longer than the packet, or shorter than a header may be.
    let mut long = syn(1);
    long.l3_mut()[32] = 0xf0;
    let mut short = syn(1);
    short.l3_mut()[32] = 0x40;
    all(
        &[("-p tcp --tcp-option 2", None), ("-p tcp --dport 1", YES)],
        &long,
    );
    all(&[("-p tcp --tcp-option 2", None)], &short);
}

#[test]
fn short_headers_drop() {
    let f = packet(A, B, proto::TCP, &[0; 19]);
    all(
        &[
            ("-p tcp --dport 1", None),
            ("-p tcp", YES),
            ("-p udp --dport 1", NO),
        ],
        &f,
    );
    all(
        &[
            ("-p tcp -m multiport --dports 1", NO),
            ("-p tcp -m multiport --dports 0", YES),
        ],
        &f,
    );
    all(
        &[("-p udp --dport 1", None)],
        &packet(A, B, proto::UDP, &[0; 7]),
    );
    all(
        &[("-p icmp -m icmp --icmp-type 8", None)],
        &packet(A, B, proto::ICMP, &[8, 0, 0, 0]),
    );
    all(
        &[("-p udp -m multiport --dports 1", None)],
        &packet(A, B, proto::UDP, &[0; 3]),
    );
}

#[test]
fn later_fragments_match_no_port() {
    let mut f = syn(80);
    f.l3_mut()[6..8].copy_from_slice(&[0, 9]);
    all(
        &[
            ("-p tcp", YES),
            ("-f", YES),
            ("! -f", NO),
            ("-p tcp --dport 80", NO),
            ("-p tcp ! --dport 81", NO),
            ("-p tcp -m multiport --dports 80", NO),
        ],
        &f,
    );
    // The second eight bytes of a TCP header.
    f.l3_mut()[7] = 1;
    all(&[("-p tcp --dport 80", None), ("-p tcp", YES)], &f);
    let mut first = syn(80);
    first.l3_mut()[6] = 0x20;
    all(&[("-f", NO), ("-p tcp --dport 80", YES)], &first);
}

#[test]
fn multiport() {
    let f = udp(A, B, 7, 53, b"");
    all(
        &[
            ("-p udp -m multiport --dports 80,53", YES),
            ("-p udp -m multiport --sports 80,53", NO),
            ("-p udp -m multiport --ports 7,9", YES),
            ("-p udp -m multiport --ports 1:6,50:60", YES),
            ("-p udp -m multiport ! --dports 80,53", NO),
            ("-p udp -m multiport ! --ports 80", YES),
        ],
        &f,
    );
}

#[test]
fn icmp_types() {
    let unreachable = packet(A, B, proto::ICMP, &[3, 3, 0, 0, 0, 0, 0, 0]);
    all(
        &[
            ("-p icmp -m icmp --icmp-type any", YES),
            ("-p icmp -m icmp --icmp-type 3", YES),
            ("-p icmp -m icmp --icmp-type 3/3", YES),
            ("-p icmp -m icmp --icmp-type port-unreachable", YES),
            ("-p icmp -m icmp --icmp-type 3/4", NO),
            ("-p icmp -m icmp ! --icmp-type 8", YES),
        ],
        &unreachable,
    );
    let echo = packet(
        "fd00::9",
        "fd01::9",
        proto::ICMPV6,
        &[128, 0, 0, 0, 0, 0, 0, 0],
    );
    all(
        &[
            ("-p ipv6-icmp -m icmp6 --icmpv6-type 128", YES),
            ("-p ipv6-icmp -m icmp6 --icmpv6-type echo-reply", NO),
            ("-p ipv6-icmp -m icmp6 ! --icmpv6-type 135", YES),
        ],
        &echo,
    );
}

/// A packet with an INIT chunk (type 1), or others.
fn sctp(chunks: &[(u8, u8)]) -> Frame {
    let mut l4 = vec![0x1f, 0x40, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0];
    for (kind, flags) in chunks {
        l4.extend_from_slice(&[*kind, *flags, 0, 5, 9, 0, 0, 0]);
    }
    packet(A, B, proto::SCTP, &l4)
}

#[test]
fn sctp_chunks() {
    let mixed = sctp(&[(0, 3), (3, 0)]);
    all(
        &[
            ("-p sctp --dport 80 --sport 8000", YES),
            ("-p sctp ! --dport 80", NO),
            ("-p sctp --chunk-types any DATA,INIT", YES),
            ("-p sctp --chunk-types any INIT", NO),
            ("-p sctp --chunk-types all DATA,SACK", YES),
            ("-p sctp --chunk-types all DATA,INIT", NO),
            ("-p sctp --chunk-types only DATA,SACK,INIT", YES),
            ("-p sctp --chunk-types only DATA", NO),
            ("-p sctp ! --chunk-types any INIT", YES),
            ("-p sctp --chunk-types any DATA:BE", YES),
            ("-p sctp --chunk-types any DATA:Be", NO),
            ("-p sctp --chunk-types any DATA:u", YES),
        ],
        &mixed,
    );
    let mut empty = sctp(&[(1, 0)]);
    empty.l3_mut()[34..36].fill(0);
    all(
        &[
            ("-p sctp --chunk-types any INIT", None),
            ("-p sctp --dport 80", YES),
        ],
        &empty,
    );
    all(&[("-p sctp --chunk-types any INIT", None)], &sctp(&[]));
}

#[test]
fn ecn() {
    let mut f = tcp(A, B, 1, 2, 0x42, &[]);
    f.l3_mut()[1] = 2;
    all(
        &[
            ("-p tcp -m ecn --ecn-tcp-ece", YES),
            ("-p tcp -m ecn --ecn-tcp-cwr", NO),
            ("-p tcp -m ecn ! --ecn-tcp-cwr", YES),
            ("-m ecn --ecn-ip-ect 2", YES),
            ("-m ecn --ecn-ip-ect 1", NO),
            ("-m ecn ! --ecn-ip-ect 1", YES),
        ],
        &f,
    );
}

/// An IPv6 packet with extension headers before a UDP header.
fn v6(first: u8, headers: &[u8]) -> Frame {
    let (src, dst) = ("fd00::9".parse().unwrap(), "fd01::9".parse().unwrap());
    let mut l4 = headers.to_vec();
    l4.extend_from_slice(&build::udp(src, dst, 7, 53, b"x"));
    packet("fd00::9", "fd01::9", first, &l4)
}

#[test]
fn the_protocol_of_ipv6_is_behind_its_extension_headers() {
    let hop = v6(0, &[60, 0, 1, 4, 0, 0, 0, 0, 17, 0, 1, 4, 0, 0, 0, 0]);
    let words = [
        ("-p udp --dport 53", YES),
        ("-p tcp", NO),
        ("! -p tcp", YES),
        ("-p 0", YES),
        ("! -p udp", NO),
    ];
    all(&words, &hop);
    // The authentication header counts in units of four bytes.
    let ah = v6(51, &[17, 2, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0]);
    all(&[("-p udp --dport 53", YES)], &ah);
    let first = v6(44, &[17, 0, 0, 1, 0, 0, 0, 1]);
    all(&[("-p udp --dport 53", YES)], &first);
    let later = v6(44, &[17, 0, 0, 8, 0, 0, 0, 1]);
    all(&[("-p udp", YES), ("-p udp --dport 53", NO)], &later);
    // Nothing follows: 59 is a protocol of its own.
    all(
        &[("-p 59", YES), ("! -p udp", YES), ("-p udp", NO)],
        &v6(59, &[]),
    );
    // The last header runs out of the packet: its protocol is known, its ports are not.
    let cut = packet("fd00::9", "fd01::9", 60, &[17, 9, 0, 0, 0, 0, 0, 0]);
    all(&[("-p udp", YES), ("-p udp --dport 53", None)], &cut);
    // A further one that is not there: a rule that asks for the protocol drops the packet.
    let cut = packet("fd00::9", "fd01::9", 60, &[60, 9, 0, 0, 0, 0, 0, 0]);
    let asked = [("-p udp", None), ("! -p udp", None)];
    all(&asked, &cut);
    all(&[("-s fd00::/16", YES), ("-s fd05::/16 -p udp", NO)], &cut);
}

/// iptables-nft 1.8.9 writes ports and flags as nf_tables' own loads (`nft --debug=netlink`): where one finds
/// nothing the rule fails, and nothing is dropped. Other extensions are xt's there as well.
#[test]
fn the_nft_back_end_drops_nothing_for_a_short_header() {
    use podpath::nf::{Backend, Family, Hook, TableName};
    let says = |words: &str, f: &Frame| {
        let mut w = World::new("");
        w.load(words, Family::V4, Backend::Nft);
        let at = podpath::nf::eval::At {
            hook: Hook::Forward,
            family: Family::V4,
            input: None,
            output: None,
        };
        let verdict = w.ask(&mut f.clone(), &at, Backend::Nft, TableName::Filter);
        let set = w.nf.rule_set(Family::V4, Backend::Nft).expect("rules");
        let hit = set.tables[0].chains[1].rules[0].counters.packets == 1;
        (verdict == Verdict::Accept).then_some(hit)
    };
    let short = packet(A, B, proto::TCP, &[0, 7, 0, 80, 0, 0, 0, 0]);
    for (words, want) in [
        ("-p tcp --dport 80", YES),
        ("-p tcp ! --dport 81", YES),
        ("-p tcp --syn", NO),
        ("-p tcp ! --syn", NO),
        ("-p tcp --tcp-option 2", None),
        ("-p tcp -m multiport --dports 80", YES),
    ] {
        assert_eq!(says(words, &short), want, "{words}");
    }
    let mut second = syn(80);
    second.l3_mut()[7] = 1;
    assert_eq!(says("-p tcp ! --dport 80", &second), NO);
    assert_eq!(
        says("-p udp --dport 1", &packet(A, B, proto::UDP, &[0])),
        NO
    );
    assert_eq!(
        says("-p icmp --icmp-type 8", &packet(A, B, proto::ICMP, &[8, 0])),
        None
    );
}
