//! A capture replayed through a world: which frame enters where, at its recorded time, and how it ended.
//!
//! Sockets are not played: every conversation of the capture has its recorded packets, so both ends are held
//! open and only kernels act. What a kernel answers by itself (echo, ARP, ICMP errors) is emulated; a
//! recorded packet that the emulation has already produced is compared, not sent twice.
//! Invariant: same capture, world and seed: same events.

use crate::base::{FrameId, Instant, NsId};
use crate::net::{Binding, PortAt, SocketId};
use crate::path::{Direction as Dir, Disposition, Observer, Place};
use crate::replay::pcap::{Capture, Direction, OwnedRecord, link};
use crate::sim::World;
use crate::wire::{
    ETH_HLEN, ETH_P_ARP, ETH_P_IP, ETH_P_IPV6, Frame, IpHeader, MacAddr, Tuple, checksum, proto,
};
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Where the capture's frames enter.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Attach {
    /// Each IP packet is sent by the namespace that has its source address.
    ByAddress,
    /// At one device: what it sent if it is an endpoint's, what it received otherwise.
    At(PortAt),
    /// Each interface of the capture at a device of its own, as for `At`.
    Interfaces(BTreeMap<u32, PortAt>),
}

/// What was done with a packet of the capture.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It entered as this frame.
    Injected(FrameId),
    /// It is an answer that an emulated kernel has to give, and gave: this frame.
    Produced(FrameId),
    /// It is an answer that an emulated kernel should have given to a packet of the capture, and did not.
    Missing,
    /// It was not sent, because of this.
    Skipped(&'static str),
}

/// One packet of the capture.
#[derive(Clone, Debug)]
pub struct Replayed {
    /// Its number in the capture, from 1.
    pub number: u64,
    /// Time after the first packet.
    pub at: Duration,
    /// What was done with it.
    pub fate: Fate,
    /// It was cut when captured; the missing bytes were filled with zeros and checksums made right.
    pub padded: bool,
    /// How the injected frame ended, where it ended under its own id.
    pub end: Option<(String, Disposition)>,
}

/// How frames ended, by id, and what arrived where; what was asked and which answers are awaited.
#[derive(Debug, Default)]
struct Watch {
    asked: BTreeSet<Signature>,
    awaited: BTreeMap<usize, (NsId, Signature)>,
    ends: BTreeMap<FrameId, (String, Disposition)>,
    arrived: BTreeMap<(NsId, Signature), FrameId>,
}

/// What makes two packets the same one to a person: addresses, ports or ids, flags and sequence.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Signature(Tuple, u64);

impl Observer for Watch {
    const TRACING: bool = false;
    fn tap(&mut self, at: Place<'_>, dir: Dir, f: &Frame) {
        // A child frame that arrives somewhere was made by a kernel.
        if dir == Dir::In
            && f.parent.is_some()
            && let Some(s) = signature(f.l3())
        {
            self.arrived.entry((at.ns.id, s)).or_insert(f.id);
        }
    }
    fn end(&mut self, at: Place<'_>, f: &Frame, how: &Disposition) {
        self.ends.insert(f.id, (at.ns.name.clone(), how.clone()));
    }
}

fn signature(packet: &[u8]) -> Option<Signature> {
    let h = IpHeader::parse_lax(packet).ok()?;
    let p = h.payload(packet);
    let extra = match h.proto {
        proto::TCP => p.get(4..14).map_or(0, |b| {
            b.iter()
                .fold(0u64, |a, x| a.wrapping_mul(257) + u64::from(*x))
        }),
        proto::ICMP | proto::ICMPV6 => p.get(..8).map_or(0, |b| {
            u64::from(b[0]) << 32 | u64::from(b[6]) << 8 | u64::from(b[7])
        }),
        _ => h.total_len as u64,
    };
    Some(Signature(Tuple::of(&h, packet), extra))
}

