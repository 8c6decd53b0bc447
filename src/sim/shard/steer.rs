//! Which worker a frame goes to: the owner of its flow, unless somebody told that it is another's.
//!
//! Does not carry frames. Frames of one window may be under way at once; what they teach is known in the
//! next. So a frame that may answer one of the same window, sent by another worker, has to wait for its end.
//! Invariant: a frame for which no worker is named but [`To::Later`] has been counted nowhere.

use crate::base::limits;
use crate::sim::shard::Shard;
use crate::wire::shard::{Belongs, FlowKey, FlowOf, belongs};
use foldhash::fast::FixedState;
use hashbrown::HashMap;

/// Slots for the ends of a window's flows; a power of two.
const NEAR: usize = 1 << 14;
/// Bits of the quick look at exceptions; a power of two.
const BITS: usize = 1 << 14;

/// A flow that is not its owner's by hash: NAT made it of another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Exception {
    flow: FlowOf,
    owner: u16,
}

/// The upper bits of an end are the better mixed ones.
#[inline(always)]
fn bit_of(end: u32) -> usize {
    end as usize >> (32 - BITS.trailing_zeros())
}

/// What a frame that left a worker says about the replies to it: whose they are, if not the hash's.
pub fn exception(shard: Shard, left: &[u8]) -> Option<Exception> {
    match belongs(left) {
        Belongs::Flow(flow) | Belongs::Fragment(_, Some(flow)) if !shard.owns(&flow.key) => {
            Some(Exception {
                flow,
                owner: shard.me,
            })
        }
        _ => None,
    }
}

/// What is known of flows: the younger ones and those asked for lately, and the rest, which is forgotten
/// when there are too many.
#[derive(Debug)]
struct Known {
    young: HashMap<FlowKey, u16, FixedState>,
    old: HashMap<FlowKey, u16, FixedState>,
    most: usize,
}

impl Known {
    fn new(most: usize) -> Known {
        Known {
            young: HashMap::default(),
            old: HashMap::default(),
            most,
        }
    }

    fn insert(&mut self, key: FlowKey, owner: u16) {
        if self.young.len() >= self.most / 2 && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, owner);
    }

    fn get(&mut self, key: &FlowKey) -> Option<u16> {
        if let Some(owner) = self.young.get(key) {
            return Some(*owner);
        }
        let owner = self.old.remove(key)?;
        self.insert(*key, owner);
        Some(owner)
    }
}

/// Flows that were handed to somebody else than their hash's owner.
#[derive(Debug)]
pub struct Handed {
    known: Known,
    /// Both ends of them: most frames have an end that none of them has.
    ends: Box<[u64; BITS / 64]>,
}

impl Default for Handed {
    fn default() -> Self {
        Handed {
            known: Known::new(limits::SHARD_EXCEPTIONS_MAX),
            ends: Box::new([0; BITS / 64]),
        }
    }
}

impl Handed {
    /// Learns of one.
    pub fn learn(&mut self, e: &Exception) {
        // The end that the replies come from; it has many flows, and their other ends are as many.
        let bit = bit_of(e.flow.to);
        self.ends[bit / 64] |= 1 << (bit % 64);
        self.known.insert(e.flow.key, e.owner);
    }

    #[inline(always)]
    fn may_have(&self, end: u32) -> bool {
        let bit = bit_of(end);
        self.ends[bit / 64] >> (bit % 64) & 1 != 0
    }

    /// Whose a flow is, if not its hash's owner's.
    #[inline(always)]
    pub fn owner(&mut self, flow: &FlowOf) -> Option<u16> {
        if !self.may_have(flow.from) && !self.may_have(flow.to) {
            return None;
        }
        self.known.get(&flow.key)
    }

    /// The same for a frame, of whose fragments only the first names its flow.
    #[inline(always)]
    pub fn owner_of(&mut self, frame: &[u8]) -> Option<u16> {
        match belongs(frame) {
            Belongs::Flow(flow) | Belongs::Fragment(_, Some(flow)) => self.owner(&flow),
            _ => None,
        }
    }

    /// How many flows it knows.
    pub fn len(&self) -> usize {
        self.known.young.len() + self.known.old.len()
    }

    /// Whether it knows none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Who sent from an end in a window.
#[derive(Clone, Copy, Default, Debug)]
struct Near {
    window: u32,
    end: u32,
    /// Workers, a bit each.
    who: u64,
    /// Several ends fell on this slot.
    several: bool,
}

/// Where a frame goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum To {
    /// To one worker.
    Worker(u16),
    /// To all, each of which is to know it; what the first makes of it counts.
    Everybody,
    /// Nowhere before everything that is under way has arrived: [`Steer::next_window`], then ask again.
    Later,
}

/// Names the worker of each frame of a stream.
#[derive(Debug)]
pub struct Steer {
    of: u16,
    handed: Handed,
    /// Whose a datagram's fragments are.
    datagrams: Known,
    window: u32,
    near: Box<[Near]>,
}

impl Steer {
    /// For so many workers, 64 at most.
    pub fn new(of: u16) -> Steer {
        Steer {
            of: of.clamp(1, limits::SHARD_WORKERS_MAX),
            handed: Handed::default(),
            datagrams: Known::new(limits::SHARD_DATAGRAMS_MAX),
            window: 1,
            near: vec![Near::default(); NEAR].into_boxed_slice(),
        }
    }

    /// How many workers there are.
    pub fn workers(&self) -> u16 {
        self.of
    }

