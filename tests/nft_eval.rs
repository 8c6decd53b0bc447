//! Native nftables rules carried out: expressions against what a Linux 6.18 kernel counted
//! (tests/data/nft), verdicts, maps, NAT and priorities.

use podpath::base::{Instant, NodeId, NsId, Origin, Rng};
use podpath::net::{DeviceKind, IfAddr, LinkSpec, NetNs};
use podpath::nf::ct::{CtTuple, Dir};
use podpath::nf::eval::{At, Cx, Effect, NfStep, RuleRef, Verdict};
use podpath::nf::forced::Choice;
use podpath::nf::hook::OpKind;
use podpath::nf::nft::{self, Ruleset};
use podpath::nf::{Family, Hook, Netfilter, eval, nat};
use podpath::wire::{CtRef, Frame, MacAddr, build};
use std::collections::BTreeMap;

/// A host 10.0.0.1 at d0 with native rules.
struct Host {
    ns: NetNs,
    nf: Netfilter,
    rng: Rng,
    now: Instant,
    assume: BTreeMap<RuleRef, bool>,
    steps: Vec<NfStep>,
}

impl Host {
    fn new(rules: &str) -> Host {
        let mut ns = NetNs::new(NsId(0), "n", NodeId(0));
        let mut edit = ns.edit();
        let lo = edit.find("lo").expect("lo");
        edit.set_up(lo, true).expect("lo");
        let dev = edit
            .link_add(LinkSpec {
                name: "d0".to_owned(),
                kind: DeviceKind::Uplink,
                mac: MacAddr([2, 0, 0, 0, 0, 1]),
                mtu: None,
                origin: Origin::Kernel,
            })
            .expect("a new name");
        edit.set_up(dev, true).expect("a device");
        for a in ["10.0.0.1/24", "fd00::1/64"] {
            let addr = IfAddr::new(a.parse().expect("an address"), Origin::Kernel);
            edit.addr_add(dev, addr.with_broadcast()).expect("new");
        }
        drop(edit);
        let mut host = Host {
            ns,
            nf: Netfilter::default(),
            rng: Rng::new(1),
            now: Instant::from_secs(1),
            assume: BTreeMap::new(),
            steps: Vec::new(),
        };
        host.load(rules);
        host
    }

    fn load(&mut self, rules: &str) {
        let (set, findings) = Ruleset::parse("rules", rules);
        assert!(findings.is_empty(), "{findings:?}");
        self.nf.set_nft(set, self.now);
    }

    /// A packet through a hook, as the walker goes through it.
    fn hook(&mut self, f: &mut Frame, hook: Hook) -> Verdict {
        let dev = self.ns.dev_by_name("d0").map(|d| d.id);
        let family = if f.l3()[0] >> 4 == 4 {
            Family::V4
        } else {
            Family::V6
        };
        let arrives = matches!(hook, Hook::Prerouting | Hook::Input);
        let at = At {
            hook,
            family,
            input: dev.filter(|_| arrives),
            output: dev.filter(|_| !arrives),
        };
        self.steps.clear();
        let mut cx = Cx {
            now: self.now,
            rng: &mut self.rng,
            steps: Some(&mut self.steps),
            assume: &self.assume,
        };
        let (ns, mut fx) = (&self.ns, Vec::<Effect>::new());
        for op in self.nf.ops(family, hook).to_vec() {
            let verdict = match op.kind {
                OpKind::Nft { chain, .. } => {
                    nft::eval::run(&mut self.nf, ns, f, &at, chain, &mut cx, &mut fx)
                }
                OpKind::Conntrack => {
                    self.nf.ct.track(ns, f, &at, &mut cx);
                    Verdict::Accept
                }
                OpKind::Confirm => {
                    self.nf.ct.confirm(ns, f, &at, &mut cx);
                    Verdict::Accept
                }
                OpKind::Nat => nat::hook(&mut self.nf, f, &at, &mut cx, &mut |nf, f, cx, c| {
                    eval::nat_chain(nf, ns, f, &at, c, cx, &mut fx)
                })
                .expect("NAT itself does not drop"),
                _ => Verdict::Accept,
            };
            if verdict != Verdict::Accept {
                return verdict;
            }
        }
        Verdict::Accept
    }

    fn send(&mut self, f: &mut Frame) -> Verdict {
        match self.hook(f, Hook::Output) {
            Verdict::Accept => self.hook(f, Hook::Postrouting),
            other => other,
        }
    }

    fn listing(&self) -> String {
        self.nf.nft_ruleset(self.now).to_text()
    }

