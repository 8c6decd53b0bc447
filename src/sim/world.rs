//! The world: every namespace, the cables between them, and time.
//!
//! Does not know Kubernetes or sockets' insides: packets for sockets pile up as [`Delivery`]s for whoever
//! plays the sockets. Invariant: events run in the order (time, class, sequence).

use crate::base::{DevId, FrameId, Instant, NodeId, NsId, Rng, limits};
use crate::ipvs::OpenChoice;
use crate::net::{Edit, EditError, NetNs, PortAt, SocketId};
use crate::nf::eval::RuleRef;
use crate::path::{
    Disposition, DropReason, Errno, Observer, Output, Place, Shared, Walker, vs_between,
};
use crate::sim::link::Link;
use crate::wire::Frame;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// Order of events of one moment: what arrives before what a timer does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Class {
    Frame,
    Timer,
}

#[derive(Debug)]
enum Event {
    Arrive(PortAt, Frame),
    Timer(NsId),
}

/// A packet that a socket got.
#[derive(Debug)]
pub struct Delivery {
    /// When.
    pub time: Instant,
    /// In which namespace.
    pub ns: NsId,
    /// Which socket.
    pub socket: SocketId,
    /// The packet, from the network header on.
    pub packet: Frame,
}

/// What a socket was told about the packets it sends. DF is the packet's own bit, which its builder sets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SendOptions {
    /// Leave by this device (`SO_BINDTODEVICE`, `IP_PKTINFO`).
    pub oif: Option<DevId>,
    /// Firewall mark (`SO_MARK`).
    pub mark: u32,
    /// Flow hash of a connected socket (`sk_txhash`).
    pub hash: Option<u32>,
    /// By a raw socket, header included (`IP_HDRINCL`): nothing for a broadcast address, nothing longer
    /// than the device's MTU.
    pub raw: bool,
}

/// All namespaces and what joins them.
#[derive(Debug)]
pub struct World {
    spaces: Vec<NetNs>,
    nodes: Vec<String>,
    pub(super) links: BTreeMap<PortAt, Link>,
    queue: BTreeMap<(Instant, Class, u64), Event>,
    scheduled: BTreeMap<NsId, (Instant, u64)>,
    seq: u64,
    pub(super) now: Instant,
    /// Counts changes of configuration.
    changes: u64,
    pub(super) shared: Shared,
    pub(super) deliveries: Vec<Delivery>,
    /// Namespaces in which connections with compiled paths ended.
    ended: Vec<NsId>,
}

impl World {
    /// An empty world whose every random choice follows from `seed`.
    pub fn new(seed: u64) -> Self {
        World {
            spaces: Vec::new(),
            nodes: Vec::new(),
            links: BTreeMap::new(),
            queue: BTreeMap::new(),
            scheduled: BTreeMap::new(),
            seq: 0,
            now: Instant::ZERO,
            changes: 0,
            shared: Shared::new(seed),
            deliveries: Vec::new(),
            ended: Vec::new(),
        }
    }

    /// Virtual now.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// A new machine.
    pub fn add_node(&mut self, name: impl Into<String>) -> NodeId {
        self.nodes.push(name.into());
        NodeId(self.nodes.len() as u32 - 1)
    }

    /// A machine's name.
    pub fn node_name(&self, id: NodeId) -> &str {
        self.nodes.get(id.0 as usize).map_or("?", String::as_str)
    }

    /// A new namespace on a machine.
    pub fn add_ns(&mut self, name: impl Into<String>, node: NodeId) -> NsId {
        let id = NsId(self.spaces.len() as u32);
        self.spaces.push(NetNs::new(id, name, node));
        id
    }

    /// All namespaces in order.
    pub fn spaces(&self) -> &[NetNs] {
        &self.spaces
    }

    /// A namespace.
    pub fn ns(&self, id: NsId) -> Option<&NetNs> {
        self.spaces.get(id.0 as usize)
    }

