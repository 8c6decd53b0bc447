//! Draws native rules below the IP layer: tables of families bridge and netdev, inet's ingress.
//!
//! They stand beside the tables of `nft_rules.rs` and are drawn from a stream of their own, so that a seed's other
//! tables stay the same. What this kernel has not (`ct`, `reject` and bridge names in bridge tables) is not
//! asked; what it refuses all the same is taken out, line by line.

use super::net::{CABLES, Shape, host_mac, mac, router_mac};
use super::nft_matches::{
    counted, header, mark, not, option, order, raw, transport, with_ports_only,
};
use super::nft_sets::{MARKS, limit};
use super::rng::Rng;
use super::rules::any_address;
use super::traffic::PORTS;

/// Where a chain hangs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Where {
    Bridge,
    Ingress,
    Egress,
    /// Of an inet table.
    Inet,
}

struct Chain {
    name: String,
    at: Where,
    has_in: bool,
    has_out: bool,
}

struct Table<'r> {
    rng: &'r mut Rng,
    name: &'static str,
    shape: Shape,
    families: &'r [bool],
    out: String,
}

/// Tables below the IP layer, or none; the packets are of these families (IPv6 if true).
pub fn draw(shape: Shape, families: &[bool], rng: &mut Rng) -> String {
    let mut out = String::new();
    let bridge = if shape == Shape::Bridged { 50 } else { 0 };
    for (name, chance) in [("bridge fzb", bridge), ("netdev fzn", 22), ("inet fzi", 8)] {
        if rng.chance(chance) {
            let mut t = Table {
                rng,
                name,
                shape,
                families,
                out: format!("add table {name}\n"),
            };
            t.all();
            out += &t.out;
        }
    }
    out
}

