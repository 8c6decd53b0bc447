//! A router with one rule at most in each nat chain, run hook by hook without a walker.

use etherparse::PacketBuilder;
use podpath::base::{DevId, Instant, NodeId, NsId, Origin, Rng};
use podpath::net::{DeviceKind, IfAddr, LinkSpec, NetNs};
use podpath::nf::ct::{Confirmed, Tracked};
use podpath::nf::eval::{At, Cx, RuleRef, Verdict};
use podpath::nf::nat::{self, Nat, NoNat};
use podpath::nf::{Backend, Family, Hook, Netfilter, RuleSet, TableName, Target};
use podpath::wire::{CtRef, Frame, IpHeader, MacAddr, Tuple};
use std::net::{IpAddr, Ipv4Addr};

pub struct Router {
    pub ns: NetNs,
    pub nf: Netfilter,
    pub inside: DevId,
    pub outside: DevId,
    /// How often the rules were asked.
    pub asked: u32,
    dst: Option<Target>,
    src: Option<Target>,
    rng: Rng,
    now: Instant,
}

/// Dropped: by NAT with a reason, or `None` by conntrack.
pub type Dropped = Option<NoNat>;

impl Router {
    /// A router between 10.61.0.0/24 and 10.62.0.0/24 with a rule in PREROUTING and OUTPUT, and one in
    /// POSTROUTING; empty for none.
    pub fn new(dst: &str, src: &str) -> Router {
        let mut ns = NetNs::new(NsId(0), "r", NodeId(0));
        let inside = device(&mut ns, "in", &["10.61.0.1/24", "10.61.0.100/24"]);
        let outside = device(&mut ns, "out", &["10.62.0.1/24"]);
        Router {
            ns,
            nf: Netfilter::default(),
            inside,
            outside,
            asked: 0,
            dst: target(dst),
            src: target(src),
            rng: Rng::new(3),
            now: Instant::from_secs(1),
        }
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
            family: Family::V4,
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
        for (at, rule) in [(first, &self.dst), (last, &self.src)] {
            let (ns, asked) = (&self.ns, &mut self.asked);
            let mut why = None;
            let mut ask = |nf: &mut Netfilter, f: &mut Frame, cx: &mut Cx<'_>, b: Backend| {
                if b == Backend::Nft {
                    return Verdict::Accept;
                }
                *asked += 1;
                let mut nat = Nat {
                    ct: &mut nf.ct,
                    forced: &nf.forced,
                    rule: None,
                };
                match rule.as_ref().map(|t| nat.target(ns, f, at, t, cx)) {
                    Some(Err(e)) => {
                        why = Some(e);
                        Verdict::Drop(RULE)
                    }
                    _ => Verdict::Accept,
                }
            };
            let verdict = nat::hook(&mut self.nf, f, at, &mut cx, &mut ask).map_err(Some)?;
            if verdict != Verdict::Accept {
                return Err(why);
            }
        }
        match self.nf.ct.confirm(&self.ns, f, last, &mut cx) {
            Confirmed::Accept if f.ct != CtRef::None => Ok(()),
            _ => Err(None),
        }
    }
}

/// Stands for the one rule.
const RULE: RuleRef = RuleRef {
    family: Family::V4,
    backend: Backend::Legacy,
    table: TableName::Nat,
    chain: 0,
    rule: 0,
};

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

/// The target of a rule's words.
fn target(words: &str) -> Option<Target> {
    let text = format!("*nat\n:X - [0:0]\n-A X {words}\nCOMMIT\n");
    let (set, bad) = RuleSet::parse("t", &text, Family::V4);
    assert!(bad.is_empty(), "{bad:?}");
    let chain = set.table(TableName::Nat)?.chain("X")?;
    let rule = chain.rules.first().filter(|_| !words.is_empty())?;
    Some(rule.target().clone())
}

pub fn ip(s: &str) -> IpAddr {
    s.parse().unwrap()
}

fn v4(s: &str) -> [u8; 4] {
    s.parse::<Ipv4Addr>().unwrap().octets()
}

pub fn udp(src: &str, sport: u16, dst: &str, dport: u16) -> Vec<u8> {
    let mut out = Vec::new();
    let b = PacketBuilder::ipv4(v4(src), v4(dst), 64).udp(sport, dport);
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
