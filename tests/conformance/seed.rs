//! What the kernels knew before the capture began, read from the capture itself.
//!
//! Setup traffic (pings, health checks) leaves neighbour entries and learned bridge addresses behind that
//! no file lists as they were at the first frame. They show in what happened: a node that sends a unicast
//! packet to a neighbour without having asked for it first had it cached; one that asks first had not. A
//! bridge that sends a frame to one port only, for an address it has not seen as a source yet, had learned
//! it; one that floods it had not. Where no captured port could show a flood, nothing is seeded: it makes
//! no visible difference. Only layer 2 memory is seeded; it decides nothing but whether ARP is asked and
//! where unknown unicast goes, and a wrong guess shows as a difference.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::scenario::{Dir, Recorded};
use super::topo::{Port, Topo};
use podpath::wire::MacAddr;

/// How long after entering a bridge a flooded copy may show.
const FLOOD_NS: u64 = 5_000_000;

/// Entries to be put in place before the first frame.
#[derive(Debug, Default)]
pub struct Seeds {
    /// Neighbours: interface, address, link address.
    pub neigh: Vec<(Port, IpAddr, MacAddr)>,
    /// Learned addresses: bridge port, link address.
    pub fdb: Vec<(Port, MacAddr)>,
}

/// Reads them out of a recording.
pub fn infer(topo: &Topo<'_>, frames: &[Recorded]) -> Seeds {
    let mut seeds = Seeds::default();
    for p in topo.ends.keys().filter(|p| topo.emulated(&p.0)) {
        if topo.ends.get(p).is_some_and(|e| e.master.is_none()) {
            neighbours(topo, p, frames, &mut seeds);
        }
        if topo.devices.get(p).is_some_and(|d| d.kind == "bridge") {
            learned(topo, p, frames, &mut seeds);
        }
    }
    seeds
}

/// The few fields this needs of a frame.
struct Fields {
    dst: MacAddr,
    src: MacAddr,
    what: What,
}

enum What {
    /// ARP or neighbour discovery about an address: asked by group address or not, answered or announced.
    Ask(IpAddr),
    Tell(IpAddr),
    Packet(IpAddr),
    Other,
}

fn ip4(b: &[u8], at: usize) -> Option<IpAddr> {
    let o: [u8; 4] = b.get(at..at + 4)?.try_into().ok()?;
    Some(IpAddr::V4(Ipv4Addr::from(o)))
}

fn ip6(b: &[u8], at: usize) -> Option<IpAddr> {
    let o: [u8; 16] = b.get(at..at + 16)?.try_into().ok()?;
    Some(IpAddr::V6(Ipv6Addr::from(o)))
}

fn fields(b: &[u8]) -> Option<Fields> {
    let (dst, src) = (MacAddr::from_slice(b), MacAddr::from_slice(b.get(6..)?));
    let what = match (b.get(12)?, b.get(13)?) {
        (0x08, 0x06) if b.get(21) == Some(&1) && dst.is_multicast() => What::Ask(ip4(b, 38)?),
        (0x08, 0x06) => What::Tell(ip4(b, 28)?),
        (0x08, 0x00) => What::Packet(ip4(b, 30)?),
        (0x86, 0xdd) => match (b.get(20)?, b.get(54)) {
            (58, Some(135)) if dst.is_multicast() => What::Ask(ip6(b, 62)?),
            (58, Some(136)) => What::Tell(ip6(b, 62)?),
            (58, Some(133..=137)) => What::Tell(ip6(b, 22)?),
            _ => What::Packet(ip6(b, 38)?),
        },
        _ => What::Other,
    };
    Some(Fields { dst, src, what })
}