/// Replays a capture through `world`, watched by `obs`. Time starts at the world's present.
pub fn replay<O: Observer>(
    world: &mut World,
    capture: &Capture,
    attach: &Attach,
    obs: &mut O,
) -> Vec<Replayed> {
    let owners = owners(world);
    let mut watch = Watch::default();
    hold_sockets(world, capture, &owners);
    let start = world.now();
    let first = capture
        .records
        .iter()
        .filter_map(|r| r.time_ns)
        .min()
        .unwrap_or(0);
    let mut out = Vec::with_capacity(capture.records.len());
    for (i, r) in capture.records.iter().enumerate() {
        let at = Duration::from_nanos(r.time_ns.unwrap_or(first).saturating_sub(first));
        let mut both = crate::path::Tee(&mut watch, &mut *obs);
        world.run_until(start + at, &mut both);
        let (fate, padded) = enter(world, capture, i, attach, &owners, &mut both);
        world.settle(start + at, &mut both);
        out.push(Replayed {
            number: i as u64 + 1,
            at,
            fate,
            padded,
            end: None,
        });
    }
    // What waits for an answer that never comes is told after three seconds.
    let last = world.now() + Duration::from_secs(4);
    world.run_until(last, &mut crate::path::Tee(&mut watch, obs));
    for (i, place) in &watch.awaited {
        if let (Some(p), Some(id)) = (out.get_mut(*i), watch.arrived.get(place)) {
            p.fate = Fate::Produced(*id);
        }
    }
    for p in &mut out {
        if let Fate::Injected(id) | Fate::Produced(id) = p.fate {
            p.end = watch.ends.get(&id).cloned();
        }
    }
    out
}

/// Who has which address.
fn owners(world: &World) -> BTreeMap<IpAddr, NsId> {
    let all = world
        .spaces()
        .iter()
        .flat_map(|n| n.devices().map(move |d| (n, d)));
    let own = all.flat_map(|(n, d)| d.addrs.iter().map(move |a| (a.ip(), n.id)));
    let mut map = BTreeMap::new();
    for (ip, ns) in own.filter(|(ip, _)| !ip.is_loopback()) {
        map.entry(ip).or_insert(ns);
    }
    map
}

/// Both ends of every recorded conversation keep a socket, so that no kernel answers with a reset. An end
/// that answered with one in the capture keeps none.
fn hold_sockets(world: &mut World, capture: &Capture, owners: &BTreeMap<IpAddr, NsId>) {
    let (mut open, mut closed) = (BTreeSet::new(), BTreeSet::new());
    for r in &capture.records {
        let Some((h, packet)) = ip_of(capture, r) else {
            continue;
        };
        let (Some((sport, dport)), proto::TCP | proto::UDP) = (h.ports(&packet), h.proto) else {
            continue;
        };
        let reset = h.proto == proto::TCP && h.payload(&packet).get(13).is_some_and(|f| f & 4 != 0);
        let end = (h.src, h.proto, sport);
        if reset {
            closed.insert(end)
        } else {
            open.insert(end)
        };
        open.insert((h.dst, h.proto, dport));
    }
    for (n, (ip, proto, port)) in open.difference(&closed).enumerate() {
        let Some(ns) = owners.get(ip).and_then(|id| world.ns_mut(*id)) else {
            continue;
        };
        let b = Binding {
            proto: *proto,
            port: *port,
            local: Some(*ip),
            remote: None,
        };
        // A port that is held already needs no second socket.
        let _ = ns.sockets_mut().bind(b, SocketId(u32::MAX - n as u32));
    }
}

/// The IP packet of a record, padded to its original length.
fn ip_of(capture: &Capture, r: &OwnedRecord) -> Option<(IpHeader, Vec<u8>)> {
    let (frame, _) = ethernet(capture, r)?;
    let f = Frame::ethernet(&frame);
    if !matches!(f.ethertype(), ETH_P_IP | ETH_P_IPV6) {
        return None;
    }
    let h = IpHeader::parse_lax(f.l3()).ok()?;
    Some((h, f.l3().to_vec()))
}

