//! The rule index gives what asking rule by rule gives: verdict, counters, state, marks, steps. So do answers
//! that are given again to packets that are alike.
//!
//! Rule sets are drawn so that rules often share addresses, ports and marks, chains call each other, and
//! matches with a memory stand before and behind exact ones.

#[path = "common/nf.rs"]
mod nf;

use nf::{World, packet, tcp, udp};
use podpath::nf::eval::{At, RuleRef};
use podpath::nf::{Backend, Family, Hook, TableName};
use podpath::wire::{Bridged, Frame};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use std::cell::Cell;

/// Pieces of a rule; `""` leaves it out.
const SRC: [&str; 8] = [
    "",
    "",
    "",
    "-s 10.0.0.9",
    "! -s 10.0.0.9",
    "-s 10.0.0.0/24",
    "-s 10.0.0.8/30",
    "-s 10.2.0.0/16",
];
const DST: [&str; 10] = [
    "",
    "",
    "-d 10.1.0.1",
    "-d 10.1.0.2",
    "-d 10.1.0.3",
    "-d 10.1.0.4",
    "! -d 10.1.0.2",
    "-d 10.1.0.0/24",
    "-d 10.1.0.0/30",
    "-d 10.1.0.1/255.255.0.255",
];
const DEV: [&str; 8] = [
    "",
    "",
    "",
    "-i eth0",
    "-i cali1",
    "! -i eth0",
    "-o cni+",
    "-o cni0",
];
const L4: [&str; 12] = [
    "",
    "",
    "-p tcp",
    "-p udp",
    "-p tcp --dport 80",
    "-p tcp --dport 443",
    "-p udp --dport 53",
    "-p tcp ! --dport 80",
    "-p tcp --dport 1:100",
    "-p udp --sport 7 --dport 80",
    "! -p tcp",
    "-p tcp -m tcp --tcp-option 2",
];
const EXTRA: [&str; 20] = [
    "-m physdev --physdev-in cni0",
    "-m physdev --physdev-in cali1",
    "-m physdev --physdev-out cni0",
    "-m physdev ! --physdev-in eth0",
    "",
    "",
    "",
    "-m mark --mark 1",
    "-m mark --mark 2",
    "-m mark --mark 0x1/0x1",
    "-m mark ! --mark 1",
    "-m limit --limit 3/sec --limit-burst 2",
    "-m statistic --mode nth --every 2",
    "-m statistic --mode random --probability 0.5",
    "-m recent --set --name x",
    "-m recent --rcheck --name x",
    "-m physdev --physdev-in eth0",
    "-m multiport --dports 53,80",
    "-m nonsense --frob 3",
    "-m hashlimit --hashlimit-upto 2/sec --hashlimit-mode srcip --hashlimit-name h",
];
const TARGET: [&str; 12] = [
    "",
    "",
    "-j ACCEPT",
    "-j DROP",
    "-j RETURN",
    "-j MARK --set-mark 1",
    "-j MARK --set-mark 2",
    "-j NEXT",
    "-g NEXT",
    "-j LOG",
    "-j MARK --set-mark 1",
    "-j NEXT",
];
const CHAINS: [&str; 4] = ["FORWARD", "ONE", "TWO", "THREE"];

type Picks = [u8; 8];

