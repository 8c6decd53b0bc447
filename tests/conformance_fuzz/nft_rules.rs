//! Draws native rule sets as a script for `nft -f`, a command on each line.
//!
//! A rule knows every place from which its chain may be called and asks and does only what all of them allow;
//! what the kernel refuses all the same is taken out, line by line. Nothing depends on time or chance: limits
//! refill within an hour, numbers are counted or hashed with a seed.

use super::net::{LAST_HOST, Shape, host};
use super::nft_chains::base;
use super::nft_matches::{Asks, number, with_ports_only};
use super::nft_sets::{Gives, MARKS, OBJECTS, Part, Set, Sets, limit, objects};
use super::rng::Rng;
use super::rules::Hook;
use super::traffic::PORTS;
use Hook::*;

/// The type of a base chain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Filter,
    Nat,
    Route,
}

/// From where a chain is called.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    pub kind: Kind,
    pub hook: Hook,
    /// Before conntrack.
    pub early: bool,
}

/// A chain that is being drawn.
pub struct Chain {
    pub(super) name: String,
    pub(super) places: Vec<Place>,
}

/// Draws a script; the packets are of these families (IPv6 if true).
pub fn draw(shape: Shape, families: &[bool], rng: &mut Rng) -> String {
    let mut out = String::new();
    let tables = rng.weighted(&[(50, 1), (35, 2), (15, 3)]);
    for i in 0..tables {
        let v6 = *rng.pick(families);
        let (family, sees): (&str, &[bool]) = match (rng.chance(55), v6) {
            (true, _) => ("inet", families),
            (_, false) => ("ip", &[false]),
            (_, true) => ("ip6", &[true]),
        };
        Drawer::table(
            &format!("{family} fz{i}"),
            family,
            shape,
            sees,
            &mut out,
            rng,
        );
    }
    out
}

pub struct Drawer<'r> {
    pub(super) rng: &'r mut Rng,
    pub(super) table: &'r str,
    pub(super) family: &'r str,
    pub(super) sets: Sets<'r>,
    pub(super) named: Vec<Set>,
    objects: bool,
    out: &'r mut String,
}

