//! A router with one rule at most in each nat chain, run hook by hook without a walker.

use etherparse::PacketBuilder;
use podpath::base::{DevId, Instant, NodeId, NsId, Origin, Rng};
use podpath::net::{DeviceKind, IfAddr, LinkSpec, NetNs};
use podpath::nf::ct::{Confirmed, Helped, Template, Tracked};
use podpath::nf::eval::{self, At, Cx, Verdict};
use podpath::nf::nat::{self, NoNat};
use podpath::nf::{Backend, Family, Hook, Netfilter, RuleSet};
use podpath::wire::{CtRef, Frame, IpHeader, MacAddr, Tuple, proto};
use std::net::{IpAddr, Ipv4Addr};

pub struct Router {
    pub ns: NetNs,
    pub nf: Netfilter,
    pub inside: DevId,
    pub outside: DevId,
    /// Whether the TTL is lowered between the hooks.
    pub forwards: bool,
    /// Whether ports 21 and 69 have their helpers, as by `-j CT --helper`.
    pub helpers: bool,
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
        Router::with(&both(dst, src), false)
    }

    /// The same for IPv6, between fd61::/64 and fd62::/64.
    pub fn v6(dst: &str, src: &str) -> Router {
        Router::with(&both(dst, src), true)
    }

    /// With any rules of one family's nat table.
    pub fn with(rules: &str, v6: bool) -> Router {
        let mut ns = NetNs::new(NsId(0), "r", NodeId(0));
        let inside = device(&mut ns, "in", &["10.61.0.1/24", "10.61.0.100/24"]);
        let outside = device(&mut ns, "out", &["10.62.0.1/24"]);
        let family = if v6 { Family::V6 } else { Family::V4 };
        let mut r = Router {
            nf: netfilter(family, rules),
            ns,
            inside,
            outside,
            forwards: false,
            helpers: false,
            gateway: None,
            asked: 0,
            rng: Rng::new(3),
            now: Instant::from_secs(1),
        };
        r.add(inside, "fd61::1/64");
        r.add(outside, "fd62::1/64");
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
        let t = Tuple::of(&IpHeader::parse_lax(f.l3()).unwrap(), f.l3());
        let helper = match (t.proto, t.dport) {
            (proto::TCP, 21) => Some("ftp"),
            (proto::UDP, 69) => Some("tftp"),
            _ => None,
        };
        if let Some(helper) = helper.filter(|_| self.helpers) {
            let template = Template {
                helper: Some(helper),
                ..Template::default()
            };
            f.ct = CtRef::template(self.nf.ct.new_template(first.family, template));
        }
        if self.nf.ct.track(&self.ns, f, first, &mut cx) != Tracked::Accept {
            return Err(None);
        }
        for at in [first, last] {
            f.nexthop = self.gateway;
            let (ns, asked, fx) = (&self.ns, &mut self.asked, &mut Vec::new());
            let mut ask = |nf: &mut Netfilter,
                           f: &mut Frame,
                           cx: &mut Cx<'_>,
                           b: podpath::nf::hook::NatChain| {
                *asked += 1;
                eval::nat_chain(nf, ns, f, at, b, cx, fx)
            };
            if at.hook == Hook::Postrouting && self.forwards {
                podpath::wire::ip::decrease_ttl(f.l3_mut());
            }
            let verdict = nat::hook(&mut self.nf, f, at, &mut cx, &mut ask).map_err(Some)?;
            if verdict != Verdict::Accept {
                return Err(None);
            }
        }
        let helped = nat::helper::run(&mut self.nf.ct, &self.ns, f, last, &mut cx);
        if helped.map_err(Some)? != Helped::Accept {
            return Err(None);
        }
        match self.nf.ct.confirm(&self.ns, f, last, &mut cx) {
            Confirmed::Accept if f.ct != CtRef::None => Ok(()),
            _ => Err(None),
        }
    }
}

/// One rule in a chain, or none.
fn rule(chain: &str, words: &str) -> String {
    match words {
        "" => String::new(),
        words => format!("-A {chain} {words}\n"),
    }
}

/// Rules of one family's nat table.
fn netfilter(family: Family, rules: &str) -> Netfilter {
    let text = format!(
        "*nat\n:PREROUTING ACCEPT [0:0]\n:INPUT ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n\
         :POSTROUTING ACCEPT [0:0]\n{rules}COMMIT\n"
    );
    let (set, bad) = RuleSet::parse("t", &text, family);
    assert!(bad.is_empty(), "{bad:?}");
    let mut nf = Netfilter::default();
    nf.set_rules(family, Backend::Legacy, set);
    nf
}

/// The same rule for what comes in and what the router sends, one for what leaves.
fn both(dst: &str, src: &str) -> String {
    rule("PREROUTING", dst) + &rule("OUTPUT", dst) + &rule("POSTROUTING", src)
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
    (seq, ack): (u32, u32),
    flags: &str,
) -> Vec<u8> {
    let mut b = PacketBuilder::ipv4(v4(src), v4(dst), 64).tcp(sport, dport, seq, 1000);
    for c in flags.chars() {
        b = match c {
            'S' => b.syn(),
            'A' => b.ack(ack),
            'R' => b.rst(),
            _ => b.fin(),
        };
    }
    let mut out = Vec::new();
    b.write(&mut out, b"").unwrap();
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
