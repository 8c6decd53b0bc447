//! A Linux bridge: its ports' flags and the forwarding database.
//!
//! Who gets a frame is decided in `path::bridge`; here is the state. No spanning tree: every port with
//! carrier forwards. Invariant: an FDB entry's port is a port of this bridge.

use crate::base::{DevId, Instant, limits};
use crate::wire::MacAddr;
use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

/// What a bridged frame and its TEE copies know together (kernel: `struct nf_bridge_info` is an extension
/// of the skb that copies share): whether one of them has been up in the IP layer. Of the latest frames
/// only.
#[derive(Clone, Default, Debug)]
pub(crate) struct SharedInfo {
    last: u32,
    up: VecDeque<u32>,
}

impl SharedInfo {
    /// A number for a frame that is being copied.
    pub(crate) fn number(&mut self) -> u32 {
        self.last = self.last.wrapping_add(1).max(1);
        self.last
    }

    /// Whether a frame that comes up leaves PREROUTING out: the first that shares this does, and every frame
    /// that shares with none (0) (`sabotage_in_done`).
    pub(crate) fn skip(&mut self, shared: u32) -> bool {
        if shared == 0 {
            return true;
        }
        if self.up.contains(&shared) {
            return false;
        }
        if self.up.len() >= limits::BRIDGE_SHARED_MAX {
            self.up.pop_front();
        }
        self.up.push_back(shared);
        true
    }
}

/// Flags of one port (`bridge -d link`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BridgePort {
    /// Send frames back out of the port they came from.
    pub hairpin: bool,
    /// Learn source addresses.
    pub learning: bool,
    /// Flood unknown unicast here.
    pub flood: bool,
    /// Flood groups here.
    pub mcast_flood: bool,
    /// Flood broadcasts here.
    pub bcast_flood: bool,
    /// Talk only to ports that are not isolated.
    pub isolated: bool,
    /// VLAN given to untagged frames, when the bridge filters VLANs.
    pub pvid: Option<u16>,
    /// VLANs this port belongs to; the flag says whether they leave untagged.
    pub vlans: BTreeMap<u16, bool>,
}

impl Default for BridgePort {
    fn default() -> Self {
        BridgePort {
            hairpin: false,
            learning: true,
            flood: true,
            mcast_flood: true,
            bcast_flood: true,
            isolated: false,
            pvid: Some(1),
            vlans: BTreeMap::from([(1, true)]),
        }
    }
}

/// An entry of the forwarding database.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FdbEntry {
    /// The port, or the bridge itself when `local`.
    pub port: DevId,
    /// The bridge's or a port's own address: frames to it go up.
    pub local: bool,
    /// Never ages; learning moves it all the same (`br_fdb_update`).
    pub is_static: bool,
    /// Last seen as a source.
    pub updated: Instant,
}

/// The forwarding database: VLAN (0 without filtering) and address to port.
#[derive(Clone, Debug, Default)]
pub struct Fdb {
    entries: BTreeMap<(u16, MacAddr), FdbEntry>,
}

impl Fdb {
    /// The live entry of an address.
    pub fn lookup(
        &self,
        vlan: u16,
        mac: MacAddr,
        now: Instant,
        ageing: Duration,
    ) -> Option<FdbEntry> {
        let e = self.entries.get(&(vlan, mac))?;
        (e.is_static || e.local || now.since(e.updated) <= ageing).then_some(*e)
    }

    /// Learns that `mac` is behind `port` (kernel: `br_fdb_update`): moves dynamic entries, leaves local
    /// ones. Says whether the address is new or moved.
    pub fn learn(&mut self, vlan: u16, mac: MacAddr, port: DevId, now: Instant) -> bool {
        let full = self.entries.len() >= limits::FDB_MAX;
        match self.entries.get_mut(&(vlan, mac)) {
            Some(e) if e.local => false,
            Some(e) => {
                let moved = e.port != port; // static ones too; only sticky entries stay
                if moved {
                    e.port = port;
                }
                e.updated = now;
                moved
            }
            None if full => false,
            None => {
                let e = FdbEntry {
                    port,
                    local: false,
                    is_static: false,
                    updated: now,
                };
                self.entries.insert((vlan, mac), e);
                true
            }
        }
    }

    /// Puts an entry outright.
    pub(crate) fn put(&mut self, vlan: u16, mac: MacAddr, e: FdbEntry) {
        self.entries.insert((vlan, mac), e);
    }

    /// Removes an entry; says whether there was one.
    pub(crate) fn remove(&mut self, vlan: u16, mac: MacAddr) -> bool {
        self.entries.remove(&(vlan, mac)).is_some()
    }

    /// Forgets what is behind a port that left or went down.
    pub(crate) fn flush_port(&mut self, port: DevId, local_too: bool) {
        self.entries.retain(|_, e| {
            e.port != port || (e.local && !local_too) || (e.is_static && !local_too)
        });
    }

    /// All entries, aged ones included, by VLAN and address.
    pub fn iter(&self) -> impl Iterator<Item = (u16, MacAddr, &FdbEntry)> {
        self.entries.iter().map(|((v, m), e)| (*v, *m, e))
    }
}

/// A bridge.
#[derive(Clone, Debug)]
pub struct Bridge {
    /// Its ports, the newest first, which is the order a flood visits them (kernel: `list_add_rcu`).
    pub ports: Vec<DevId>,
    /// Forwarding database.
    pub fdb: Fdb,
    /// Dynamic entries older than this are not used.
    pub ageing: Duration,
    /// Filter by VLAN.
    pub vlan_filtering: bool,
    /// The bridge's own VLANs, as a port of itself.
    pub own: BridgePort,
    /// The MAC was set by hand; otherwise it follows the lowest port address.
    pub mac_set: bool,
    /// The MTU was set by hand; otherwise it follows the smallest port MTU (`br_mtu_auto_adjust`).
    pub mtu_set: bool,
    /// Bits of `01:80:c2:00:00:0X` that are forwarded after all (`group_fwd_mask`).
    pub group_fwd_mask: u16,
}

impl Default for Bridge {
    fn default() -> Self {
        Bridge {
            ports: Vec::new(),
            fdb: Fdb::default(),
            ageing: Duration::from_secs(300),
            vlan_filtering: false,
            own: BridgePort::default(),
            mac_set: false,
            mtu_set: false,
            group_fwd_mask: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_move_and_age_but_local_ones_stay() {
        let (mut f, m, n) = (Fdb::default(), MacAddr([2; 6]), MacAddr([4; 6]));
        let age = Duration::from_secs(300);
        assert!(f.learn(0, m, DevId(1), Instant::ZERO));
        assert!(!f.learn(0, m, DevId(1), Instant::from_secs(1)));
        assert!(f.learn(0, m, DevId(2), Instant::from_secs(2)));
        assert_eq!(
            f.lookup(0, m, Instant::from_secs(302), age).unwrap().port,
            DevId(2)
        );
        assert!(f.lookup(0, m, Instant::from_secs(303), age).is_none());
        let own = FdbEntry {
            port: DevId(9),
            local: true,
            is_static: true,
            updated: Instant::ZERO,
        };
        f.put(0, n, own);
        assert!(!f.learn(0, n, DevId(1), Instant::ZERO));
        assert_eq!(f.lookup(0, n, Instant::from_secs(9999), age), Some(own));
    }
}
