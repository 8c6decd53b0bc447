//! The bridge: learn, forward, flood, hand up (kernel: `br_input.c`, `br_forward.c`, `br_device.c`).
//!
//! What br_netfilter adds is in `netfilter::bridge`. No spanning tree, no multicast snooping.

use crate::base::{DevId, Origin};
use crate::net::bridge::FdbEntry;
use crate::net::{BridgePort, Device};
use crate::nf::Hook;
use crate::path::netfilter::Part;
use crate::path::observer::{Direction, Observer, Step};
use crate::path::reason::DropReason;
use crate::path::touch::{Touch, Varies};
use crate::path::walker::Walker;
use crate::wire::{ETH_HLEN, Frame, MacAddr, PacketType};

/// VLAN slack of `is_skb_forwardable`: frames may exceed the MTU by a tag.
const VLAN_HLEN: usize = 4;

impl<O: Observer> Walker<'_, O> {
    /// A frame came in on a port (kernel: `br_handle_frame`).
    pub(crate) fn bridge_receive(&mut self, port: DevId, mut f: Frame) {
        let Some((bridge, flags)) = self.device(port).and_then(|d| d.master.clone()) else {
            return;
        };
        let (src, dst) = (f.src_mac(), f.dst_mac());
        if !src.is_valid_unicast() {
            return self.drop(Some(port), &f, DropReason::BadSourceMac);
        }
        if dst.is_link_local_group() && !self.group_forwarded(bridge, dst) {
            return self.link_local_group(port, bridge, &flags, f);
        }
        if !self.device(bridge).is_some_and(|b| b.up) {
            let origin = self
                .device(bridge)
                .map(|b| b.origin.clone())
                .unwrap_or_default();
            return self.drop_with(Some(port), &f, DropReason::DeviceDown, origin, |_| {
                "the bridge is down".into()
            });
        }
        // kernel: br_handle_frame, "ether_addr_equal(p->br->dev->dev_addr, dest)"
        if self.device(bridge).is_some_and(|b| b.mac == dst) {
            f.pkt_type = PacketType::Host;
        }
        self.bridge_prerouting(bridge, port, &flags, f);
    }

    /// 01:80:c2:00:00:00 is forwarded while STP is off; the rest as `group_fwd_mask` says; never pause
    /// frames.
    fn group_forwarded(&self, bridge: DevId, dst: MacAddr) -> bool {
        let n = dst.0[5];
        let mask = self
            .device(bridge)
            .and_then(Device::bridge)
            .map_or(0, |b| b.group_fwd_mask);
        n == 0 || (n != 1 && mask & (1 << n) != 0)
    }

    /// Link-local groups go to the port device itself, unseen by the bridge (kernel:
    /// `br_handle_local_finish`).
    fn link_local_group(&mut self, port: DevId, bridge: DevId, flags: &BridgePort, f: Frame) {
        if f.dst_mac().0[5] == 1 {
            return self.drop(Some(port), &f, DropReason::LinkLocalGroup);
        }
        if flags.learning {
            self.fdb_learn(bridge, port, 0, &f);
        }
        self.drop(Some(port), &f, DropReason::LinkLocalGroup);
    }

    /// kernel: `br_handle_frame_finish`
    pub(crate) fn bridge_input(
        &mut self,
        bridge: DevId,
        port: DevId,
        flags: &BridgePort,
        f: Frame,
    ) {
        let Some(b) = self.device(bridge).and_then(Device::bridge) else {
            return;
        };
        let vlan = if b.vlan_filtering {
            flags.pvid.unwrap_or(0)
        } else {
            0
        };
        if b.vlan_filtering && flags.pvid.is_none() {
            return self.drop(Some(port), &f, DropReason::VlanFiltered);
        }
        let ageing = b.ageing;
        if flags.learning {
            self.fdb_learn(bridge, port, vlan, &f);
        }
        let dst = f.dst_mac();
        if dst.is_multicast() {
            self.bridge_flood(bridge, Some(port), vlan, &f);
            let promisc = self.device(bridge).is_some_and(|d| d.promisc);
            return self.bridge_up(bridge, port, vlan, f, promisc);
        }
        let entry = self.fdb_lookup(bridge, vlan, dst, ageing);
        match entry {
            Some(e) if e.local => self.bridge_up(bridge, port, vlan, f, false),
            Some(e) => {
                if self.should_deliver(bridge, Some(port), flags, e.port, vlan, &f, true) {
                    self.step(Some(bridge), &f, |ns| Step::BridgeForward {
                        port: ns.dev_name(e.port).into(),
                    });
                    self.bridge_forward(bridge, (port, e.port), f);
                }
            }
            None => {
                if self.device(bridge).is_some_and(|b| b.mac == dst) {
                    return self.bridge_up(bridge, port, vlan, f, false);
                }
                let promisc = self.device(bridge).is_some_and(|d| d.promisc);
                let sent = self.bridge_flood(bridge, Some(port), vlan, &f);
                if promisc {
                    return self.bridge_up(bridge, port, vlan, f, true);
                }
                if sent == 0 {
                    self.drop(Some(bridge), &f, DropReason::NoFloodPort);
                }
            }
        }
    }

    fn fdb_lookup(
        &mut self,
        bridge: DevId,
        vlan: u16,
        dst: MacAddr,
        ageing: core::time::Duration,
    ) -> Option<FdbEntry> {
        let b = self.device(bridge)?.bridge()?;
        let own = b.fdb.lookup(0, dst, self.now, ageing).filter(|e| e.local);
        let entry = own.or_else(|| b.fdb.lookup(vlan, dst, self.now, ageing));
        if let Some(e) = entry.filter(|e| !e.is_static && !e.local) {
            self.touch(Some(bridge), Touch::Until(e.updated + ageing));
        }
        entry
    }

    fn fdb_learn(&mut self, bridge: DevId, port: DevId, vlan: u16, f: &Frame) {
        let (now, mac) = (self.now, f.src_mac());
        let Some(b) = self.ns.dev_mut(bridge).and_then(Device::bridge_mut) else {
            return;
        };
        let is_own = b.fdb.iter().any(|(v, m, e)| v == 0 && m == mac && e.local);
        if is_own {
            return;
        }
        let moved = b.fdb.learn(vlan, mac, port, now);
        self.touch(
            Some(bridge),
            match moved {
                true => Touch::Varies(Varies::Learned),
                false => Touch::FdbSeen {
                    bridge,
                    vlan,
                    mac,
                    port,
                },
            },
        );
        if moved {
            self.cx.learned += 1;
            self.step(Some(bridge), f, |ns| Step::FdbLearn {
                mac,
                port: ns.dev_name(port).into(),
            });
        }
    }

    /// Whether a frame may leave by `out` (kernel: `should_deliver`); says why not when it was the only way.
    #[allow(clippy::too_many_arguments)] // the kernel's own criteria, one each
    fn should_deliver(
        &mut self,
        bridge: DevId,
        from: Option<DevId>,
        from_flags: &BridgePort,
        out: DevId,
        vlan: u16,
        f: &Frame,
        only_way: bool,
    ) -> bool {
        let Some(o) = self.device(out) else {
            return false;
        };
        let Some((_, flags)) = &o.master else {
            return false;
        };
        let filtering = self
            .device(bridge)
            .and_then(Device::bridge)
            .is_some_and(|b| b.vlan_filtering);
        let reason = if !o.is_running() {
            DropReason::NoCarrier
        } else if from == Some(out) && !flags.hairpin {
            DropReason::SamePort
        } else if from.is_some() && from_flags.isolated && flags.isolated {
            DropReason::Isolated
        } else if filtering && !flags.vlans.contains_key(&vlan) {
            DropReason::VlanFiltered
        } else {
            return true;
        };
        if only_way {
            let origin = o.origin.clone();
            self.drop_with(Some(bridge), f, reason, origin, |ns| {
                format!("output port {}", ns.dev_name(out))
            });
        }
        false
    }

    /// Floods, newest port first; says to how many ports (kernel: `br_flood`).
    fn bridge_flood(&mut self, bridge: DevId, from: Option<DevId>, vlan: u16, f: &Frame) -> usize {
        let Some(b) = self.device(bridge).and_then(Device::bridge) else {
            return 0;
        };
        let ports = b.ports.clone();
        let dst = f.dst_mac();
        let from_flags = from
            .and_then(|p| self.device(p))
            .and_then(|d| d.master.clone())
            .map(|m| m.1);
        let from_flags = from_flags.unwrap_or_default();
        let wanted = |p: &BridgePort| match () {
            () if dst.is_broadcast() => p.bcast_flood,
            () if dst.is_multicast() => p.mcast_flood || from.is_none(),
            () => p.flood,
        };
        let mut to = Vec::new();
        for p in ports {
            let floods = self
                .device(p)
                .and_then(|d| d.master.as_ref())
                .is_some_and(|m| wanted(&m.1));
            if floods && self.should_deliver(bridge, from, &from_flags, p, vlan, f, false) {
                to.push(p);
            }
        }
        let why = match () {
            () if dst.is_broadcast() => "broadcast",
            () if dst.is_multicast() => "multicast",
            () => "unknown unicast",
        };
        if !to.is_empty() {
            self.step(Some(bridge), f, |ns| Step::BridgeFlood {
                ports: to.iter().map(|p| ns.dev_name(*p).to_owned()).collect(),
                why,
            });
        }
        for p in &to {
            let c = self.copy(f);
            match from {
                Some(from) => self.bridge_forward(bridge, (from, *p), c),
                None => self.bridge_flooded(*p, c),
            }
        }
        to.len()
    }

    /// Out of a port, if it fits (kernel: `br_dev_queue_push_xmit`, `is_skb_forwardable`).
    pub(crate) fn bridge_port_transmit(&mut self, port: DevId, f: Frame) {
        let Some(d) = self.device(port) else { return };
        if f.len() > d.mtu as usize + ETH_HLEN + VLAN_HLEN {
            let (mtu, origin) = (d.mtu, d.origin.clone());
            return self.drop_with(Some(port), &f, DropReason::EgressMtu, origin, |_| {
                format!("{} bytes, mtu {mtu}", f.len() - ETH_HLEN)
            });
        }
        self.transmit(port, f);
    }

    /// To the host (kernel: `br_pass_frame_up`).
    fn bridge_up(&mut self, bridge: DevId, from: DevId, vlan: u16, f: Frame, promisc: bool) {
        let Some(d) = self.device(bridge) else { return };
        let in_vlan = d
            .bridge()
            .is_none_or(|b| !b.vlan_filtering || b.own.vlans.contains_key(&vlan));
        if !in_vlan {
            return self.drop(Some(bridge), &f, DropReason::VlanFiltered);
        }
        self.count_rx(bridge, f.len());
        let Some(mut f) = self.bridge_hook(Hook::Input, Part::Whole, f, Some(from), None) else {
            return;
        };
        self.bridge_local_in(bridge, &mut f, promisc);
        self.step(Some(bridge), &f, |ns| Step::BridgeUp {
            bridge: ns.dev_name(bridge).into(),
        });
        self.tap(bridge, Direction::In, &f);
        if let Some(f) = self.received(bridge, f) {
            self.protocol_receive(bridge, f);
        }
    }

    /// The host sends through its bridge (kernel: `br_dev_xmit`).
    pub(crate) fn bridge_transmit(&mut self, bridge: DevId, f: Frame) {
        let Some(f) = self.bridge_resumed(bridge, f) else {
            return;
        };
        let Some(b) = self.device(bridge).and_then(Device::bridge) else {
            return;
        };
        let vlan = if b.vlan_filtering {
            b.own.pvid.unwrap_or(0)
        } else {
            0
        };
        let (dst, ageing) = (f.dst_mac(), b.ageing);
        let entry = if dst.is_multicast() {
            None
        } else {
            self.fdb_lookup(bridge, vlan, dst, ageing)
        };
        match entry {
            Some(e) => {
                if self.should_deliver(bridge, None, &BridgePort::default(), e.port, vlan, &f, true)
                {
                    self.step(Some(bridge), &f, |ns| Step::BridgeForward {
                        port: ns.dev_name(e.port).into(),
                    });
                    self.bridge_own(bridge, e.port, f);
                }
            }
            None => {
                if self.bridge_flood(bridge, None, vlan, &f) == 0 {
                    self.drop_with(
                        Some(bridge),
                        &f,
                        DropReason::NoFloodPort,
                        Origin::Kernel,
                        |_| "the bridge has no port that would take it".into(),
                    );
                }
            }
        }
    }
}
