//! Draws one comparison of a native rule.

use super::net::{Shape, host};
use super::nft_rules::{Kind, Place};
use super::nft_sets::{MARKS, Part, Set, Sets, expression, limit};
use super::rng::Rng;
use super::rules::{Hook, any_address};
use super::traffic::PORTS;

/// What comparisons of one rule may ask.
pub struct Asks<'a> {
    pub sets: &'a Sets<'a>,
    pub named: &'a [Set],
    /// Where the chain may be called.
    pub places: &'a [Place],
    pub objects: bool,
}

/// `==` is not written.
pub(super) fn not(rng: &mut Rng) -> &'static str {
    if rng.chance(20) { "!= " } else { "" }
}

/// A comparison with a number, or between two.
pub(super) fn order(rng: &mut Rng, of: &[u32]) -> String {
    let n = *rng.pick(of);
    match rng.below(7) {
        0 => format!("< {n}"),
        1 => format!("> {n}"),
        2 => format!("<= {n}"),
        3 => format!("{}{n}-{}", not(rng), n + 1 + rng.below(100) as u32),
        4 => format!("!= {n}"),
        5 => format!("{}{{ {n}, {} }}", not(rng), n + 2),
        _ => n.to_string(),
    }
}

impl Asks<'_> {
    fn shape(&self) -> Shape {
        self.sets.shape
    }

    fn v6(&self, rng: &mut Rng) -> bool {
        *rng.pick(self.sets.families)
    }

    pub fn all(&self, f: impl Fn(&Place) -> bool) -> bool {
        self.places.iter().all(f)
    }

    /// A comparison for a rule of this protocol; of this family, if it is bound to one.
    pub fn draw(&self, proto: &str, only: Option<bool>, rng: &mut Rng) -> String {
        let v6 = only.unwrap_or_else(|| self.v6(rng));
        for _ in 0..30 {
            let drawn = match rng.below(100) {
                0..=14 => Some(self.address(v6, rng)),
                15..=20 => self.device(rng),
                21..=37 => transport(proto, rng),
                38..=52 => Some(self.conntrack(v6, rng)),
                53..=57 => self.fib(rng),
                58..=63 => self.meta(rng),
                64..=68 => Some(mark(rng)),
                69..=77 => self.set(proto, rng),
                78..=81 => Some(raw(proto, rng)),
                82..=87 => Some(header(v6, rng)),
                88..=90 => option(proto, v6, rng),
                91..=94 => Some(counted(proto, v6, rng)),
                95..=97 => Some(self.limited(rng)),
                _ => self.other(v6, rng),
            };
            if let Some(d) = drawn {
                return d;
            }
        }
        "meta length > 0".to_owned()
    }

    fn address(&self, v6: bool, rng: &mut Rng) -> String {
        let ip = if v6 { "ip6" } else { "ip" };
        let side = rng.weighted(&[(40, "saddr"), (60, "daddr")]);
        let a = any_address(self.shape(), v6, rng);
        let value = match rng.below(8) {
            0 => {
                let network = *rng.pick(self.shape().networks());
                format!("{}-{}", host(network, 2, v6), host(network, 3, v6))
            }
            1..=2 => {
                let of: Vec<String> = (0..1 + rng.below(3))
                    .map(|_| self.sets.value(Part::Addr(v6), true, rng))
                    .collect();
                format!("{{ {} }}", of.join(", "))
            }
            3 if !v6 => {
                let mask = *rng.pick(&["0.0.0.255", "255.255.0.255", "0.0.0.1"]);
                let to = *rng.pick(&["0.0.0.2", "10.1.0.3", "0.0.0.1"]);
                return format!(
                    "{ip} {side} & {mask} {}{to}",
                    if rng.chance(20) { "!= " } else { "== " }
                );
            }
            _ => a,
        };
        format!("{ip} {side} {}{value}", not(rng))
    }

    fn device(&self, rng: &mut Rng) -> Option<String> {
        let (i, o) = (
            self.all(|p| p.hook.has_in()),
            self.all(|p| p.hook.has_out()),
        );
        let way = match (i, o) {
            (true, true) => *rng.pick(&["iif", "oif"]),
            (true, false) => "iif",
            (false, true) => "oif",
            _ => return None,
        };
        let name = *rng.pick(self.shape().interfaces());
        let n = not(rng);
        Some(match rng.below(6) {
            0 => format!("{way} {n}\"{name}\""),
            1 => format!("{way}name {n}\"r*\""),
            2 => format!("{way}name {n}{{ \"r0\", \"{name}\" }}"),
            3 => format!("{way}type {n}{}", rng.pick(&["ether", "loopback"])),
            _ => format!("{way}name {n}\"{name}\""),
        })
    }

    fn conntrack(&self, v6: bool, rng: &mut Rng) -> String {
        let n = not(rng);
        let ip = if v6 { "ip6" } else { "ip" };
        let way = *rng.pick(&["original", "reply"]);
        match rng.below(20) {
            0..=5 => {
                let states = *rng.pick(&[
                    "new",
                    "established",
                    "established,related",
                    "invalid",
                    "untracked",
                    "new,invalid",
                ]);
                format!("ct state {n}{states}")
            }
            6 => format!("ct state {n}{{ new, established }}"),
            7..=8 => {
                let s = *rng.pick(&[
                    "snat",
                    "dnat",
                    "assured",
                    "seen-reply",
                    "confirmed",
                    "dnat,snat",
                ]);
                format!("ct status {n}{s}")
            }
            9 => format!(
                "ct status & (dnat | snat) == {}",
                rng.pick(&["0", "dnat", "snat"])
            ),
            10..=11 => format!("ct direction {n}{}", rng.pick(&["original", "reply"])),
            12..=13 => format!("ct mark {n}{:#x}", rng.pick(&MARKS)),
            14 => format!(
                "ct mark & 0xff {}{:#x}",
                if n.is_empty() { "== " } else { n },
                rng.pick(&MARKS) & 0xff
            ),
            15 => format!(
                "ct {way} {ip} {} {n}{}",
                rng.pick(&["saddr", "daddr"]),
                any_address(self.shape(), v6, rng)
            ),
            16 => format!(
                "ct {way} {} {n}{}",
                rng.pick(&["proto-src", "proto-dst"]),
                rng.pick(&PORTS)
            ),
            17 => format!("ct zone {n}{}", rng.pick(&[0, 7, 8])),
            18 => match rng.below(3) {
                0 => format!("ct protocol {n}{}", rng.pick(&["tcp", "udp", "icmp"])),
                1 => format!("ct l3proto {n}{}", rng.pick(&["ipv4", "ipv6"])),
                _ => format!("ct {way} zone {n}{}", rng.pick(&[0, 7])),
            },
            _ => match rng.below(3) {
                0 => format!("ct packets {}", order(rng, &[1, 2, 3])),
                1 => format!("ct {way} packets {}", order(rng, &[0, 1, 2])),
                _ => format!("ct {way} bytes {}", order(rng, &[60, 100])),
            },
        }
    }

    fn fib(&self, rng: &mut Rng) -> Option<String> {
        let (i, o) = (
            self.all(|p| p.hook.has_in()),
            self.all(|p| p.hook.has_out()),
        );
        let side = *rng.pick(&["saddr", "daddr"]);
        let mark = if rng.chance(20) { " . mark" } else { "" };
        let n = not(rng);
        let kind = *rng.pick(&[
            "local",
            "local",
            "unicast",
            "broadcast",
            "multicast",
            "{ local, unicast }",
            "unreachable",
        ]);
        Some(match rng.below(6) {
            0..=2 => format!("fib {side}{mark} type {n}{kind}"),
            3 if i && !o => format!("fib {side}{mark} . iif type {n}{kind}"),
            3 if o && !i => format!("fib {side}{mark} . oif type {n}{kind}"),
            4 if i => {
                let what = *rng.pick(&["missing", "exists"]);
                format!("fib {side}{mark} . iif oif {what}")
            }
            5 if self.all(|p| p.hook == Hook::Prerouting) => match rng.below(3) {
                0 => format!(
                    "fib {side}{mark} oifname {n}\"{}\"",
                    rng.pick(self.shape().interfaces())
                ),
                1 => format!("fib {side}{mark} oif {}", rng.pick(&["missing", "exists"])),
                _ => format!(
                    "fib {side}{mark} oif {n}\"{}\"",
                    rng.pick(self.shape().interfaces())
                ),
            },
            _ => return None,
        })
    }

    fn meta(&self, rng: &mut Rng) -> Option<String> {
        let n = not(rng);
        Some(match rng.below(12) {
            0..=1 => format!("meta length {}", order(rng, &[28, 60, 100, 500])),
            2..=3 => format!(
                "meta l4proto {n}{}",
                rng.pick(&[
                    "tcp",
                    "udp",
                    "icmp",
                    "ipv6-icmp",
                    "{ tcp, udp }",
                    "47",
                    "sctp"
                ])
            ),
            4 => format!("meta nfproto {n}{}", rng.pick(&["ipv4", "ipv6"])),
            5 => format!("meta protocol {n}{}", rng.pick(&["ip", "ip6"])),
            6 => format!(
                "meta pkttype {n}{}",
                rng.pick(&["host", "unicast", "multicast", "broadcast", "other"])
            ),
            7 => format!("meta priority {n}{}", rng.pick(&["1:2", "none", "0:0"])),
            8 => format!("meta iifgroup {n}default"),
            9 if self.all(|p| p.hook.has_in()) => {
                format!("meta iifkind {n}{}", rng.pick(&["\"veth\"", "\"bridge\""]))
            }
            10 if self.all(|p| p.hook.has_out()) => {
                format!("meta oifkind {n}{}", rng.pick(&["\"veth\"", "\"bridge\""]))
            }
            _ => return None,
        })
    }

    /// A named or anonymous set of several parts.
    fn set(&self, proto: &str, rng: &mut Rng) -> Option<String> {
        let plain: Vec<&Set> = self.named.iter().filter(|s| s.gives.is_none()).collect();
        if plain.is_empty() || rng.chance(25) {
            let v6 = self.v6(rng);
            let key: &[Part] = match rng.below(4) {
                0 => &[Part::Addr(v6), Part::Port],
                1 => &[Part::Addr(v6), Part::Proto],
                2 => &[Part::Proto, Part::Port],
                _ => &[Part::Addr(v6), Part::Addr(v6)],
            };
            let left = self.key(key, proto, rng)?;
            let interval = rng.chance(40);
            let elements: Vec<String> = (0..1 + rng.below(4))
                .map(|_| {
                    let parts: Vec<String> = key
                        .iter()
                        .map(|p| self.sets.value(*p, interval, rng))
                        .collect();
                    parts.join(" . ")
                })
                .collect();
            return Some(format!("{left} {}{{ {} }}", not(rng), elements.join(", ")));
        }
        let s = *rng.pick(&plain);
        let left = self.key(&s.key, proto, rng)?;
        Some(format!("{left} {}@{}", not(rng), s.name))
    }

    /// Expressions for a key.
    pub fn key(&self, key: &[Part], proto: &str, rng: &mut Rng) -> Option<String> {
        let parts: Option<Vec<String>> = key
            .iter()
            .map(|p| expression(*p, self.places, proto, rng))
            .collect();
        Some(parts?.join(" . "))
    }

    fn limited(&self, rng: &mut Rng) -> String {
        match rng.below(6) {
            0 if self.objects => format!("quota name \"{}\"", rng.pick(&["q0", "q1"])),
            1 if self.objects => format!("limit name \"{}\"", rng.pick(&["l0", "l1"])),
            2 => {
                let over = if rng.chance(50) { "over " } else { "" };
                format!("quota {over}{} bytes", rng.pick(&[100, 500, 3000]))
            }
            _ => format!("limit {}", limit(rng)),
        }
    }

    fn other(&self, v6: bool, rng: &mut Rng) -> Option<String> {
        let last = self.all(|p| p.hook.has_out() && p.kind != Kind::Nat);
        Some(match rng.below(5) {
            0 if last => {
                let (ip, to) = if v6 {
                    ("ip6", host(2, 15, true))
                } else {
                    ("ip", host(2, 15, false))
                };
                format!("rt {ip} nexthop {}{to}", not(rng))
            }
            1 if last => format!("tcp flags syn rt mtu {}", order(rng, &[500, 1000, 1260])),
            2 if self.all(|p| matches!(p.hook, Hook::Prerouting | Hook::Input)) => {
                format!("socket transparent {}", rng.below(2))
            }
            _ => return None,
        })
    }
}