fn neighbours(topo: &Topo<'_>, at: &Port, frames: &[Recorded], seeds: &mut Seeds) {
    let name = format!("{}.{}", at.0, at.1);
    let members = topo.members(at);
    let configured = topo.scenario.netns.get(&at.0);
    let gateways = gateways(topo, &at.0);
    let mut decided: BTreeSet<IpAddr> = configured
        .into_iter()
        .flat_map(|n| &n.neigh)
        .filter(|n| n.dev == at.1)
        .filter_map(|n| n.ip.parse().ok())
        .collect();
    for f in frames.iter().filter(|f| f.interface == name && !f.l3) {
        let Some(x) = fields(&f.data) else { continue };
        match (x.what, f.dir) {
            (What::Ask(ip), Dir::Out) => drop(decided.insert(ip)),
            // Being asked leaves an entry for the asker, whose address is in the same place as an answerer's.
            (What::Ask(_), Dir::In) => decided.extend(sender(&f.data)),
            (What::Tell(ip), Dir::In) => drop(decided.insert(ip)),
            (What::Packet(dst), Dir::Out) if !x.dst.is_multicast() => {
                let fits = |ip: &IpAddr| *ip == dst || gateways.contains(ip);
                let known = members.iter().filter(|m| m.mac == x.dst && fits(&m.ip));
                for m in known.filter(|m| m.ip.is_ipv4() == dst.is_ipv4()) {
                    if decided.insert(m.ip) {
                        seeds.neigh.push((at.clone(), m.ip, m.mac));
                    }
                }
            }
            _ => {}
        }
    }
}

/// The asker of a request.
fn sender(b: &[u8]) -> Option<IpAddr> {
    if b.get(12..14) == Some(&[0x08, 0x06]) {
        ip4(b, 28)
    } else {
        ip6(b, 22)
    }
}

/// Every address that a route of the namespace names as a gateway, now or by a later step.
fn gateways(topo: &Topo<'_>, ns: &str) -> BTreeSet<IpAddr> {
    let s = topo.scenario;
    let own = s
        .netns
        .get(ns)
        .into_iter()
        .flat_map(|n| n.routes.iter().chain(&n.ip));
    let steps = s
        .setup
        .iter()
        .chain(&s.steps)
        .filter_map(|x| x.ip.as_ref()?.get(ns))
        .flatten();
    let mut out = BTreeSet::new();
    for line in own.chain(steps) {
        let words: Vec<&str> = line.split_whitespace().collect();
        out.extend(
            words
                .windows(2)
                .filter(|w| w[0] == "via")
                .filter_map(|w| w[1].parse::<IpAddr>().ok()),
        );
    }
    out
}

/// Frames at `p` in direction `dir`, at the interface itself or, where it was not captured, at the cable's
/// far end.
fn at_port<'f>(
    topo: &Topo<'_>,
    p: &Port,
    dir: Dir,
    frames: &'f [Recorded],
) -> Option<Vec<&'f Recorded>> {
    let far = topo.peers.get(p);
    let (name, dir) = match (topo.captured(p), far) {
        (true, _) => (format!("{}.{}", p.0, p.1), dir),
        (false, Some(q)) if topo.captured(q) => (
            format!("{}.{}", q.0, q.1),
            if dir == Dir::In { Dir::Out } else { Dir::In },
        ),
        _ => return None,
    };
    Some(
        frames
            .iter()
            .filter(|f| f.interface == name && f.dir == dir)
            .collect(),
    )
}

fn learned(topo: &Topo<'_>, bridge: &Port, frames: &[Recorded], seeds: &mut Seeds) {
    let ports = topo.ports(bridge);
    let mut entering: Vec<(&Recorded, Option<&Port>)> = Vec::new();
    for p in &ports {
        entering.extend(
            at_port(topo, p, Dir::In, frames)
                .into_iter()
                .flatten()
                .map(|f| (f, Some(p))),
        );
    }
    entering.extend(
        at_port(topo, bridge, Dir::Out, frames)
            .into_iter()
            .flatten()
            .map(|f| (f, None)),
    );
    entering.sort_by_key(|(f, _)| f.t_ns);
    for home in &ports {
        for mac in topo.behind(home) {
            let first = entering.iter().find_map(|(f, from)| {
                let x = fields(&f.data)?;
                (x.src == mac || x.dst == mac).then_some((f, *from, x))
            });
            let Some((f, from, x)) = first else { continue };
            if x.src == mac || from == Some(home) {
                continue;
            }
            let others = ports.iter().filter(|q| *q != home && Some(*q) != from);
            let shown: Vec<Vec<&Recorded>> = others
                .filter_map(|q| at_port(topo, q, Dir::Out, frames))
                .collect();
            let flooded = shown
                .iter()
                .flatten()
                .any(|g| g.data == f.data && g.t_ns >= f.t_ns && g.t_ns - f.t_ns < FLOOD_NS);
            if !shown.is_empty() && !flooded {
                seeds.fdb.push((home.clone(), mac));
            }
        }
    }
}
