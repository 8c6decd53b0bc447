//! An observer that notes what a walk touched, so that the next frame of the flow can do without one.
//!
//! Judges nothing but what ends the straight way. Invariant: `extra` is by how many bytes the counted length
//! differs from the length of the IP packet that came in.

use crate::base::{DevId, Instant, NsId};
use crate::ipvs::DestId;
use crate::net::NetNs;
use crate::nf::record::CountAt;
use crate::path::{Direction, Disposition, Observer, Place, Touch, Varies};
use crate::sim::fast::conns::stamp_in;
use crate::sim::fast::ties::Stamp;
use crate::wire::{ConnId, Frame, MacAddr};
use smallvec::SmallVec;
use std::net::IpAddr;

/// A thing whose count or age a frame of the flow changes, the same for every frame but for the length.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Share {
    /// A device received it.
    Rx(DevId, i32),
    /// A device sent it.
    Tx(DevId, i32),
    /// A rule counted it.
    Counter(CountAt, i32),
    /// A neighbour was used.
    Neigh(DevId, IpAddr),
    /// A bridge saw an address again: bridge, VLAN, address, port.
    Fdb(DevId, u16, MacAddr, DevId),
    /// An identification was used up.
    IpId,
    /// `IpForwDatagrams`
    Forwarded,
    /// A connection of the namespace, this one by the direction of replies.
    Conn(Kept, bool, i32),
    /// A real server of IPVS counted it, as a reply or not.
    Server(DestId, bool, i32),
}

/// Who keeps a connection.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Kept {
    Conntrack,
    Ipvs,
}

/// A connection that a frame belonged to on its way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Held {
    pub kept: Kept,
    /// By how many bytes packets are longer there.
    pub extra: i32,
    pub ns: NsId,
    /// Of IPVS: the halves of its number.
    pub id: ConnId,
    pub reply: bool,
}

/// What was noted of one walk, until it may vary.
#[derive(Debug)]
pub(super) struct Recorder {
    /// Length of the IP packet that came in.
    total: usize,
    pub shares: Vec<(NsId, Share)>,
    pub conns: SmallVec<[Held; 8]>,
    /// What rules could ask of each when the packet met it.
    pub stamps: SmallVec<[Option<Stamp>; 8]>,
    /// Packets that no connection of IPVS was found for.
    pub strangers: SmallVec<[(NsId, u64); 4]>,
    /// Longest packet that goes the same way.
    pub cap: usize,
    /// Until when it does.
    pub until: Instant,
    /// Why it may not.
    pub varies: Option<Varies>,
    /// A frame ended on the way.
    pub ended: bool,
}

impl Recorder {
    /// For a packet of `total` bytes, in the room of an earlier one.
    pub fn new(total: usize, mut room: Vec<(NsId, Share)>) -> Recorder {
        room.clear();
        Recorder {
            total,
            shares: room,
            conns: SmallVec::new(),
            stamps: SmallVec::new(),
            strangers: SmallVec::new(),
            cap: usize::MAX,
            until: Instant::from_nanos(u64::MAX),
            varies: None,
            ended: false,
        }
    }

    fn extra(&self, len: usize) -> i32 {
        len as i32 - self.total as i32
    }

    /// A packet of `len` bytes passed where `max` are allowed. One that was longer (a bridge lets by four
    /// bytes more) says the same of the flow as any other, and is not carried itself.
    fn limit(&mut self, max: usize, len: usize) {
        self.cap = self.cap.min((self.total + max).saturating_sub(len));
    }

    fn conn(&mut self, ns: &NetNs, kept: Kept, id: ConnId, (reply, len): (bool, usize)) {
        let held = Held {
            extra: self.extra(len),
            kept,
            ns: ns.id,
            id,
            reply,
        };
        self.stamps.push(stamp_in(ns, &held));
        self.conns.push(held);
    }

    /// Learned path MTUs are forgotten some day.
    fn path_mtu(&mut self, ns: &NetNs) {
        if let Some(soonest) = ns.pmtu.values().map(|p| p.expires).min() {
            self.until = self.until.min(soonest);
        }
    }
}

impl Observer for Recorder {
    const TRACING: bool = false;
    const RECORDING: bool = true;

    fn records(&self) -> bool {
        self.varies.is_none()
    }

    fn touch(&mut self, at: Place<'_>, what: Touch) {
        let ns = at.ns.id;
        if self.varies.is_some() {
            return;
        }
        let share = match what {
            Touch::Counter(c, len) => Share::Counter(c, self.extra(len)),
            Touch::Conn { id, reply, len } => {
                self.conn(at.ns, Kept::Conntrack, id, (reply, len));
                Share::Conn(Kept::Conntrack, reply, self.extra(len))
            }
            Touch::Server {
                id,
                dest,
                reply,
                len,
            } => {
                let (slot, generation) = id.halves();
                self.conn(at.ns, Kept::Ipvs, ConnId { slot, generation }, (reply, len));
                let extra = self.extra(len);
                self.shares
                    .extend(dest.map(|d| (ns, Share::Server(d, reply, extra))));
                Share::Conn(Kept::Ipvs, reply, extra)
            }
            Touch::Stranger(hash) => return self.strangers.push((ns, hash)),
            Touch::Neigh { dev, ip } => Share::Neigh(dev, ip),
            Touch::FdbSeen {
                bridge,
                vlan,
                mac,
                port,
            } => Share::Fdb(bridge, vlan, mac, port),
            Touch::Until(t) => return self.until = self.until.min(t),
            Touch::Cap { max, len } => {
                self.path_mtu(at.ns);
                return self.limit(max, len);
            }
            Touch::IpId => Share::IpId,
            Touch::Forwarded => Share::Forwarded,
            Touch::Varies(v) => {
                self.varies = Some(v);
                return;
            }
        };
        self.shares.push((ns, share));
    }

    fn tap(&mut self, at: Place<'_>, dir: Direction, f: &Frame) {
        let Some(dev) = at.dev.filter(|_| self.varies.is_none()) else {
            return;
        };
        let extra = self.extra(f.len());
        let share = match dir {
            Direction::In => Share::Rx(dev, extra),
            Direction::Out => Share::Tx(dev, extra),
        };
        self.shares.push((at.ns.id, share));
        let mtu = at.ns.dev(dev).map_or(0, |d| d.mtu as usize);
        self.limit(mtu, f.l3().len());
    }

    fn end(&mut self, _: Place<'_>, _: &Frame, _: &Disposition) {
        self.ended = true;
    }
}
