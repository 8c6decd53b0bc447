//! IP output: route of own packets, fragmentation, next hop (kernel: `ip_output`, `ip_do_fragment`,
//! `ip6_output`).

use crate::base::{DevId, Origin};
use crate::net::RouteKind;
use crate::net::fib::{FibError, FlowL4, Found};
use crate::net::frag;
use crate::net::text::route_text;
use crate::path::observer::{Observer, Step};
use crate::path::reason::DropReason;
use crate::path::walker::{Errno, Walker};
use crate::wire::{Frame, IpHeader};
use std::net::IpAddr;

impl<O: Observer> Walker<'_, O> {
    /// A packet of this host's own (kernel: `ip_route_output_flow`, `ip_local_out`).
    pub(crate) fn local_out(&mut self, mut f: Frame, oif: Option<DevId>) -> Result<(), Errno> {
        f.local = true;
        let Ok(h) = IpHeader::parse_lax(f.l3()) else {
            self.drop(None, &f, DropReason::IpHeader);
            return Err(Errno::Inval);
        };
        let link_scope = match h.dst {
            IpAddr::V6(a) => a.is_multicast() || crate::net::addr::is_link_local(a),
            IpAddr::V4(_) => false,
        };
        if link_scope && let Some(dev) = oif {
            self.neigh_output(dev, h.dst, f);
            return Ok(());
        }
        let found = match self.ns.route_output_l4(
            Some(h.src),
            h.dst,
            oif,
            f.mark,
            h.tos,
            FlowL4::of(&h, f.l3()),
        ) {
            Ok(found) => found,
            Err(e) => return Err(self.output_failed(&f, h.dst, &e)),
        };
        if O::TRACING {
            let dev = found.dev();
            self.step(dev, &f, |ns| Step::Route {
                table: found.table,
                rule: found.rule,
                route: route_text(ns, &found.route),
                origin: found.route.origin.clone(),
            });
        }
        // OUTPUT comes here.
        self.ip_output(&found, h.dst, f);
        Ok(())
    }

    fn output_failed(&mut self, f: &Frame, dst: IpAddr, e: &FibError) -> Errno {
        let (errno, reason, route) = match e {
            FibError::NoRoute => (Errno::NetUnreach, DropReason::NoRoute, None),
            FibError::Unreachable(r) => (Errno::HostUnreach, DropReason::Unreachable, r.clone()),
            FibError::Prohibit(r) => (Errno::Access, DropReason::Prohibit, r.clone()),
            FibError::Blackhole(r) => (Errno::Inval, DropReason::Blackhole, r.clone()),
        };
        let origin = route.as_ref().map(|r| r.origin.clone()).unwrap_or_default();
        self.drop_with(None, f, reason, origin, |ns| match route {
            Some(r) => format!("{dst} matches {}", route_text(ns, &r)),
            None => format!("{dst}"),
        });
        errno
    }

    /// Sends along a route (kernel: `ip_output`, `ip_finish_output`).
    pub(crate) fn ip_output(&mut self, found: &Found, dst: IpAddr, f: Frame) {
        // IPv6 anycast addresses of our own are reached through `lo` too (`ip6_rt_get_dev_rcu`).
        let local = matches!(found.route.kind, RouteKind::Local | RouteKind::Anycast);
        let out = if local { self.loopback() } else { found.dev() };
        let Some(dev) = out else {
            return self.drop_with(
                None,
                &f,
                DropReason::NoRoute,
                found.route.origin.clone(),
                |_| "the route has no device".into(),
            );
        };
        // POSTROUTING comes here.
        let mtu = if local {
            self.device(dev).map_or(65_536, |d| d.mtu as usize)
        } else if f.local {
            self.ns.path_mtu(dst, found, self.now)
        } else {
            self.forward_mtu(found, dst)
        };
        let hop = found
            .nexthop()
            .and_then(|n| n.via)
            .filter(|_| !local)
            .unwrap_or(dst);
        if f.l3().len() <= mtu {
            return self.neigh_output(dev, hop, f);
        }
        self.fragment_out(dev, hop, f, mtu, dst);
    }

    fn loopback(&self) -> Option<DevId> {
        self.ns
            .devices()
            .find(|d| matches!(d.kind, crate::net::DeviceKind::Loopback))
            .map(|d| d.id)
    }

    /// kernel: `ip_fragment`, `ip6_fragment`
    fn fragment_out(&mut self, dev: DevId, hop: IpAddr, f: Frame, mtu: usize, dst: IpAddr) {
        let Ok(h) = IpHeader::parse_lax(f.l3()) else {
            return self.drop(Some(dev), &f, DropReason::IpHeader);
        };
        if h.df && h.is_v4() {
            let sent = self.icmp_error(&f, None, 3, 4, mtu as u32);
            return self.rejected(
                Some(dev),
                &f,
                sent,
                DropReason::MtuExceeded,
                Origin::Kernel,
                |ns| {
                    format!(
                        "{} bytes to {dst}, mtu {mtu} at {}",
                        h.total_len,
                        ns.dev_name(dev)
                    )
                },
            );
        }
        self.ns.frag_id = self.ns.frag_id.wrapping_add(1);
        let pieces = frag::fragment(f.l3(), mtu, self.ns.frag_id);
        if pieces.is_empty() {
            return self.drop(Some(dev), &f, DropReason::MtuExceeded);
        }
        self.ns.snmp.frag_creates += pieces.len() as u64;
        self.step(Some(dev), &f, |_| Step::Fragment {
            count: pieces.len(),
            mtu,
        });
        for p in pieces {
            let mut c = self.copy(&f);
            c.strip_link();
            c.replace_l3(&p);
            self.neigh_output(dev, hop, c);
        }
    }
}
