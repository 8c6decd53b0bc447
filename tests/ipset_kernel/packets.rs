//! Lookups of packets: iptables rules with `-m set` and `-j SET` in the kernel, the same questions here.
//!
//! Packets are sent with bash's /dev/udp and /dev/tcp from addresses of a device; what matched is read from
//! the rules' counters, one rule per set and list of directions.

use podpath::base::{Instant, Rng};
use podpath::nf::ipset::{Compare, L4, Packet, SetRef, Sets, TestFlags};
use std::net::IpAddr;

use crate::{Ns, compare, draw, number, wanted};

/// Source addresses and destinations that are sent to.
const SOURCES: &[&str] = &["10.0.0.1", "10.0.0.2", "10.0.0.17", "10.1.2.3"];
const TARGETS: &[&str] = &["10.0.0.5", "10.0.0.33", "10.0.0.9", "10.1.9.9"];
const PORTS: &[u16] = &[80, 53, 22, 30];
const FLAGS: &[&[bool]] = &[
    &[true],
    &[false],
    &[true, false],
    &[false, false],
    &[false, false, true],
    &[true, false, false],
    &[false, true, true],
];

/// Directions as iptables writes them.
fn text(src: &[bool]) -> String {
    let words: Vec<&str> = src.iter().map(|s| if *s { "src" } else { "dst" }).collect();
    words.join(",")
}

/// Sets with a few elements each, of one family.
fn sets(rng: &mut Rng) -> Vec<String> {
    let kinds = [
        "hash:ip",
        "hash:net",
        "hash:net,port",
        "hash:net,iface",
        "hash:ip,port",
        "hash:ip,port,ip",
        "hash:ip,port,net",
        "bitmap:ip",
        "bitmap:port",
    ];
    let mut lines = Vec::new();
    for (i, kind) in kinds.iter().enumerate() {
        let options = loop {
            let drawn = draw::create(rng, kind);
            if !drawn.contains("inet6") {
                break drawn;
            }
        };
        lines.push(format!("create p{i} {kind}{options}"));
        for _ in 0..12 {
            let nomatch = if rng.below(3) == 0 { " nomatch" } else { "" };
            let element = draw::element(rng, kind, false).replace("eth0", "d0");
            lines.push(format!("add p{i} {element}{nomatch}"));
            lines.push(format!("add p{i} {element}"));
        }
    }
    lines.push("create p9 list:set counters".to_owned());
    for _ in 0..3 {
        lines.push(format!("add p9 p{}", rng.below(9)));
    }
    lines
}

/// Options of a question as iptables writes them.
const MORE: &[&str] = &[
    "",
    "--return-nomatch",
    "--packets-gt 30",
    "! --update-counters",
    "! --packets-eq 3",
];

/// The same options here.
fn flags(more: &str) -> TestFlags {
    let mut out = TestFlags::default();
    match more {
        "--return-nomatch" => out.return_nomatch = true,
        "--packets-gt 30" => out.packets = Compare::Gt(30),
        "! --update-counters" => out.keep_counters = true,
        "! --packets-eq 3" => out.packets = Compare::Ne(3),
        _ => {}
    }
    out
}