pub(super) fn transport(proto: &str, rng: &mut Rng) -> Option<String> {
    let n = not(rng);
    Some(match proto {
        "tcp" => match rng.below(16) {
            0..=5 => ports("tcp", rng),
            6 => format!("tcp flags {n}syn"),
            7 => format!(
                "tcp flags {} / {}",
                rng.pick(&["syn", "ack", "syn,ack"]),
                rng.pick(&["syn,ack", "syn,rst,ack,fin"])
            ),
            8 => format!(
                "tcp flags & (fin | syn | rst | ack) {}{}",
                if n.is_empty() { "== " } else { n },
                rng.pick(&["syn", "ack", "syn | ack", "rst"])
            ),
            9 => format!("tcp flags {n}{{ syn, ack, syn | ack, psh | ack }}"),
            10 => format!(
                "tcp flags {}",
                rng.pick(&["syn,ack", "fin,rst", "! syn", "== syn", "!= syn,ack"])
            ),
            11 => format!("tcp window {}", order(rng, &[0, 501, 64240])),
            12 => format!("tcp doff {}", order(rng, &[5, 8])),
            13 => format!("tcp ackseq {n}0"),
            14 => format!("tcp sequence {}", order(rng, &[1_000_000, 2_000_000_000])),
            _ => format!(
                "tcp dport & 0xff {}",
                rng.pick(&["== 80", "!= 80", "== 0x53"])
            ),
        },
        "udp" => match rng.below(5) {
            0 => format!("udp length {}", order(rng, &[16, 108])),
            1 => format!("udp checksum {n}0"),
            _ => ports("udp", rng),
        },
        "sctp" => match rng.below(4) {
            0 => format!("sctp vtag {n}0"),
            _ => ports("sctp", rng),
        },
        "icmp" => match rng.below(6) {
            0..=2 => format!(
                "icmp type {n}{}",
                rng.pick(&[
                    "echo-request",
                    "echo-reply",
                    "destination-unreachable",
                    "{ echo-request, time-exceeded }",
                    "timestamp-request"
                ])
            ),
            3 => format!("icmp code {}", order(rng, &[0, 1, 3])),
            4 => format!("icmp id {}", order(rng, &[40000, 40005])),
            _ => format!("icmp sequence {}", order(rng, &[0, 1])),
        },
        "ipv6-icmp" => match rng.below(5) {
            0..=2 => format!(
                "icmpv6 type {n}{}",
                rng.pick(&[
                    "echo-request",
                    "echo-reply",
                    "destination-unreachable",
                    "{ echo-request, packet-too-big }"
                ])
            ),
            3 => format!("icmpv6 code {}", order(rng, &[0, 1, 4])),
            _ => format!("icmpv6 id {}", order(rng, &[40000, 40005])),
        },
        _ => match rng.below(3) {
            0 => ports("th", rng),
            1 => ports("tcp", rng),
            _ => ports("udp", rng),
        },
    })
}

