//! IP input: header checks and the routing decision (kernel: `ip_rcv`, `ip_route_input_slow`, `ip6_rcv`).

use crate::base::{DevId, Origin};
use crate::net::addr::{Scope, is_link_local, is_zeronet};
use crate::net::fib::{FibError, Flow, FlowL4, Found};
use crate::net::{Device, DeviceKind, RouteKind};
use crate::path::observer::{Observer, Step};
use crate::path::reason::DropReason;
use crate::path::walker::Walker;
use crate::wire::{Frame, IpHeader, Malformed, PacketType, options};
use std::net::{IpAddr, Ipv4Addr};

/// Where a received packet goes.
#[derive(Clone, Debug)]
pub(crate) enum Input {
    /// To this host.
    Local {
        /// It was broadcast or multicast.
        group: bool,
    },
    /// On.
    Forward {
        /// By this route.
        found: Found,
        /// And its sender could have sent it there itself.
        redirect: bool,
    },
}

/// Why it goes nowhere.
#[derive(Clone, Debug)]
pub(crate) enum NoInput {
    /// Dropped without a word.
    Silent(DropReason, Origin, String),
    /// The lookup failed on a forwarding device: its sender is told.
    Told(FibError),
}

impl<O: Observer> Walker<'_, O> {
    /// kernel: `ip_rcv_core`, `ip_rcv_finish`
    pub(crate) fn ipv4_receive(&mut self, dev: DevId, f: Frame) {
        let Some((h, f)) = self.ip_header(dev, f, 4) else {
            return;
        };
        let Some((h, mut f)) = self.nf_prerouting(dev, h, f) else {
            return;
        };
        let decision = match !f.route_lost || self.valid_on_loopback(dev, h.src) {
            // It has the route it was sent by (`skb_valid_dst` in `ip_rcv_finish_core`).
            true if self.has_route(dev, &f) => Ok(Input::Local { group: f.looped }),
            true => self.route_input(dev, h.src, h.dst, &f, false),
            false => Err(NoInput::Silent(
                DropReason::LocalSource,
                Origin::Kernel,
                format!("{} is an address of this host", h.src),
            )),
        };
        let routed = !matches!(decision, Err(NoInput::Silent(..)));
        if h.options && routed && !self.ip_options(dev, &h, &mut f) {
            return;
        }
        match decision {
            Ok(Input::Local { group }) => self.deliver(dev, &h, f, group),
            Ok(Input::Forward { found, redirect }) => {
                self.show_route(dev, &f, &found);
                self.forward4(dev, &h, f, &found, redirect);
            }
            Err(why) => self.no_input(dev, &h, f, why),
        }
    }

    /// Whether a packet that this host sent to itself still has the route it was sent by.
    fn has_route(&self, dev: DevId, f: &Frame) -> bool {
        !f.route_lost && (f.looped || f.local && self.is_loopback(dev))
    }

    /// Whether a packet whose destination PREROUTING changed may have this source here. On `lo` that costs it
    /// the route it was sent by (kernel: `skb_dst_drop` in `nf_nat_ipv4_pre_routing`), and looked up anew
    /// a source of ours is martian there as elsewhere (`fib_validate_source`).
    fn valid_on_loopback(&self, dev: DevId, src: IpAddr) -> bool {
        !self.is_loopback(dev) || !self.is_own(src) || self.ns.conf_or(dev, |c| c.accept_local)
    }

    /// kernel: `ip6_rcv_core`, `ip6_rcv_finish`
    pub(crate) fn ipv6_receive(&mut self, dev: DevId, f: Frame) {
        let off = self.device(dev).is_none_or(|d| d.conf6.disable_ipv6 != 0);
        if off {
            return self.drop(Some(dev), &f, DropReason::Ipv6Disabled);
        }
        let Some((h, mut f)) = self.ip_header(dev, f, 6) else {
            return;
        };
        let (IpAddr::V6(src), IpAddr::V6(dst)) = (h.src, h.dst) else {
            return;
        };
        let lo = self
            .device(dev)
            .is_some_and(|d| matches!(d.kind, DeviceKind::Loopback));
        f.iif = (!lo).then_some(dev);
        let host_only = |a: std::net::Ipv6Addr| a.is_loopback() && !lo;
        if host_only(src)
            || host_only(dst)
            || src.is_multicast()
            || src.is_unspecified() && !dst.is_multicast()
        {
            return self.drop(Some(dev), &f, DropReason::MartianSource);
        }
        if !self.hop_by_hop(dev, &h, &f) {
            return;
        }
        let Some((h, f)) = self.nf_prerouting(dev, h, f) else {
            return;
        };
        let group = matches!(h.dst, IpAddr::V6(a) if a.is_multicast());
        let decision = match !group && self.has_route(dev, &f) {
            // As in IPv4 (`ip6_rcv_finish_core`).
            true => Ok(Input::Local { group: false }),
            false => self.route_input6(dev, &h, &f),
        };
        match decision {
            Ok(Input::Local { group }) => self.deliver(dev, &h, f, group),
            Ok(Input::Forward { found, .. }) => {
                self.show_route(dev, &f, &found);
                self.forward6(dev, &h, f, &found);
            }
            Err(why) => self.no_input(dev, &h, f, why),
        }
    }

    /// Checks the header; cuts link padding.
    fn ip_header(&mut self, dev: DevId, mut f: Frame, version: u8) -> Option<(IpHeader, Frame)> {
        if f.pkt_type == PacketType::OtherHost {
            self.drop_with(Some(dev), &f, DropReason::OtherHost, Origin::Kernel, |ns| {
                let own = ns.dev(dev).map(|d| d.mac).unwrap_or_default();
                format!("to {}, this device is {own}", f.dst_mac())
            });
            return None;
        }
        let parsed = match f.l3().first() {
            Some(b) if b >> 4 == version => IpHeader::parse(f.l3()),
            _ => Err(Malformed::Header),
        };
        match parsed {
            Ok(h) => {
                f.trim_l3(h.total_len);
                f.forget_fragments();
                Some((h, f))
            }
            Err(e) => {
                self.ns.snmp.in_hdr_errors += 1;
                let reason = match e {
                    Malformed::Header => DropReason::IpHeader,
                    Malformed::Checksum => DropReason::IpChecksum,
                    Malformed::Truncated => DropReason::IpTruncated,
                };
                self.drop(Some(dev), &f, reason);
                None
            }
        }
    }

    /// The routing decision for a received IPv4 packet or ARP request (kernel: `ip_route_input_slow`).
    pub(crate) fn route_input(
        &mut self,
        dev: DevId,
        src: IpAddr,
        dst: IpAddr,
        f: &Frame,
        arp: bool,
    ) -> Result<Input, NoInput> {
        let (IpAddr::V4(s), IpAddr::V4(d)) = (src, dst) else {
            return Err(NoInput::Told(FibError::NoRoute));
        };
        let silent = |r, t: String| Err(NoInput::Silent(r, Origin::Kernel, t));
        if d.is_multicast() {
            // 224.0.0.1 is joined on every device; nothing else is.
            let joined = d == Ipv4Addr::new(224, 0, 0, 1);
            return if joined {
                Ok(Input::Local { group: true })
            } else {
                silent(DropReason::GroupNotJoined, String::new())
            };
        }
        let localnet = self.ns.conf_or(dev, |c| c.route_localnet)
            || self
                .device(dev)
                .is_some_and(|d| matches!(d.kind, DeviceKind::Loopback));
        if s.is_multicast() || s == Ipv4Addr::BROADCAST {
            return silent(
                DropReason::MartianSource,
                format!("{s} is no unicast address"),
            );
        }
        if d == Ipv4Addr::BROADCAST || (s.is_unspecified() && d.is_unspecified()) {
            return self.broadcast_input(dev, s, d, f);
        }
        if is_zeronet(s) {
            return silent(DropReason::MartianSource, format!("{s} is in 0.0.0.0/8"));
        }
        if is_zeronet(d) || (d.is_loopback() && !localnet) {
            return silent(
                DropReason::MartianDestination,
                format!("{d} must not be on a link"),
            );
        }
        if s.is_loopback() && !localnet {
            return silent(
                DropReason::MartianSource,
                format!("{s} must not be on a link"),
            );
        }
        let forwards = self.ns.forwards(dev, true);
        let found = match self.lookup_input(dev, src, dst, f) {
            Ok(found) => found,
            Err(_) if !forwards => return self.not_forwarding(dev),
            Err(e) => return Err(NoInput::Told(e)),
        };
        match found.route.kind {
            RouteKind::Broadcast => {
                let all = self.ns.sysctl.all4.bc_forwarding != 0;
                let here = self.device(dev).is_some_and(|d| d.conf4.bc_forwarding != 0);
                if all && here && found.dev() != Some(dev) && !arp {
                    self.validate_source(dev, s, d, f, found.dev())?;
                    return Ok(Input::Forward {
                        found,
                        redirect: false,
                    });
                }
                self.broadcast_input(dev, s, d, f)
            }
            RouteKind::Local => {
                self.validate_source(dev, s, d, f, None)?;
                Ok(Input::Local { group: false })
            }
            _ if !forwards => self.not_forwarding(dev),
            RouteKind::Unicast => {
                let on_link = self.validate_source(dev, s, d, f, found.dev())?;
                let redirect = !arp
                    && on_link
                    && found.dev() == Some(dev)
                    && self.may_redirect(dev, s, &found);
                Ok(Input::Forward { found, redirect })
            }
            _ => silent(DropReason::MartianDestination, String::new()),
        }
    }

    fn lookup_input(
        &self,
        dev: DevId,
        src: IpAddr,
        dst: IpAddr,
        f: &Frame,
    ) -> Result<Found, FibError> {
        let h = IpHeader::parse_lax(f.l3()).ok();
        self.ns.route(&Flow {
            src: Some(src),
            dst,
            iif_name: self.ns.dev_name(dev),
            oif: None,
            oif_name: None,
            mark: f.mark,
            tos: h.map_or(0, |h| h.tos),
            l4: h.map(|h| FlowL4::of(&h, f.l3())).unwrap_or_default(),
            multipath: self.ns.sysctl.multipath(),
            scope: Scope::Universe,
        })
    }

    fn not_forwarding(&mut self, dev: DevId) -> Result<Input, NoInput> {
        self.ns.snmp.in_addr_errors += 1;
        let text = format!("net.ipv4.conf.{}.forwarding=0", self.ns.dev_name(dev));
        Err(NoInput::Silent(
            DropReason::ForwardingOff,
            Origin::Kernel,
            text,
        ))
    }

    fn broadcast_input(
        &mut self,
        dev: DevId,
        s: Ipv4Addr,
        d: Ipv4Addr,
        f: &Frame,
    ) -> Result<Input, NoInput> {
        if !s.is_unspecified() {
            self.validate_source(dev, s, d, f, None)?;
        }
        Ok(Input::Local { group: true })
    }

    fn may_redirect(&self, dev: DevId, src: Ipv4Addr, found: &Found) -> bool {
        let gw = found
            .nexthop()
            .and_then(|n| n.via)
            .unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        self.ns.conf_or(dev, |c| c.send_redirects)
            && (self.ns.conf_or(dev, |c| c.shared_media) || self.ns.on_link(dev, src.into(), gw))
    }

    /// Whether the source may come from here, and whether it is directly connected
    /// (kernel: `fib_validate_source`).
    fn validate_source(
        &mut self,
        dev: DevId,
        src: Ipv4Addr,
        dst: Ipv4Addr,
        f: &Frame,
        out: Option<DevId>,
    ) -> Result<bool, NoInput> {
        let rpf = self.ns.conf_max(dev, |c| c.rp_filter);
        let accept_local = self.ns.conf_or(dev, |c| c.accept_local);
        let lo = self
            .device(dev)
            .is_some_and(|d| matches!(d.kind, DeviceKind::Loopback));
        let same_dev = out == Some(dev) && self.ns.conf_or(dev, |c| c.send_redirects);
        let local_source = || {
            NoInput::Silent(
                DropReason::LocalSource,
                Origin::Kernel,
                format!("{src} is an address of this host"),
            )
        };
        if lo {
            return Ok(false);
        }
        if rpf == 0 && !same_dev && !self.ns.fib.has_custom_rules(true) {
            let own = |d: &Device| d.addrs4().any(|(_, a)| a == src);
            return if !accept_local && self.ns.devices().any(own) {
                Err(local_source())
            } else {
                Ok(false)
            };
        }
        let failed = |w: &mut Self| {
            w.ns.snmp.rp_filter += 1;
            let name = w.ns.dev_name(dev).to_owned();
            let text = format!("rp_filter={rpf} on {name}: {src} is not reached through it");
            Err(NoInput::Silent(
                DropReason::ReversePath,
                Origin::Kernel,
                text,
            ))
        };
        let flow = |oif: Option<DevId>| Flow {
            src: Some(dst.into()),
            dst: src.into(),
            iif_name: "lo",
            oif,
            oif_name: None,
            mark: f.mark,
            tos: 0,
            l4: FlowL4::default(),
            multipath: Default::default(),
            scope: Scope::Universe,
        };
        match self.ns.route(&flow(None)) {
            Err(_) if rpf != 0 => failed(self),
            Err(_) => Ok(false),
            Ok(r) if r.route.kind == RouteKind::Local && !accept_local => Err(local_source()),
            Ok(r) if !matches!(r.route.kind, RouteKind::Unicast | RouteKind::Local) => {
                let text = format!("{src} is no unicast address here");
                Err(NoInput::Silent(
                    DropReason::MartianSource,
                    Origin::Kernel,
                    text,
                ))
            }
            Ok(r) if r.route.nexthops.iter().any(|n| n.dev == Some(dev)) => {
                Ok(r.nexthop().is_some_and(|n| n.via.is_none()))
            }
            Ok(_) if rpf == 1 => failed(self),
            Ok(_) => {
                let again = self.ns.route(&flow(Some(dev)));
                Ok(again.is_ok_and(|r| {
                    r.route.kind == RouteKind::Unicast
                        && r.nexthop().is_some_and(|n| n.via.is_none())
                }))
            }
        }
    }

    /// IPv4 options are looked at once the packet is routed (kernel: `ip_rcv_options`).
    fn ip_options(&mut self, dev: DevId, h: &IpHeader, f: &mut Frame) -> bool {
        let own = if self.is_own(h.dst) {
            Some(h.dst)
        } else {
            self.spec_dst(h.src)
        };
        let own = match own {
            Some(IpAddr::V4(a)) => Some(a),
            _ => None,
        };
        let shown = f.clone();
        match options::compile(f.l3_mut(), h.header_len, own) {
            Ok(o) => f.options = o,
            Err(at) => {
                let sent = self.icmp_error(&shown, Some(dev), 12, 0, u32::from(at) << 24);
                self.rejected(
                    Some(dev),
                    &shown,
                    sent,
                    DropReason::IpHeader,
                    Origin::Kernel,
                    |_| format!("malformed IP option at offset {at}"),
                );
                return false;
            }
        }
        let all = self.ns.sysctl.all4.accept_source_route != 0;
        let here = self
            .device(dev)
            .is_some_and(|d| d.conf4.accept_source_route != 0);
        if f.options.srr.is_some() && !(all && here) {
            self.drop_with(Some(dev), f, DropReason::IpHeader, Origin::Kernel, |_| {
                "source route, accept_source_route=0".into()
            });
            return false;
        }
        true
    }

    /// The address to answer `to` from (kernel: `fib_compute_spec_dst`).
    pub(crate) fn spec_dst(&self, to: IpAddr) -> Option<IpAddr> {
        let r = self.ns.route_output(None, to, None, 0, 0).ok()?;
        self.ns.source_for(&r, to)
    }

    /// Hop-by-hop options (RFC 8200 section 4.3): unknown ones say themselves what becomes of the packet.
    fn hop_by_hop(&mut self, dev: DevId, h: &IpHeader, f: &Frame) -> bool {
        let p = f.l3();
        if p.get(6) != Some(&0) {
            return true;
        }
        let len = p.get(41).map_or(0, |l| (usize::from(*l) + 1) * 8);
        let Some(options) = p.get(42..40 + len).filter(|_| h.header_len >= 48) else {
            self.drop(Some(dev), f, DropReason::IpHeader);
            return false;
        };
        let mut i = 0;
        while let Some(kind) = options.get(i) {
            if *kind == 0 {
                i += 1;
                continue;
            }
            let Some(n) = options
                .get(i + 1)
                .map(|n| usize::from(*n))
                .filter(|n| i + 2 + n <= options.len())
            else {
                self.drop(Some(dev), f, DropReason::IpHeader);
                return false;
            };
            let known = matches!(kind, 1 | 5 | 0xc2 | 0x07 | 0x31);
            if !known && kind >> 6 != 0 {
                let group = matches!(h.dst, IpAddr::V6(a) if a.is_multicast());
                let tell = kind >> 6 == 2 || (kind >> 6 == 3 && !group);
                let sent = if tell {
                    self.icmp_error(f, Some(dev), 4, 2, (42 + i) as u32)
                } else {
                    None
                };
                self.rejected(
                    Some(dev),
                    f,
                    sent,
                    DropReason::IpHeader,
                    Origin::Kernel,
                    |_| format!("unknown hop-by-hop option {kind}"),
                );
                return false;
            }
            i += 2 + n;
        }
        true
    }

    /// kernel: `ip6_route_input` and what hangs on the route it finds
    pub(crate) fn route_input6(
        &mut self,
        dev: DevId,
        h: &IpHeader,
        f: &Frame,
    ) -> Result<Input, NoInput> {
        let IpAddr::V6(dst) = h.dst else {
            return Err(NoInput::Told(FibError::NoRoute));
        };
        if dst.is_multicast() {
            return if self.joined6(dev, dst) {
                Ok(Input::Local { group: true })
            } else {
                Err(NoInput::Silent(
                    DropReason::GroupNotJoined,
                    Origin::Kernel,
                    String::new(),
                ))
            };
        }
        if is_link_local(dst) {
            let own = self
                .device(dev)
                .is_some_and(|d| d.addrs6().any(|(_, a)| a == dst));
            if own {
                return Ok(Input::Local { group: false });
            }
        }
        let forwards = self.ns.sysctl.all6.forwarding != 0;
        // RT6_LOOKUP_F_IFACE: a link-local destination is on the link it was heard on.
        let found = if is_link_local(dst) {
            self.ns
                .route_output(Some(h.src), h.dst, Some(dev), f.mark, h.tos)
        } else {
            self.lookup_input(dev, h.src, h.dst, f)
        };
        match found {
            Ok(found) if found.route.kind == RouteKind::Local => Ok(Input::Local { group: false }),
            Ok(found) if found.route.kind == RouteKind::Anycast => Ok(Input::Local { group: true }),
            Ok(_) if !forwards => Err(NoInput::Silent(
                DropReason::ForwardingOff,
                Origin::Kernel,
                "net.ipv6.conf.all.forwarding=0".into(),
            )),
            Ok(found) => Ok(Input::Forward {
                found,
                redirect: false,
            }),
            Err(e) => Err(NoInput::Told(e)),
        }
    }

    /// Ends a packet that has no way on, telling its sender where the kernel does (kernel: `ip_error`,
    /// `ip6_pkt_discard`, `ip6_pkt_prohibit`).
    fn no_input(&mut self, dev: DevId, h: &IpHeader, f: Frame, why: NoInput) {
        let e = match why {
            NoInput::Silent(reason, origin, text) => {
                return self.drop_with(Some(dev), &f, reason, origin, |_| text);
            }
            NoInput::Told(e) => e,
        };
        let dst = h.dst;
        let (reason, code4, code6, route) = match &e {
            FibError::NoRoute => (DropReason::NoRoute, 0, 0, None),
            FibError::Unreachable(r) => (DropReason::Unreachable, 1, 0, r.as_ref()),
            FibError::Prohibit(r) => (DropReason::Prohibit, 13, 1, r.as_ref()),
            FibError::Blackhole(r) => (DropReason::Blackhole, 0, 0, r.as_ref()),
        };
        let origin = route.map(|r| r.origin.clone()).unwrap_or_default();
        let detail =
            move |r: Option<String>| r.map_or(format!("{dst}"), |r| format!("{dst} matches {r}"));
        let text = route.map(|r| crate::net::text::route_text(self.ns, r));
        if reason == DropReason::NoRoute {
            self.ns.snmp.in_no_routes += 1;
        }
        if reason == DropReason::Blackhole {
            return self.drop_with(Some(dev), &f, reason, origin, |_| detail(text));
        }
        let sent = if h.is_v4() {
            let ok = self.ns.icmp.allow_route_error(h.src, self.now);
            if ok {
                self.icmp_error(&f, Some(dev), 3, code4, 0)
            } else {
                None
            }
        } else {
            self.icmp_error(&f, Some(dev), 1, code6, 0)
        };
        self.rejected(Some(dev), &f, sent, reason, origin, |_| detail(text));
    }

    pub(crate) fn show_route(&mut self, dev: DevId, f: &Frame, found: &Found) {
        self.step(Some(dev), f, |ns| Step::Route {
            table: found.table,
            rule: found.rule,
            route: crate::net::text::route_text(ns, &found.route),
            origin: found.route.origin.clone(),
        });
    }
}