    /// The texts of `Found` steps.
    fn found(&self) -> Vec<&str> {
        let found = self.steps.iter().filter_map(|s| match s {
            NfStep::Found(text) => Some(text.as_str()),
            _ => None,
        });
        found.collect()
    }
}

fn udp(src: &str, dst: &str, sport: u16, dport: u16) -> Frame {
    let mut h = Vec::new();
    for w in [sport, dport, 12, 0] {
        h.extend(w.to_be_bytes());
    }
    h.extend(b"data");
    let (src, dst) = (src.parse().expect("src"), dst.parse().expect("dst"));
    let mut f = Frame::ip(&build::ip_packet(src, dst, 17, 64, 0, 7, true, &h));
    f.local = true;
    f
}

/// The listing as it was before any packet.
fn fresh(listing: &str) -> String {
    let mut out = String::new();
    for line in listing.lines() {
        let mut words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        for i in 0..words.len().saturating_sub(1) {
            if matches!(words[i].trim(), "packets" | "bytes")
                && words[i + 1].bytes().all(|b| b.is_ascii_digit())
            {
                words[i + 1] = "0".to_owned();
            }
            if words[i] == "used" && words.get(i + 2).is_some_and(|w| w == "bytes") {
                words[i + 1] = "0".to_owned();
            }
        }
        if !line.contains("elements = { 10.0.0.1 limit") {
            out.push_str(&words.join(" "));
            out.push('\n');
        }
    }
    out
}

#[test]
fn every_expression_counts_what_the_kernel_counted() {
    let expected = include_str!("data/nft/output.nft");
    let mut host = Host::new(&fresh(expected));
    for hex in include_str!("data/nft/output.hex").lines() {
        let byte = |i: usize| u8::from_str_radix(&hex[i..i + 2], 16).expect("hex");
        let packet: Vec<u8> = (0..hex.len()).step_by(2).map(byte).collect();
        let mut f = Frame::ip(&packet);
        f.local = true;
        assert_eq!(host.send(&mut f), Verdict::Accept);
        host.now = Instant::from_nanos(host.now.as_nanos() + 50_000);
    }
    let got = host.listing();
    let lines = |t: &str| {
        let strip = |l: &str| match l.split_once(" expires ") {
            None => l.trim().to_owned(),
            Some(_) => {
                let words: Vec<String> = l
                    .split(", ")
                    .map(|e| {
                        e.split(" expires ")
                            .next()
                            .unwrap_or(e)
                            .trim_end_matches(" }")
                            .trim()
                            .to_owned()
                    })
                    .collect();
                words.join(", ") + " }"
            }
        };
        t.lines()
            .map(strip)
            .filter(|l| !l.is_empty())
            .collect::<Vec<_>>()
    };
    let (expected, got) = (lines(expected), lines(&got));
    let differ: Vec<_> = expected.iter().zip(&got).filter(|(a, b)| a != b).collect();
    assert!(
        differ.is_empty() && expected.len() == got.len(),
        "kernel, ours: {differ:#?}"
    );
}