    /// What a worker learned from a frame of the last window.
    pub fn learn(&mut self, e: &Exception) {
        self.handed.learn(e);
    }

    /// Flows that go elsewhere than their hash says.
    pub fn exceptions(&self) -> usize {
        self.handed.len()
    }

    /// Everything that was under way has arrived, and what it taught was learned.
    pub fn next_window(&mut self) {
        self.window = self.window.wrapping_add(1);
        if self.window == 0 {
            self.near.fill(Near::default());
            self.window = 1;
        }
    }

    /// Where a frame goes.
    pub fn to(&mut self, frame: &[u8]) -> To {
        match belongs(frame) {
            Belongs::Flow(flow) => self.flow(&flow),
            Belongs::Everybody => To::Everybody,
            Belongs::Fragment(datagram, first) => {
                if let Some(worker) = self.datagrams.get(&datagram) {
                    return To::Worker(worker);
                }
                // Before its first fragment a datagram's flow is not known: it goes by its addresses, and
                // the first goes after it.
                let to = match first {
                    Some(flow) => self.flow(&flow),
                    None => To::Worker(datagram.owner(self.of)),
                };
                if let To::Worker(worker) = to {
                    self.datagrams.insert(datagram, worker);
                }
                to
            }
        }
    }

    fn flow(&mut self, flow: &FlowOf) -> To {
        if let Some(worker) = self.handed.owner(flow) {
            return To::Worker(worker);
        }
        let worker = flow.key.owner(self.of);
        let to = &self.near[flow.to as usize % NEAR];
        let others = to.who & !(1 << worker);
        if to.window == self.window && (to.several || to.end == flow.to) && others != 0 {
            return To::Later;
        }
        let from = &mut self.near[flow.from as usize % NEAR];
        if from.window != self.window {
            *from = Near {
                window: self.window,
                end: flow.from,
                ..Near::default()
            };
        }
        from.several |= from.end != flow.from;
        from.who |= 1 << worker;
        To::Worker(worker)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{ETH_P_IP, Frame, MacAddr, build, proto};
    use std::net::{IpAddr, Ipv4Addr};

    const OF: u16 = 2;
    const VIP: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);
    const POD: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 9);
    const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 5);

    fn frame(a: (Ipv4Addr, u16), b: (Ipv4Addr, u16)) -> Vec<u8> {
        let (src, dst) = (IpAddr::V4(a.0), IpAddr::V4(b.0));
        let l4 = build::udp(src, dst, a.1, b.1, b"data");
        let packet = build::ip_packet(src, dst, proto::UDP, 64, 0, 1, false, &l4);
        let mut f = Frame::ip(&packet);
        f.set_ethernet(MacAddr([2; 6]), MacAddr([4; 6]), ETH_P_IP);
        f.data().to_vec()
    }

    /// A port such that the Service's flow is one worker's and the pod's reply by hash the other's.
    fn crossing() -> (u16, u16) {
        let owner = |f: &[u8]| match Steer::new(OF).to(f) {
            To::Worker(n) => n,
            other => panic!("{other:?}"),
        };
        let there = |p| owner(&frame((CLIENT, p), (VIP, 7)));
        let back = |p| owner(&frame((POD, 7007), (CLIENT, p)));
        let port = (1024..).find(|p| there(*p) != back(*p)).unwrap();
        (port, there(port))
    }

    #[test]
    fn a_reply_waits_for_what_it_may_answer_and_follows_it() {
        let (port, owner) = crossing();
        let mut steer = Steer::new(OF);
        assert_eq!(
            steer.to(&frame((CLIENT, port), (VIP, 7))),
            To::Worker(owner)
        );
        let reply = frame((POD, 7007), (CLIENT, port));
        assert_eq!(steer.to(&reply), To::Later);
        let shard = Shard { me: owner, of: OF };
        let left = frame((CLIENT, port), (POD, 7007));
        steer.learn(&exception(shard, &left).unwrap());
        steer.next_window();
        assert_eq!(steer.to(&reply), To::Worker(owner));
        assert_eq!(steer.to(&left), To::Worker(owner));
        assert_eq!(steer.exceptions(), 1);
    }

    #[test]
    fn who_is_nobodys_answer_does_not_wait() {
        let mut steer = Steer::new(OF);
        for port in 1024..1400 {
            let f = frame((CLIENT, port), (VIP, 7));
            assert!(matches!(steer.to(&f), To::Worker(_)));
            let direct = frame((CLIENT, port), (POD, 80));
            let back = frame((POD, 80), (CLIENT, port));
            // Both directions are one worker's; the client's end may have sent by the other one too.
            if let (To::Worker(a), To::Worker(b)) = (steer.to(&direct), steer.to(&back)) {
                assert_eq!(a, b);
            }
        }
    }

    #[test]
    fn what_stays_with_its_owner_is_no_exception() {
        let left = frame((CLIENT, 5000), (POD, 7007));
        let owners = (0..OF).filter(|me| exception(Shard { me: *me, of: OF }, &left).is_none());
        assert_eq!(owners.count(), 1);
    }

    #[test]
    fn what_is_asked_for_stays_and_the_rest_is_bounded() {
        let key = |n: u32| FlowKey::V4([n, 0, 0, 17]);
        let mut known = Known::new(8);
        (0..1000).for_each(|n| {
            known.insert(key(n), 1);
            assert_eq!(known.get(&key(0)), Some(1));
        });
        assert!(known.young.len() + known.old.len() <= 8);
        assert_eq!(known.get(&key(3)), None);
    }
}
