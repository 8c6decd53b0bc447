//! Draws one match in the words of iptables-restore.

use super::net::{CABLES, Shape, host, host_mac, mac};
use super::rng::Rng;
use super::rules::{Hook, any_address};
use super::traffic::PORTS;

/// What matches of one rule set may ask.
pub struct Matches {
    pub shape: Shape,
    pub v6: bool,
    /// Whether there are sets.
    pub sets: bool,
}

type Drawn = (&'static str, String);

impl Matches {
    /// A match for a chain that these hooks call, of a rule for a protocol: its kind, which a rule may have
    /// once, and its words.
    pub fn draw(&self, hooks: &[Hook], proto: &str, rng: &mut Rng) -> Drawn {
        let ported = matches!(proto, "tcp" | "udp" | "sctp");
        for _ in 0..20 {
            let drawn = match rng.below(100) {
                0..=9 => self.address("-s", rng),
                10..=21 => self.address("-d", rng),
                22..=27 => self.interface(hooks, rng),
                28..=43 => self.transport(proto, rng),
                44..=59 => self.conntrack(ported, rng),
                60..=65 if ported => multiport(rng),
                66..=71 => self.addrtype(hooks, rng),
                72..=77 => Some(mark(rng)),
                78..=81 if self.sets => self.set(ported, rng),
                82..=85 => Some(stateful(rng)),
                86..=89 => self.link(hooks, rng),
                _ => self.header(proto, rng),
            };
            if let Some(d) = drawn {
                return d;
            }
        }
        ("comment", "-m comment --comment fuzz".to_owned())
    }

    fn address(&self, option: &'static str, rng: &mut Rng) -> Option<Drawn> {
        let a = any_address(self.shape, self.v6, rng);
        Some((option, format!("{}{option} {a}", not(rng))))
    }

    fn interface(&self, hooks: &[Hook], rng: &mut Rng) -> Option<Drawn> {
        let name = match rng.below(4) {
            0 => "r+",
            _ => rng.pick(self.shape.interfaces()),
        };
        let (i, o) = (
            hooks.iter().all(|h| h.has_in()),
            hooks.iter().all(|h| h.has_out()),
        );
        let option = match (i, o) {
            (true, true) => *rng.pick(&["-i", "-o"]),
            (true, false) => "-i",
            (false, true) => "-o",
            _ => return None,
        };
        Some((option, format!("{}{option} {name}", not(rng))))
    }

    fn transport(&self, proto: &str, rng: &mut Rng) -> Option<Drawn> {
        let words = match proto {
            "tcp" => match rng.below(8) {
                0..=3 => format!("-m tcp {}", ports(rng)),
                4 => format!("-m tcp {}--syn", not(rng)),
                5 => {
                    let mask = *rng.pick(&["SYN,ACK", "SYN,RST,ACK,FIN", "ALL", "ACK"]);
                    let comp = *rng.pick(&["SYN", "ACK", "NONE"]);
                    let comp = if mask == "ACK" { "ACK" } else { comp };
                    format!("-m tcp {}--tcp-flags {mask} {comp}", not(rng))
                }
                6 => format!("-m tcp {}--tcp-option {}", not(rng), rng.pick(&[2, 4, 8])),
                _ => format!("-m tcp {} --syn", ports(rng)),
            },
            "udp" => format!("-m udp {}", ports(rng)),
            "sctp" => match rng.chance(60) {
                true => format!("-m sctp {}", ports(rng)),
                false => {
                    let (how, what) = (
                        *rng.pick(&["any", "all", "only"]),
                        *rng.pick(&["INIT", "DATA", "INIT,INIT_ACK", "COOKIE_ECHO"]),
                    );
                    format!("-m sctp --chunk-types {how} {what}")
                }
            },
            "icmp" => {
                let kind = *rng.pick(&["8", "0", "3", "3/3", "any", "11/0"]);
                format!(
                    "-m icmp {}--icmp-type {kind}",
                    if kind == "any" { "" } else { not(rng) }
                )
            }
            "ipv6-icmp" => {
                let kind = *rng.pick(&["128", "129", "1", "1/4", "3"]);
                format!("-m icmp6 {}--icmpv6-type {kind}", not(rng))
            }
            _ => return None,
        };
        Some(("transport", words))
    }

    fn conntrack(&self, ported: bool, rng: &mut Rng) -> Option<Drawn> {
        let n = not(rng);
        let words = match rng.below(12) {
            0..=4 => {
                let states = *rng.pick(&[
                    "NEW",
                    "ESTABLISHED",
                    "RELATED,ESTABLISHED",
                    "INVALID",
                    "UNTRACKED",
                    "DNAT",
                    "SNAT",
                    "RELATED",
                    "INVALID,NEW",
                ]);
                format!("{n}--ctstate {states}")
            }
            5 => {
                let status = *rng.pick(&["SEEN_REPLY", "ASSURED", "CONFIRMED", "NONE", "EXPECTED"]);
                format!("{n}--ctstatus {status}")
            }
            6 => format!("{n}--ctproto {}", rng.pick(&["6", "17", "1"])),
            7 => {
                let which = *rng.pick(&["origsrc", "origdst", "replsrc", "repldst"]);
                format!("{n}--ct{which} {}", any_address(self.shape, self.v6, rng))
            }
            8 if ported => {
                let which =
                    *rng.pick(&["origsrcport", "origdstport", "replsrcport", "repldstport"]);
                format!(
                    "{n}--ct{which} {}",
                    rng.pick(&["80", "1:1000", "53", "40000:50000"])
                )
            }
            9..=10 => format!("--ctdir {}", rng.pick(&["ORIGINAL", "REPLY"])),
            _ => {
                let states = *rng.pick(&["NEW", "ESTABLISHED", "RELATED", "INVALID"]);
                return Some(("conntrack", format!("-m state {n}--state {states}")));
            }
        };
        Some(("conntrack", format!("-m conntrack {words}")))
    }

    fn addrtype(&self, hooks: &[Hook], rng: &mut Rng) -> Option<Drawn> {
        let kind = rng.weighted(&[
            (60, "LOCAL"),
            (20, "UNICAST"),
            (10, "MULTICAST"),
            (5, "BROADCAST"),
            (5, "UNREACHABLE"),
        ]);
        let kind = if self.v6 && kind == "BROADCAST" {
            "ANYCAST"
        } else {
            kind
        };
        let side = *rng.pick(&["--src-type", "--dst-type"]);
        let mut words = format!("-m addrtype {}{side} {kind}", not(rng));
        if rng.chance(10) {
            match (
                hooks.iter().all(|h| h.has_in()),
                hooks.iter().all(|h| h.has_out()),
            ) {
                (true, false) => words += " --limit-iface-in",
                (false, true) => words += " --limit-iface-out",
                _ => {}
            }
        }
        Some(("addrtype", words))
    }

    fn set(&self, ported: bool, rng: &mut Rng) -> Option<Drawn> {
        let side = *rng.pick(&["src", "dst"]);
        let (name, flags) = match rng.below(5) {
            0..=1 => ("f~-ip", side.to_owned()),
            2 => ("f~-net", side.to_owned()),
            3 if ported => ("f~-ipport", format!("{side},{}", rng.pick(&["src", "dst"]))),
            4 if ported => ("f~-port", side.to_owned()),
            _ => ("f~-list", side.to_owned()),
        };
        Some((
            "set",
            format!("-m set {}--match-set {name} {flags}", not(rng)),
        ))
    }

    /// What is known of the link.
    fn link(&self, hooks: &[Hook], rng: &mut Rng) -> Option<Drawn> {
        if self.shape == Shape::Bridged && rng.chance(50) {
            let words = match rng.below(3) {
                0 => format!("{}--physdev-in {}", not(rng), rng.pick(&CABLES)),
                1 if hooks
                    .iter()
                    .all(|h| *h == Hook::Forward || *h == Hook::Postrouting) =>
                {
                    format!("{}--physdev-is-bridged", not(rng))
                }
                _ => format!("{}--physdev-is-in", not(rng)),
            };
            return Some(("physdev", format!("-m physdev {words}")));
        }
        if !hooks.iter().all(|h| h.has_in()) {
            return None;
        }
        match rng.chance(60) {
            true => {
                let m = mac(host_mac(rng.below(3)));
                Some(("mac", format!("-m mac {}--mac-source {m}", not(rng))))
            }
            false => Some((
                "pkttype",
                format!(
                    "-m pkttype {}--pkt-type {}",
                    not(rng),
                    rng.pick(&["unicast", "multicast"])
                ),
            )),
        }
    }

    /// Fields of the IP header and of the payload.
    fn header(&self, proto: &str, rng: &mut Rng) -> Option<Drawn> {
        let n = not(rng);
        Some(match rng.below(8) {
            0 => (
                "length",
                format!(
                    "-m length {n}--length {}",
                    rng.pick(&["0:100", "60", "500:"])
                ),
            ),
            1 if self.v6 => (
                "ttl",
                format!("-m hl --hl-{}", rng.pick(&["eq 64", "lt 64", "gt 1"])),
            ),
            1 => (
                "ttl",
                format!("-m ttl --ttl-{}", rng.pick(&["eq 64", "lt 64", "gt 1"])),
            ),
            2 => (
                "tos",
                format!("-m tos {n}--tos {}", rng.pick(&["0x10/0xff", "0x08/0x18"])),
            ),
            3 => (
                "dscp",
                format!("-m dscp {n}--dscp {}", rng.pick(&["0x2e", "0x00", "0x04"])),
            ),
            4 => {
                let network = *rng.pick(self.shape.networks());
                let (a, b) = (host(network, 2, self.v6), host(network, 3, self.v6));
                let side = *rng.pick(&["src", "dst"]);
                ("iprange", format!("-m iprange {n}--{side}-range {a}-{b}"))
            }
            5 => {
                let words = *rng.pick(&["--from 20", "--from 40 --to 100", "--to 70", ""]);
                (
                    "string",
                    format!("-m string {n}--string GET --algo bm {words}")
                        .trim_end()
                        .to_owned(),
                )
            }
            6 if !self.v6 => {
                let test = *rng.pick(&[
                    "8&0xFF=6",
                    "0>>22&0x3C@0&0xFFFF=80",
                    "0&0xFFFF=40:100",
                    "6&0x1FFF=0",
                ]);
                ("u32", format!("-m u32 {n}--u32 {test}"))
            }
            7 if proto == "tcp" => ("ecn", format!("-m ecn {n}--ecn-tcp-ece")),
            _ => return None,
        })
    }
}

fn not(rng: &mut Rng) -> &'static str {
    if rng.chance(20) { "! " } else { "" }
}