fn ports(proto: &str, rng: &mut Rng) -> String {
    let side = rng.weighted(&[(80, "dport"), (20, "sport")]);
    let p = *rng.pick(&PORTS);
    let value = match rng.below(9) {
        0 => "1-1000".to_owned(),
        1 => "40000-50000".to_owned(),
        2 => format!("{{ {p}, 53, 443 }}"),
        3 => format!("{{ 1-100, {p}, 40000-40010 }}"),
        4 => return format!("{proto} {side} {} {p}", rng.pick(&["<", ">", "<=", ">="])),
        _ => p.to_string(),
    };
    format!("{proto} {side} {}{value}", not(rng))
}

pub(super) fn mark(rng: &mut Rng) -> String {
    let n = not(rng);
    let m = *rng.pick(&MARKS);
    match rng.below(7) {
        0..=2 => format!("meta mark {n}{m:#x}"),
        3 => format!(
            "meta mark & 0xff {}{:#x}",
            if n.is_empty() { "== " } else { n },
            m & 0xff
        ),
        4 => "meta mark & 0x4000 == 0x4000".to_owned(),
        5 => format!("meta mark {n}{{ 0x1, {m:#x}, 0x100-0x5000 }}"),
        _ => format!("meta mark {} {m:#x}", rng.pick(&["<", ">", ">="])),
    }
}

