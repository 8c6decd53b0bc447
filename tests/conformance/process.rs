//! Processes on emulated nodes: what they said enters at the node's OUTPUT hook.
//!
//! Such a process is an endpoint like a pod, only that no interface shows its packets before the node has
//! translated them. They are taken from where they first left the node, and translated back by what the node's
//! own conntrack told of the connection (`conntrack_events`). Everything after OUTPUT is podpath's to produce
//! again. What a node's process sent without any frame leaving (a REJECT, a packet that no route takes) is a
//! `curl`'s SYN and its repetitions, one a second while it waits (net.ipv4.tcp_syn_linear_timeouts).
//!
//! Their sockets are bound in podpath's table so that nothing answers in their place.

use std::net::IpAddr;

use super::conntrack::{self, Line};
use super::scenario::{Dir, Exec, Recorded, Trace};
use super::topo::Topo;
use podpath::net::Binding;
use podpath::wire::proto;

/// UDP port of the tunnels: the node's kernel sends these itself.
const VXLAN: u16 = 8472;
/// A frame that had to wait for ARP left at most so long after it was sent.
const ARP_NS: u64 = 20_000_000;

/// A packet of a node's process.
#[derive(Clone, Debug)]
pub struct Local {
    /// When.
    pub t_ns: u64,
    /// On which node.
    pub ns: String,
    /// From the IP header on.
    pub packet: Vec<u8>,
}

/// Who sends from where to where.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Way {
    proto: u8,
    src: (IpAddr, u16),
    dst: (IpAddr, u16),
}

/// A connection of a node's own process: how its packets look inside and outside.
struct Flow {
    ns: String,
    inside: Way,
    outside: Way,
}

/// What the processes of all emulated nodes said, and the sockets they had.
pub fn packets(
    topo: &Topo<'_>,
    trace: &Trace,
    frames: &[Recorded],
) -> (Vec<Local>, Vec<(String, Binding)>) {
    let (mut out, mut sockets) = (Vec::new(), Vec::new());
    for f in flows(topo, trace) {
        sockets.push((f.ns.clone(), binding(&f.inside)));
        let mut first = true;
        for x in frames.iter().filter(|x| leaves(topo, &f, x)) {
            let at = if x.l3 { 0 } else { 14 };
            let Some(packet) = x.data.get(at..).and_then(|p| rewritten(p, &f.inside)) else {
                continue;
            };
            let asked = if first { asked(x, frames) } else { None };
            first = false;
            let (t_ns, ns) = (asked.unwrap_or(x.t_ns), f.ns.clone());
            out.push(Local { t_ns, ns, packet });
        }
    }
    out.sort_by_key(|l| l.t_ns);
    (out, sockets)
}

/// The connections that processes on nodes made or took.
fn flows(topo: &Topo<'_>, trace: &Trace) -> Vec<Flow> {
    let mut out = Vec::new();
    for (ns, events) in trace
        .conntrack_events
        .iter()
        .filter(|(ns, _)| topo.emulated(ns))
    {
        let own = topo.addresses(ns);
        let commands = commands(topo, ns);
        let client = commands.iter().any(|c| c.starts_with("curl "));
        let serves = |port: u16| {
            let word = port.to_string();
            commands
                .iter()
                .any(|c| c.contains("ppsrv.py") && c.split_whitespace().any(|w| w == word))
        };
        for l in events.iter().filter(|e| e.starts_with("[NEW]")) {
            let Some([orig, reply]) = conntrack::parse(l).as_ref().and_then(ways) else {
                continue;
            };
            if orig.proto == proto::UDP && orig.dst.1 == VXLAN {
                continue;
            }
            if client && own.contains(&orig.src.0) {
                let outside = back(reply);
                out.push(flow(ns, orig, outside));
            }
            if serves(reply.src.1) && own.contains(&reply.src.0) {
                out.push(flow(ns, reply, back(orig)));
            }
        }
    }
    out
}

/// The programs that ran on a node.
fn commands(topo: &Topo<'_>, ns: &str) -> Vec<String> {
    let s = topo.scenario;
    let all = s
        .setup
        .iter()
        .chain(&s.steps)
        .filter_map(|x| x.exec.as_ref());
    all.filter(|e| e.ns == ns).map(Exec::line).collect()
}

