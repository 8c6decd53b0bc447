//! Draws the named things of a native table: sets, maps and verdict maps of any key, counters, quotas, limits.
//!
//! A key is a list of parts; each part knows how its elements are written and which expressions give it.

use super::net::{Shape, host};
use super::nft_rules::Place;
use super::rng::Rng;
use super::rules::Hook;
use super::traffic::{PORTS, VIPS, vip};

/// One part of a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// An address; of IPv6 if true.
    Addr(bool),
    Proto,
    Port,
    Mark,
    Device,
    State,
}

/// What a map gives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Gives {
    Verdict,
    Addr(bool),
    AddrPort(bool),
    Port,
    Mark,
    Object(&'static str),
}

/// A named set or map.
#[derive(Clone, Debug)]
pub struct Set {
    pub name: String,
    pub key: Vec<Part>,
    pub gives: Option<Gives>,
    pub interval: bool,
    pub dynamic: bool,
    /// Its elements may end.
    pub timeout: bool,
}

/// Names of objects by kind.
pub const OBJECTS: [(&str, &str); 6] = [
    ("counter", "c0"),
    ("counter", "c1"),
    ("quota", "q0"),
    ("quota", "q1"),
    ("limit", "l0"),
    ("limit", "l1"),
];

/// The objects of a table as commands.
pub fn objects(table: &str, rng: &mut Rng) -> String {
    let over = |rng: &mut Rng| if rng.chance(50) { "over " } else { "" };
    let mut out = String::new();
    for (kind, name) in OBJECTS {
        let body = match kind {
            "counter" => String::new(),
            "quota" => format!(" {{ {}{} bytes }}", over(rng), rng.pick(&[100, 500, 2000])),
            _ => format!(" {{ {} }}", limit(rng)),
        };
        out += &format!("add {kind} {table} {name}{body}\n");
    }
    out
}

/// Words of a limit, which refills within an hour or more.
pub fn limit(rng: &mut Rng) -> String {
    let over = if rng.chance(30) { "over " } else { "" };
    let rate = match rng.below(4) {
        0 => format!(
            "{} bytes/hour burst {} bytes",
            1 + rng.below(3),
            rng.pick(&[100, 400, 2000])
        ),
        1 => format!("{}/hour", 1 + rng.below(3)),
        _ => format!(
            "{}/day burst {} packets",
            1 + rng.below(3),
            1 + rng.below(6)
        ),
    };
    format!("rate {over}{rate}")
}

/// What sets of one table may hold.
pub struct Sets<'a> {
    pub shape: Shape,
    /// Families whose addresses may be asked: IPv6 if true.
    pub families: &'a [bool],
    /// A chain that everybody may jump to.
    pub common: Option<&'a str>,
}