    /// A namespace, for what the fast path writes back: no change that others go by.
    pub(super) fn space_mut(&mut self, id: NsId) -> Option<&mut NetNs> {
        self.spaces.get_mut(id.0 as usize)
    }

    /// A namespace by name.
    pub fn ns_by_name(&self, name: &str) -> Option<&NetNs> {
        self.spaces.iter().find(|n| n.name == name)
    }

    /// A namespace's sockets, to bind and close.
    pub fn ns_mut(&mut self, id: NsId) -> Option<&mut NetNs> {
        self.changes += 1;
        self.spaces.get_mut(id.0 as usize)
    }

    /// Assumes of a rule that is not understood that it matches, or that it does not.
    pub fn assume(&mut self, ns: NsId, rule: RuleRef, matches: bool) {
        self.shared
            .assume
            .entry(ns)
            .or_default()
            .insert(rule, matches);
    }

    /// Rules that are not understood, nothing was assumed of, and that had to decide, as they were met.
    pub fn undecided(&self) -> &[(NsId, RuleRef)] {
        &self.shared.undecided
    }

    /// Assumes which real server IPVS's open choice of a number falls on.
    pub fn assume_server(&mut self, ns: NsId, number: u32, server: SocketAddr) {
        self.shared.servers.insert((ns, number), server);
    }

    /// Open choices of IPVS of which nothing was assumed, as they were met.
    pub fn open_choices(&self) -> &[(NsId, OpenChoice)] {
        &self.shared.open_choices
    }

    /// Rules as [`World::undecided`] has them; these and open choices are forgotten.
    pub fn take_undecided(&mut self) -> Vec<(NsId, RuleRef)> {
        self.shared.open_choices.clear();
        std::mem::take(&mut self.shared.undecided)
    }