fn flow(ns: &str, inside: Way, outside: Way) -> Flow {
    Flow {
        ns: ns.to_owned(),
        inside,
        outside,
    }
}

fn back(w: Way) -> Way {
    Way {
        proto: w.proto,
        src: w.dst,
        dst: w.src,
    }
}

/// Both directions of a connection with ports.
fn ways(l: &Line) -> Option<[Way; 2]> {
    let way = |dir| {
        Some(Way {
            proto: l.proto,
            src: (l.ip(dir, "src")?, l.number(dir, "sport")?),
            dst: (l.ip(dir, "dst")?, l.number(dir, "dport")?),
        })
    };
    Some([way(0)?, way(1)?])
}

fn binding(w: &Way) -> Binding {
    Binding {
        proto: w.proto,
        port: w.src.1,
        local: Some(w.src.0),
        remote: Some(w.dst),
    }
}

/// Whether a frame is the flow's, leaving the node at a device of its own and not at a bridge's port.
fn leaves(topo: &Topo<'_>, f: &Flow, x: &Recorded) -> bool {
    let port = x.interface.split_once('.');
    let Some((ns, dev)) = port.filter(|(ns, _)| *ns == f.ns && x.dir == Dir::Out) else {
        return false;
    };
    let end = topo.ends.get(&(ns.to_owned(), dev.to_owned()));
    let packet = x.data.get(if x.l3 { 0 } else { 14 }..);
    end.is_some_and(|e| e.master.is_none()) && packet.and_then(way) == Some(f.outside)
}

/// When the node asked for the next hop of a connection's first packet, if it did just before.
fn asked(x: &Recorded, frames: &[Recorded]) -> Option<u64> {
    let request = |f: &&Recorded| {
        let arp = f.data.get(12..14) == Some(&[8, 6]) && f.data.get(21) == Some(&1);
        f.interface == x.interface && f.dir == Dir::Out && arp
    };
    let near = |f: &&Recorded| f.t_ns <= x.t_ns && x.t_ns - f.t_ns < ARP_NS;
    let last = frames.iter().filter(request).filter(near).next_back()?;
    Some(last.t_ns)
}

/// Where a packet goes, unfragmented and with ports.
fn way(p: &[u8]) -> Option<Way> {
    let (v4, at) = (p.first()? >> 4 == 4, l4(p)?);
    let ip = |from: usize| -> Option<IpAddr> {
        if v4 {
            let o: [u8; 4] = p.get(from..from + 4)?.try_into().ok()?;
            return Some(o.into());
        }
        let o: [u8; 16] = p.get(from..from + 16)?.try_into().ok()?;
        Some(o.into())
    };
    let port = |from: usize| -> Option<u16> {
        Some(u16::from_be_bytes(p.get(from..from + 2)?.try_into().ok()?))
    };
    let (src, dst) = if v4 { (12, 16) } else { (8, 24) };
    Some(Way {
        proto: *p.get(if v4 { 9 } else { 6 })?,
        src: (ip(src)?, port(at)?),
        dst: (ip(dst)?, port(at + 2)?),
    })
}

fn l4(p: &[u8]) -> Option<usize> {
    match p.first()? >> 4 {
        4 => Some(usize::from(p.first()? & 15) * 4),
        6 => Some(40),
        _ => None,
    }
}