/// A record as a whole Ethernet frame; says whether it had to be filled up.
fn ethernet(capture: &Capture, r: &OwnedRecord) -> Option<(Vec<u8>, bool)> {
    let link = capture.interfaces.get(r.interface as usize)?.link;
    let e = link::to_ethernet(link, &r.data, r.orig_len).ok()?;
    let mut frame = e.frame.into_owned();
    let whole = (e.orig_len as usize).min(crate::base::limits::FRAME_MAX);
    if frame.len() >= whole {
        return Some((frame, false));
    }
    frame.resize(whole, 0);
    if frame.len() > ETH_HLEN {
        right_checksum(&mut frame[ETH_HLEN..]);
    }
    Some((frame, true))
}

/// Makes the upper-layer checksum of a filled-up packet right: what was cut off is not known.
fn right_checksum(packet: &mut [u8]) {
    let Ok(h) = IpHeader::parse_lax(packet) else {
        return;
    };
    let at = h.header_len
        + match h.proto {
            proto::TCP => 16,
            proto::UDP => 6,
            proto::ICMP | proto::ICMPV6 => 2,
            _ => return,
        };
    let end = h.total_len.min(packet.len());
    if h.is_fragment() || at + 2 > end {
        return;
    }
    // A tunnel's inner packet was cut too.
    let vxlan = h
        .ports(packet)
        .is_some_and(|p| h.proto == proto::UDP && matches!(p.1, 8472 | 4789));
    if let (true, Some(inner)) = (vxlan, packet.get_mut(h.header_len + 16 + ETH_HLEN..end)) {
        right_checksum(inner);
    }
    packet[at..at + 2].fill(0);
    let body = &packet[h.header_len..end];
    let c = if h.proto == proto::ICMP {
        checksum::of(body)
    } else {
        checksum::l4(h.src, h.dst, h.proto, body)
    };
    packet[at..at + 2].copy_from_slice(&c.to_be_bytes());
}

fn enter<O: Observer>(
    world: &mut World,
    capture: &Capture,
    number: usize,
    attach: &Attach,
    owners: &BTreeMap<IpAddr, NsId>,
    obs: &mut crate::path::Tee<&mut Watch, &mut O>,
) -> (Fate, bool) {
    let Some(r) = capture.records.get(number) else {
        return (Fate::Skipped("not in the capture"), false);
    };
    let Some((frame, padded)) = ethernet(capture, r) else {
        return (
            Fate::Skipped("not a frame that Ethernet or IP could carry"),
            false,
        );
    };
    let fate = match attach {
        Attach::ByAddress => by_address(world, &frame, owners, number, obs),
        Attach::At(at) => at_device(world, *at, &frame, r.direction, obs),
        Attach::Interfaces(map) => match map.get(&r.interface) {
            Some(at) => at_device(world, *at, &frame, r.direction, obs),
            None => Fate::Skipped("its interface is mapped to no device"),
        },
    };
    (fate, padded)
}

fn by_address<O: Observer>(
    world: &mut World,
    frame: &[u8],
    owners: &BTreeMap<IpAddr, NsId>,
    number: usize,
    obs: &mut crate::path::Tee<&mut Watch, &mut O>,
) -> Fate {
    let f = Frame::ethernet(frame);
    match f.ethertype() {
        ETH_P_ARP => return Fate::Skipped("ARP: the emulated hosts resolve by themselves"),
        ETH_P_IP | ETH_P_IPV6 => {}
        _ => return Fate::Skipped("not IP"),
    }
    let Ok(h) = IpHeader::parse_lax(f.l3()) else {
        return Fate::Skipped("malformed IP header");
    };
    if matches!(h.icmp(f.l3()), Some((133..=137, _))) && !h.is_v4() {
        return Fate::Skipped("neighbour discovery: the emulated hosts resolve by themselves");
    }
    let Some(ns) = owners.get(&h.src).copied() else {
        return Fate::Skipped("nobody in the cluster has its source address");
    };
    let (target, own) = (owners.get(&h.dst).copied(), signature(f.l3()));
    if let (Some(t), Some(own), Some(question)) = (target, own, question_of(&h, f.l3()))
        && obs.0.asked.contains(&question)
    {
        obs.0.awaited.insert(number, (t, own));
        return Fate::Missing;
    }
    obs.0.asked.extend(own.map(loose));
    let n = h.total_len.min(f.l3().len());
    Fate::Injected(world.send(ns, &f.l3()[..n], None, obs).0)
}

