//! br_netfilter: bridged IP frames seen by the IP hooks (kernel: `br_netfilter_hooks.c`,
//! `br_netfilter_ipv6.c`).
//!
//! A frame is shown to PREROUTING, FORWARD and POSTROUTING with its bridge as device; its TTL stays.
//! One whose destination was translated to a neighbour of the bridge is bridged on with the neighbour's
//! MAC and its own source; any other translated one goes up to be routed.

use crate::base::{DevId, Origin};
use crate::net::fib::Found;
use crate::net::{BridgePort, NudState};
use crate::nf::Hook;
use crate::path::input::{Input, NoInput};
use crate::path::netfilter::Part;
use crate::path::observer::{Observer, Step};
use crate::path::reason::DropReason;
use crate::path::walker::Walker;
use crate::wire::{
    Bridged, CtRef, ETH_P_IP, ETH_P_IPV6, Frame, IpHeader, MacAddr, Malformed, PacketType,
};
use std::net::IpAddr;

impl<O: Observer> Walker<'_, O> {
    /// A frame on a port, before the bridge looks where it goes (kernel: `br_nf_pre_routing`).
    pub(crate) fn bridge_prerouting(
        &mut self,
        bridge: DevId,
        port: DevId,
        flags: &BridgePort,
        f: Frame,
    ) {
        let here = Some(port);
        let Some(f) = self.bridge_hook(Hook::Prerouting, Part::BeforeIp, f, here, None) else {
            return;
        };
        let Some((mut f, shown)) = self.bridge_header(port, f) else {
            return;
        };
        let Some(h) = shown else {
            return self.bridge_prerouted(bridge, port, flags, f);
        };
        f.bridged = Some(Bridged {
            physin: Some(port),
            ..Bridged::default()
        });
        f.forget_fragments();
        f.nexthop = None;
        let Some(f) = self.as_host(f, |w, f| w.nf_hook(Hook::Prerouting, f, Some(bridge), None))
        else {
            return;
        };
        match IpHeader::parse_lax(f.l3()) {
            Ok(now) if now.dst != h.dst => self.bridge_translated(bridge, port, flags, &now, f),
            _ => self.bridge_prerouted(bridge, port, flags, f),
        }
    }

    /// The chains behind the IP hooks, then the bridge itself (kernel: `br_nf_hook_thresh`).
    fn bridge_prerouted(&mut self, bridge: DevId, port: DevId, flags: &BridgePort, f: Frame) {
        let here = Some(port);
        if let Some(f) = self.bridge_hook(Hook::Prerouting, Part::AfterIp, f, here, None) {
            self.bridge_input(bridge, port, flags, f);
        }
    }

    /// The header checks; the header where the IP hooks are to see the frame (kernel: `br_validate_ipv4`,
    /// `br_validate_ipv6`).
    fn bridge_header(&mut self, port: DevId, mut f: Frame) -> Option<(Frame, Option<IpHeader>)> {
        let s = &self.ns.sysctl;
        let (on, version) = match f.ethertype() {
            ETH_P_IP => (s.bridge_nf_call_iptables != 0, 4),
            ETH_P_IPV6 => (s.bridge_nf_call_ip6tables != 0, 6),
            _ => (false, 0),
        };
        if !on {
            return Some((f, None));
        }
        match IpHeader::parse(f.l3()) {
            Ok(h) if f.l3().first().is_some_and(|b| b >> 4 == version) => {
                f.trim_l3(h.total_len);
                return Some((f, Some(h)));
            }
            Err(Malformed::Checksum) => self.drop(Some(port), &f, DropReason::IpChecksum),
            _ => self.drop(Some(port), &f, DropReason::BridgeIpHeader),
        }
        None
    }

    /// Shows a frame for somebody else as one for this host while the hooks run
    /// (kernel: `nf_bridge->pkt_otherhost`, which stays with the first fragment of what they put together).
    fn as_host(
        &mut self,
        mut f: Frame,
        hooks: impl FnOnce(&mut Self, Frame) -> Option<Frame>,
    ) -> Option<Frame> {
        if let (PacketType::OtherHost, Some(b)) = (f.pkt_type, &mut f.bridged) {
            b.other_host = true;
            f.pkt_type = PacketType::Host;
        }
        let mut f = hooks(self, f)?;
        if let Some(b) = &mut f.bridged
            && core::mem::take(&mut b.other_host)
        {
            f.pkt_type = PacketType::OtherHost;
        }
        Some(f)
    }

    /// The destination was translated (kernel: `br_nf_pre_routing_finish`).
    fn bridge_translated(
        &mut self,
        bridge: DevId,
        port: DevId,
        flags: &BridgePort,
        h: &IpHeader,
        mut f: Frame,
    ) {
        let decision = if h.is_v4() {
            self.route_input(bridge, h.src, h.dst, &f, false)
        } else {
            self.route_input6(bridge, h, &f)
        };
        match decision {
            Ok(Input::Forward { found, .. }) if found.dev() == Some(bridge) => {
                self.show_route(bridge, &f, &found);
                self.bridge_to_neighbour(bridge, port, flags, h.dst, &found, f);
            }
            Ok(on) => {
                if let (Input::Forward { found, .. }, Some(b)) = (&on, &mut f.bridged) {
                    b.routed = found.dev();
                }
                self.bridge_to_host(bridge, port, flags, f);
            }
            Err(why) => self.bridge_unrouted(bridge, port, flags, h, why, f),
        }
    }

    /// Up to the host, which is to route it.
    fn bridge_to_host(&mut self, bridge: DevId, port: DevId, flags: &BridgePort, mut f: Frame) {
        let mac = self.device(bridge).map_or(MacAddr::ZERO, |d| d.mac);
        let (src, proto) = (f.src_mac(), f.ethertype());
        f.set_ethernet(mac, src, proto);
        f.pkt_type = PacketType::Host;
        self.bridge_prerouted(bridge, port, flags, f);
    }

    /// The new destination cannot be routed to. IPv4: without a route or without forwarding the host
    /// drops it, and tells its sender; a martian dies here. IPv6: here too, but forwarding being off is
    /// no hindrance between ports (`ip6_forward` would look, and is not come to).
    fn bridge_unrouted(
        &mut self,
        bridge: DevId,
        port: DevId,
        flags: &BridgePort,
        h: &IpHeader,
        why: NoInput,
        f: Frame,
    ) {
        let off = matches!(why, NoInput::Silent(DropReason::ForwardingOff, ..));
        match why {
            NoInput::Told(_) if h.is_v4() => self.bridge_to_host(bridge, port, flags, f),
            _ if off && h.is_v4() => self.bridge_to_host(bridge, port, flags, f),
            _ if off => {
                let found = self
                    .ns
                    .route_output(Some(h.src), h.dst, None, f.mark, h.tos);
                match found.ok().filter(|r| r.dev() == Some(bridge)) {
                    Some(r) => self.bridge_to_neighbour(bridge, port, flags, h.dst, &r, f),
                    None => self.bridge_to_host(bridge, port, flags, f),
                }
            }
            why => self.bridge_unroutable(bridge, h, &f, why),
        }
    }

    /// No way to the new destination: it dies without a word.
    fn bridge_unroutable(&mut self, bridge: DevId, h: &IpHeader, f: &Frame, why: NoInput) {
        let dst = h.dst;
        let (reason, origin, text) = match why {
            NoInput::Silent(reason, origin, text) => (reason, origin, text),
            NoInput::Told(_) => (
                DropReason::NoRoute,
                Origin::Kernel,
                format!("translated to {dst}"),
            ),
        };
        self.drop_with(Some(bridge), f, reason, origin, |_| text);
    }

    /// On to a neighbour of the bridge: at once when its address is known and in use, else by way of the
    /// neighbour layer (kernel: `br_nf_pre_routing_finish_bridge`).
    fn bridge_to_neighbour(
        &mut self,
        bridge: DevId,
        port: DevId,
        flags: &BridgePort,
        dst: IpAddr,
        found: &Found,
        f: Frame,
    ) {
        let here = Some(port);
        let Some(mut f) = self.bridge_hook(Hook::Prerouting, Part::AfterIp, f, here, None) else {
            return;
        };
        let hop = found.nexthop().and_then(|n| n.via).unwrap_or(dst);
        let src = f.src_mac();
        let connected = |s: NudState| {
            matches!(
                s,
                NudState::Permanent | NudState::Noarp | NudState::Reachable
            )
        };
        let known = self.ns.neigh.get(bridge, hop);
        match known.filter(|n| connected(n.state) && n.header_cached) {
            Some(n) => {
                let (mac, state) = (n.lladdr, n.state.name());
                self.step(Some(bridge), &f, |_| Step::NeighHit {
                    ip: hop,
                    mac,
                    state,
                });
                let proto = f.ethertype();
                f.set_ethernet(mac, src, proto);
                self.bridge_input(bridge, port, flags, f);
            }
            None => {
                if let Some(b) = &mut f.bridged {
                    b.dnat_from = Some(src);
                }
                self.ns.bridge_waits = true;
                self.neigh_output(bridge, hop, f);
            }
        }
    }

    /// The bridge is to send a frame that in truth is being bridged and had only to find its
    /// destination's MAC (kernel: `br_nf_pre_routing_finish_bridge_slow`); gives back any other frame.
    pub(crate) fn bridge_resumed(&mut self, bridge: DevId, mut f: Frame) -> Option<Frame> {
        let Some(b) = &mut f.bridged else {
            return Some(f);
        };
        let (Some(port), Some(src)) = (b.physin, b.dnat_from.take()) else {
            return Some(f);
        };
        b.physout = None;
        let master = self.device(port).and_then(|d| d.master.clone());
        let Some((_, flags)) = master.filter(|m| m.0 == bridge) else {
            self.drop(Some(bridge), &f, DropReason::NoPeer);
            return None;
        };
        let (dst, proto) = (f.dst_mac(), f.ethertype());
        f.set_ethernet(dst, src, proto);
        self.bridge_input(bridge, port, &flags, f);
        None
    }

    /// A frame bridged to a port: FORWARD, POSTROUTING, and as large as it came (kernel:
    /// `br_nf_forward`, `br_nf_post_routing`, `br_nf_dev_queue_xmit`).
    pub(crate) fn bridge_forward(&mut self, bridge: DevId, way: (DevId, DevId), f: Frame) {
        let (from, port) = (Some(way.0), way.1);
        let (br, out) = (Some(bridge), Some(port));
        let Some(mut f) = self.bridge_hook(Hook::Forward, Part::BeforeIp, f, from, out) else {
            return;
        };
        let shown = f.bridged.is_some();
        if let Some(b) = &mut f.bridged {
            b.physout = Some(port);
            f.summed = None;
            let seen = self.as_host(f, |w, f| w.nf_hook(Hook::Forward, f, br, br));
            let Some(seen) = seen else { return };
            f = seen;
        }
        let f = self.bridge_hook(Hook::Forward, Part::AfterIp, f, from, out);
        let leaving =
            f.and_then(|f| self.bridge_hook(Hook::Postrouting, Part::Whole, f, None, out));
        let Some(f) = leaving else { return };
        if !shown {
            return self.bridge_port_transmit(port, f);
        }
        if let Some(f) = self.as_host(f, |w, f| w.nf_hook(Hook::Postrouting, f, None, br)) {
            self.bridge_sized(bridge, port, f);
        }
    }

    /// A frame of this host's own, by the bridge's hooks for such (kernel: `__br_forward` with `local_orig`).
    fn bridge_out(&mut self, port: DevId, f: Frame) -> Option<Frame> {
        let out = Some(port);
        let f = self.bridge_hook(Hook::Output, Part::Whole, f, None, out)?;
        self.bridge_hook(Hook::Postrouting, Part::Whole, f, None, out)
    }

    /// One copy of a frame of this host's own that is flooded.
    pub(crate) fn bridge_flooded(&mut self, port: DevId, f: Frame) {
        if let Some(f) = self.bridge_out(port, f) {
            self.bridge_port_transmit(port, f);
        }
    }

    /// A frame of this host's own to a port. A TEE copy of one that was being bridged meets POSTROUTING once
    /// more: it has its original's nf_bridge_info, port out and all (kernel: `br_nf_post_routing`).
    pub(crate) fn bridge_own(&mut self, bridge: DevId, port: DevId, f: Frame) {
        let Some(f) = self.bridge_out(port, f) else {
            return;
        };
        if f.bridged.is_none_or(|b| b.physout.is_none()) {
            return self.bridge_port_transmit(port, f);
        }
        if let Some(f) = self.nf_hook(Hook::Postrouting, f, None, Some(bridge)) {
            self.bridge_sized(bridge, port, f);
        }
    }

    /// Kernel: `br_nf_dev_queue_xmit`.
    fn bridge_sized(&mut self, bridge: DevId, port: DevId, f: Frame) {
        let mut mtu = self.device(port).map_or(0, |d| d.mtu as usize);
        if f.frag_max > 0 {
            mtu = mtu.min(f.frag_max);
        }
        if f.l3().len() <= mtu {
            return self.bridge_leave(port, f);
        }
        self.bridge_fragment(bridge, port, f);
    }

    fn bridge_leave(&mut self, port: DevId, mut f: Frame) {
        f.bridged = None;
        self.bridge_port_transmit(port, f);
    }

    /// kernel: `br_nf_ip_fragment`, `ip6_fragment`: the route is the bridge's own, with its MTU
    fn bridge_fragment(&mut self, bridge: DevId, port: DevId, f: Frame) {
        let Ok(h) = IpHeader::parse_lax(f.l3()) else {
            return self.drop(Some(bridge), &f, DropReason::IpHeader);
        };
        let mtu = self.device(bridge).map_or(0, |d| d.mtu as usize);
        let whole = f.l3().len();
        let refused = f.frag_max > mtu || !f.ignore_df && h.df && (h.is_v4() || whole > mtu);
        if refused {
            // IPv4 dies silently here, IPv6 tells.
            let sent = match h.is_v4() {
                true => None,
                false => self.icmp_error(&f, Some(bridge), 2, 0, mtu as u32),
            };
            let origin = self
                .device(port)
                .map(|d| d.origin.clone())
                .unwrap_or_default();
            return self.rejected(
                Some(bridge),
                &f,
                sent,
                DropReason::MtuExceeded,
                origin,
                |ns| {
                    format!(
                        "{whole} bytes, port {} of a bridge with mtu {mtu}",
                        ns.dev_name(port)
                    )
                },
            );
        }
        for c in self.cut(port, &f, mtu) {
            self.bridge_leave(port, c);
        }
    }

    /// Before a copy goes up to the host (kernel: `br_nf_local_in`): a promiscuous one is tracked anew,
    /// a broadcast's connection enters the table.
    pub(crate) fn bridge_local_in(&mut self, bridge: DevId, f: &mut Frame, promisc: bool) {
        if self.ns.nf.is_none() {
            return;
        }
        if promisc {
            f.ct = CtRef::None;
        } else if f.pkt_type != PacketType::Host && matches!(f.ct, CtRef::Conn { .. }) {
            self.nf_confirm(bridge, f);
        }
    }
}