/// The packet with other addresses and ports, its checksums made right again.
fn rewritten(p: &[u8], to: &Way) -> Option<Vec<u8>> {
    let at = l4(p)?;
    // The frame may be longer than its packet: short ones are padded.
    let v4 = p.first()? >> 4 == 4;
    let long = match v4 {
        true => usize::from(u16::from_be_bytes([*p.get(2)?, *p.get(3)?])),
        false => 40 + usize::from(u16::from_be_bytes([*p.get(4)?, *p.get(5)?])),
    };
    let mut b = p.get(..long)?.to_vec();
    let mut put = |from: usize, bytes: &[u8]| -> Option<()> {
        b.get_mut(from..from + bytes.len())?.copy_from_slice(bytes);
        Some(())
    };
    let (src, dst) = if v4 { (12, 16) } else { (8, 24) };
    for (from, (ip, port), ports) in [(src, to.src, at), (dst, to.dst, at + 2)] {
        match ip {
            IpAddr::V4(a) => put(from, &a.octets())?,
            IpAddr::V6(a) => put(from, &a.octets())?,
        }
        put(ports, &port.to_be_bytes())?;
    }
    let sum_at = at + if to.proto == proto::TCP { 16 } else { 6 };
    put(sum_at, &[0, 0])?;
    // What a process says leaves its socket with 64; IPVS at OUTPUT had taken one off.
    let ttl_at = if v4 { 8 } else { 7 };
    if p.get(ttl_at) == Some(&63) {
        put(ttl_at, &[64])?;
    }
    if v4 {
        put(10, &[0, 0])?;
        let c = checksum(b.get(..at)?, 0);
        b.get_mut(10..12)?.copy_from_slice(&c.to_be_bytes());
    }
    let addresses = b.get(src..if v4 { 20 } else { 40 })?;
    let l4 = b.get(at..)?;
    let start = u32::from(to.proto) + l4.len() as u32;
    let c = checksum(&[addresses, l4].concat(), start);
    b.get_mut(sum_at..sum_at + 2)?
        .copy_from_slice(&c.to_be_bytes());
    Some(b)
}

/// The Internet checksum; `start` is what the pseudo header has besides addresses.
fn checksum(b: &[u8], start: u32) -> u16 {
    let mut sum = b.chunks(2).fold(start, |s, c| {
        s + u32::from(u16::from_be_bytes([c[0], *c.get(1).unwrap_or(&0)]))
    });
    while sum >> 16 != 0 {
        sum = (sum & 0xFFFF) + (sum >> 16);
    }
    !(sum as u16)
}

/// A `curl` of a node of which no frame left: how many SYNs it sent to whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unheard {
    /// On which node.
    pub ns: String,
    /// To whom.
    pub dst: (IpAddr, u16),
    /// How many, a second apart.
    pub syns: u64,
}

/// The `curl` of a step, if the node's conntrack never confirmed a connection to where it goes.
pub fn unheard(e: &Exec, trace: &Trace) -> Option<Unheard> {
    let line = e.line();
    let url = line
        .split_whitespace()
        .find_map(|w| w.strip_prefix("http://"))?;
    let host = url.split('/').next()?;
    let dst = match host.rsplit_once(':') {
        Some((ip, port)) => (ip.parse().ok()?, port.parse().ok()?),
        None => (host.parse().ok()?, 80),
    };
    let events = trace.conntrack_events.get(&e.ns);
    let known = events.into_iter().flatten().any(|l| {
        let ways = conntrack::parse(l).as_ref().and_then(ways);
        ways.is_some_and(|[o, _]| o.dst == dst && l.contains("[NEW]"))
    });
    let ran = trace
        .exec
        .iter()
        .find(|x| x.ns == e.ns && x.cmd.contains(url));
    let timed_out = ran.is_some_and(|r| r.rc == Some(28));
    let waits = line
        .split(" -m ")
        .nth(1)
        .and_then(|w| w.split(' ').next()?.parse().ok());
    let syns = if timed_out { waits.unwrap_or(1) } else { 1 };
    let ns = e.ns.clone();
    (!known).then_some(Unheard { ns, dst, syns })
}

/// A SYN as Linux sends it: MSS, SACK, timestamps, window scale.
pub fn syn(src: (IpAddr, u16), dst: (IpAddr, u16)) -> Option<Vec<u8>> {
    let mut p = match src.0 {
        IpAddr::V4(_) => vec![0x45, 0, 0, 60, 0, 0, 0x40, 0, 64, 6],
        IpAddr::V6(_) => vec![0x60, 0, 0, 0, 0, 40, 6, 64],
    };
    p.resize(if src.0.is_ipv4() { 20 } else { 40 }, 0);
    p.extend([0; 12]);
    p.extend([0xa0, 2, 0xfa, 0xf0, 0, 0, 0, 0]);
    p.extend([
        2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7,
    ]);
    let proto = proto::TCP;
    rewritten(&p, &Way { proto, src, dst })
}
