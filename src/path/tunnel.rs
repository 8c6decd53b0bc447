//! VXLAN (RFC 7348; kernel: `drivers/net/vxlan`) and IPIP (RFC 2003; kernel: `ip_tunnel.c`, `ipip.c`).

use crate::base::{DevId, Origin};
use crate::net::device::VxlanDst;
use crate::net::{DeviceKind, Ipip, PortAt, Vxlan};
use crate::path::observer::{Observer, Step};
use crate::path::reason::{Disposition, DropReason};
use crate::path::touch::{Touch, Varies};
use crate::path::walker::{Output, Walker};
use crate::wire::{ETH_HLEN, Frame, IpHeader, MacAddr, build, checksum, flow, ip, proto};
use std::net::IpAddr;

/// IP, UDP and VXLAN headers' lengths behind the outer IP header.
const UDP_VXLAN: usize = 16;
/// The "VNI is valid" flag.
const VXLAN_HF_VNI: u8 = 0x08;

impl<O: Observer> Walker<'_, O> {
    fn vxlan_at(&self, dev: DevId) -> Option<&Vxlan> {
        match &self.device(dev)?.kind {
            DeviceKind::Vxlan(v) => Some(v),
            _ => None,
        }
    }

    /// Whether some VXLAN device of this namespace holds a UDP socket on `port` (it does while up).
    pub(crate) fn vxlan_listens(&self, port: u16) -> bool {
        self.ns
            .devices()
            .any(|d| d.up && matches!(&d.kind, DeviceKind::Vxlan(v) if v.port == port))
    }

    /// kernel: `vxlan_xmit`
    pub(crate) fn vxlan_transmit(&mut self, dev: DevId, f: Frame) {
        let Some(v) = self.vxlan_at(dev) else { return };
        let dst = f.dst_mac();
        let remotes: Vec<VxlanDst> = v
            .fdb
            .get(&dst)
            .filter(|_| !dst.is_multicast())
            .or_else(|| v.fdb.get(&MacAddr::ZERO))
            .cloned()
            .unwrap_or_default();
        if remotes.is_empty() {
            if let Some(d) = self.ns.dev_mut(dev) {
                d.stats.tx_dropped += 1;
            }
            let origin = self
                .device(dev)
                .map(|d| d.origin.clone())
                .unwrap_or_default();
            return self.drop_with(Some(dev), &f, DropReason::VxlanNoFdb, origin, |ns| {
                format!("no entry for {dst} on {}", ns.dev_name(dev))
            });
        }
        // The first of the list keeps the original buffer and is therefore sent last (`vxlan_xmit`).
        for r in &remotes[1..] {
            let c = self.copy(&f);
            self.vxlan_send(dev, r.ip, c);
        }
        self.vxlan_send(dev, remotes[0].ip, f);
    }

    /// kernel: `vxlan_xmit_one`
    fn vxlan_send(&mut self, dev: DevId, remote: IpAddr, mut f: Frame) {
        let Some(v) = self.vxlan_at(dev) else { return };
        let (vni, port, local, ttl, csum) = (v.vni, v.port, v.local, v.ttl, v.udp_csum);
        let found = match self.ns.route_output(local, remote, None, f.mark, 0) {
            Ok(r) if r.dev() != Some(dev) => r,
            Ok(_) => return self.drop(Some(dev), &f, DropReason::TunnelLoop),
            Err(_) => {
                return self.drop_with(Some(dev), &f, DropReason::NoRoute, Origin::Kernel, |_| {
                    format!("to the tunnel endpoint {remote}")
                });
            }
        };
        let Some(src) = local.or_else(|| self.ns.source_for(&found, remote)) else {
            return self.drop(Some(dev), &f, DropReason::NoSourceAddress);
        };
        let inner_tos = IpHeader::parse_lax(f.l3()).map_or(0, |h| ecn_encap(h.tos));
        let (hash, of_ports) = flow::hash(&f);
        f.hash = of_ports.then_some(hash);
        let sport = flow::source_port(hash, self.ns.sysctl.ip_local_port_range);
        let ttl = ttl
            .filter(|t| *t > 0)
            .unwrap_or_else(|| self.default_ttl(remote.is_ipv4(), found.dev()));
        self.step(Some(dev), &f, |_| Step::Encap {
            kind: "vxlan",
            outer: (src, remote),
            vni,
        });
        let id = self.ns.next_ip_id();
        self.touch(Some(dev), Touch::IpId);
        let mut head = Vec::with_capacity(40 + UDP_VXLAN);
        let len = f.len() + UDP_VXLAN;
        head.extend_from_slice(&build::ip_packet(
            src,
            remote,
            proto::UDP,
            ttl,
            inner_tos,
            id,
            false,
            &[],
        ));
        set_length(&mut head, len);
        head.extend_from_slice(&sport.to_be_bytes());
        head.extend_from_slice(&port.to_be_bytes());
        head.extend_from_slice(&(len as u16).to_be_bytes());
        head.extend_from_slice(&[0, 0, VXLAN_HF_VNI, 0, 0, 0]);
        head.extend_from_slice(&(vni << 8).to_be_bytes());
        let at = head.len() - UDP_VXLAN;
        if csum || remote.is_ipv6() {
            let acc = checksum::sum(&head[at..], checksum::pseudo(src, remote, proto::UDP, len));
            let c = match !(checksum::sum(f.data(), acc) as u16) {
                0 => 0xffff,
                c => c,
            };
            head[at + 6..at + 8].copy_from_slice(&c.to_be_bytes());
        }
        f.push(&head, 0);
        f.scrub();
        f.local = true;
        // The tunnel is told of a drop by its counters only.
        let _ = self.local_out_by(found, f, None);
    }

    /// kernel: `vxlan_rcv`
    pub(crate) fn vxlan_receive(&mut self, dev: DevId, h: &IpHeader, mut f: Frame) {
        let p = h.payload(f.l3());
        let port = h.ports(f.l3()).map_or(0, |x| x.1);
        let Some(head) = p.get(8..).and_then(|v| v.first_chunk::<8>()).copied() else {
            return self.drop(Some(dev), &f, DropReason::VxlanHeader);
        };
        let vni = u32::from_be_bytes([0, head[4], head[5], head[6]]);
        if head[..4] != [VXLAN_HF_VNI, 0, 0, 0] || head[7] != 0 || p.len() < UDP_VXLAN + ETH_HLEN {
            return self.drop(Some(dev), &f, DropReason::VxlanHeader);
        }
        let target = self.ns.devices().find(|d| {
            d.up && matches!(&d.kind, DeviceKind::Vxlan(v) if v.port == port && v.vni == vni)
        });
        let Some(t) = target.map(|d| (d.id, d.mac)) else {
            return self.drop_with(
                Some(dev),
                &f,
                DropReason::VxlanNoDevice,
                Origin::Kernel,
                |_| format!("VNI {vni}"),
            );
        };
        let (outer_src, outer_tos) = (h.src, h.tos);
        let outer = f.len() - f.l3().len() + h.header_len + UDP_VXLAN;
        f.pull(outer, ETH_HLEN);
        if f.src_mac() == t.1 {
            return self.drop(Some(t.0), &f, DropReason::VxlanOwnMac);
        }
        self.vxlan_learn(t.0, f.src_mac(), outer_src);
        if !ecn_decap(outer_tos, &mut f) {
            return self.drop_with(
                Some(t.0),
                &f,
                DropReason::VxlanHeader,
                Origin::Kernel,
                |_| "congestion mark outside, none possible inside".into(),
            );
        }
        self.step(Some(dev), &f, |ns| Step::Decap {
            kind: "vxlan",
            dev: ns.dev_name(t.0).into(),
        });
        f.scrub();
        self.cx.out.push(Output::Backlog {
            at: PortAt {
                ns: self.ns.id,
                dev: t.0,
            },
            frame: f,
        });
    }

    /// kernel: `vxlan_snoop`
    fn vxlan_learn(&mut self, dev: DevId, mac: MacAddr, from: IpAddr) {
        let now = self.now;
        if !self.vxlan_at(dev).is_some_and(|v| v.learning) {
            return;
        }
        self.cx.learned += 1;
        self.touch(Some(dev), Touch::Varies(Varies::TunnelLearned));
        if let Some(DeviceKind::Vxlan(v)) = self.ns.dev_mut(dev).map(|d| &mut d.kind)
            && mac.is_valid_unicast()
        {
            let e = VxlanDst {
                ip: from,
                learned: Some(now),
            };
            match v.fdb.get_mut(&mac).and_then(|l| l.first_mut()) {
                Some(old) if old.learned.is_some() => *old = e,
                Some(_) => {}
                None => {
                    v.fdb.insert(mac, vec![e]);
                }
            }
        }
    }

    /// Whether this namespace has any IPIP device: without one the module is not there.
    pub(crate) fn ipip_known(&self) -> bool {
        self.ns
            .devices()
            .any(|d| matches!(d.kind, DeviceKind::Ipip(_)))
    }

    /// kernel: `ip_tunnel_xmit`
    pub(crate) fn ipip_transmit(&mut self, dev: DevId, mut f: Frame) {
        let Some(DeviceKind::Ipip(t)) = self.device(dev).map(|d| &d.kind) else {
            return;
        };
        let t: Ipip = (**t).clone();
        let Ok(inner) = IpHeader::parse_lax(f.l3()) else {
            return self.drop(Some(dev), &f, DropReason::IpHeader);
        };
        let hop = match f.nexthop {
            Some(IpAddr::V4(a)) => Some(a),
            _ => None,
        };
        let Some(remote) = t.remote.or(hop).map(IpAddr::V4).filter(|_| inner.is_v4()) else {
            return self.drop(Some(dev), &f, DropReason::TunnelNoRemote);
        };
        let found = match self
            .ns
            .route_output(t.local.map(IpAddr::V4), remote, None, f.mark, 0)
        {
            Ok(r) if r.dev() != Some(dev) => r,
            Ok(_) => return self.drop(Some(dev), &f, DropReason::TunnelLoop),
            Err(_) => {
                let sent = self.icmp_error(&f, None, 3, 1, 0);
                return self.rejected(
                    Some(dev),
                    &f,
                    sent,
                    DropReason::NoRoute,
                    Origin::Kernel,
                    |_| format!("to the tunnel endpoint {remote}"),
                );
            }
        };
        let outer = self
            .ns
            .path_mtu(remote, &found, self.now)
            .saturating_sub(20);
        self.touch(
            Some(dev),
            Touch::Cap {
                max: outer,
                len: inner.total_len,
            },
        );
        if inner.df && inner.total_len > outer {
            let sent = self.icmp_error(&f, None, 3, 4, outer as u32);
            return self.rejected(
                Some(dev),
                &f,
                sent,
                DropReason::MtuExceeded,
                Origin::Kernel,
                |_| format!("{} bytes, the tunnel carries {outer}", inner.total_len),
            );
        }
        let Some(src) = t
            .local
            .map(IpAddr::V4)
            .or_else(|| self.ns.source_for(&found, remote))
        else {
            return self.drop(Some(dev), &f, DropReason::NoSourceAddress);
        };
        self.step(Some(dev), &f, |_| Step::Encap {
            kind: "ipip",
            outer: (src, remote),
            vni: 0,
        });
        let ttl = if t.ttl == 0 { inner.ttl } else { t.ttl };
        let id = self.ns.next_ip_id();
        self.touch(Some(dev), Touch::IpId);
        let df = inner.df || t.pmtudisc;
        let mut head = build::ip_packet(
            src,
            remote,
            proto::IPIP,
            ttl,
            ecn_encap(inner.tos),
            id,
            df,
            &[],
        );
        set_length(&mut head, inner.total_len);
        f.strip_link();
        f.push(&head, 0);
        f.scrub();
        f.local = true;
        f.nexthop = None;
        let _ = self.local_out_by(found, f, None);
    }

    /// kernel: `ipip_rcv`, `ip_tunnel_lookup`: the most exact tunnel, then the one open to all
    pub(crate) fn ipip_receive(&mut self, dev: DevId, h: &IpHeader, mut f: Frame) {
        let fits = |t: &Ipip| {
            t.remote.is_none_or(|r| IpAddr::V4(r) == h.src)
                && t.local.is_none_or(|l| IpAddr::V4(l) == h.dst)
        };
        let best = self
            .ns
            .devices()
            .filter(|d| d.up)
            .filter_map(|d| match &d.kind {
                DeviceKind::Ipip(t) if fits(t) => {
                    Some((t.remote.is_some(), t.local.is_some(), d.id))
                }
                _ => None,
            })
            .max_by_key(|(r, l, id)| (*r, *l, std::cmp::Reverse(*id)));
        let Some((_, _, t)) = best else {
            let sent = self.icmp_error(&f, Some(dev), 3, 3, 0);
            return self.rejected(
                Some(dev),
                &f,
                sent,
                DropReason::NoTunnel,
                Origin::Kernel,
                |_| String::new(),
            );
        };
        let outer = f.len() - f.l3().len() + h.header_len;
        f.pull(outer, 0);
        if f.is_empty() {
            return self.end(
                Some(dev),
                &f,
                Disposition::Consumed("an empty tunnel packet"),
            );
        }
        self.step(Some(dev), &f, |ns| Step::Decap {
            kind: "ipip",
            dev: ns.dev_name(t).into(),
        });
        f.scrub();
        self.cx.out.push(Output::Backlog {
            at: PortAt {
                ns: self.ns.id,
                dev: t,
            },
            frame: f,
        });
    }
}

/// The ECN bits of an outer header (kernel: `INET_ECN_encapsulate`): CE becomes ECT(0).
fn ecn_encap(inner_tos: u8) -> u8 {
    match inner_tos & 3 {
        3 => 2,
        e => e,
    }
}

/// Carries a congestion mark inside (RFC 6040; kernel: `IP_ECN_decapsulate`); false when the packet dies
/// of it.
fn ecn_decap(outer_tos: u8, f: &mut Frame) -> bool {
    if outer_tos & 3 != 3 {
        return true;
    }
    let Ok(inner) = IpHeader::parse_lax(f.l3()) else {
        return true;
    };
    if f.ethertype() == crate::wire::ETH_P_ARP {
        return true;
    }
    if inner.tos & 3 == 0 {
        return false;
    }
    ip::set_tos(f.l3_mut(), inner.tos | 3);
    true
}

/// Writes the length of a packet whose header alone was built.
fn set_length(head: &mut [u8], payload: usize) {
    if head.first().is_some_and(|b| b >> 4 == 4) {
        head[2..4].copy_from_slice(&((20 + payload) as u16).to_be_bytes());
        ip::fill_v4_checksum(head);
    } else {
        head[4..6].copy_from_slice(&(payload as u16).to_be_bytes());
    }
}
