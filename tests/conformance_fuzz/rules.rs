//! Draws rule sets as input of iptables-restore, and the sets they ask, as input of `ipset restore`.
//!
//! Only what a hook allows is written in a chain that it reaches; the kernel still has the last word, and a set
//! it refuses is drawn again. Nothing in it depends on time or chance: limits refill once an hour, `statistic`
//! counts or is certain.

use super::matches::Matches;
use super::net::{LAST_HOST, Shape, host};
use super::rng::Rng;
use super::traffic::{PORTS, VIPS, vip};

/// A place in the packet's way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hook {
    Prerouting,
    Input,
    Forward,
    Output,
    Postrouting,
}

use Hook::*;

impl Hook {
    fn chain(self) -> &'static str {
        match self {
            Prerouting => "PREROUTING",
            Input => "INPUT",
            Forward => "FORWARD",
            Output => "OUTPUT",
            Postrouting => "POSTROUTING",
        }
    }

    /// Whether the device it came in by is known.
    pub fn has_in(self) -> bool {
        matches!(self, Prerouting | Input | Forward)
    }

    /// Whether the device it leaves by is known.
    pub fn has_out(self) -> bool {
        matches!(self, Forward | Output | Postrouting)
    }
}

const TABLES: [(&str, &[Hook]); 5] = [
    ("raw", &[Prerouting, Output]),
    ("mangle", &[Prerouting, Input, Forward, Output, Postrouting]),
    ("nat", &[Prerouting, Input, Output, Postrouting]),
    ("filter", &[Input, Forward, Output]),
    ("security", &[Input, Forward, Output]),
];

/// Names of sets by what they hold; `~` stands for the round's tag.
pub const SETS: [(&str, &str); 5] = [
    ("f~-ip", "hash:ip"),
    ("f~-net", "hash:net"),
    ("f~-ipport", "hash:ip,port"),
    ("f~-port", "bitmap:port range 0-65535"),
    ("f~-list", "list:set"),
];

/// What is drawn.
pub struct Drawn {
    pub sets: String,
    pub rules: String,
}

/// Draws both. `tag` goes into the names of sets and lists: the kernel frees those of old rules a little later.
pub fn draw(shape: Shape, v6: bool, tag: &str, rng: &mut Rng) -> Drawn {
    let with_sets = rng.chance(30);
    let sets = if with_sets {
        sets(v6, rng)
    } else {
        String::new()
    };
    let mut d = Drawer {
        m: Matches {
            shape,
            v6,
            sets: with_sets,
        },
        rng,
        text: String::new(),
    };
    let mut some = false;
    for (table, hooks) in TABLES {
        let percent = match table {
            "nat" => 75,
            "filter" => 85,
            "mangle" => 45,
            "raw" => 30,
            _ => 12,
        };
        if d.rng.chance(percent) {
            d.table(table, hooks);
            some = true;
        }
    }
    if !some {
        d.table("filter", &[Input, Forward, Output]);
    }
    let rules = d.text.replace('~', tag);
    let sets = sets.replace('~', tag);
    Drawn { sets, rules }
}

fn sets(v6: bool, rng: &mut Rng) -> String {
    let family = if v6 { "inet6" } else { "inet" };
    let mut out = String::new();
    for (name, kind) in SETS {
        let hash = kind.starts_with("hash");
        let family = if hash {
            format!(" family {family}")
        } else {
            String::new()
        };
        out += &format!("create {name} {kind}{family}\n");
    }
    for _ in 0..1 + rng.below(4) {
        let ip = host(*rng.pick(&[0, 1, 2]), 2 + rng.below(3) as u8, v6);
        out += &format!("add f~-ip {ip} -exist\n");
    }
    for _ in 0..1 + rng.below(3) {
        let len = *rng.pick(if v6 { &[64, 126, 48] } else { &[24, 30, 16] });
        let net = host(*rng.pick(&[0, 1, 2]), 4, v6);
        let nomatch = if rng.chance(25) { " nomatch" } else { "" };
        out += &format!("add f~-net {net}/{len}{nomatch} -exist\n");
    }
    for _ in 0..1 + rng.below(4) {
        let proto = *rng.pick(&["tcp", "udp", "sctp"]);
        let (ip, port) = (
            host(rng.below(3), 2 + rng.below(3) as u8, v6),
            rng.pick(&PORTS),
        );
        out += &format!("add f~-ipport {ip},{proto}:{port} -exist\n");
    }
    for _ in 0..1 + rng.below(4) {
        out += &format!("add f~-port {} -exist\n", rng.pick(&PORTS));
    }
    out + "add f~-list f~-ip -exist\nadd f~-list f~-net -exist\n"
}

