//! IP output: route of own packets, fragmentation, next hop (kernel: `ip_output`, `ip_do_fragment`,
//! `ip6_output`).

use crate::base::{DevId, Origin};
use crate::net::fib::{FibError, FlowL4, Found};
use crate::net::text::route_text;
use crate::net::{DeviceKind, PortAt, RouteKind};
use crate::nf::Hook;
use crate::path::netfilter::refragments;
use crate::path::observer::Observer;
use crate::path::reason::DropReason;
use crate::path::touch::Touch;
use crate::path::walker::{Errno, Output, Walker};
use crate::wire::{Frame, IpHeader, PacketType};
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
            let f = self.nf_link_output(dev, f).ok_or(Errno::Perm)?;
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
        if let Some(dev) = found.dev() {
            self.show_route(dev, &f, &found);
        }
        if self.loopback_escapes(&h, &found) {
            return Err(self.martian_source(&f, &h, &found));
        }
        self.local_out_by(found, f, oif)
    }

    /// Whether a loopback source would leave the host (kernel: `__mkroute_output` without
    /// `route_localnet`).
    pub(crate) fn loopback_escapes(&self, h: &IpHeader, found: &Found) -> bool {
        let IpAddr::V4(src) = h.src else { return false };
        let out = self.out_device(found).and_then(|d| self.device(d));
        src.is_loopback()
            && out.is_some_and(|d| {
                !matches!(d.kind, DeviceKind::Loopback)
                    && !self.ns.conf_or(d.id, |c| c.route_localnet)
            })
    }

    pub(crate) fn martian_source(&mut self, f: &Frame, h: &IpHeader, found: &Found) -> Errno {
        let (src, out) = (h.src, found.dev());
        self.drop_with(out, f, DropReason::MartianSource, Origin::Kernel, |ns| {
            let dev = out.map_or("a link", |d| ns.dev_name(d));
            format!("{src} must not leave by {dev} (route_localnet=0)")
        });
        Errno::Inval
    }

    /// A packet of this host's own whose route is known (kernel: `ip_local_out`).
    pub(crate) fn local_out_by(
        &mut self,
        found: Found,
        f: Frame,
        oif: Option<DevId>,
    ) -> Result<(), Errno> {
        let Some((f, found, _)) = self.nf_output(f, found, oif)? else {
            return Ok(());
        };
        match IpHeader::parse_lax(f.l3()) {
            Ok(h) => self.ip_output(&found, h.dst, f, None),
            Err(_) => self.drop(None, &f, DropReason::IpHeader),
        }
        Ok(())
    }

    pub(crate) fn output_failed(&mut self, f: &Frame, dst: IpAddr, e: &FibError) -> Errno {
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
    ///
    /// `input` is where a forwarded packet came in.
    pub(crate) fn ip_output(&mut self, found: &Found, dst: IpAddr, f: Frame, input: Option<DevId>) {
        self.ip_output_by(found, dst, f, (input.is_some(), input));
    }

    /// The same for a packet that is `forwarded` or not; POSTROUTING sees it with the input device that it
    /// still has (`indev = skb->dev` in `ip_output`).
    pub(crate) fn ip_output_by(
        &mut self,
        found: &Found,
        dst: IpAddr,
        mut f: Frame,
        (forwarded, input): (bool, Option<DevId>),
    ) {
        let local = is_local(found);
        let Some(dev) = self.out_device(found) else {
            return self.drop_with(
                None,
                &f,
                DropReason::NoRoute,
                found.route.origin.clone(),
                |_| "the route has no device".into(),
            );
        };
        // What is sent here, or by TEE, keeps the one it was routed to (FLOWI_FLAG_KNOWN_NH in
        // `rt_set_nexthop`).
        let header = |f: &Frame| IpHeader::parse_lax(f.l3()).map(|h| h.dst).ok();
        let own = forwarded && header(&f) == Some(dst);
        // MASQUERADE chooses its address by the gateway.
        f.nexthop = gateway(found, dst).filter(|_| !local);
        if self.teeing && !forwarded && header(&f) != Some(dst) {
            f.nexthop = f.nexthop.or(Some(dst));
        }
        if dst.is_ipv4() && found.route.kind == RouteKind::Broadcast {
            self.loop_back(dev, &f);
        }
        // A route is as it was found: an error that a copy brings about on the way makes a new one (`fnhe`).
        let mtu = if local {
            self.device(dev).map_or(65_536, |d| d.mtu as usize)
        } else if f.local {
            self.ns.path_mtu(dst, found, self.now)
        } else {
            self.forward_mtu(found, dst)
        };
        let Some(f) = self.nf_hook(Hook::Postrouting, f, input, Some(dev)) else {
            return;
        };
        self.touch(
            Some(dev),
            Touch::Cap {
                max: mtu,
                len: f.l3().len(),
            },
        );
        // A rule may have written another destination into it: the neighbour is the one that stands there now
        // (`rt_nexthop`, `rt6_nexthop`).
        let now = header(&f).filter(|_| own);
        let hop = f.nexthop.or(now).unwrap_or(dst);
        if !refragments(&f, mtu) {
            return self.neigh_output(dev, hop, f);
        }
        self.fragment_out(dev, hop, f, mtu, dst);
    }

    /// What this host sends to everybody it hears too (kernel: `ip_mc_output`, `ip_mc_finish_output`).
    fn loop_back(&mut self, dev: DevId, f: &Frame) {
        let copy = self.copy(f);
        let Some(mut copy) = self.nf_hook(Hook::Postrouting, copy, None, Some(dev)) else {
            return;
        };
        copy.strip_link();
        copy.looped = true;
        copy.pkt_type = PacketType::Broadcast;
        let at = PortAt {
            ns: self.ns.id,
            dev,
        };
        self.cx.out.push(Output::Backlog { at, frame: copy });
    }

    /// The device a route leads out of.
    pub(crate) fn out_device(&self, found: &Found) -> Option<DevId> {
        match is_local(found) {
            true => self.loopback(),
            false => found.dev(),
        }
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
        let refused = match h.is_v4() {
            true => h.df && (!f.ignore_df || f.frag_max > mtu),
            // Sockets' may be cut (`ip6_sk_ignore_df`), forwarded ones were measured; a TEE copy was not.
            false => f.frag_max > mtu || self.teeing && !f.ignore_df,
        };
        if refused {
            let (typ, code) = if h.is_v4() { (3, 4) } else { (2, 0) };
            let sent = self.icmp_error(&f, None, typ, code, mtu as u32);
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
        for mut c in self.cut(dev, &f, mtu) {
            c.strip_link();
            self.refused_by = None;
            self.neigh_output(dev, hop, c);
            // What the device would not take is followed by no more (`ip_do_fragment`: NET_XMIT_DROP).
            if self.refused_by == Some(dev) {
                break;
            }
        }
    }
}

/// The route's gateway. A group is not sent to that of a default route (kernel: `__mkroute_output`).
pub(crate) fn gateway(found: &Found, dst: IpAddr) -> Option<IpAddr> {
    if is_local(found) {
        return None;
    }
    let group = matches!(dst, IpAddr::V4(a) if a.is_multicast());
    if group && found.route.dst.prefix() < 4 {
        return None;
    }
    found.nexthop().and_then(|n| n.via)
}

/// IPv6 anycast addresses of our own are reached through `lo` too (`ip6_rt_get_dev_rcu`).
fn is_local(found: &Found) -> bool {
    matches!(found.route.kind, RouteKind::Local | RouteKind::Anycast)
}