#[test]
fn accept_is_final_in_its_base_chain_only() {
    let mut host = Host::new(
        "table ip a {\n chain one {\n type filter hook output priority 0; policy drop;\n accept\n }\n \
         chain two {\n type filter hook output priority 10; policy accept;\n jump x\n counter\n }\n \
         chain x {\n goto y\n drop\n }\n chain y {\n return\n drop\n }\n}\n\
         table ip b {\n chain c {\n type filter hook output priority 20; policy drop;\n }\n}\n",
    );
    let v = host.send(&mut udp("10.0.0.1", "10.0.0.9", 1, 2));
    // `goto` does not come back into x, but x was jumped to: the counter is met.
    assert!(
        host.listing().contains("counter packets 1 bytes 32"),
        "{}",
        host.listing()
    );
    match v {
        Verdict::Drop(r) => {
            let (table, chain, rule) = host.nf.nft_place(&r).expect("a native place");
            assert_eq!((&*table.name, &*chain.name, rule), ("b", "c", None));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn of_equal_priorities_the_later_one_runs_first() {
    let table = |name: &str, mark: u32| {
        format!(
            "table ip {name} {{\n chain c {{\n type filter hook output priority 0; policy accept;\n \
             meta mark set {mark}\n }}\n}}\n"
        )
    };
    let mut host = Host::new(&(table("a", 1) + &table("b", 2)));
    let mut f = udp("10.0.0.1", "10.0.0.9", 1, 2);
    host.send(&mut f);
    assert_eq!(f.mark, 1);
}

const SERVICE: &str = "table ip kube-proxy {
	map service-ips {
		type ipv4_addr . inet_proto . inet_service : verdict
		elements = { 10.96.0.1 . udp . 53 : goto service-A }
	}
	chain nat-output {
		type nat hook output priority -100; policy accept;
		ip daddr . meta l4proto . th dport vmap @service-ips
	}
	chain service-A {
		ip daddr 10.96.0.1 udp dport 53 counter
		numgen random mod 2 vmap { 0 : goto endpoint-1, 1 : goto endpoint-2 }
	}
	chain endpoint-1 {
		meta l4proto udp dnat to 10.0.0.11:5353
	}
	chain endpoint-2 {
		meta l4proto udp dnat to 10.0.0.12:5353
	}
	chain masq {
		type nat hook postrouting priority srcnat; policy accept;
		ip daddr 10.0.0.12 masquerade
	}
}
";

fn mapped(host: &Host, f: &Frame) -> CtTuple {
    let CtRef::Conn { id, .. } = f.ct else {
        panic!("no connection")
    };
    host.nf.ct.get(id).expect("a connection").tuple(Dir::Reply)
}

#[test]
fn a_service_is_translated_and_the_element_told() {
    let mut host = Host::new(SERVICE);
    let mut f = udp("10.0.0.1", "10.96.0.1", 4000, 53);
    assert_eq!(host.hook(&mut f, Hook::Output), Verdict::Accept);
    let found = host.found();
    assert_eq!(
        found.first(),
        Some(&"10.96.0.1 . udp . 53 : goto service-A"),
        "{found:?}"
    );
    let chance = host.steps.iter().find_map(|s| match s {
        NfStep::Rule { chance, .. } => *chance,
        _ => None,
    });
    assert_eq!(chance, Some(1 << 30));
    let reply = mapped(&host, &f);
    assert_eq!(reply.sport, 5353);
    assert!(["10.0.0.11", "10.0.0.12"].contains(&reply.src.to_string().as_str()));
    assert_eq!(
        f.l3()[16..20],
        [
            10,
            0,
            0,
            if reply.src.to_string().ends_with('1') {
                11
            } else {
                12
            }
        ]
    );
}

#[test]
fn a_choice_made_beforehand_is_followed() {
    for last in [11u8, 12, 11, 12, 12, 11] {
        let mut host = Host::new(SERVICE);
        let mut f = udp("10.0.0.1", "10.96.0.1", 4000, 53);
        let (src, dst) = (
            "10.0.0.1".parse().expect("ip"),
            "10.96.0.1".parse().expect("ip"),
        );
        let orig = CtTuple {
            proto: 17,
            src,
            dst,
            sport: 4000,
            dport: 53,
        };
        let place = (std::net::Ipv4Addr::new(10, 0, 0, last).into(), 5353);
        let choice = Choice {
            dnat: Some(place),
            snat: None,
        };
        host.nf.forced.insert(orig, choice);
        host.send(&mut f);
        assert_eq!(mapped(&host, &f).src, place.0);
    }
}

#[test]
fn what_is_not_understood_depends() {
    let rules = "table ip t {\n chain c {\n type filter hook output priority 0; policy accept;\n \
                 osf name \"Linux\" drop\n }\n}\n";
    let mut host = Host::new(rules);
    let Verdict::Depends(rule) = host.send(&mut udp("10.0.0.1", "10.0.0.9", 1, 2)) else {
        panic!("it was decided");
    };
    for (yes, drops) in [(true, true), (false, false)] {
        host.assume.insert(rule, yes);
        let v = host.send(&mut udp("10.0.0.1", "10.0.0.9", 1, 2));
        assert_eq!(matches!(v, Verdict::Drop(_)), drops, "{v:?}");
    }
}

#[test]
fn elements_time_out_and_are_renewed() {
    let rules = "table ip t {\n set s {\n type ipv4_addr\n flags dynamic,timeout\n timeout 10s\n }\n \
                 chain c {\n type filter hook output priority 0; policy accept;\n \
                 ip daddr @s counter\n update @s { ip daddr }\n }\n}\n";
    let mut host = Host::new(rules);
    let counts = |host: &mut Host, wait: u64| {
        host.now = Instant::from_nanos(host.now.as_nanos() + wait * 1_000_000_000);
        host.send(&mut udp("10.0.0.1", "10.0.0.9", 1, 2));
        let text = host.listing();
        let at = text.find("counter packets ").expect("a counter");
        text[at + 16..].split(' ').next().map(str::to_owned)
    };
    let got: Vec<_> = [0, 9, 9, 11, 1]
        .iter()
        .filter_map(|w| counts(&mut host, *w))
        .collect();
    assert_eq!(got, ["0", "1", "2", "2", "3"]);
}
