//! A small network of namespaces made from `ip` commands, and what passed in it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use podpath::base::{NsId, Origin, Span};
use podpath::import::ipcmd::{apply, derived_mac, parse, split_script};
use podpath::net::socket::{Binding, Owner};
use podpath::net::{DeviceKind, LinkSpec, PortAt, SocketId};
use podpath::nf::{Backend, Family, RuleSet};
use podpath::path::{Direction, Disposition, Errno, Observer, Place, Step};
use podpath::sim::World;
use podpath::wire::{Frame, IpHeader, build, checksum, print, proto};

/// A frame at a device.
#[derive(Clone, Debug)]
pub struct Tap {
    pub at: String,
    pub frame: Frame,
}

impl Tap {
    /// `ns dev In 10.1.0.10 > 10.2.0.10 ttl 63 udp 1000 > 9`
    pub fn line(&self) -> String {
        match self.frame.ethertype() {
            0x0806 => format!("{} {}", self.at, print::summary(&self.frame)),
            _ => format!("{} {}", self.at, told(self.frame.l3())),
        }
    }
}

/// A packet in one line, with what an ICMP error quotes. Wrong checksums are said.
pub fn told(packet: &[u8]) -> String {
    let Ok(h) = IpHeader::parse_lax(packet) else {
        return "no IP header".to_owned();
    };
    let p = h.payload(packet);
    let whole = packet.len() >= h.total_len && !h.is_fragment();
    let word = |at: usize| {
        p.get(at..at + 4)
            .map_or(0, |b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]))
    };
    let what = match (h.proto, h.ports(packet), h.icmp(packet)) {
        (proto::TCP, Some((s, d)), _) => {
            let flags = p.get(13).copied().unwrap_or(0);
            format!(
                "tcp {s} > {d} seq {} ack {} flags {flags:#x}",
                word(4),
                word(8)
            )
        }
        (_, Some((s, d)), _) => format!("udp {s} > {d}"),
        (proto::ICMP, _, Some((t @ (3 | 11), c))) | (proto::ICMPV6, _, Some((t @ 1..=4, c))) => {
            format!(
                "icmp {t}/{c} {} [{}]",
                word(4),
                told(p.get(8..).unwrap_or(&[]))
            )
        }
        (_, _, Some((t, c))) => format!("icmp {t}/{c} id {}", word(4) >> 16),
        (other, ..) => format!("proto {other}"),
    };
    let wrong = match () {
        () if h.is_v4() && checksum::sum(&packet[..h.header_len], 0) != 0xffff => {
            " BAD IP CHECKSUM"
        }
        () if whole && !build::l4_checksum_ok(&h, packet) => " BAD CHECKSUM",
        () => "",
    };
    let fragment = match (h.frag_off, h.mf) {
        (0, false) => String::new(),
        (at, mf) => format!(" at {at}{}", if mf { "+" } else { "" }),
    };
    let df = if h.df && h.is_v4() { " DF" } else { "" };
    let len = if h.is_fragment() {
        format!(" len {}", h.total_len)
    } else {
        String::new()
    };
    format!(
        "{} > {} ttl {}{len}{fragment}{df} {what}{wrong}",
        h.src, h.dst, h.ttl
    )
}

/// Keeps everything.
#[derive(Default)]
pub struct Seen {
    pub taps: Vec<Tap>,
    pub ends: Vec<(String, Disposition)>,
    pub steps: Vec<(String, Step)>,
}

impl Observer for Seen {
    const TRACING: bool = true;
    fn tap(&mut self, at: Place<'_>, dir: Direction, frame: &Frame) {
        let at = format!("{} {} {dir:?}", at.ns.name, at.dev_name());
        let frame = frame.clone();
        self.taps.push(Tap { at, frame });
    }
    fn step(&mut self, at: Place<'_>, _: &Frame, step: Step) {
        self.steps.push((at.ns.name.clone(), step));
    }
    fn end(&mut self, at: Place<'_>, _: &Frame, how: &Disposition) {
        self.ends.push((at.ns.name.clone(), how.clone()));
    }
}

/// The network.
pub struct Net {
    pub world: World,
    pub seen: Seen,
    ns: BTreeMap<String, NsId>,
    sockets: u32,
}

impl Net {
    pub fn new() -> Net {
        Net {
            world: World::new(7),
            seen: Seen::default(),
            ns: BTreeMap::new(),
            sockets: 0,
        }
    }

    pub fn id(&mut self, ns: &str) -> NsId {
        if let Some(id) = self.ns.get(ns) {
            return *id;
        }
        let node = self.world.add_node(ns);
        let id = self.world.add_ns(ns, node);
        self.ns.insert(ns.to_owned(), id);
        self.run(ns, "ip link set lo up");
        id
    }