/// What is asked of a set: directions and options.
type Question = (String, Vec<bool>, &'static str);

fn questions() -> Vec<Question> {
    let mut out = Vec::new();
    for set in 0..10 {
        for src in FLAGS {
            for more in MORE {
                out.push((format!("p{set}"), src.to_vec(), *more));
            }
        }
    }
    out
}

fn setup(ns: &Ns, all: &[Question]) {
    let mut script = String::from(
        "ip link add d0 type veth peer name d1; ip link set d0 up; ip link set d1 up; ip link set lo up\n",
    );
    for source in SOURCES {
        script.push_str(&format!("ip addr add {source}/32 dev d0\n"));
    }
    script.push_str("ip neigh flush all; ip link set d0 arp off\n");
    for (set, src, more) in all {
        let words = text(src);
        script.push_str(&format!(
            "iptables -w -t raw -A OUTPUT -o d0 -m set --match-set {set} {words} {more}\n"
        ));
    }
    script.push_str("iptables -w -t raw -Z\n");
    ns.bash(&script);
}

fn counters(ns: &Ns) -> Vec<u64> {
    let out = ns.bash("iptables -w -t raw -nvxL OUTPUT | tail -n +3 | awk '{print $1}'");
    out.lines().map(|l| l.parse().expect("a counter")).collect()
}

/// Packets from every source to every target and port: what sends them, and what they are.
fn packets(sources: &[&str]) -> (String, Vec<Packet<'static>>) {
    let mut script = String::new();
    let mut out = Vec::new();
    let ip = |t: &str| t.parse::<IpAddr>().expect("an address");
    for source in sources {
        script.push_str(&format!("ip route replace default dev d0 src {source}\n"));
        for target in TARGETS {
            for port in PORTS {
                script.push_str(&format!("echo -n hello > /dev/udp/{target}/{port}\n"));
                // The source port is the kernel's choice: no element holds it.
                let l4 = L4 {
                    proto: 17,
                    src: 40_000,
                    dst: *port,
                };
                let packet = Packet::new(ip(source), ip(target));
                out.push(Packet {
                    l4: Some(l4),
                    out_dev: "d0",
                    len: 33,
                    ..packet
                });
            }
        }
    }
    (script, out)
}

fn set_ref(name: &str, src: &[bool]) -> SetRef {
    SetRef {
        name: name.to_owned(),
        src: src.to_vec(),
    }
}

/// The elements and their counters that differ.
fn difference(ns: &Ns, sets: &Sets) -> Vec<String> {
    let theirs = crate::normal(&ns.bash("ipset save"));
    let ours = crate::normal(&sets.save(NOW));
    let kernel = theirs
        .difference(&ours)
        .map(|l| format!("only in the kernel: {l}"));
    let here = ours.difference(&theirs).map(|l| format!("only here: {l}"));
    kernel.chain(here).collect()
}

const NOW: Instant = Instant::from_secs(1_000);

/// Asks every question of every packet on both sides.
fn ask(ns: &Ns, sets: &mut Sets) -> Vec<String> {
    let all = questions();
    setup(ns, &all);
    let mut expected = vec![0u64; all.len()];
    let (script, packets) = packets(SOURCES);
    for packet in &packets {
        for ((set, src, more), count) in all.iter().zip(&mut expected) {
            let found = sets.test(&set_ref(set, src), packet, &flags(more), NOW);
            *count += u64::from(found.expect("a known set").matched);
        }
    }
    ns.bash(&script);
    let found = counters(ns);
    assert!(
        expected.iter().any(|n| *n > 0) && found.len() == all.len(),
        "nothing was compared"
    );
    let mut wrong = Vec::new();
    for (((set, src, more), here), kernel) in all.iter().zip(&expected).zip(&found) {
        if here != kernel {
            wrong.push(format!(
                "{set} {} {more}: kernel {kernel}, here {here}",
                text(src)
            ));
        }
    }
    wrong
}

/// Adds and deletes what packets have on both sides.
fn change(ns: &Ns, sets: &mut Sets, del: bool, exist: bool) {
    let (src, sources) = (vec![false, false, true], &SOURCES[..2]);
    let (script, packets) = packets(sources);
    let mut rules = String::from("iptables -w -t raw -F OUTPUT\n");
    for set in 0..10 {
        let what = if del { "--del-set" } else { "--add-set" };
        let more = if exist && !del {
            " --exist --timeout 50"
        } else {
            ""
        };
        let words = text(&src);
        rules.push_str(&format!(
            "iptables -w -t raw -A OUTPUT -o d0 -j SET {what} p{set} {words}{more}\n"
        ));
    }
    ns.bash(&format!("{rules}{script}"));
    for packet in &packets {
        for set in 0..10 {
            let set = set_ref(&format!("p{set}"), &src);
            // What cannot be added or deleted leaves no trace in a rule either.
            let _ = match del {
                true => sets.del(&set, packet, NOW),
                false => sets.add(&set, packet, exist.then_some(50), exist, NOW),
            };
        }
    }
}

#[test]
fn packets_match_and_change_sets_as_in_the_kernel() {
    if !wanted() {
        return;
    }
    let (seed, rounds) = (number("PODPATH_SEED", 1), number("PODPATH_ROUNDS", 60) / 10);
    println!("seed {seed}, {rounds} rounds");
    let mut changed = 0;
    for round in 0..rounds {
        let mut rng = Rng::new(seed.wrapping_add(round));
        let ns = Ns::new(&format!("p{round}"));
        let lines = sets(&mut rng);
        let judge = |step: &str, wrong: Vec<String>| {
            let (seed, lines) = (seed + round, lines.join("\n"));
            assert!(
                wrong.is_empty(),
                "seed {seed}\n{lines}\n{step}:\n{}",
                wrong.join("\n")
            );
        };
        let (mut sets, wrong) = compare(&ns, &lines);
        judge("commands", wrong);
        let wrong = ask(&ns, &mut sets);
        judge("matches", wrong);
        judge("counters", difference(&ns, &sets));
        for (step, del, exist) in [
            ("add", false, false),
            ("add --exist", false, true),
            ("del", true, false),
        ] {
            let before = sets.save(NOW);
            change(&ns, &mut sets, del, exist);
            changed += u64::from(before != sets.save(NOW));
            judge(step, difference(&ns, &sets));
        }
    }
    assert!(changed >= rounds, "rules changed the sets {changed} times");
}
