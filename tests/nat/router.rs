//! A router with one rule at most in each nat chain, run hook by hook without a walker.

use etherparse::PacketBuilder;
use podpath::base::{DevId, Instant, NodeId, NsId, Origin, Rng};
use podpath::net::{DeviceKind, IfAddr, LinkSpec, NetNs};
use podpath::nf::ct::{Confirmed, Tracked};
use podpath::nf::eval::{self, At, Cx, Verdict};
use podpath::nf::nat::{self, NoNat};
use podpath::nf::{Backend, Family, Hook, Netfilter, RuleSet, TableName};
use podpath::wire::{CtRef, Frame, IpHeader, MacAddr, Tuple};
use std::net::{IpAddr, Ipv4Addr};

pub struct Router {
    pub ns: NetNs,
    pub nf: Netfilter,
    pub inside: DevId,
    pub outside: DevId,
    /// The gateway of the route out.
    pub gateway: Option<IpAddr>,
    /// How often the rules were asked.
    pub asked: u32,
    rng: Rng,
    now: Instant,
}

/// Dropped: by NAT with a reason, or `None` by a rule or conntrack.
pub type Dropped = Option<NoNat>;

impl Router {
    /// A router between 10.61.0.0/24 and 10.62.0.0/24 with a rule in PREROUTING and OUTPUT, and one in
    /// POSTROUTING; empty for none.
    pub fn new(dst: &str, src: &str) -> Router {
        let mut ns = NetNs::new(NsId(0), "r", NodeId(0));
        let inside = device(&mut ns, "in", &["10.61.0.1/24", "10.61.0.100/24"]);
        let outside = device(&mut ns, "out", &["10.62.0.1/24"]);
        Router {
            nf: netfilter(Family::V4, dst, src),
            ns,
            inside,
            outside,
            gateway: None,
            asked: 0,
            rng: Rng::new(3),
            now: Instant::from_secs(1),
        }
    }

    /// The same for IPv6, between fd61::/64 and fd62::/64.
    pub fn v6(dst: &str, src: &str) -> Router {
        let mut r = Router::new("", "");
        r.nf = netfilter(Family::V6, dst, src);
        r.add(r.inside, "fd61::1/64");
        r.add(r.outside, "fd62::1/64");
        r
    }

    /// Gives a device an address.
    pub fn add(&mut self, dev: DevId, net: &str) {
        let addr = IfAddr::new(net.parse().unwrap(), Origin::Kernel);
        self.ns.edit().addr_add(dev, addr).unwrap();
    }

    /// From the inside out.
    pub fn forward(&mut self, packet: &[u8]) -> Result<Vec<u8>, Dropped> {
        self.pass(packet, Some(self.inside), self.outside)
    }

    /// From the outside in.
    pub fn backward(&mut self, packet: &[u8]) -> Result<Vec<u8>, Dropped> {
        self.pass(packet, Some(self.outside), self.inside)
    }

    /// Sent by the router itself.
    pub fn output(&mut self, packet: &[u8]) -> Result<Vec<u8>, Dropped> {
        self.pass(packet, None, self.outside)
    }

    fn pass(&mut self, packet: &[u8], from: Option<DevId>, to: DevId) -> Result<Vec<u8>, Dropped> {
        let mut f = Frame::ip(packet);
        let at = At {
            hook: if from.is_some() {
                Hook::Prerouting
            } else {
                Hook::Output
            },
            family: if packet[0] >> 4 == 4 {
                Family::V4
            } else {
                Family::V6
            },
            input: from,
            output: None,
        };
        let out = At {
            hook: Hook::Postrouting,
            output: Some(to),
            ..at
        };
        let done = self.hooks(&mut f, &at, &out);
        self.nf.ct.end_walk();
        done.map(|()| f.l3().to_vec())
    }

    fn hooks(&mut self, f: &mut Frame, first: &At, last: &At) -> Result<(), Dropped> {
        let assume = Default::default();
        let mut cx = Cx {
            now: self.now,
            rng: &mut self.rng,
            steps: None,
            assume: &assume,
        };
        if self.nf.ct.track(&self.ns, f, first, &mut cx) != Tracked::Accept {
            return Err(None);
        }
        for at in [first, last] {
            f.nexthop = self.gateway;
            let (ns, asked, fx) = (&self.ns, &mut self.asked, &mut Vec::new());
            let mut ask = |nf: &mut Netfilter, f: &mut Frame, cx: &mut Cx<'_>, b: Backend| {
                *asked += 1;
                eval::table(nf, ns, f, at, b, TableName::Nat, cx, fx)
            };
            let verdict = nat::hook(&mut self.nf, f, at, &mut cx, &mut ask).map_err(Some)?;
            if verdict != Verdict::Accept {
                return Err(None);
            }
        }
        match self.nf.ct.confirm(&self.ns, f, last, &mut cx) {
            Confirmed::Accept if f.ct != CtRef::None => Ok(()),
            _ => Err(None),
        }
    }
}