    /// A veth pair, both ends up.
    pub fn veth(&mut self, a: (&str, &str), b: (&str, &str)) {
        let [x, y] = [a, b].map(|(ns, name)| {
            let id = self.id(ns);
            let spec = LinkSpec {
                name: name.to_owned(),
                kind: DeviceKind::Veth,
                mac: derived_mac(ns, name),
                mtu: None,
                origin: Origin::Kernel,
            };
            let dev = self.world.edit(id, |e| e.link_add(spec)).unwrap().unwrap();
            PortAt { ns: id, dev }
        });
        self.world.connect(x, y).unwrap();
        for (ns, name) in [a, b] {
            self.run(ns, &format!("ip link set {name} up"));
        }
    }

    pub fn run(&mut self, ns: &str, script: &str) {
        let id = self.id(ns);
        for line in split_script(script).into_iter().filter(|l| !l.is_empty()) {
            let command = parse(line, &Span::default()).unwrap_or_else(|f| panic!("{line}: {f}"));
            let now = self.world.now();
            let done = self
                .world
                .edit(id, |e| apply(&command, e, now, &Origin::Kernel));
            done.unwrap().unwrap_or_else(|e| panic!("{line}: {e}"));
        }
    }

    fn rules(&mut self, ns: &str, family: Family, rules: &str) {
        let id = self.id(ns);
        let (set, bad) = RuleSet::parse(ns, rules, family);
        assert!(bad.is_empty(), "{bad:?}");
        let nf = self.world.ns_mut(id).unwrap().nf_mut();
        let bad = nf.set_rules(family, Backend::Nft, set);
        assert!(bad.is_empty(), "{bad:?}");
    }

    /// Rules of one table, `table` first: `filter; -A FORWARD -j DROP; ...`.
    pub fn iptables(&mut self, ns: &str, rules: &str) {
        let text = restore(rules);
        self.rules(ns, Family::V4, &text);
    }

    pub fn ip6tables(&mut self, ns: &str, rules: &str) {
        let text = restore(rules);
        self.rules(ns, Family::V6, &text);
    }

    pub fn bind(&mut self, ns: &str, proto: u8, port: u16) -> SocketId {
        let id = self.id(ns);
        self.sockets += 1;
        let socket = SocketId(self.sockets);
        let b = Binding {
            proto,
            port,
            local: None,
            remote: None,
        };
        let table = self.world.ns_mut(id).unwrap().sockets_mut();
        table.bind(b, socket).unwrap();
        socket
    }

    /// Sets IP_TRANSPARENT.
    pub fn transparent(&mut self, ns: &str, socket: SocketId) {
        let id = self.id(ns);
        let owner = Owner {
            transparent: true,
            ..Owner::default()
        };
        let table = self.world.ns_mut(id).unwrap().sockets_mut();
        table.set_owner(socket, owner);
    }

    /// A process sends a packet; everything that follows at once happens.
    pub fn send(&mut self, ns: &str, packet: &[u8]) -> Result<(), Errno> {
        let id = self.id(ns);
        let r = self.world.send(id, packet, None, &mut self.seen).1;
        self.settle();
        r
    }

    pub fn settle(&mut self) {
        let until = self.world.now() + core::time::Duration::from_millis(1);
        self.world.settle(until, &mut self.seen);
    }

    pub fn wait(&mut self, seconds: u64) {
        let until = self.world.now() + core::time::Duration::from_secs(seconds);
        self.world.run_until(until, &mut self.seen);
    }

    /// What passed since the last call, resolution left out.
    pub fn taps(&mut self) -> Vec<Tap> {
        let taps = std::mem::take(&mut self.seen.taps);
        let nd = |l: &str| (133..=136).any(|t| l.contains(&format!(" icmp {t}/0")));
        taps.into_iter()
            .filter(|t| !t.line().contains(" ARP ") && !nd(&t.line()))
            .collect()
    }

    pub fn lines(&mut self) -> Vec<String> {
        self.taps().iter().map(Tap::line).collect()
    }

    /// What passed one place.
    pub fn lines_at(&mut self, place: &str) -> Vec<String> {
        let all = self.at(place);
        all.iter().map(|t| told(t.frame.l3())).collect()
    }

    /// The frames seen at one place.
    pub fn at(&mut self, place: &str) -> Vec<Tap> {
        let mut taps = self.taps();
        taps.retain(|t| t.at == place);
        taps
    }

    pub fn ends(&mut self) -> Vec<(String, Disposition)> {
        std::mem::take(&mut self.seen.ends)
    }

    /// How it ended in a namespace, the last first.
    pub fn end_in(&mut self, ns: &str) -> Option<Disposition> {
        let ends = self.ends();
        ends.into_iter().rev().find(|e| e.0 == ns).map(|e| e.1)
    }