/// A rule that reads the place of ports asks for a protocol that has them. In an ICMP message its checksum stands
/// there: with what the kernel draws in what it quotes (identifications, flow labels).
pub(super) fn with_ports_only(words: &mut Vec<String>) {
    let reads = |w: &String| w.contains("th dport") || w.contains("th sport") || w.contains("@th");
    let asks = |w: &String| ["tcp ", "udp ", "sctp "].iter().any(|p| w.starts_with(p));
    let asked = words.iter().take_while(|w| !reads(w)).any(asks);
    if words.iter().any(reads) && !asked {
        words.insert(0, "meta l4proto { tcp, udp, sctp }".to_owned());
    }
}

pub(super) fn raw(proto: &str, rng: &mut Rng) -> String {
    let n = not(rng);
    match rng.below(8) {
        0 => format!("@nh,72,8 {n}{}", rng.pick(&["6", "17", "1"])),
        1 => format!("@nh,48,8 {n}{}", rng.pick(&["6", "17", "58"])),
        2 => format!("@th,16,16 {n}{}", rng.pick(&PORTS)),
        3 => format!("@nh,120,8 {n}{}", rng.pick(&["2", "{ 2, 3 }", "3-4"])),
        4 => format!(
            "@th,0,32 {n}{}",
            0x9c40_0000u32 + 0x10000 * rng.below(8) as u32 + u32::from(*rng.pick(&PORTS))
        ),
        5 => format!("@nh,0,4 {n}{}", rng.pick(&["4", "6"])),
        6 if proto == "tcp" => format!("@th,106,6 {}", rng.pick(&["& 2 == 2", "& 0x12 == 0x10"])),
        _ => format!("@th,20,12 {}", order(rng, &[80, 443, 1000])),
    }
}