/// Rules of one family's nat table.
fn netfilter(family: Family, dst: &str, src: &str) -> Netfilter {
    let rule = |chain: &str, words: &str| match words {
        "" => String::new(),
        words => format!("-A {chain} {words}\n"),
    };
    let text = format!(
        "*nat\n:PREROUTING ACCEPT [0:0]\n:INPUT ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n\
         :POSTROUTING ACCEPT [0:0]\n{}{}{}COMMIT\n",
        rule("PREROUTING", dst),
        rule("OUTPUT", dst),
        rule("POSTROUTING", src)
    );
    let (set, bad) = RuleSet::parse("t", &text, family);
    assert!(bad.is_empty(), "{bad:?}");
    let mut nf = Netfilter::default();
    nf.set_rules(family, Backend::Legacy, set);
    nf
}

fn device(ns: &mut NetNs, name: &str, addrs: &[&str]) -> DevId {
    let mut e = ns.edit();
    let spec = LinkSpec {
        name: name.to_owned(),
        kind: DeviceKind::Veth,
        mac: MacAddr([2, 0, 0, 0, 0, name.len() as u8]),
        mtu: None,
        origin: Origin::Kernel,
    };
    let dev = e.link_add(spec).unwrap();
    e.set_up(dev, true).unwrap();
    for a in addrs {
        let addr = IfAddr::new(a.parse().unwrap(), Origin::Kernel);
        e.addr_add(dev, addr).unwrap();
    }
    dev
}

pub fn ip(s: &str) -> IpAddr {
    s.parse().unwrap()
}

fn v4(s: &str) -> [u8; 4] {
    s.parse::<Ipv4Addr>().unwrap().octets()
}

pub fn udp(src: &str, sport: u16, dst: &str, dport: u16) -> Vec<u8> {
    let mut out = Vec::new();
    let b = match (ip(src), ip(dst)) {
        (IpAddr::V6(a), IpAddr::V6(b)) => PacketBuilder::ipv6(a.octets(), b.octets(), 64),
        _ => PacketBuilder::ipv4(v4(src), v4(dst), 64),
    };
    let b = b.udp(sport, dport);
    b.write(&mut out, b"data").unwrap();
    out
}

/// A TCP packet without data; `flags` of S, A, R, F.
pub fn tcp_flags(
    src: &str,
    sport: u16,
    dst: &str,
    dport: u16,
    at: (u32, u32),
    flags: &str,
) -> Vec<u8> {
    tcp((src, sport), (dst, dport), at, flags, b"")
}

/// A TCP segment with data.
pub fn tcp_data(
    src: &str,
    sport: u16,
    dst: &str,
    dport: u16,
    at: (u32, u32),
    data: &str,
) -> Vec<u8> {
    tcp((src, sport), (dst, dport), at, "A", data.as_bytes())
}

fn tcp(
    src: (&str, u16),
    dst: (&str, u16),
    (seq, ack): (u32, u32),
    flags: &str,
    data: &[u8],
) -> Vec<u8> {
    let mut b = PacketBuilder::ipv4(v4(src.0), v4(dst.0), 64).tcp(src.1, dst.1, seq, 1000);
    for c in flags.chars() {
        b = match c {
            'S' => b.syn(),
            'A' => b.ack(ack),
            'R' => b.rst(),
            _ => b.fin(),
        };
    }
    let mut out = Vec::new();
    b.write(&mut out, data).unwrap();
    out
}

/// The datagram that answers one.
pub fn reply_of(p: &[u8]) -> Vec<u8> {
    let t = Tuple::of(&IpHeader::parse_lax(p).unwrap(), p).reply();
    udp(&t.src.to_string(), t.sport, &t.dst.to_string(), t.dport)
}

/// An ICMP port unreachable about a packet.
pub fn unreachable(src: &str, dst: &str, about: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let b = PacketBuilder::ipv4(v4(src), v4(dst), 64).icmpv4_raw(3, 3, [0; 4]);
    b.write(&mut out, about).unwrap();
    out
}
