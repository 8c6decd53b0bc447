//! Draws translations of native rules: dnat, redirect, snat, masquerade, to addresses, ranges and maps.

use super::net::host;
use super::nft_matches::{Asks, number};
use super::nft_rules::{Chain, Drawer};
use super::nft_sets::{Gives, Set};
use super::rules::Hook::Postrouting;
use super::traffic::PORTS;

impl Drawer<'_> {
    /// `ip` or `ip6` where the table has both.
    fn of_family(&self, v6: bool) -> &'static str {
        match (self.family, v6) {
            ("inet", false) => "ip ",
            ("inet", true) => "ip6 ",
            _ => "",
        }
    }

    fn flags(&mut self) -> &'static str {
        self.rng.weighted(&[
            (80, ""),
            (7, " random"),
            (7, " fully-random"),
            (6, " persistent"),
        ])
    }

    /// A map of the table that gives addresses, with its key.
    fn addresses(&mut self, chain: &Chain, proto: &str, v6: bool, ports: bool) -> Option<String> {
        let asks = Asks {
            sets: &self.sets,
            named: &[],
            places: &chain.places,
            objects: false,
        };
        let gives = if ports {
            Gives::AddrPort(v6)
        } else {
            Gives::Addr(v6)
        };
        let of: Vec<&Set> = self
            .named
            .iter()
            .filter(|s| s.gives == Some(gives))
            .collect();
        if of.is_empty() {
            return None;
        }
        let s = *self.rng.pick(&of);
        let key = asks.key(&s.key, proto, self.rng)?;
        Some(format!("{key} map @{}", s.name))
    }

    pub(super) fn dnat(&mut self, chain: &Chain, proto: &str, v6: bool) -> String {
        let ported = matches!(proto, "tcp" | "udp" | "sctp");
        let with = if ported {
            format!("meta l4proto {proto} ")
        } else {
            String::new()
        };
        let of = self.of_family(v6);
        let (a, b) = (
            self.sets.target(v6, self.rng),
            self.sets.target(v6, self.rng),
        );
        let port = *self.rng.pick(&PORTS);
        let flags = self.flags();
        let colon = |a: &str, p: &str| match v6 {
            true => format!("[{a}]:{p}"),
            false => format!("{a}:{p}"),
        };
        let ip = if v6 { "ip6" } else { "ip" };
        match self.rng.below(16) {
            0..=1 if ported && proto != "sctp" => format!("{with}redirect to :{port}{flags}"),
            2 => "redirect".to_owned(),
            3 => {
                let (x, y) = (
                    self.sets.target(v6, self.rng),
                    self.sets.target(v6, self.rng),
                );
                let n = number(proto, v6, 2, self.rng);
                match self.rng.chance(50) && ported {
                    false => format!("dnat {of}to {n} map {{ 0 : {x}, 1 : {y} }}"),
                    true => {
                        format!("{with}dnat {of}to {n} map {{ 0 : {x} . {port}, 1 : {y} . 80 }}")
                    }
                }
            }
            4..=5 => match self.addresses(chain, proto, v6, false) {
                Some(m) => format!("dnat {of}to {m}"),
                None => format!("dnat {of}to {a}"),
            },
            6 if ported => match self.addresses(chain, proto, v6, true) {
                Some(m) => format!("{with}dnat {of}to {m}"),
                None => format!("{with}dnat {of}to {}", colon(&a, "33000-33003")),
            },
            7 if ported => {
                let vips: Vec<String> = (1..3)
                    .map(|n| super::traffic::vip(n, v6).to_string())
                    .collect();
                format!(
                    "dnat {of}to {ip} daddr . {proto} dport map {{ {} . {port} : {a} . 80, {} . 53 : {b} . 5000 }}",
                    vips[0], vips[1]
                )
            }
            8 => {
                let network = *self.rng.pick(self.sets.shape.networks());
                let (x, y) = (host(network, 2, v6), host(network, 5, v6));
                format!("dnat {of}to {x}-{y}{flags}")
            }
            9 => {
                let len = if v6 { 124 } else { 28 };
                let vip = if v6 { "fd96::" } else { "10.96.0.0" };
                let network = *self.rng.pick(self.sets.shape.networks());
                let to = host(network, 0, v6);
                format!("dnat {of}prefix to {ip} daddr map {{ {vip}/{len} : {to}/{len} }}")
            }
            10..=11 if ported => {
                format!("{with}dnat {of}to {}{flags}", colon(&a, &port.to_string()))
            }
            12 if ported => format!("{with}dnat {of}to {}{flags}", colon(&a, "33000-33003")),
            13 if ported => format!("{with}dnat to :{port}{flags}"),
            _ => format!("dnat {of}to {a}{flags}"),
        }
    }

    pub(super) fn snat(&mut self, chain: &Chain, proto: &str, v6: bool) -> String {
        let ported = matches!(proto, "tcp" | "udp");
        let with = if ported {
            format!("meta l4proto {proto} ")
        } else {
            String::new()
        };
        let of = self.of_family(v6);
        let network = *self.rng.pick(self.sets.shape.networks());
        let own = host(network, 1, v6).to_string();
        let last = chain.places.iter().all(|p| p.hook == Postrouting);
        let flags = self.flags();
        let colon = |p: &str| match v6 {
            true => format!("[{own}]:{p}"),
            false => format!("{own}:{p}"),
        };
        let ip = if v6 { "ip6" } else { "ip" };
        match self.rng.below(12) {
            0..=3 if last => match self.rng.below(5) {
                0 if ported => format!("{with}masquerade to :2000-2003"),
                1 if ported => format!("{with}masquerade to :2000-2100{flags}"),
                _ => format!("masquerade{flags}"),
            },
            4 if ported => {
                let port = *self.rng.pick(&["2000-2001", "2000-2100", "600"]);
                format!("{with}snat {of}to {}{flags}", colon(port))
            }
            5 => match self.addresses(chain, proto, v6, false) {
                Some(m) => format!("snat {of}to {m}"),
                None => format!("snat {of}to {own}"),
            },
            6 => {
                let len = if v6 { 124 } else { 28 };
                let from = host(0, 0, v6);
                let to = host(network, 0, v6);
                format!("snat {of}prefix to {ip} saddr map {{ {from}/{len} : {to}/{len} }}")
            }
            7 => {
                let (x, y) = (host(network, 6, v6), host(network, 9, v6));
                format!("snat {of}to {x}-{y}{flags}")
            }
            8 => {
                let to = self.sets.target(v6, self.rng);
                format!("snat {of}to {to}")
            }
            _ => format!("snat {of}to {own}{flags}"),
        }
    }
}