impl Drawer<'_> {
    fn table(
        table: &str,
        family: &str,
        shape: Shape,
        families: &[bool],
        out: &mut String,
        rng: &mut Rng,
    ) {
        *out += &format!("add table {table}\n");
        let mut chains = Vec::new();
        for i in 0..1 + rng.below(6) {
            chains.push(base(table, i, out, rng));
        }
        let mut all: Vec<Place> = chains
            .iter()
            .flat_map(|c: &Chain| c.places.clone())
            .collect();
        all.dedup();
        for i in 0..rng.below(5) {
            let places = match rng.below(4) {
                // The last one of all may be jumped to from anywhere.
                0 => all.clone(),
                1 => all
                    .iter()
                    .copied()
                    .filter(|p| p.kind == Kind::Nat)
                    .collect(),
                2 => all
                    .iter()
                    .copied()
                    .filter(|p| p.kind != Kind::Nat)
                    .collect(),
                _ => vec![*rng.pick(&all)],
            };
            if !places.is_empty() {
                *out += &format!("add chain {table} u{i}\n");
                chains.push(Chain {
                    name: format!("u{i}"),
                    places,
                });
            }
        }
        let common = chains
            .last()
            .filter(|c| c.name.starts_with('u') && c.places == all);
        let common = common.map(|c| c.name.clone());
        let sets = Sets {
            shape,
            families,
            common: common.as_deref(),
        };
        let with_objects = rng.chance(40);
        if with_objects {
            *out += &objects(table, rng);
        }
        let (mut named, text) = sets.draw(table, rng);
        *out += &text;
        if !with_objects {
            // Maps to objects that are not there are refused.
            named.retain(|s| !matches!(s.gives, Some(Gives::Object(_))));
        }
        let mut d = Drawer {
            rng,
            table,
            family,
            sets,
            named,
            objects: with_objects,
            out,
        };
        for (i, c) in chains.iter().enumerate() {
            // Only later chains: no loops.
            let later: Vec<&Chain> = chains[i + 1..]
                .iter()
                .filter(|c| c.name.starts_with('u'))
                .collect();
            for _ in 0..d.rng.below(6) {
                d.rule(c, &later);
            }
        }
    }

    fn rule(&mut self, chain: &Chain, later: &[&Chain]) {
        let proto = self.rng.weighted(&[
            (38, ""),
            (24, "tcp"),
            (18, "udp"),
            (12, "icmp"),
            (8, "sctp"),
        ]);
        let v6 = *self.rng.pick(self.sets.families);
        let proto = if v6 && proto == "icmp" {
            "ipv6-icmp"
        } else {
            proto
        };
        // What names addresses is of one family.
        let only = matches!(proto, "icmp" | "ipv6-icmp").then_some(v6);
        let asks = Asks {
            sets: &self.sets,
            named: &self.named,
            places: &chain.places,
            objects: self.objects,
        };
        let mut words = Vec::new();
        for _ in 0..self.rng.weighted(&[(22, 0), (46, 1), (26, 2), (6, 3)]) {
            let drawn = asks.draw(proto, only.or(Some(v6)), self.rng);
            // nft makes one comparison of two with neighbouring fields, of `!=` too (payload.c `payload_do_merge`).
            if !drawn.contains("!=") || !words.iter().any(|w: &String| w.contains("!=")) {
                words.push(drawn);
            }
        }
        let counter = if self.rng.chance(85) { "counter" } else { "" };
        let early = self.rng.chance(15);
        if early {
            words.insert(0, counter.to_owned());
        }
        for _ in 0..self.rng.weighted(&[(70, 0), (24, 1), (6, 2)]) {
            words.push(self.change(chain, proto, v6));
        }
        if !early {
            words.push(counter.to_owned());
        }
        words.push(self.end(chain, later, proto, v6));
        words.retain(|w| !w.is_empty());
        with_ports_only(&mut words);
        if words.is_empty() {
            return;
        }
        *self.out += &format!(
            "add rule {} {} {}\n",
            self.table,
            chain.name,
            words.join(" ")
        );
    }

    /// What changes something and goes on.
    fn change(&mut self, chain: &Chain, proto: &str, v6: bool) -> String {
        let early = chain.places.iter().all(|p| p.early);
        for _ in 0..10 {
            let drawn = match self.rng.below(100) {
                0..=24 => Some(self.mark()),
                25..=44 => self.dynamic(chain, proto, v6),
                45..=64 => Some(self.mangle(chain, proto, v6)),
                65..=74 => self.mapped(chain, proto),
                75..=80 => Some(self.log()),
                81..=86 if early => Some(self.untrack()),
                87..=89 => Some(format!(
                    "meta priority set {}",
                    self.rng.pick(&["1:2", "none", "0:5"])
                )),
                90..=91 => Some(format!(
                    "meta pkttype set {}",
                    self.rng.pick(&["host", "other"])
                )),
                92..=95 => Some(format!("limit {}", limit(self.rng))),
                96..=97 => self.dup(v6),
                _ => self.object(),
            };
            if let Some(d) = drawn {
                return d;
            }
        }
        String::new()
    }

    fn mark(&mut self) -> String {
        let m = *self.rng.pick(&MARKS);
        match self.rng.below(10) {
            0..=2 => format!("meta mark set {m:#x}"),
            3 => format!("meta mark set meta mark | {m:#x}"),
            4 => format!("meta mark set meta mark & {:#x}", !m),
            5 => format!("meta mark set meta mark ^ {m:#x}"),
            6 => "meta mark set ct mark".to_owned(),
            7 => "ct mark set meta mark".to_owned(),
            8 => format!("ct mark set {m:#x}"),
            _ => match self.rng.below(4) {
                0 => "meta mark set meta mark << 4".to_owned(),
                1 => "meta mark set ct mark >> 1".to_owned(),
                2 => format!("ct mark set ct mark | {m:#x}"),
                _ => "meta mark set meta mark & 0xff00 | 0x3".to_owned(),
            },
        }
    }

    /// A change of a set by a packet.
    fn dynamic(&mut self, chain: &Chain, proto: &str, _v6: bool) -> Option<String> {
        let of: Vec<Set> = self.named.iter().filter(|s| s.dynamic).cloned().collect();
        if of.is_empty() {
            return None;
        }
        let s = self.rng.pick(&of).clone();
        let asks = Asks {
            sets: &self.sets,
            named: &[],
            places: &chain.places,
            objects: false,
        };
        let key = asks.key(&s.key, proto, self.rng)?;
        let verb = self
            .rng
            .weighted(&[(50, "add"), (35, "update"), (15, "delete")]);
        let with = match s.timeout && verb != "delete" && self.rng.chance(40) {
            true => format!(" timeout {}h", 1 + self.rng.below(3)),
            false => String::new(),
        };
        let state = match s.gives.is_none() && verb != "delete" && self.rng.chance(30) {
            true => match self.rng.below(3) {
                0 => format!(" limit {}", limit(self.rng)),
                1 => " quota over 300 bytes".to_owned(),
                _ => " counter".to_owned(),
            },
            false => String::new(),
        };
        let data = match s.gives {
            None => String::new(),
            Some(_) if verb == "delete" => String::new(),
            g => format!(" : {}", self.sets.data(g, self.rng)),
        };
        Some(format!("{verb} @{} {{ {key}{with}{state}{data} }}", s.name))
    }

    fn mangle(&mut self, chain: &Chain, proto: &str, v6: bool) -> String {
        // Behind OUTPUT it depends on who sent it whether the neighbour is the one it was routed to; one that nobody
        // knows is asked for, in IPv6 by a packet that other rules count.
        let routed = |p: &Place| match p.hook {
            Prerouting | Input => false,
            Forward => v6,
            Output | Postrouting => true,
        };
        let asks = chain.places.iter().any(routed);
        let r = &mut *self.rng;
        let a = host(
            *r.pick(self.sets.shape.networks()),
            2 + r.below(4) as u8,
            v6,
        );
        let ip = if v6 { "ip6" } else { "ip" };
        match r.below(14) {
            0 if v6 => format!("ip6 hoplimit set {}", r.pick(&[1, 30, 255])),
            0 => format!("ip ttl set {}", r.pick(&[1, 30, 255])),
            1..=2 => format!("{ip} dscp set {}", r.pick(&["ef", "cs0", "0x04"])),
            3 => format!("{ip} ecn set ce"),
            4 if !asks => format!("{ip} {} set {a}", r.pick(&["saddr", "daddr"])),
            5..=6 if proto == "tcp" => {
                format!(
                    "tcp option maxseg size set {}",
                    r.pick(&["500", "1000", "9000", "rt mtu"])
                )
            }
            7 if proto == "tcp" => format!(
                "reset tcp option {}",
                r.pick(&["sack-perm", "window", "maxseg"])
            ),
            8..=10 if matches!(proto, "tcp" | "udp") => {
                format!(
                    "{proto} {} set {}",
                    r.pick(&["dport", "sport"]),
                    r.pick(&PORTS)
                )
            }
            12 if proto == "tcp" => "tcp window set 1000".to_owned(),
            12 if !v6 => format!("ip id set {}", r.pick(&[0, 7])),
            12 => "ip6 flowlabel set 5".to_owned(),
            13 if !v6 && r.chance(30) => "ip frag-off set 0".to_owned(),
            _ => format!("{ip} dscp set 0x2e"),
        }
    }

    /// A value from a map.
    fn mapped(&mut self, chain: &Chain, proto: &str) -> Option<String> {
        let asks = Asks {
            sets: &self.sets,
            named: &[],
            places: &chain.places,
            objects: false,
        };
        if self.rng.chance(40) {
            let of: Vec<&Set> = self
                .named
                .iter()
                .filter(|s| s.gives == Some(Gives::Mark))
                .collect();
            if of.is_empty() {
                return None;
            }
            let s = *self.rng.pick(&of);
            let key = asks.key(&s.key, proto, self.rng)?;
            return Some(format!("meta mark set {key} map @{}", s.name));
        }
        let port = match proto {
            "tcp" | "udp" | "sctp" => format!("{proto} dport"),
            _ => "th dport".to_owned(),
        };
        Some(match self.rng.below(3) {
            0 => format!("meta mark set {port} map {{ 53 : 0x1, 80-443 : 0x2, 1000 : 0x4000 }}"),
            1 => format!("ct mark set {port} map {{ 53 : 0x1, 80 : 0x2, 8080 : 0x10 }}"),
            _ => "meta mark set meta l4proto map { tcp : 0x1, udp : 0x2 }".to_owned(),
        })
    }

    fn log(&mut self) -> String {
        match self.rng.below(3) {
            0 => "log prefix \"fuzz \"".to_owned(),
            1 => "log prefix \"fuzz\" level debug".to_owned(),
            _ => "log prefix \"fuzz\" group 5".to_owned(),
        }
    }

    fn untrack(&mut self) -> String {
        self.rng
            .weighted(&[
                (50, "notrack"),
                (30, "ct zone set 7"),
                (10, "ct original zone set 8"),
                (10, "ct reply zone set 9"),
            ])
            .to_owned()
    }

    fn dup(&mut self, v6: bool) -> Option<String> {
        if self.family == "inet" || !self.rng.chance(30) {
            return None;
        }
        let network = *self.rng.pick(self.sets.shape.networks());
        let to = host(network, LAST_HOST, v6);
        let device = match self.rng.chance(50) {
            true => format!(" device \"{}\"", self.sets.shape.device_of(network)),
            false => String::new(),
        };
        Some(format!("dup to {to}{device}"))
    }

    fn object(&mut self) -> Option<String> {
        if !self.objects {
            return None;
        }
        let of: Vec<&Set> = self
            .named
            .iter()
            .filter(|s| matches!(s.gives, Some(Gives::Object(_))))
            .collect();
        if !of.is_empty() && self.rng.chance(50) {
            let s = *self.rng.pick(&of);
            let Some(Gives::Object(kind)) = s.gives else {
                return None;
            };
            if s.key != [Part::Port] {
                return None;
            }
            return Some(format!("{kind} name th dport map @{}", s.name));
        }
        let (kind, name) = *self.rng.pick(&OBJECTS);
        Some(format!("{kind} name \"{name}\""))
    }

    /// What ends a rule.
    fn end(&mut self, chain: &Chain, later: &[&Chain], proto: &str, v6: bool) -> String {
        let all = |f: &dyn Fn(&Place) -> bool| chain.places.iter().all(f);
        let fits: Vec<String> = later
            .iter()
            .filter(|c| all(&|p| c.places.contains(p)))
            .map(|c| c.name.clone())
            .collect();
        if !fits.is_empty() && self.rng.chance(30) {
            let way = self.rng.weighted(&[(75, "jump"), (25, "goto")]);
            return format!("{way} {}", self.rng.pick(&fits));
        }
        if self.rng.chance(12) {
            return String::new();
        }
        if self.rng.chance(14)
            && let Some(v) = self.vmap(chain, &fits, proto, v6)
        {
            return v;
        }
        let nat = all(&|p| p.kind == Kind::Nat);
        if nat && all(&|p| matches!(p.hook, Prerouting | Output)) && self.rng.chance(75) {
            return self.dnat(chain, proto, v6);
        }
        if nat && all(&|p| matches!(p.hook, Input | Postrouting)) && self.rng.chance(75) {
            return self.snat(chain, proto, v6);
        }
        let rejects = all(&|p| p.hook != Postrouting && p.kind != Kind::Nat);
        if rejects && self.rng.chance(22) {
            return self.reject(v6);
        }
        let kind = self.rng.weighted(&[
            (40, "accept"),
            (20, "drop"),
            (10, "return"),
            (5, "continue"),
            (3, "queue num 7 bypass"),
            (1, "queue num 7"),
            (20, ""),
        ]);
        match kind {
            "drop" if nat => "accept".to_owned(),
            k => k.to_owned(),
        }
    }

    fn vmap(&mut self, chain: &Chain, fits: &[String], proto: &str, v6: bool) -> Option<String> {
        let asks = Asks {
            sets: &self.sets,
            named: &[],
            places: &chain.places,
            objects: false,
        };
        let of: Vec<&Set> = self
            .named
            .iter()
            .filter(|s| s.gives == Some(Gives::Verdict))
            .collect();
        if !of.is_empty() && self.rng.chance(60) {
            let s = *self.rng.pick(&of);
            let key = asks.key(&s.key, proto, self.rng)?;
            return Some(format!("{key} vmap @{}", s.name));
        }
        let verdict = |rng: &mut Rng| match fits.is_empty() || rng.chance(50) {
            true => (*rng.pick(&["accept", "drop", "return", "continue"])).to_owned(),
            false => format!("jump {}", rng.pick(fits)),
        };
        let r = &mut *self.rng;
        let (a, b) = (verdict(r), verdict(r));
        Some(match r.below(6) {
            0 => format!("ct state vmap {{ new : {a}, established : {b}, invalid : drop }}"),
            1 => format!("meta l4proto vmap {{ tcp : {a}, udp : {b} }}"),
            2 => format!("th dport vmap {{ 53 : {a}, 80-443 : {b}, 1000 : accept }}"),
            3 => format!("{} vmap {{ 0 : {a}, 1 : {b} }}", number(proto, v6, 2, r)),
            4 => {
                let key = asks.key(&[Part::Addr(v6), Part::Port], proto, r)?;
                let at = |r: &mut Rng| {
                    let (x, y) = (Part::Addr(v6), Part::Port);
                    format!(
                        "{} . {}",
                        self.sets.value(x, true, r),
                        self.sets.value(y, true, r)
                    )
                };
                format!("{key} vmap {{ {} : {a}, {} : {b} }}", at(r), at(r))
            }
            _ => {
                let key = asks.key(&[Part::Device], proto, r)?;
                format!("{key} vmap {{ \"r0\" : {a}, \"r2\" : {b} }}")
            }
        })
    }

    fn reject(&mut self, v6: bool) -> String {
        let r = &mut *self.rng;
        let icmpx = [
            "port-unreachable",
            "no-route",
            "host-unreachable",
            "admin-prohibited",
        ];
        match r.below(6) {
            0 => "reject".to_owned(),
            1 => "meta l4proto tcp reject with tcp reset".to_owned(),
            2..=3 if self.family == "inet" => format!("reject with icmpx type {}", r.pick(&icmpx)),
            _ if v6 => format!(
                "reject with icmpv6 type {}",
                r.pick(&[
                    "no-route",
                    "admin-prohibited",
                    "addr-unreachable",
                    "port-unreachable",
                    "policy-fail",
                    "reject-route"
                ])
            ),
            _ => format!(
                "reject with icmp type {}",
                r.pick(&[
                    "net-unreachable",
                    "host-unreachable",
                    "prot-unreachable",
                    "port-unreachable",
                    "net-prohibited",
                    "host-prohibited",
                    "admin-prohibited",
                ])
            ),
        }
    }
}