impl Table<'_> {
    fn all(&mut self) {
        let chains: Vec<Chain> = (0..1 + self.rng.below(4)).map(|i| self.base(i)).collect();
        // Called from every one of them.
        let common = Chain {
            name: "u".to_owned(),
            at: chains[0].at,
            has_in: chains.iter().all(|c| c.has_in),
            has_out: chains.iter().all(|c| c.has_out),
        };
        self.out += &format!("add chain {} u\n", self.name);
        self.sets();
        for c in chains.iter().chain([&common]) {
            for _ in 0..self.rng.below(5) {
                self.rule(c, c.name != "u");
            }
        }
    }

    fn base(&mut self, i: usize) -> Chain {
        let (at, hook) = match self.name {
            "bridge fzb" => {
                let hooks = ["prerouting", "input", "forward", "output", "postrouting"];
                (Where::Bridge, (*self.rng.pick(&hooks)).to_owned())
            }
            "inet fzi" => (Where::Inet, "ingress".to_owned()),
            _ if self.rng.chance(40) => (Where::Egress, "egress".to_owned()),
            _ => (Where::Ingress, "ingress".to_owned()),
        };
        let devices = match at {
            Where::Bridge => String::new(),
            _ => {
                let mut all: Vec<&str> = CABLES.to_vec();
                if self.shape == Shape::Bridged {
                    all.push("br0");
                }
                all.push("lo");
                let first = *self.rng.pick(&all);
                match self.rng.chance(25) {
                    true if first != "r2" => format!(" devices = {{ {first}, r2 }}"),
                    _ => format!(" device \"{first}\""),
                }
            }
        };
        let priority = *self.rng.pick(&[0, 0, -300, -200, -1, 1, 100, 200, 300]);
        let policy = if self.rng.chance(8) { "drop" } else { "accept" };
        self.out += &format!(
            "add chain {} b{i} {{ type filter hook {hook}{devices} priority {priority}; policy {policy}; }}\n",
            self.name
        );
        Chain {
            name: format!("b{i}"),
            at,
            has_in: matches!(
                hook.as_str(),
                "prerouting" | "input" | "forward" | "ingress"
            ),
            has_out: matches!(
                hook.as_str(),
                "forward" | "output" | "postrouting" | "egress"
            ),
        }
    }

    fn sets(&mut self) {
        let (name, r) = (self.name, &mut *self.rng);
        let dynamic = if r.chance(50) { "; timeout 2h" } else { "" };
        let flags = if dynamic.is_empty() {
            "dynamic"
        } else {
            "dynamic,timeout"
        };
        self.out += &format!("add set {name} d {{ type ether_addr; flags {flags}{dynamic}; }}\n");
        self.out += &format!("add set {name} e {{ type ether_addr . ether_type; }}\n");
        self.out += &format!("add map {name} v {{ type ether_addr : verdict; }}\n");
        for c in 0..CABLES.len() {
            let kind = r.pick(&["ip", "ip6"]);
            self.out += &format!("add element {name} e {{ {} . {kind} }}\n", mac(host_mac(c)));
            let to = r.pick(&["accept", "continue", "drop", "jump u", "return"]);
            self.out += &format!("add element {name} v {{ {} : {to} }}\n", mac(host_mac(c)));
        }
    }

    fn rule(&mut self, c: &Chain, calls: bool) {
        let v6 = *self.rng.pick(self.families);
        let icmp = if v6 { "ipv6-icmp" } else { "icmp" };
        let proto =
            self.rng
                .weighted(&[(40, ""), (25, "tcp"), (18, "udp"), (12, icmp), (5, "sctp")]);
        let mut words = Vec::new();
        for _ in 0..self.rng.weighted(&[(25, 0), (45, 1), (25, 2), (5, 3)]) {
            let drawn = self.comparison(c, proto, v6);
            if !drawn.contains("!=") || !words.iter().any(|w: &String| w.contains("!=")) {
                words.push(drawn);
            }
        }
        let compared = words.len();
        for _ in 0..self.rng.weighted(&[(65, 0), (28, 1), (7, 2)]) {
            words.push(self.change(c, proto, v6));
        }
        // What writes into the IP header asks for the `ether type`, with which nft would carry a link address
        // over the change in front of it (payload.c `payload_try_merge`).
        if words[..compared].iter().any(|w| w.starts_with("ether")) {
            let writes = |w: &String| w.starts_with("ip") && w.contains(" set ");
            words[compared..].sort_by_key(|w| !writes(w));
        }
        let at = if self.rng.chance(20) { 0 } else { words.len() };
        words.insert(at, "counter".to_owned());
        words.push(self.end(c, calls, v6));
        // nft joins a link address with the `ether type` that others ask for, across what stands between them
        // (payload.c `payload_try_merge`).
        let crossed = |w: &String| {
            let all = [
                "option",
                "exthdr",
                "frag ",
                "reject with icmp",
                "numgen",
                "limit",
                "quota",
            ];
            all.iter().any(|a| w.contains(a))
        };
        if words.iter().any(|w| w.starts_with("ether")) {
            words.retain(|w| !crossed(w));
        }
        words.retain(|w| !w.is_empty());
        with_ports_only(&mut words);
        self.out += &format!("add rule {} {} {}\n", self.name, c.name, words.join(" "));
    }

    /// Any link address there is.
    fn ether(&mut self) -> String {
        let cable = self.rng.below(CABLES.len());
        mac(match self.rng.below(4) {
            0 => router_mac(cable),
            1 => self.shape.gateway_mac(cable),
            _ => host_mac(cable),
        })
    }

    fn comparison(&mut self, c: &Chain, proto: &str, v6: bool) -> String {
        let ip = if v6 { "ip6" } else { "ip" };
        let side = *self.rng.pick(&["saddr", "daddr"]);
        let n = not(self.rng);
        for _ in 0..20 {
            let drawn = match self.rng.below(100) {
                0..=11 => Some(match self.rng.below(3) {
                    0 => {
                        let (a, b) = (self.ether(), self.ether());
                        match a == b {
                            true => format!("ether {side} {n}{a}"),
                            false => format!("ether {side} {n}{{ {a}, {b} }}"),
                        }
                    }
                    _ => format!("ether {side} {n}{}", self.ether()),
                }),
                12..=17 => Some(format!(
                    "ether type {n}{}",
                    self.rng.pick(&["ip", "ip6", "arp", "0x9000"])
                )),
                18..=26 => self.device(c),
                27..=41 => Some(format!(
                    "{ip} {side} {n}{}",
                    any_address(self.shape, v6, self.rng)
                )),
                42..=57 => transport(proto, self.rng),
                58..=64 => Some(self.meta()),
                65..=68 => Some(mark(self.rng)),
                69..=72 => Some(raw(proto, self.rng)),
                73..=74 => Some(format!(
                    "@ll,96,16 {n}{}",
                    self.rng.pick(&["0x800", "0x86dd"])
                )),
                75 => Some(format!("@ll,0,8 {n}2")),
                76..=81 => Some(header(v6, self.rng)),
                82..=85 => option(proto, v6, self.rng),
                86..=89 => Some(counted(proto, v6, self.rng)),
                90..=93 => Some(format!("ether {side} . ether type {n}@e")),
                94..=96 => Some(format!("limit {}", limit(self.rng))),
                97 => Some(format!("quota {} bytes", self.rng.pick(&[100, 500, 3000]))),
                _ => Some(format!("ether {side} {n}@d")),
            };
            if let Some(d) = drawn {
                return d;
            }
        }
        "meta length > 0".to_owned()
    }

    fn device(&mut self, c: &Chain) -> Option<String> {
        let n = not(self.rng);
        let way = match (c.has_in, c.has_out) {
            (true, true) => *self.rng.pick(&["iif", "oif"]),
            (true, false) => "iif",
            (false, true) => "oif",
            _ => return None,
        };
        let name = *self.rng.pick(&CABLES);
        Some(match self.rng.below(5) {
            0 => format!("{way} {n}\"{name}\""),
            1 => format!("{way}name {n}\"r*\""),
            2 => format!("{way}type {n}{}", self.rng.pick(&["ether", "loopback"])),
            3 => format!(
                "{way}kind {n}{}",
                self.rng.pick(&["\"veth\"", "\"bridge\""])
            ),
            _ => format!("{way}name {n}\"{name}\""),
        })
    }

    fn meta(&mut self) -> String {
        let n = not(self.rng);
        match self.rng.below(5) {
            0 => format!("meta length {}", order(self.rng, &[28, 60, 74, 100, 500])),
            1 => format!("meta protocol {n}{}", self.rng.pick(&["ip", "ip6", "arp"])),
            2 => format!(
                "meta pkttype {n}{}",
                self.rng.pick(&["host", "multicast", "broadcast", "other"])
            ),
            3 => format!("meta priority {n}{}", self.rng.pick(&["1:2", "none"])),
            _ => format!(
                "meta l4proto {n}{}",
                self.rng
                    .pick(&["tcp", "udp", "icmp", "ipv6-icmp", "{ tcp, udp }"])
            ),
        }
    }

    /// What changes something and goes on.
    fn change(&mut self, c: &Chain, proto: &str, v6: bool) -> String {
        let ip = if v6 { "ip6" } else { "ip" };
        let ports = matches!(proto, "tcp" | "udp");
        let r = &mut *self.rng;
        match r.below(16) {
            0..=2 => format!("meta mark set {:#x}", r.pick(&MARKS)),
            3 => format!("meta mark set meta mark | {:#x}", r.pick(&MARKS)),
            4 => format!("meta priority set {}", r.pick(&["1:2", "none"])),
            5 => format!("{ip} dscp set {}", r.pick(&["ef", "cs0", "0x04"])),
            6 if v6 => format!("ip6 hoplimit set {}", r.pick(&[1, 30, 255])),
            6 => format!("ip ttl set {}", r.pick(&[1, 30, 255])),
            7 if ports => format!("{proto} dport set {}", r.pick(&PORTS)),
            8 if proto == "tcp" => {
                format!("tcp option maxseg size set {}", r.pick(&["500", "1000"]))
            }
            9 => "log prefix \"fuzz\"".to_owned(),
            10..=11 => format!(
                "{} @d {{ ether saddr }}",
                r.pick(&["add", "update", "delete"])
            ),
            12 => format!("limit {}", limit(r)),
            13 if matches!(c.at, Where::Ingress | Where::Egress) => {
                format!("dup to \"{}\"", r.pick(&CABLES))
            }
            14 => {
                let side = *r.pick(&["saddr", "daddr"]);
                format!("ether {side} set {}", self.ether())
            }
            _ => format!("meta mark set {:#x}", r.pick(&MARKS)),
        }
    }

    /// What ends a rule.
    fn end(&mut self, c: &Chain, calls: bool, v6: bool) -> String {
        let r = &mut *self.rng;
        if calls && r.chance(25) {
            return match r.below(4) {
                0 => format!("ether {} vmap @v", r.pick(&["saddr", "daddr"])),
                1 => "goto u".to_owned(),
                _ => "jump u".to_owned(),
            };
        }
        let netdev = matches!(c.at, Where::Ingress | Where::Egress);
        if netdev && calls && r.chance(8) {
            return format!("fwd to \"{}\"", r.pick(&CABLES));
        }
        if matches!(c.at, Where::Ingress | Where::Inet) && r.chance(12) {
            return match (r.below(3), v6) {
                (0, _) => "meta l4proto tcp reject with tcp reset".to_owned(),
                (_, true) => {
                    "meta protocol ip6 reject with icmpv6 type admin-prohibited".to_owned()
                }
                (_, false) => "meta protocol ip reject with icmp type host-unreachable".to_owned(),
            };
        }
        r.weighted(&[
            (40, "accept"),
            (12, "drop"),
            (10, "return"),
            (6, "continue"),
            (32, ""),
        ])
        .to_owned()
    }
}