fn ports(rng: &mut Rng) -> String {
    let side = rng.weighted(&[(80, "--dport"), (20, "--sport")]);
    let port = *rng.pick(&PORTS);
    let value = match rng.below(6) {
        0 => "1:1000".to_owned(),
        1 => "40000:50000".to_owned(),
        2 => "70:79".to_owned(),
        _ => port.to_string(),
    };
    format!("{}{side} {value}", not(rng))
}

fn multiport(rng: &mut Rng) -> Option<Drawn> {
    let side = *rng.pick(&["--dports", "--dports", "--sports", "--ports"]);
    let list = *rng.pick(&[
        "53,80",
        "80,443,8080",
        "1:1000,8080",
        "30080,5000:6000",
        "40000:50000",
    ]);
    Some((
        "multiport",
        format!("-m multiport {}{side} {list}", not(rng)),
    ))
}

fn mark(rng: &mut Rng) -> Drawn {
    let kind = rng.weighted(&[(70, "mark"), (30, "connmark")]);
    let value = *rng.pick(&[
        "0x4000/0x4000",
        "0x1",
        "0x0/0xff",
        "0x8000/0x8000",
        "0x2/0x3",
    ]);
    (kind, format!("-m {kind} {}--mark {value}", not(rng)))
}

/// What remembers packets; nothing of it changes with time.
fn stateful(rng: &mut Rng) -> Drawn {
    match rng.below(6) {
        0..=1 => {
            let every = 2 + rng.below(3);
            let packet = rng.below(every);
            let words = format!("-m statistic --mode nth --every {every} --packet {packet}");
            ("statistic", words)
        }
        2 => {
            let p = *rng.pick(&["1", "0"]);
            let words = format!("-m statistic --mode random --probability {p}");
            ("statistic", words)
        }
        3 => (
            "limit",
            format!("-m limit --limit 1/hour --limit-burst {}", 1 + rng.below(5)),
        ),
        _ => {
            let op = *rng.pick(&[
                "--set",
                "--rcheck --seconds 600",
                "--update --hitcount 2",
                "--rcheck",
                "--remove",
            ]);
            let side = *rng.pick(&["--rsource", "--rdest"]);
            let words = format!("-m recent --name R~{} {side} {op}", rng.below(2));
            ("recent", words)
        }
    }
}
