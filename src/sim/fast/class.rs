//! Classes of flows that touch the same things: what their frames count is added up here and written to the
//! world when somebody reads it.
//!
//! Invariant: a class is named by its shares; flows of one class differ in addresses, ports and connections.

use crate::base::Instant;
use crate::base::NsId;
use crate::nf::Counters;
use crate::sim::World;
use crate::sim::fast::record::{Kept, Share};
use foldhash::fast::FixedState;
use hashbrown::HashMap;

/// What all frames of a class change.
pub(super) type Shares = Vec<(NsId, Share)>;

#[derive(Debug)]
struct Class {
    shares: Shares,
    sum: Counters,
    last: Instant,
}

/// All classes.
#[derive(Debug, Default)]
pub(super) struct Classes {
    /// Asked by name only: the order inside reaches nobody.
    by_shares: HashMap<Shares, u32, FixedState>,
    all: Vec<Class>,
    /// Classes with something to write.
    dirty: Vec<u32>,
}

impl Classes {
    /// The number of the class with these shares.
    pub fn of(&mut self, shares: &Shares) -> u32 {
        if let Some(n) = self.by_shares.get(shares) {
            return *n;
        }
        let n = self.all.len() as u32;
        self.all.push(Class {
            shares: shares.clone(),
            sum: Counters::default(),
            last: Instant::ZERO,
        });
        self.by_shares.insert(shares.clone(), n);
        n
    }

    /// What the frames of a class change.
    pub fn shares(&self, class: u32) -> &[(NsId, Share)] {
        self.all.get(class as usize).map_or(&[][..], |c| &c.shares)
    }

    /// Where the connections of a flow of the class are, and whether it goes by their replies' direction, in
    /// order.
    pub fn holders(&self, class: u32) -> impl Iterator<Item = (NsId, Kept, bool, i32)> {
        self.shares(class)
            .iter()
            .filter_map(|(ns, share)| match share {
                Share::Conn(kept, reply, extra) => Some((*ns, *kept, *reply, *extra)),
                _ => None,
            })
    }

    /// Frames of one flow of the class: how many, the bytes of their IP packets, and when the last came.
    pub fn add(&mut self, class: u32, n: Counters, last: Instant) {
        let Some(c) = self.all.get_mut(class as usize) else {
            return;
        };
        if c.sum.packets == 0 {
            self.dirty.push(class);
        }
        c.sum.packets += n.packets;
        c.sum.bytes += n.bytes;
        c.last = c.last.max(last);
    }

    /// Writes the sums into the world.
    pub fn write(&mut self, world: &mut World) {
        // Its room stays: writing allocates nothing.
        let mut dirty = std::mem::take(&mut self.dirty);
        for n in dirty.drain(..) {
            let Some(c) = self.all.get_mut(n as usize) else {
                continue;
            };
            let sum = std::mem::take(&mut c.sum);
            for (ns, share) in &c.shares {
                write(world, *ns, share, sum, c.last);
            }
        }
        self.dirty = dirty;
    }
}

/// Bytes where each packet was longer or shorter by `extra`.
pub(super) fn longer(sum: Counters, extra: i32) -> u64 {
    sum.bytes
        .saturating_add_signed(i64::from(extra).saturating_mul(sum.packets as i64))
}

fn write(world: &mut World, ns: NsId, share: &Share, sum: Counters, last: Instant) {
    let Some(ns) = world.space_mut(ns) else {
        return;
    };
    match *share {
        Share::Rx(dev, extra) => {
            if let Some(d) = ns.dev_mut(dev) {
                d.stats.rx_packets += sum.packets;
                d.stats.rx_bytes += longer(sum, extra);
            }
        }
        Share::Tx(dev, extra) => {
            if let Some(d) = ns.dev_mut(dev) {
                d.stats.tx_packets += sum.packets;
                d.stats.tx_bytes += longer(sum, extra);
            }
        }
        Share::Counter(at, extra) => {
            let n = Counters {
                packets: sum.packets,
                bytes: longer(sum, extra),
            };
            if let Some(nf) = ns.nf.as_deref_mut() {
                nf.count(&at, n, last);
            }
        }
        Share::Neigh(dev, ip) => {
            if let Some(n) = ns.neigh.get_mut(dev, ip) {
                n.used = n.used.max(last);
                n.header_cached = true;
            }
        }
        Share::Fdb(bridge, vlan, mac, port) => {
            let bridge = ns.dev_mut(bridge).and_then(|d| d.bridge_mut());
            if let Some(b) = bridge {
                b.fdb.learn(vlan, mac, port, last);
            }
        }
        Share::IpId => ns.ip_id = ns.ip_id.wrapping_add(sum.packets as u16),
        Share::Forwarded => ns.snmp.forwarded += sum.packets,
        // Each flow has its own: see `ties`.
        Share::Conn(..) => {}
        Share::Server(dest, reply, extra) => {
            let n = Counters {
                packets: sum.packets,
                bytes: longer(sum, extra),
            };
            if let Some(vs) = ns.ipvs.as_deref_mut() {
                vs.count(dest, reply, n);
            }
        }
    }
}
