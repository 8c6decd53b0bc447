//! Forwarding: TTL, MTU, redirects (kernel: `ip_forward`, `ip6_forward`).

use crate::base::DevId;
use crate::net::addr::is_link_local;
use crate::net::fib::Found;
use crate::path::observer::{Observer, Step};
use crate::path::reason::DropReason;
use crate::path::touch::{Touch, Varies};
use crate::path::walker::Walker;
use crate::wire::{Frame, IpHeader, PacketType, ip, options};
use core::time::Duration;
use std::net::IpAddr;

/// Redirects to one host before silence (`net.ipv4.route.redirect_number`).
const REDIRECTS_MAX: u32 = 9;
/// First gap between redirects, doubling (`redirect_load`, HZ/50).
const REDIRECT_LOAD_MS: u64 = 20;
/// Silence after which the count starts anew (`redirect_silence`).
const REDIRECT_SILENCE: Duration = Duration::from_millis(20_480);

/// The traffic class of a type of service (kernel: `rt_tos2priority`, `ip_tos2prio`).
fn class_of(tos: u8) -> u32 {
    match (tos & 0x1e) >> 3 {
        0 => 0,
        1 => 2, // TC_PRIO_BULK
        2 => 6, // TC_PRIO_INTERACTIVE
        _ => 4, // TC_PRIO_INTERACTIVE_BULK
    }
}

impl<O: Observer> Walker<'_, O> {
    pub(crate) fn forward4(
        &mut self,
        dev: DevId,
        h: &IpHeader,
        mut f: Frame,
        found: &Found,
        redirect: bool,
    ) {
        if f.pkt_type != PacketType::Host || f.socket.is_some() {
            return self.drop(Some(dev), &f, DropReason::NotForUs);
        }
        f.summed = None;
        if h.ttl <= 1 {
            let sent = self.icmp_error(&f, Some(dev), 11, 0, 0);
            return self.rejected(
                Some(dev),
                &f,
                sent,
                DropReason::TtlExpired,
                Default::default(),
                |_| format!("ttl {}", h.ttl),
            );
        }
        let mtu = self.forward_mtu(found, h.dst);
        self.touch(
            Some(dev),
            Touch::Cap {
                max: mtu,
                len: f.l3().len(),
            },
        );
        // What conntrack put together is cut again, unless a piece with DF was too big itself
        // (kernel: ip_exceeds_mtu).
        if f.l3().len() > mtu && h.df && (f.frag_max > mtu || !f.ignore_df) {
            return self.too_big(dev, h, f, found, mtu);
        }
        ip::decrease_ttl(f.l3_mut());
        self.step(Some(dev), &f, |_| Step::Ttl { to: h.ttl - 1 });
        if redirect {
            self.touch(Some(dev), Touch::Varies(Varies::Redirect));
            self.send_redirect(dev, h, &f, found);
        }
        f.priority = class_of(h.tos);
        let Some((h, mut f, found)) = self.nf_forward(dev, *h, f, found.clone()) else {
            return;
        };
        if h.options {
            let out = self.ns.source_for(&found, h.dst);
            let out = out.and_then(|a| if let IpAddr::V4(a) = a { Some(a) } else { None });
            let o = f.options;
            options::forward(f.l3_mut(), &o, out);
        }
        self.ns.snmp.forwarded += 1;
        self.touch(Some(dev), Touch::Forwarded);
        self.ip_output(&found, h.dst, f, Some(dev));
    }

    /// kernel: `ip_dst_mtu_maybe_forward`
    pub(crate) fn forward_mtu(&self, found: &Found, dst: IpAddr) -> usize {
        if self.ns.sysctl.ip_forward_use_pmtu != 0 || dst.is_ipv6() {
            self.ns.path_mtu(dst, found, self.now)
        } else {
            self.ns.route_mtu(found)
        }
    }

    fn too_big(&mut self, dev: DevId, h: &IpHeader, f: Frame, found: &Found, mtu: usize) {
        let (typ, code) = if h.is_v4() { (3, 4) } else { (2, 0) };
        let sent = self.icmp_error(&f, Some(dev), typ, code, mtu as u32);
        let origin = found
            .dev()
            .and_then(|d| self.device(d))
            .map(|d| d.origin.clone())
            .unwrap_or_default();
        let (len, out) = (f.l3().len(), found.dev());
        self.rejected(Some(dev), &f, sent, DropReason::MtuExceeded, origin, |ns| {
            format!(
                "{len} bytes, {} has mtu {mtu}",
                out.map_or("the route", |d| ns.dev_name(d))
            )
        });
    }

    /// kernel: `ip_rt_send_redirect`
    fn send_redirect(&mut self, dev: DevId, h: &IpHeader, f: &Frame, found: &Found) {
        let now = self.now;
        let (n, last) = self.ns.redirects.entry(h.src).or_insert((0, now));
        if now.since(*last) > REDIRECT_SILENCE {
            *n = 0;
        }
        if *n >= REDIRECTS_MAX {
            *last = now;
            return;
        }
        let gap = Duration::from_millis(REDIRECT_LOAD_MS << *n);
        if *n > 0 && now.since(*last) <= gap {
            return;
        }
        (*n, *last) = (*n + 1, now);
        let gw = found.nexthop().and_then(|x| x.via).unwrap_or(h.dst);
        if let IpAddr::V4(gw) = gw {
            self.icmp_error(f, Some(dev), 5, 1, u32::from(gw));
        }
    }

    pub(crate) fn forward6(&mut self, dev: DevId, h: &IpHeader, mut f: Frame, found: &Found) {
        if f.pkt_type != PacketType::Host || f.socket.is_some() {
            return self.drop(Some(dev), &f, DropReason::NotForUs);
        }
        f.summed = None;
        if h.ttl <= 1 {
            let sent = self.icmp_error(&f, Some(dev), 3, 0, 0);
            return self.rejected(
                Some(dev),
                &f,
                sent,
                DropReason::TtlExpired,
                Default::default(),
                |_| format!("hop limit {}", h.ttl),
            );
        }
        let IpAddr::V6(src) = h.src else {
            return;
        };
        if is_link_local(src) || src.is_unspecified() {
            let out_of_scope = is_link_local(src) && found.dev() != Some(dev);
            let sent = if out_of_scope {
                self.icmp_error(&f, Some(dev), 1, 2, 0)
            } else {
                None
            };
            if out_of_scope || src.is_unspecified() {
                return self.rejected(
                    Some(dev),
                    &f,
                    sent,
                    DropReason::MartianSource,
                    Default::default(),
                    |_| format!("{src} does not reach beyond its link"),
                );
            }
        }
        // Unlike IPv4, forwarding obeys a learned path MTU (kernel: ip6_dst_mtu_maybe_forward on the
        // exception).
        let mtu = self.forward_mtu(found, h.dst).max(1280);
        self.touch(
            Some(dev),
            Touch::Cap {
                max: mtu,
                len: f.l3().len(),
            },
        );
        if f.l3().len() > mtu && (f.frag_max > mtu || !f.ignore_df) {
            return self.too_big(dev, h, f, found, mtu);
        }
        ip::decrease_ttl(f.l3_mut());
        self.step(Some(dev), &f, |_| Step::Ttl { to: h.ttl - 1 });
        self.ns.snmp.forwarded += 1;
        self.touch(Some(dev), Touch::Forwarded);
        if let Some((h, f, found)) = self.nf_forward(dev, *h, f, found.clone()) {
            self.ip_output(&found, h.dst, f, Some(dev));
        }
    }
}