/// A signature without what the way changes or a quote cuts off.
fn loose(s: Signature) -> Signature {
    match s.0.proto {
        proto::ICMP | proto::ICMPV6 => s,
        _ => Signature(s.0, 0),
    }
}

/// The packet that a kernel's answer answers: an echo request, or what an ICMP error quotes.
fn question_of(h: &IpHeader, packet: &[u8]) -> Option<Signature> {
    let (typ, _) = h.icmp(packet)?;
    if h.is_icmp_error(packet) {
        return signature(h.payload(packet).get(8..)?).map(loose);
    }
    let request = match (h.is_v4(), typ) {
        (true, 0) => 8u8,
        (false, 129) => 128,
        _ => return None,
    };
    let Signature(t, extra) = signature(packet)?;
    Some(Signature(
        t.reply(),
        u64::from(request) << 32 | (extra & 0xffff_ffff),
    ))
}

/// At an endpoint's device what it sent is sent again; at a node's device what it received is received again.
fn at_device<O: Observer>(
    world: &mut World,
    at: PortAt,
    frame: &[u8],
    dir: Option<Direction>,
    obs: &mut crate::path::Tee<&mut Watch, &mut O>,
) -> Fate {
    let Some((ns, dev)) = world.ns(at.ns).and_then(|n| n.dev(at.dev).map(|d| (n, d))) else {
        return Fate::Skipped("the device is gone");
    };
    let endpoint = dev.master.is_none()
        && ns.devices().filter(|d| d.peer.is_some()).count() <= 1
        && !ns.forwards(at.dev, true);
    let f = Frame::ethernet(frame);
    let own = |ip: IpAddr| ns.is_local(ip);
    let sent = match dir {
        Some(Direction::Out) => true,
        Some(Direction::In) => false,
        None => IpHeader::parse_lax(f.l3()).map_or(f.src_mac() == dev.mac, |h| own(h.src)),
    };
    if sent != endpoint {
        return Fate::Skipped(if sent {
            "sent by this device: the emulation has to produce it"
        } else {
            "received by this endpoint: the emulation has to produce it"
        });
    }
    let mut f = f;
    let (mac, link_mac) = (f.dst_mac(), next_mac(world, at));
    let known = world
        .spaces()
        .iter()
        .any(|n| n.devices().any(|d| d.mac == mac));
    if !mac.is_multicast()
        && !known
        && let Some(m) = link_mac
    {
        let (src, t) = (f.src_mac(), f.ethertype());
        f.set_ethernet(m, src, t);
    }
    if endpoint {
        Fate::Injected(world.transmit(at, f, obs))
    } else {
        Fate::Injected(world.arrive(at, f, obs))
    }
}

/// The MAC that stands for a recorded gateway nobody here has: that of the bridge or device which takes the
/// frame up.
fn next_mac(world: &World, at: PortAt) -> Option<MacAddr> {
    let dev = world.ns(at.ns)?.dev(at.dev)?;
    let here = |p: PortAt| {
        let n = world.ns(p.ns)?;
        let d = n.dev(p.dev)?;
        Some(
            d.master
                .as_ref()
                .and_then(|(m, _)| n.dev(*m))
                .map_or(d.mac, |b| b.mac),
        )
    };
    if dev.master.is_some() {
        here(at)
    } else {
        dev.peer.and_then(here).or(Some(dev.mac))
    }
}

/// When a replay of `capture` that begins at `start` has its last packet.
pub fn ends_at(capture: &Capture, start: Instant) -> Instant {
    let times = || capture.records.iter().filter_map(|r| r.time_ns);
    match (times().min(), times().max()) {
        (Some(a), Some(b)) => start + Duration::from_nanos(b - a),
        _ => start,
    }
}