struct Drawer<'r> {
    m: Matches,
    rng: &'r mut Rng,
    text: String,
}

impl Drawer<'_> {
    fn table(&mut self, table: &str, hooks: &[Hook]) {
        self.text += &format!("*{table}\n");
        for h in hooks {
            let drop = table == "filter" && self.rng.chance(15);
            let policy = if drop { "DROP" } else { "ACCEPT" };
            self.text += &format!(":{} {policy} [0:0]\n", h.chain());
        }
        let users: Vec<(String, Vec<Hook>)> = (0..self.rng.below(4))
            .map(|i| (format!("U{i}"), self.callers(table, hooks)))
            .collect();
        for (name, _) in &users {
            self.text += &format!(":{name} - [0:0]\n");
        }
        for h in hooks {
            for _ in 0..self.rng.below(5) {
                self.rule(table, h.chain(), &[*h], &users);
            }
        }
        for (i, (name, hooks)) in users.iter().enumerate() {
            for _ in 0..self.rng.below(5) {
                // Only later chains: no loops.
                let rest: Vec<_> = users[i + 1..].to_vec();
                self.rule(table, name, hooks, &rest);
            }
        }
        self.text += "COMMIT\n";
    }

    /// The hooks that may call a user chain.
    fn callers(&mut self, table: &str, hooks: &[Hook]) -> Vec<Hook> {
        match table {
            // Destination and source translation cannot be in one chain.
            "nat" if self.rng.chance(50) => vec![Prerouting, Output],
            "nat" => vec![Input, Postrouting],
            _ if self.rng.chance(50) => hooks.to_vec(),
            _ => vec![*self.rng.pick(hooks)],
        }
    }

    fn rule(&mut self, table: &str, chain: &str, hooks: &[Hook], users: &[(String, Vec<Hook>)]) {
        let proto = self.rng.weighted(&[
            (40, ""),
            (22, "tcp"),
            (18, "udp"),
            (10, "icmp"),
            (5, "sctp"),
            (3, "! udp"),
            (2, "47"),
        ]);
        let proto = if self.m.v6 && proto == "icmp" {
            "ipv6-icmp"
        } else {
            proto
        };
        let (target, needs) = self.target(table, hooks, proto, users);
        let proto = needs.unwrap_or(proto);
        let mut line = format!("-A {chain}");
        match proto.strip_prefix("! ") {
            Some(p) => line += &format!(" ! -p {p}"),
            None if !proto.is_empty() => line += &format!(" -p {proto}"),
            None => {}
        }
        let many = self.rng.weighted(&[(25, 0), (45, 1), (25, 2), (5, 3)]);
        let mut taken = Vec::new();
        for _ in 0..many {
            let (kind, words) = self.m.draw(hooks, proto, self.rng);
            // iptables-nft makes one of two `-m tcp`, and prints that.
            let twice = kind == "transport" && target.starts_with(" -m tcp");
            if !twice && !taken.contains(&kind) {
                line += &format!(" {words}");
                taken.push(kind);
            }
        }
        self.text += &format!("{line}{target}\n");
    }

    /// A target in words, and the protocol it asks for.
    fn target(
        &mut self,
        table: &str,
        hooks: &[Hook],
        proto: &str,
        users: &[(String, Vec<Hook>)],
    ) -> (String, Option<&'static str>) {
        let fits: Vec<&String> = users
            .iter()
            .filter(|(_, u)| hooks.iter().all(|h| u.contains(h)))
            .map(|(name, _)| name)
            .collect();
        if !fits.is_empty() && self.rng.chance(35) {
            let way = self.rng.weighted(&[(75, "-j"), (25, "-g")]);
            return (format!(" {way} {}", self.rng.pick(&fits)), None);
        }
        if self.rng.chance(8) {
            return (String::new(), None);
        }
        let all = |want: &[Hook]| hooks.iter().all(|h| want.contains(h));
        match table {
            "nat" if all(&[Prerouting, Output]) && self.rng.chance(75) => self.dnat(proto),
            "nat" if all(&[Input, Postrouting]) && self.rng.chance(75) => {
                self.snat(proto, hooks == [Postrouting])
            }
            "filter" if self.rng.chance(30) => self.reject(),
            "raw" if self.rng.chance(40) => (self.raw().to_owned(), None),
            "mangle" if self.rng.chance(60) => self.mangle(hooks),
            _ => (self.any(table).to_owned(), None),
        }
    }

    fn any(&mut self, table: &str) -> String {
        let kind = self.rng.weighted(&[
            (35, "ACCEPT"),
            (20, "DROP"),
            (12, "RETURN"),
            (10, "MARK"),
            (7, "CONNMARK"),
            (4, "LOG"),
            (3, "NFLOG"),
            (3, "SET"),
            (2, "NFQUEUE"),
        ]);
        let kind = match kind {
            "DROP" if table == "nat" => "RETURN",
            "SET" if !self.m.sets => "ACCEPT",
            k => k,
        };
        match kind {
            "MARK" => self.mark(),
            "CONNMARK" => self.connmark(),
            "LOG" => " -j LOG --log-prefix \"fuzz \"".to_owned(),
            "NFLOG" => " -j NFLOG --nflog-group 5".to_owned(),
            "NFQUEUE" => " -j NFQUEUE --queue-num 7 --queue-bypass".to_owned(),
            "SET" => {
                let op = *self.rng.pick(&["add-set", "del-set"]);
                format!(" -j SET --{op} f~-ip {}", self.rng.pick(&["src", "dst"]))
            }
            k => format!(" -j {k}"),
        }
    }

    fn mark(&mut self) -> String {
        let value = *self.rng.pick(&[1, 2, 0x4000, 0x8000]);
        match self.rng.below(4) {
            0 => format!(" -j MARK --set-mark {value:#x}"),
            1 => format!(" -j MARK --or-mark {value:#x}"),
            2 => format!(" -j MARK --and-mark {:#x}", !value),
            _ => format!(" -j MARK --set-xmark {value:#x}/{value:#x}"),
        }
    }

    fn connmark(&mut self) -> String {
        match self.rng.below(4) {
            0 => " -j CONNMARK --save-mark".to_owned(),
            1 => " -j CONNMARK --restore-mark".to_owned(),
            2 => format!(" -j CONNMARK --set-mark {:#x}", self.rng.below(4)),
            _ => " -j CONNMARK --set-xmark 0x10/0xff".to_owned(),
        }
    }

    fn address(&mut self) -> String {
        let (network, n) = (
            *self.rng.pick(self.m.shape.networks()),
            2 + self.rng.below(4) as u8,
        );
        host(network, n, self.m.v6).to_string()
    }

    fn with_port(&self, address: &str, ports: &str) -> String {
        match self.m.v6 {
            true => format!("[{address}]:{ports}"),
            false => format!("{address}:{ports}"),
        }
    }

    fn dnat(&mut self, proto: &str) -> (String, Option<&'static str>) {
        let ported = matches!(proto, "tcp" | "udp" | "sctp");
        let port = *self.rng.pick(&PORTS);
        let words = match self.rng.below(10) {
            0..=1 if ported && proto != "sctp" => match self.rng.chance(70) {
                true => format!(" -j REDIRECT --to-ports {port}"),
                false => " -j REDIRECT".to_owned(),
            },
            2 => {
                let network = *self.rng.pick(self.m.shape.networks());
                let len = if self.m.v6 { 124 } else { 28 };
                format!(" -j NETMAP --to {}/{len}", host(network, 0, self.m.v6))
            }
            3..=6 if ported => {
                let a = self.address();
                format!(
                    " -j DNAT --to-destination {}",
                    self.with_port(&a, &port.to_string())
                )
            }
            7 if ported => {
                // Outside of what matches name: which of them it is must not decide a verdict.
                let a = self.address();
                format!(
                    " -j DNAT --to-destination {}",
                    self.with_port(&a, "33000-33003")
                )
            }
            _ => format!(" -j DNAT --to-destination {}", self.address()),
        };
        (words, None)
    }

    fn snat(&mut self, proto: &str, last: bool) -> (String, Option<&'static str>) {
        let ported = matches!(proto, "tcp" | "udp");
        let network = *self.rng.pick(self.m.shape.networks());
        let own = host(network, 1, self.m.v6).to_string();
        let words = match self.rng.below(10) {
            0..=3 if last => match self.rng.below(6) {
                0 if ported => " -j MASQUERADE --to-ports 2000-2003".to_owned(),
                1 if ported => " -j MASQUERADE --random-fully".to_owned(),
                _ => " -j MASQUERADE".to_owned(),
            },
            4 if ported => {
                let port = *self.rng.pick(&["2000-2001", "2000-2100", "600"]);
                format!(" -j SNAT --to-source {}", self.with_port(&own, port))
            }
            5 => {
                let len = if self.m.v6 { 124 } else { 28 };
                format!(" -j NETMAP --to {}/{len}", host(network, 0, self.m.v6))
            }
            6 => format!(" -j SNAT --to-source {}", self.address()),
            _ => format!(" -j SNAT --to-source {own}"),
        };
        (words, None)
    }

    fn reject(&mut self) -> (String, Option<&'static str>) {
        let kinds: &[&str] = match self.m.v6 {
            true => &[
                "icmp6-no-route",
                "icmp6-adm-prohibited",
                "icmp6-addr-unreachable",
                "icmp6-port-unreachable",
                "tcp-reset",
            ],
            false => &[
                "icmp-net-unreachable",
                "icmp-host-unreachable",
                "icmp-proto-unreachable",
                "icmp-port-unreachable",
                "icmp-net-prohibited",
                "icmp-host-prohibited",
                "icmp-admin-prohibited",
                "tcp-reset",
            ],
        };
        let kind = *self.rng.pick(kinds);
        let needs = (kind == "tcp-reset").then_some("tcp");
        (format!(" -j REJECT --reject-with {kind}"), needs)
    }

    fn raw(&mut self) -> &'static str {
        self.rng.weighted(&[
            (50, " -j CT --notrack"),
            (20, " -j CT --zone 7"),
            (10, " -j CT --zone-orig 8"),
            (10, " -j CT --zone-reply 9"),
            (10, " -j NOTRACK"),
        ])
    }

    fn mangle(&mut self, hooks: &[Hook]) -> (String, Option<&'static str>) {
        let syn = " -m tcp --tcp-flags SYN,RST SYN -j TCPMSS";
        let routed = hooks
            .iter()
            .all(|h| matches!(h, Forward | Output | Postrouting));
        match self.rng.below(10) {
            0 if routed => (format!("{syn} --clamp-mss-to-pmtu"), Some("tcp")),
            1 => (
                format!("{syn} --set-mss {}", self.rng.pick(&[500, 1000])),
                Some("tcp"),
            ),
            2 => (
                format!(" -j DSCP --set-dscp {:#x}", self.rng.below(64)),
                None,
            ),
            3 => (
                format!(" -j TOS --set-tos {:#x}", self.rng.pick(&[0, 8, 16])),
                None,
            ),
            4 => {
                let op = *self.rng.pick(&["set 30", "inc 1", "dec 1"]);
                let name = if self.m.v6 { "HL --hl" } else { "TTL --ttl" };
                (format!(" -j {name}-{op}"), None)
            }
            5 if routed => (" -j CLASSIFY --set-class 1:2".to_owned(), None),
            6 => (" -j CHECKSUM --checksum-fill".to_owned(), Some("udp")),
            7 => {
                let network = *self.rng.pick(self.m.shape.networks());
                let to = host(network, LAST_HOST, self.m.v6);
                (format!(" -j TEE --gateway {to}"), None)
            }
            8 => (self.connmark(), None),
            _ => (self.mark(), None),
        }
    }
}

/// An address that rules ask for.
pub fn any_address(shape: Shape, v6: bool, rng: &mut Rng) -> String {
    let network = *rng.pick(shape.networks());
    match rng.below(10) {
        0..=3 => host(network, 2 + rng.below(4) as u8, v6).to_string(),
        4..=5 => vip(*rng.pick(&VIPS), v6).to_string(),
        6 => host(network, 1, v6).to_string(),
        7 => format!("{}/{}", host(network, 4, v6), if v6 { 126 } else { 30 }),
        8 => format!("{}/{}", host(network, 0, v6), if v6 { 64 } else { 24 }),
        _ if v6 => "fd00::/12".to_owned(),
        _ => "10.0.0.0/8".to_owned(),
    }
}