    /// Changes a namespace's configuration and lets the other ends of its cables see it.
    pub fn edit<R>(&mut self, id: NsId, change: impl FnOnce(&mut Edit<'_>) -> R) -> Option<R> {
        self.changes += 1;
        let ns = self.spaces.get_mut(id.0 as usize)?;
        let r = change(&mut ns.edit());
        self.sync_carriers(id);
        Some(r)
    }

    /// Both ends of every cable of a namespace have carrier while the other is up.
    fn sync_carriers(&mut self, id: NsId) {
        let Some(ns) = self.ns(id) else { return };
        let cabled: Vec<(DevId, bool, bool, PortAt)> = ns
            .devices()
            .filter_map(|d| d.peer.map(|p| (d.id, d.up, d.carrier, p)))
            .collect();
        for (dev, up, carrier, peer) in cabled {
            let other = self
                .ns(peer.ns)
                .and_then(|n| n.dev(peer.dev))
                .map(|d| (d.up, d.carrier));
            let (peer_up, peer_carrier) = other.unwrap_or((false, up));
            if carrier != peer_up {
                self.set_carrier(PortAt { ns: id, dev }, peer_up);
            }
            if peer_carrier != up {
                self.set_carrier(peer, up);
            }
        }
    }

    /// Lets every cable's ends see each other, after namespaces were changed behind the world's back.
    pub fn sync_all_carriers(&mut self) {
        for i in 0..self.spaces.len() {
            self.sync_carriers(NsId(i as u32));
        }
    }

    fn set_carrier(&mut self, at: PortAt, carrier: bool) {
        if let Some(ns) = self.spaces.get_mut(at.ns.0 as usize) {
            // A device that is gone has no carrier to set.
            let _ = ns.edit().set_carrier(at.dev, carrier);
        }
    }

    /// Joins two devices by a cable.
    pub fn connect(&mut self, a: PortAt, b: PortAt) -> Result<(), EditError> {
        for (x, y) in [(a, b), (b, a)] {
            let ns = self.spaces.get_mut(x.ns.0 as usize);
            ns.ok_or_else(|| EditError::NoDevice(format!("namespace #{}", x.ns.0)))?
                .edit()
                .set_peer(x.dev, Some(y))?;
        }
        self.sync_carriers(a.ns);
        Ok(())
    }

    /// Properties of the cable out of a device's end.
    pub fn link_mut(&mut self, from: PortAt) -> &mut Link {
        self.changes += 1;
        self.links.entry(from).or_default()
    }

    /// The next event's time.
    pub fn next_event(&self) -> Option<Instant> {
        self.queue.first_key_value().map(|(k, _)| k.0)
    }

    /// Packets that sockets got since last asked.
    pub fn take_deliveries(&mut self) -> Vec<Delivery> {
        std::mem::take(&mut self.deliveries)
    }

    /// A process sends a frame by a device (as a packet socket does), now. Its id names the lineage.
    pub fn transmit<O: Observer>(&mut self, at: PortAt, mut f: Frame, obs: &mut O) -> FrameId {
        self.shared.adopt(&mut f);
        let id = f.id;
        self.walk(at.ns, obs, |w| w.transmit(at.dev, f));
        id
    }

    /// A frame arrives at a device out of nowhere, now.
    pub fn arrive<O: Observer>(&mut self, at: PortAt, mut f: Frame, obs: &mut O) -> FrameId {
        self.shared.adopt(&mut f);
        let id = f.id;
        self.walk(at.ns, obs, |w| w.receive(at.dev, f));
        id
    }

    /// A socket of a namespace sends an IP packet, now.
    pub fn send<O: Observer>(
        &mut self,
        ns: NsId,
        packet: &[u8],
        oif: Option<DevId>,
        obs: &mut O,
    ) -> (FrameId, Result<(), Errno>) {
        let options = SendOptions {
            oif,
            ..SendOptions::default()
        };
        self.send_with(ns, packet, options, obs)
    }

    /// The same for a socket with options.
    pub fn send_with<O: Observer>(
        &mut self,
        ns: NsId,
        packet: &[u8],
        SendOptions {
            oif,
            mark,
            hash,
            raw,
        }: SendOptions,
        obs: &mut O,
    ) -> (FrameId, Result<(), Errno>) {
        let mut f = Frame::ip(packet);
        f.mark = mark;
        f.hash = hash;
        self.shared.adopt(&mut f);
        let (id, mut r) = (f.id, Err(Errno::NetUnreach));
        self.walk(ns, obs, |w| {
            r = match raw {
                true => w.send_raw(f, oif),
                false => w.send_local(f, oif),
            }
        });
        (id, r)
    }

    /// Runs one walk and hands on what left.
    fn walk<O: Observer>(&mut self, id: NsId, obs: &mut O, f: impl FnOnce(&mut Walker<'_, O>)) {
        for o in self.walk_out(id, obs, f) {
            self.hand_on(o, obs);
        }
    }

    /// Runs one walk; gives what left.
    pub(super) fn walk_out<O: Observer>(
        &mut self,
        id: NsId,
        obs: &mut O,
        f: impl FnOnce(&mut Walker<'_, O>),
    ) -> Vec<Output> {
        let Some(ns) = self.spaces.get_mut(id.0 as usize) else {
            return Vec::new();
        };
        let surprises = |ns: &NetNs| ns.ipvs().map_or(0, |vs| vs.surprises());
        let surprised = surprises(ns);
        vs_between(ns, self.now);
        let sets = ns.nf().map_or(0, |nf| nf.sets_changed);
        let mut walker = Walker::new(ns, self.now, &mut self.shared, obs);
        f(&mut walker);
        walker.finish();
        if ns.nf().map_or(0, |nf| nf.sets_changed) != sets || surprises(ns) != surprised {
            self.shared.learned += 1;
        }
        self.mark_ended(id);
        self.reschedule(id);
        std::mem::take(&mut self.shared.out)
    }

    /// Notes a namespace in which connections with compiled paths ended.
    pub(super) fn mark_ended(&mut self, id: NsId) {
        let ended = |ns: &NetNs| ns.nf().is_some_and(|nf| nf.ct.has_ended());
        if self.ns(id).is_some_and(ended) && !self.ended.contains(&id) {
            self.ended.push(id);
        }
    }

    /// Compiled paths that ended with their connections since the last call.
    pub(super) fn take_ended(&mut self) -> Vec<u32> {
        let mut gone = Vec::new();
        while let Some(id) = self.ended.pop() {
            if let Some(nf) = self.space_mut(id).and_then(|ns| ns.nf.as_deref_mut()) {
                gone.extend(nf.ct.take_ended());
            }
        }
        gone
    }

    /// Takes back the emptied room of [`World::walk_out`].
    pub(super) fn give_back(&mut self, room: Vec<Output>) {
        if self.shared.out.capacity() == 0 {
            self.shared.out = room;
        }
    }

    /// Gives a frame an identity.
    pub(super) fn adopt(&mut self, f: &mut Frame) {
        self.shared.adopt(f);
    }

    /// Counts every change that other frames may go by: configuration and what walks learned.
    pub(super) fn version(&self) -> (u64, u64) {
        (self.changes, self.shared.learned)
    }

    /// The world's randomness, to see whether a walk drew on it.
    pub(super) fn rng(&self) -> &Rng {
        &self.shared.rng
    }

    pub(super) fn push<O: Observer>(
        &mut self,
        time: Instant,
        at: PortAt,
        mut frame: Frame,
        obs: &mut O,
    ) {
        frame.hops += 1;
        let looped = frame.hops > limits::HOPS_MAX;
        if looped || self.queue.len() >= limits::EVENT_QUEUE_MAX {
            self.walk(at.ns, obs, |w| w.from_backlog(&frame));
            let Some(ns) = self.ns(at.ns) else { return };
            let full = Disposition::Dropped {
                reason: DropReason::QueueFull,
                detail: String::new(),
                origin: Default::default(),
            };
            let how = if looped { Disposition::Loop } else { full };
            return obs.end(
                Place {
                    now: self.now,
                    ns,
                    dev: Some(at.dev),
                },
                &frame,
                &how,
            );
        }
        self.seq += 1;
        self.queue
            .insert((time, Class::Frame, self.seq), Event::Arrive(at, frame));
    }

    /// Keeps exactly one timer event per namespace: its earliest.
    fn reschedule(&mut self, id: NsId) {
        let want = self.ns(id).and_then(NetNs::next_timer);
        let have = self.scheduled.get(&id).copied();
        if have.map(|h| h.0) == want {
            return;
        }
        if let Some((t, seq)) = have {
            self.queue.remove(&(t, Class::Timer, seq));
            self.scheduled.remove(&id);
        }
        if let Some(t) = want {
            self.seq += 1;
            let t = t.max(self.now);
            self.queue
                .insert((t, Class::Timer, self.seq), Event::Timer(id));
            self.scheduled.insert(id, (t, self.seq));
        }
    }

    /// Handles every event up to and including `until`; virtual time stands at `until` afterwards.
    pub fn run_until<O: Observer>(&mut self, until: Instant, obs: &mut O) {
        while self.next_event().is_some_and(|t| t <= until) {
            self.step(obs);
        }
        self.now = self.now.max(until);
    }

    /// Handles one event; false when there was none.
    pub fn step<O: Observer>(&mut self, obs: &mut O) -> bool {
        let Some(((time, _, _), event)) = self.queue.pop_first() else {
            return false;
        };
        self.now = self.now.max(time);
        match event {
            Event::Arrive(at, f) => self.walk(at.ns, obs, |w| {
                w.from_backlog(&f);
                w.receive(at.dev, f);
            }),
            Event::Timer(id) => {
                self.scheduled.remove(&id);
                self.walk(id, obs, |w| w.run_timers());
            }
        }
        true
    }

    /// Handles every event of this moment and of cables' delays, but lets no long timer run: up to `until`,
    /// stopping when only timers are left.
    pub fn settle<O: Observer>(&mut self, until: Instant, obs: &mut O) {
        while self
            .queue
            .iter()
            .any(|(k, _)| k.1 == Class::Frame && k.0 <= until)
        {
            self.step(obs);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Origin;
    use crate::net::{DeviceKind, IfAddr, LinkSpec};
    use crate::path::{EventKind, TraceBuilder};
    use crate::wire::{MacAddr, build, proto};

    fn host(w: &mut World, name: &str, n: u8, addr: &str) -> PortAt {
        let node = w.add_node(name);
        let ns = w.add_ns(name, node);
        let dev = w
            .edit(ns, |e| {
                let spec = LinkSpec {
                    name: "eth0".into(),
                    kind: DeviceKind::Veth,
                    mac: MacAddr([2, 0, 0, 0, 0, n]),
                    mtu: None,
                    origin: Origin::Kernel,
                };
                let d = e.link_add(spec).unwrap();
                e.addr_add(d, IfAddr::new(addr.parse().unwrap(), Origin::Kernel))
                    .unwrap();
                e.set_up(d, true).unwrap();
                let lo = e.find("lo").unwrap();
                e.set_up(lo, true).unwrap();
                d
            })
            .unwrap();
        PortAt { ns, dev }
    }

    fn ping(v6: bool) -> Vec<u8> {
        let (a, b) = if v6 {
            ("fd00::1", "fd00::2")
        } else {
            ("10.0.0.1", "10.0.0.2")
        };
        let (a, b) = (a.parse().unwrap(), b.parse().unwrap());
        let m = build::icmp_message(a, b, if v6 { 128 } else { 8 }, 0, 1 << 16 | 1, b"x");
        build::ip_packet(
            a,
            b,
            if v6 { proto::ICMPV6 } else { proto::ICMP },
            64,
            0,
            1,
            false,
            &m,
        )
    }

    fn run(v6: bool, peer_there: bool) -> (Vec<String>, Instant) {
        let mut w = World::new(1);
        let (x, y) = if v6 {
            ("fd00::1/64", "fd00::2/64")
        } else {
            ("10.0.0.1/24", "10.0.0.2/24")
        };
        let other = if v6 { "fd00::9/64" } else { "10.0.0.9/24" };
        let (a, b) = (
            host(&mut w, "a", 1, x),
            host(&mut w, "b", 2, if peer_there { y } else { other }),
        );
        w.connect(a, b).unwrap();
        let mut t = TraceBuilder::default();
        w.send(a.ns, &ping(v6), None, &mut t).1.unwrap();
        w.run_until(Instant::from_secs(4), &mut t);
        let shown: Vec<_> = t
            .events()
            .iter()
            .filter(|e| matches!(e.kind, EventKind::Tap(_)))
            .collect();
        let last = shown.last().unwrap().time;
        (
            shown
                .iter()
                .map(|e| format!("{} {}", e.ns_name, e.summary))
                .collect(),
            last,
        )
    }

    #[test]
    fn a_ping_is_resolved_carried_and_answered() {
        for v6 in [false, true] {
            let (lines, _) = run(v6, true);
            let tail = lines.last().unwrap();
            assert!(
                tail.starts_with("a ICMP") && tail.contains("echo reply"),
                "{lines:#?}"
            );
            assert_eq!(
                lines.len(),
                8,
                "ask, answer, request, reply, each seen twice: {lines:#?}"
            );
        }
    }

    #[test]
    fn nobody_home_is_told_after_three_seconds() {
        for v6 in [false, true] {
            let (lines, at) = run(v6, false);
            assert_eq!(at, Instant::from_secs(3), "{lines:#?}");
            assert!(lines.last().unwrap().contains(if v6 {
                "address unreachable"
            } else {
                "host unreachable"
            }));
        }
    }
}
