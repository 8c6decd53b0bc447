//! Lookups of packets: iptables rules with `-m set` and `-j SET` in the kernel, the same questions here.
//!
//! Packets are sent with bash's /dev/udp and /dev/tcp from addresses of a dummy device; what matched is read from
//! the rules' counters, one rule per set and list of directions.

use podpath::base::{Instant, Rng};
use podpath::nf::ipset::{L4, Packet, SetRef, TestFlags};
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

/// What is asked of a set: directions and `--return-nomatch`.
type Question = (String, Vec<bool>, bool);

fn questions() -> Vec<Question> {
    let mut out = Vec::new();
    for set in 0..10 {
        for src in FLAGS {
            for nomatch in [false, true] {
                out.push((format!("p{set}"), src.to_vec(), nomatch));
            }
        }
    }
    out
}

fn setup(ns: &Ns, all: &[Question]) {
    let mut script =
        String::from("ip link add d0 type dummy; ip link set d0 up; ip link set lo up\n");
    for (i, source) in SOURCES.iter().enumerate() {
        script.push_str(&format!("ip addr add {source}/32 dev d0\n"));
        script.push_str(&format!(
            "ip route add default dev d0 src {source} table {}\n",
            100 + i
        ));
    }
    script.push_str("ip route add default dev d0\n");
    script.push_str("ip neigh flush all; ip link set d0 arp off\n");
    for (set, src, nomatch) in all {
        let more = if *nomatch { " --return-nomatch" } else { "" };
        let words = text(src);
        script.push_str(&format!(
            "iptables -w -t raw -A OUTPUT -o d0 -m set --match-set {set} {words}{more}\n"
        ));
    }
    script.push_str("iptables -w -t raw -Z\n");
    ns.bash(&script);
}

fn counters(ns: &Ns) -> Vec<u64> {
    let out = ns.bash("iptables -w -t raw -nvxL OUTPUT | tail -n +3 | awk '{print $1}'");
    out.lines().map(|l| l.parse().expect("a counter")).collect()
}

#[test]
fn packets_match_as_in_the_kernel() {
    if !wanted() {
        return;
    }
    let (seed, rounds) = (number("PODPATH_SEED", 1), number("PODPATH_ROUNDS", 60) / 10);
    println!("seed {seed}, {rounds} rounds");
    for round in 0..rounds {
        let mut rng = Rng::new(seed.wrapping_add(round));
        let ns = Ns::new(&format!("p{round}"));
        let lines = sets(&mut rng);
        let (mut sets, wrong) = compare(&ns, &lines);
        assert!(
            wrong.is_empty(),
            "seed {}: {}",
            seed + round,
            wrong.join("\n")
        );
        let all = questions();
        setup(&ns, &all);
        let mut expected = vec![0u64; all.len()];
        let mut script = String::new();
        for (i, source) in SOURCES.iter().enumerate() {
            script.push_str(&format!("ip rule flush; ip rule add table {}\n", 100 + i));
            for target in TARGETS {
                for port in PORTS {
                    script.push_str(&format!("echo -n hello > /dev/udp/{target}/{port}\n"));
                    // The source port is the kernel's choice: never looked up by these questions' elements.
                    let l4 = L4 {
                        proto: 17,
                        src: 40_000,
                        dst: *port,
                    };
                    let ip = |t: &str| t.parse::<IpAddr>().expect("an address");
                    let packet = Packet {
                        l4: Some(l4),
                        out_dev: "d0",
                        len: 33,
                        ..Packet::new(ip(source), ip(target))
                    };
                    for ((set, src, nomatch), count) in all.iter().zip(&mut expected) {
                        let set = SetRef {
                            name: set.clone(),
                            src: src.clone(),
                        };
                        let flags = TestFlags {
                            return_nomatch: *nomatch,
                            ..TestFlags::default()
                        };
                        let found = sets.test(&set, &packet, &flags, Instant::from_secs(1_000));
                        *count += u64::from(found.expect("a known set").matched);
                    }
                }
            }
        }
        ns.bash(&script);
        let found = counters(&ns);
        let mut wrong = Vec::new();
        for (i, (set, src, nomatch)) in all.iter().enumerate() {
            if found.get(i) != Some(&expected[i]) {
                let (k, h) = (found.get(i), expected[i]);
                wrong.push(format!(
                    "{set} {} nomatch {nomatch}: kernel {k:?}, here {h}",
                    text(src)
                ));
            }
        }
        assert!(
            expected.iter().any(|n| *n > 0) && found.len() == all.len(),
            "nothing was compared"
        );
        assert!(
            wrong.is_empty(),
            "seed {}\n{}\n{}",
            seed + round,
            lines.join("\n"),
            wrong.join("\n")
        );
        let (_, after) = compare_counters(&ns, &sets);
        assert!(
            after.is_empty(),
            "seed {}\n{}\n{}",
            seed + round,
            lines.join("\n"),
            after.join("\n")
        );
    }
}

/// The elements' counters on both sides.
fn compare_counters(ns: &Ns, sets: &podpath::nf::ipset::Sets) -> ((), Vec<String>) {
    let theirs = crate::normal(&ns.bash("ipset save"));
    let ours = crate::normal(&sets.save(Instant::from_secs(1_000)));
    let mut out: Vec<String> = theirs
        .difference(&ours)
        .map(|l| format!("only in the kernel: {l}"))
        .collect();
    out.extend(ours.difference(&theirs).map(|l| format!("only here: {l}")));
    ((), out)
}