impl Sets<'_> {
    /// Some sets, with the commands that make and fill them.
    pub fn draw(&self, table: &str, rng: &mut Rng) -> (Vec<Set>, String) {
        let (mut sets, mut out) = (Vec::new(), String::new());
        for i in 0..rng.below(6) {
            let s = self.one(i, rng);
            out += &self.command(table, &s, rng);
            let mut taken = Vec::new();
            for _ in 0..rng.below(6) {
                let key = self.key(&s, rng);
                if taken.contains(&key) {
                    continue;
                }
                let with = match s.timeout && rng.chance(30) {
                    true => format!(" timeout {}h", 1 + rng.below(3)),
                    false => String::new(),
                };
                let data = self.data(s.gives, rng);
                let map = if s.gives.is_some() { " : " } else { "" };
                out += &format!(
                    "add element {table} {} {{ {key}{with}{map}{data} }}\n",
                    s.name
                );
                taken.push(key);
            }
            if !s.dynamic && rng.chance(8) {
                let data = self.data(s.gives, rng);
                let map = if s.gives.is_some() { " : " } else { "" };
                out += &format!("add element {table} {} {{ *{map}{data} }}\n", s.name);
            }
            sets.push(s);
        }
        (sets, out)
    }

    fn one(&self, i: usize, rng: &mut Rng) -> Set {
        let v6 = *rng.pick(self.families);
        let key = match rng.below(12) {
            0..=3 => vec![Part::Addr(v6)],
            4 => vec![Part::Addr(v6), Part::Proto, Part::Port],
            5 => vec![Part::Addr(v6), Part::Port],
            6 => vec![Part::Addr(v6), Part::Addr(v6)],
            7 => vec![Part::Port],
            8 => vec![Part::Mark],
            9 => vec![Part::Device],
            10 => vec![Part::Proto, Part::Port],
            _ => vec![Part::State],
        };
        let gives = match rng.below(10) {
            0..=3 => None,
            4..=5 => Some(Gives::Verdict),
            6 => Some(Gives::Addr(v6)),
            7 if rng.chance(50) => Some(Gives::AddrPort(v6)),
            7 => Some(Gives::Port),
            8 => Some(Gives::Mark),
            _ => {
                let object: &&str = rng.pick(&["counter", "quota", "limit"]);
                Some(Gives::Object(object))
            }
        };
        let object = matches!(gives, Some(Gives::Object(_) | Gives::Verdict));
        let interval = rng.chance(35) && !key.contains(&Part::State);
        let dynamic = !interval && !object && rng.chance(35);
        let timeout = !object && rng.chance(if dynamic { 50 } else { 20 });
        Set {
            name: format!("s{i}"),
            key,
            gives,
            interval,
            dynamic,
            timeout,
        }
    }

    fn command(&self, table: &str, s: &Set, rng: &mut Rng) -> String {
        let types: Vec<&str> = s.key.iter().map(|p| part_type(*p)).collect();
        let mut out = format!("type {}", types.join(" . "));
        out += &match s.gives {
            None => String::new(),
            Some(Gives::Verdict) => " : verdict".into(),
            Some(Gives::Addr(v6)) => format!(" : {}", part_type(Part::Addr(v6))),
            Some(Gives::AddrPort(v6)) => format!(" : {} . inet_service", part_type(Part::Addr(v6))),
            Some(Gives::Port) => " : inet_service".into(),
            Some(Gives::Mark) => " : mark".into(),
            Some(Gives::Object(kind)) => format!(" : {kind}"),
        };
        let mut flags = Vec::new();
        flags.extend(s.interval.then_some("interval"));
        flags.extend(s.dynamic.then_some("dynamic"));
        flags.extend(s.timeout.then_some("timeout"));
        if !flags.is_empty() {
            out += &format!("; flags {}", flags.join(","));
        }
        if s.timeout && rng.chance(60) {
            out += &format!("; timeout {}h", 1 + rng.below(3));
        }
        if s.dynamic && rng.chance(30) {
            out += &format!("; size {}", rng.pick(&[2, 4, 100]));
        }
        if s.gives.is_none() && rng.chance(20) {
            out += "; counter";
        }
        let kind = if s.gives.is_some() { "map" } else { "set" };
        format!("add {kind} {table} {} {{ {out}; }}\n", s.name)
    }

    /// A key of a set.
    pub fn key(&self, s: &Set, rng: &mut Rng) -> String {
        let parts: Vec<String> = s
            .key
            .iter()
            .map(|p| self.value(*p, s.interval, rng))
            .collect();
        parts.join(" . ")
    }

    /// A value, or with `interval` maybe several.
    pub fn value(&self, p: Part, interval: bool, rng: &mut Rng) -> String {
        match p {
            Part::Addr(v6) => {
                let network = *rng.pick(self.shape.networks());
                match rng.below(if interval { 8 } else { 5 }) {
                    0..=2 => host(network, 2 + rng.below(4) as u8, v6).to_string(),
                    3 => vip(*rng.pick(&VIPS), v6).to_string(),
                    4 => host(network, 1, v6).to_string(),
                    5 => format!("{}/{}", host(network, 4, v6), if v6 { 126 } else { 30 }),
                    6 => format!("{}-{}", host(network, 2, v6), host(network, 3, v6)),
                    _ => format!("{}/{}", host(network, 0, v6), if v6 { 64 } else { 24 }),
                }
            }
            Part::Proto => (*rng.pick(&["tcp", "udp", "sctp", "tcp"])).to_owned(),
            Part::Port if interval && rng.chance(50) => {
                (*rng.pick(&["1-100", "400-500", "40000-50000", "1000-9000"])).to_owned()
            }
            Part::Port => rng.pick(&PORTS).to_string(),
            Part::Mark if interval && rng.chance(50) => "0x1-0xff".to_owned(),
            Part::Mark => format!("{:#x}", rng.pick(&MARKS)),
            Part::Device if interval && rng.chance(30) => "\"r*\"".to_owned(),
            Part::Device => format!("\"{}\"", rng.pick(self.shape.interfaces())),
            Part::State => {
                (*rng.pick(&["new", "established", "related", "invalid", "untracked"])).to_owned()
            }
        }
    }

    /// What an element maps to.
    pub fn data(&self, gives: Option<Gives>, rng: &mut Rng) -> String {
        match gives {
            None => String::new(),
            Some(Gives::Verdict) => {
                let plain = *rng.pick(&["accept", "drop", "return", "continue", "accept"]);
                match self.common {
                    Some(c) if rng.chance(50) => format!("{} {c}", rng.pick(&["jump", "goto"])),
                    _ => plain.to_owned(),
                }
            }
            Some(Gives::Addr(v6)) => self.target(v6, rng),
            Some(Gives::AddrPort(v6)) => format!("{} . {}", self.target(v6, rng), rng.pick(&PORTS)),
            Some(Gives::Port) => rng.pick(&PORTS).to_string(),
            Some(Gives::Mark) => format!("{:#x}", rng.pick(&MARKS)),
            Some(Gives::Object(kind)) => {
                let of: Vec<&str> = OBJECTS
                    .iter()
                    .filter(|o| o.0 == kind)
                    .map(|o| o.1)
                    .collect();
                format!("\"{}\"", rng.pick(&of))
            }
        }
    }

    /// A host that exists.
    pub fn target(&self, v6: bool, rng: &mut Rng) -> String {
        let network = *rng.pick(self.shape.networks());
        host(network, 2 + rng.below(4) as u8, v6).to_string()
    }
}