pub(super) fn header(v6: bool, rng: &mut Rng) -> String {
    let n = not(rng);
    match (v6, rng.below(8)) {
        (false, 0) => format!("ip ttl {}", order(rng, &[1, 63, 64])),
        (true, 0) => format!("ip6 hoplimit {}", order(rng, &[1, 63, 64])),
        (false, 1) => format!("ip dscp {n}{}", rng.pick(&["ef", "cs0", "0x04"])),
        (true, 1) => format!("ip6 dscp {n}{}", rng.pick(&["ef", "cs0", "0x04"])),
        (false, 2) => format!(
            "ip protocol {n}{}",
            rng.pick(&["tcp", "udp", "icmp", "47", "{ tcp, udp }"])
        ),
        (true, 2) => format!(
            "ip6 nexthdr {n}{}",
            rng.pick(&["tcp", "udp", "ipv6-icmp", "47", "{ tcp, udp }"])
        ),
        (false, 3) => format!("ip length {}", order(rng, &[40, 60, 500])),
        (true, 3) => format!("ip6 length {}", order(rng, &[20, 40, 500])),
        (false, 4) => format!(
            "ip frag-off & {} {}",
            rng.pick(&["0x1fff", "0x4000", "0x2000"]),
            rng.pick(&["== 0", "!= 0"])
        ),
        (true, 4) => format!("ip6 version {n}6"),
        (false, 5) => format!("ip version {n}4"),
        (true, 5) => format!("ip6 version {n}6"),
        (false, 6) => format!("ip ecn {n}{}", rng.pick(&["not-ect", "ce"])),
        (true, 6) => format!("ip6 ecn {n}{}", rng.pick(&["not-ect", "ce"])),
        (false, _) => format!("ip hdrlength {}", order(rng, &[5])),
        (true, _) => format!("ip6 hoplimit {n}{{ 64, 255 }}"),
    }
}

pub(super) fn option(proto: &str, v6: bool, rng: &mut Rng) -> Option<String> {
    let is = *rng.pick(&["exists", "missing"]);
    Some(match proto {
        "tcp" => match rng.below(6) {
            0 => format!("tcp option maxseg size {}", order(rng, &[536, 1000, 1460])),
            1 => format!("tcp option sack-perm {is}"),
            2 => format!("tcp option window count {}", order(rng, &[7])),
            3 => format!("tcp option timestamp {is}"),
            4 => format!("tcp option maxseg {is}"),
            _ => format!("tcp option window {is}"),
        },
        _ if v6 => match rng.below(3) {
            0 => format!("exthdr frag {is}"),
            1 => format!("exthdr hbh {is}"),
            _ => format!("frag frag-off {}", order(rng, &[0, 10])),
        },
        _ => format!("ip option {} {is}", rng.pick(&["ra", "rr", "lsrr"])),
    })
}

/// Numbers that are counted or hashed.
pub fn number(proto: &str, v6: bool, modulus: u32, rng: &mut Rng) -> String {
    let ip = if v6 { "ip6" } else { "ip" };
    let side = *rng.pick(&["saddr", "daddr"]);
    let seed = rng.below(1 << 20);
    let offset = match rng.chance(15) {
        true => " offset 0",
        false => "",
    };
    match rng.below(6) {
        0..=2 => format!("numgen inc mod {modulus}{offset}"),
        3 => format!("jhash {ip} {side} mod {modulus} seed {seed:#x}"),
        4 if matches!(proto, "tcp" | "udp" | "sctp") => {
            format!(
                "jhash {ip} {side} . {proto} {} mod {modulus} seed {seed:#x}",
                rng.pick(&["dport", "sport"])
            )
        }
        _ => format!("jhash {ip} saddr . {ip} daddr mod {modulus} seed {seed:#x}"),
    }
}

pub(super) fn counted(proto: &str, v6: bool, rng: &mut Rng) -> String {
    let modulus = 2 + rng.below(3) as u32;
    let n = number(proto, v6, modulus, rng);
    match rng.below(4) {
        0 => format!("{n} < {}", rng.below(modulus as usize)),
        1 => format!("{n} != {}", rng.below(modulus as usize)),
        2 => "symhash mod 1 0".to_owned(),
        _ => format!("{n} {}", rng.below(modulus as usize)),
    }
}
