//! Frames of a plan's flows: a client's, a server's answer, and those of another shape.
//!
//! Makes bytes only. Invariant: two frames of one flow, direction, size and shape are the same bytes.

use super::plan::{Plan, To};
use crate::cluster::{Cluster, End};
use crate::wire::{
    ETH_HLEN, ETH_P_ARP, ETH_P_IP, ETH_P_IPV6, Frame, MacAddr, build, checksum, ip, proto,
};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Length of a UDP header.
const UDP: usize = 8;
/// Next header of a fragment (RFC 8200 section 4.5), and of options for the destination (4.6).
const FRAGMENT: u8 = 44;
const DESTINATION: u8 = 60;

/// Who sends what.
#[derive(Debug)]
pub struct Traffic {
    /// The plan.
    pub plan: Plan,
    /// Who sends.
    pub clients: Vec<End>,
    /// MAC addresses of pods that a bridge joins to the clients.
    neighbours: BTreeMap<IpAddr, MacAddr>,
}

impl Traffic {
    /// For a plan's cluster.
    pub fn new(plan: Plan, cluster: &Cluster, clients: Vec<End>) -> Traffic {
        let mut neighbours = BTreeMap::new();
        if plan.to == To::Pod && !plan.far {
            let bridged = cluster.pod_ends().into_iter().filter(|e| e.bridged);
            neighbours.extend(bridged.flat_map(|e| e.ips.into_iter().map(move |ip| (ip, e.mac))));
        }
        Traffic {
            plan,
            clients,
            neighbours,
        }
    }

    /// A client's frame of a flow, `size` bytes long or as short as it can be: which client, and the frame.
    pub fn frame(&self, n: u64, size: usize) -> (usize, Vec<u8>) {
        let flow = self.plan.flow(n);
        let client = &self.clients[flow.client];
        let (dst, dport) = flow.to;
        let mac = self.neighbours.get(&dst).copied().unwrap_or(client.gateway);
        let src = self.plan.client_ip(flow.client as u32);
        let headers = ETH_HLEN + if dst.is_ipv4() { 20 } else { 40 } + UDP;
        let payload = vec![n as u8; size.saturating_sub(headers)];
        let l4 = build::udp(src, dst, flow.sport, dport, &payload);
        let packet = build::ip_packet(src, dst, proto::UDP, 64, 0, n as u16, true, &l4);
        (flow.client, ethernet(mac, client.mac, &packet))
    }
}

fn ethernet(to: MacAddr, from: MacAddr, packet: &[u8]) -> Vec<u8> {
    let v4 = packet.first().is_some_and(|b| b >> 4 == 4);
    let mut f = Frame::ip(packet);
    f.set_ethernet(to, from, if v4 { ETH_P_IP } else { ETH_P_IPV6 });
    f.data().to_vec()
}

/// Whether a frame asks for or tells an address: ARP, neighbour discovery.
pub fn resolves(f: &[u8]) -> bool {
    match f.get(12..14) {
        Some(kind) if *kind == ETH_P_ARP.to_be_bytes() => true,
        Some(kind) if *kind == ETH_P_IPV6.to_be_bytes() => {
            let message = f.get(54).is_some_and(|t| (133..=137).contains(t));
            f.get(20) == Some(&proto::ICMPV6) && message
        }
        _ => false,
    }
}

/// What a server answers to a UDP frame that reached it: addresses and ports the other way round.
pub fn answer(f: &[u8]) -> Vec<u8> {
    let mut a = f.to_vec();
    let mut swap = |at: usize, with: usize, len: usize| {
        if let (Some(x), Some(y)) = (f.get(at..at + len), f.get(with..with + len)) {
            a[at..at + len].copy_from_slice(y);
            a[with..with + len].copy_from_slice(x);
        }
    };
    swap(0, 6, 6);
    // Sums do not mind the order; the TTL begins anew.
    match f.get(14).map(|b| b >> 4) {
        Some(4) => {
            swap(26, 30, 4);
            swap(34, 36, 2);
            if let Some(ttl) = a.get_mut(22) {
                *ttl = 64;
            }
            if a.len() >= 34 {
                [a[24], a[25]] = [0, 0];
                let sum = checksum::of(&a[14..34]);
                a[24..26].copy_from_slice(&sum.to_be_bytes());
            }
        }
        _ => {
            swap(22, 38, 16);
            swap(54, 56, 2);
            if let Some(hops) = a.get_mut(21) {
                *hops = 64;
            }
        }
    }
    a
}

/// The frame with four bytes of options that say nothing.
pub fn with_options(f: &[u8]) -> Vec<u8> {
    let mut o = f.to_vec();
    if f[14] >> 4 == 4 {
        // IPOPT_NOOP (RFC 791 section 3.1)
        o.splice(34..34, [1; 4]);
        o[14] = 0x46;
        let total = (o.len() - ETH_HLEN) as u16;
        o[16..18].copy_from_slice(&total.to_be_bytes());
        [o[24], o[25]] = [0, 0];
        let sum = checksum::of(&o[14..38]);
        o[24..26].copy_from_slice(&sum.to_be_bytes());
    } else {
        // One PadN (RFC 8200 section 4.2) in a destination options header.
        o.splice(54..54, [f[20], 0, 1, 4, 0, 0, 0, 0]);
        o[20] = DESTINATION;
        let payload = (o.len() - 54) as u16;
        o[18..20].copy_from_slice(&payload.to_be_bytes());
    }
    o
}

/// The frame in two fragments.
pub fn fragments(f: &[u8]) -> [Vec<u8>; 2] {
    let v4 = f[14] >> 4 == 4;
    let head = ETH_HLEN + if v4 { 20 } else { 40 };
    let cut = (f.len() - head) / 2 / 8 * 8;
    let cut = cut.max(8);
    let (first, second) = f[head..].split_at(cut);
    let part = |data: &[u8], offset: usize, more: bool| {
        let mut p = f[..head].to_vec();
        let word = (offset / 8) as u16;
        if v4 {
            p.extend_from_slice(data);
            let total = (20 + data.len()) as u16;
            p[16..18].copy_from_slice(&total.to_be_bytes());
            // IP_MF; may be fragmented, as it was.
            let flags = word | if more { 0x2000 } else { 0 };
            p[20..22].copy_from_slice(&flags.to_be_bytes());
            ip::fill_v4_checksum(&mut p[ETH_HLEN..]);
        } else {
            let flags = word << 3 | u16::from(more);
            p.extend_from_slice(&[f[20], 0]);
            p.extend_from_slice(&flags.to_be_bytes());
            p.extend_from_slice(&[0, 0, f[54], f[55]]);
            p.extend_from_slice(data);
            let payload = (8 + data.len()) as u16;
            p[18..20].copy_from_slice(&payload.to_be_bytes());
            p[20] = FRAGMENT;
        }
        p
    };
    [part(first, 0, true), part(second, cut, false)]
}