/// Marks that rules set and ask.
pub const MARKS: [u32; 6] = [0, 1, 2, 0x10, 0x4000, 0x8000];

fn part_type(p: Part) -> &'static str {
    match p {
        Part::Addr(false) => "ipv4_addr",
        Part::Addr(true) => "ipv6_addr",
        Part::Proto => "inet_proto",
        Part::Port => "inet_service",
        Part::Mark => "mark",
        Part::Device => "ifname",
        Part::State => "ct_state",
    }
}

/// An expression for a part, if the chain's places have one.
pub fn expression(p: Part, places: &[Place], proto: &str, rng: &mut Rng) -> Option<String> {
    let all = |f: fn(Hook) -> bool| places.iter().all(|p| f(p.hook));
    Some(match p {
        Part::Addr(v6) => {
            let ip = if v6 { "ip6" } else { "ip" };
            match rng.below(8) {
                0..=2 => format!("{ip} saddr"),
                3..=6 => format!("{ip} daddr"),
                _ => format!("ct original {ip} {}", rng.pick(&["saddr", "daddr"])),
            }
        }
        Part::Proto => "meta l4proto".to_owned(),
        Part::Port if matches!(proto, "tcp" | "udp" | "sctp") => {
            format!("{proto} {}", rng.pick(&["dport", "dport", "sport"]))
        }
        Part::Port if rng.chance(80) => format!("th {}", rng.pick(&["dport", "sport"])),
        Part::Port => format!("ct original {}", rng.pick(&["proto-dst", "proto-src"])),
        Part::Mark => (*rng.pick(&["meta mark", "ct mark"])).to_owned(),
        Part::Device if all(Hook::has_in) && rng.chance(60) => "iifname".to_owned(),
        Part::Device if all(Hook::has_out) => "oifname".to_owned(),
        Part::Device if all(Hook::has_in) => "iifname".to_owned(),
        Part::Device => return None,
        Part::State => "ct state".to_owned(),
    })
}