    /// Packets that sockets got.
    pub fn delivered(&mut self) -> Vec<Frame> {
        let got = self.world.take_deliveries();
        got.into_iter().map(|d| d.packet).collect()
    }

    pub fn connections(&mut self, ns: &str) -> usize {
        let id = self.id(ns);
        let nf = self.world.ns(id).unwrap().nf().unwrap();
        nf.ct.iter().count()
    }
}

fn restore(rules: &str) -> String {
    let (mut tables, mut now): (Vec<(String, Vec<String>)>, usize) = (Vec::new(), 0);
    for line in rules
        .split([';', '\n'])
        .map(str::trim)
        .filter(|l| !l.is_empty())
    {
        if line.starts_with(['-', ':']) {
            tables[now].1.push(line.to_owned());
        } else {
            tables.push((line.to_owned(), Vec::new()));
            now = tables.len() - 1;
        }
    }
    let mut out = String::new();
    for (name, lines) in tables {
        let chains: &[&str] = match name.as_str() {
            "nat" => &["PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"],
            "raw" => &["PREROUTING", "OUTPUT"],
            "mangle" => &["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"],
            _ => &["INPUT", "FORWARD", "OUTPUT"],
        };
        out += &format!("*{name}\n");
        let declared = |c: &str| lines.iter().any(|l| l.starts_with(&format!(":{c} ")));
        for c in chains.iter().filter(|c| !declared(c)) {
            out += &format!(":{c} ACCEPT [0:0]\n");
        }
        let (heads, rest): (Vec<_>, Vec<_>) = lines.iter().partition(|l| l.starts_with(':'));
        for l in heads.into_iter().chain(rest) {
            out += l;
            out.push('\n');
        }
        out += "COMMIT\n";
    }
    out
}

pub fn ip(s: &str) -> IpAddr {
    s.parse().unwrap()
}

fn pack(src: IpAddr, dst: IpAddr, p: u8, payload: &[u8]) -> Vec<u8> {
    build::ip_packet(src, dst, p, 64, 0, 77, false, payload)
}

pub fn udp(src: (&str, u16), dst: (&str, u16), data: &[u8]) -> Vec<u8> {
    let (a, b) = (ip(src.0), ip(dst.0));
    pack(a, b, proto::UDP, &build::udp(a, b, src.1, dst.1, data))
}

/// A TCP segment: flags as the header has them (2 SYN, 16 ACK).
pub fn tcp(src: (&str, u16), dst: (&str, u16), seq: u32, ack: u32, flags: u8) -> Vec<u8> {
    let (a, b) = (ip(src.0), ip(dst.0));
    let mut t = Vec::new();
    t.extend_from_slice(&src.1.to_be_bytes());
    t.extend_from_slice(&dst.1.to_be_bytes());
    t.extend_from_slice(&seq.to_be_bytes());
    t.extend_from_slice(&ack.to_be_bytes());
    t.extend_from_slice(&[0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    let c = checksum::l4(a, b, proto::TCP, &t);
    t[16..18].copy_from_slice(&c.to_be_bytes());
    build::ip_packet(a, b, proto::TCP, 64, 0, 77, true, &t)
}

pub fn echo(src: &str, dst: &str, id: u16) -> Vec<u8> {
    let (a, b) = (ip(src), ip(dst));
    let (typ, p) = match a {
        IpAddr::V4(_) => (8, proto::ICMP),
        IpAddr::V6(_) => (128, proto::ICMPV6),
    };
    let m = build::icmp_message(a, b, typ, 0, u32::from(id) << 16 | 1, b"abcdefgh");
    pack(a, b, p, &m)
}

/// client 10.1.0.10 - router - server 10.2.0.10, the same with fd00:1:: and fd00:2::.
pub fn routed() -> Net {
    let mut n = Net::new();
    n.veth(("client", "eth0"), ("router", "e1"));
    n.veth(("server", "eth0"), ("router", "e2"));
    for (host, net) in [("client", 1), ("server", 2)] {
        n.run(
            host,
            &format!(
                "ip addr add 10.{net}.0.10/24 dev eth0; ip addr add fd00:{net}::10/64 dev eth0
                 ip route add default via 10.{net}.0.1; ip -6 route add default via fd00:{net}::1"
            ),
        );
        n.run(
            "router",
            &format!(
                "ip addr add 10.{net}.0.1/24 dev e{net}; ip addr add fd00:{net}::1/64 dev e{net}"
            ),
        );
    }
    n.run(
        "router",
        "sysctl -w net.ipv4.ip_forward=1; sysctl -w net.ipv6.conf.all.forwarding=1",
    );
    for (a, b) in [("10.1.0.10", "10.2.0.10"), ("fd00:1::10", "fd00:2::10")] {
        n.send("client", &echo(a, b, 1)).unwrap();
        n.wait(1);
    }
    n.taps();
    n.ends();
    n.seen.steps.clear();
    n
}