fn pick(from: &[&'static str], n: u8) -> &'static str {
    from[usize::from(n) % from.len()]
}

fn rule(p: Picks) -> String {
    // Most rules stand in two chains, so that those are long.
    let at = usize::from(p[0] % 4).min(usize::from(p[1] % 4));
    let target = match (pick(&TARGET, p[2]), CHAINS.get(at + 1)) {
        (t, Some(next)) => t.replace("NEXT", next),
        (t, None) if t.contains("NEXT") => String::new(),
        (t, None) => t.to_owned(),
    };
    let words = [
        pick(&SRC, p[3]),
        pick(&DST, p[4]),
        pick(&DEV, p[5]),
        pick(&L4, p[6]),
        pick(&EXTRA, p[7]),
        pick(&EXTRA, p[1].wrapping_add(p[7] / 16)),
        &target,
    ];
    // multiport needs a protocol with ports.
    let words: Vec<&str> = match words[3] {
        "" | "! -p tcp" => words
            .into_iter()
            .filter(|w| !w.contains("multiport"))
            .collect(),
        _ => words.into(),
    };
    format!("-A {} {}", CHAINS[at], words.join(" "))
}

fn frame(p: [u8; 6]) -> Frame {
    let src = pick(&["10.0.0.9", "10.0.0.10", "10.2.3.4"], p[0]);
    let dst = pick(&["10.1.0.1", "10.1.0.2", "10.1.0.3", "10.1.0.9"], p[1]);
    let port = [80, 443, 53, 7][usize::from(p[2] % 4)];
    let mut f = match p[3] % 6 {
        0 | 1 => tcp(src, dst, 7, port, 2, &[2, 4, 1, 0]),
        2 | 3 => udp(src, dst, 7, port, b"x"),
        4 => packet(src, dst, 1, &[8, 0, 0, 0, 0, 0, 0, 0]),
        // Cut short: the index must not be asked.
        _ => packet(src, dst, 6, &[0, 7, 0, 80, 0, 0]),
    };
    match p[4] % 8 {
        // A fragment: the second, or one far behind.
        0 => f.l3_mut()[7] = 1,
        1 => f.l3_mut()[7] = 9,
        n => f.mark = u32::from(n % 4),
    }
    let port = |n: u8| match n % 3 {
        0 => None,
        n => Some(podpath::base::DevId(u32::from(n) + 1)),
    };
    if p[5].is_multiple_of(3) {
        let (physin, physout) = (port(p[5] / 3), port(p[5] / 9));
        f.bridged = Some(Bridged {
            physin,
            physout,
            ..Bridged::default()
        });
    }
    f
}

fn world(rules: &[Picks], linear: bool) -> World {
    let chains = CHAINS[1..].iter().map(|c| format!(":{c} - [0:0]\n"));
    let text: String = chains
        .chain(rules.iter().map(|p| rule(*p) + "\n"))
        .collect();
    let mut w = World::new("");
    let (set, _) = podpath::nf::RuleSet::parse("r", &nf::filter(&text), Family::V4);
    assert_eq!(set.rule_count(), rules.len(), "{text}");
    w.nf.set_rules(Family::V4, Backend::Legacy, set);
    w.nf.linear = linear;
    w
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    /// 500 rule sets with 20 packets each.
    #[test]
    fn index_and_linear_evaluation_agree(
        rules in vec(any::<Picks>(), 12..60),
        packets in vec((any::<[u8; 6]>(), 0u64..2000), 20),
        guess in 0u8..4,
    ) {
        let (mut fast, mut slow) = (world(&rules, false), world(&rules, true));
        for w in [&mut fast, &mut slow] {
            for (chain, n) in (0..4).flat_map(|c| (0..60).map(move |r| (c, r))) {
                let at = RuleRef {
                    family: Family::V4,
                    backend: Backend::Legacy,
                    table: TableName::Filter,
                    chain: chain + 2,
                    rule: n,
                    native: None,
                };
                // Nothing is assumed, or all, or some.
                if guess > 0 {
                    w.assume.insert(at, n % u32::from(guess) == 0);
                }
            }
        }
        for (p, ms) in packets {
            let (mut a, mut b) = (frame(p), frame(p));
            let at = |w: &World| At {
                hook: Hook::Forward,
                family: Family::V4,
                input: Some(w.dev(if p[5] > 128 { "eth0" } else { "cali1" })),
                output: Some(w.dev("cni0")),
            };
            let (at_a, at_b) = (at(&fast), at(&slow));
            let verdict = fast.show(&mut a, &at_a, TableName::Filter);
            prop_assert_eq!(verdict, slow.show(&mut b, &at_b, TableName::Filter));
            prop_assert_eq!(&fast.steps, &slow.steps);
            prop_assert_eq!((a.mark, a.l3()), (b.mark, b.l3()));
            fast.wait(ms);
            slow.wait(ms);
        }
        prop_assert_eq!(fast.nf.rule_set(Family::V4, Backend::Legacy), slow.nf.rule_set(Family::V4, Backend::Legacy));
        slow.nf.linear = false;
        prop_assert_eq!(format!("{:?}{:?}", fast.nf, fast.rng), format!("{:?}{:?}", slow.nf, slow.rng));
        prop_assert_eq!(fast.effects.len(), slow.effects.len());
    }
}

/// What packets that are alike answer alike, most of the time.
const STEADY: [&str; 12] = [
    "",
    "",
    "",
    "-m mark --mark 1",
    "-m mark ! --mark 0x1/0x1",
    "-m conntrack --ctstate NEW",
    "-m conntrack --ctstate INVALID,UNTRACKED",
    "-m set --match-set hosts src",
    "-m set --match-set ports dst,dst",
    "-m set --match-set ports src,src",
    "-m iprange --src-range 10.0.0.9-10.0.0.20",
    "-m comment --comment text",
];

fn steady_rule(p: Picks) -> String {
    // One rule of sixty-four looks at more, and those that do so by their ports or targets are few.
    let extra = match p[7] % 64 {
        0 => pick(&EXTRA, p[1] / 4),
        n => pick(&STEADY, n),
    };
    let seldom =
        |word: &'static str, more: &str| match word.contains(more) && !p[7].is_multiple_of(8) {
            true => "",
            false => word,
        };
    let at = usize::from(p[0] % 4).min(usize::from(p[1] % 4));
    let target = match (seldom(pick(&TARGET, p[2]), "LOG"), CHAINS.get(at + 1)) {
        (t, Some(next)) => t.replace("NEXT", next),
        (t, None) if t.contains("NEXT") => String::new(),
        (t, None) => t.to_owned(),
    };
    let l4 = seldom(seldom(pick(&L4, p[6]), "--sport"), "--tcp-option");
    let extra = match l4 {
        "" | "! -p tcp" if extra.contains("multiport") => "",
        _ => extra,
    };
    let words = [
        pick(&SRC, p[3]),
        pick(&DST, p[4]),
        pick(&DEV, p[5]),
        l4,
        extra,
        &target,
    ];
    format!("-A {} {}", CHAINS[at], words.join(" "))
}

fn recalling(rules: &[Picks], recall: Option<u64>) -> World {
    let chains = CHAINS[1..].iter().map(|c| format!(":{c} - [0:0]\n"));
    let text: String = chains
        .chain(rules.iter().map(|p| steady_rule(*p) + "\n"))
        .collect();
    let mut w = World::new("");
    let sets = "create hosts hash:ip\nadd hosts 10.0.0.9\n\
        create ports hash:ip,port\nadd ports 10.1.0.1,tcp:80\nadd ports 10.0.0.9,udp:7\n";
    let findings = w.nf.sets.restore("sets", sets, w.now);
    assert!(findings.is_empty(), "{findings:?}");
    let (set, _) = podpath::nf::RuleSet::parse("r", &nf::filter(&text), Family::V4);
    assert_eq!(set.rule_count(), rules.len(), "{text}");
    w.nf.set_rules(Family::V4, Backend::Legacy, set);
    (w.nf.recall, w.quiet) = (recall, true);
    w
}

/// One of few packets, from one of four ports.
fn alike(kind: [u8; 6], port: u8) -> Frame {
    // Most are whole, and come by no bridge.
    let [a, b, c, d, e, f] = kind;
    let (d, e, f) = match port % 8 {
        0 => (d, e, f),
        _ => (d % 4, e | 1, f | 1),
    };
    let mut f = frame([a, b, c, d, e, f]);
    if !port.is_multiple_of(8) {
        f.bridged = None;
    }
    let at = f.l3().len().min(21);
    if f.bridged.is_none() && matches!(f.l3().get(9), Some(6 | 17)) {
        f.l3_mut()[at] = 6 + port % 4;
    }
    f
}

/// Shows both the same packets, the configuration changing on the way; whether answers were kept.
fn given_again(
    rules: &[Picks],
    kinds: &[[u8; 6]],
    packets: &[(usize, u8, u64)],
) -> Result<bool, TestCaseError> {
    let (mut fast, mut slow) = (recalling(rules, Some(1)), recalling(rules, None));
    for (i, (kind, port, ms)) in packets.iter().enumerate() {
        if i == 40 {
            for w in [&mut fast, &mut slow] {
                let findings = w.nf.sets.restore("sets", "add hosts 10.0.0.10\n", w.now);
                prop_assert!(findings.is_empty());
            }
            fast.nf.recall = Some(2);
        }
        let kind = kinds[*kind];
        let (mut a, mut b) = (alike(kind, *port), alike(kind, *port));
        let at = |w: &World| At {
            hook: Hook::Forward,
            family: Family::V4,
            input: Some(w.dev(if kind[5] > 128 { "eth0" } else { "cali1" })),
            output: Some(w.dev("cni0")),
        };
        // Some are of a new connection, some of none.
        if !kind[4].is_multiple_of(3) {
            fast.track(&mut a, Hook::Prerouting);
            slow.track(&mut b, Hook::Prerouting);
        }
        let (at_a, at_b) = (at(&fast), at(&slow));
        let verdict = fast.show(&mut a, &at_a, TableName::Filter);
        prop_assert_eq!(verdict, slow.show(&mut b, &at_b, TableName::Filter));
        prop_assert_eq!((a.mark, a.l3()), (b.mark, b.l3()));
        fast.wait(*ms);
        slow.wait(*ms);
    }
    let all = |w: &World| w.nf.rule_set(Family::V4, Backend::Legacy);
    prop_assert_eq!(all(&fast), all(&slow));
    let state = |w: &World| format!("{:?}{:?}{:?}", w.nf.state, w.rng, w.effects.len());
    prop_assert_eq!(state(&fast), state(&slow));
    Ok(format!("{:?}", fast.nf).contains("answered: Some"))
}

/// 500 rule sets with 60 packets each of six kinds.
#[test]
fn answers_given_again_are_those_of_the_rules() {
    let rules = vec(any::<Picks>(), 12..60);
    let kinds = vec(any::<[u8; 6]>(), 6);
    let packets = vec((0usize..6, any::<u8>(), 0u64..2000), 60);
    let kept = Cell::new(0);
    let mut runner = TestRunner::new(ProptestConfig {
        cases: 500,
        source_file: Some(file!()),
        ..ProptestConfig::default()
    });
    let all = runner.run(&(rules, kinds, packets), |(rules, kinds, packets)| {
        kept.set(kept.get() + u32::from(given_again(&rules, &kinds, &packets)?));
        Ok(())
    });
    all.unwrap_or_else(|e| panic!("{e}"));
    assert!(
        kept.get() > 100,
        "answers were kept in {} of 500",
        kept.get()
    );
}
