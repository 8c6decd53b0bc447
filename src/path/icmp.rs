//! ICMP errors that the kernel sends (kernel: `__icmp_send`, `icmp6_send`).

use crate::base::DevId;
use crate::net::RouteKind;
use crate::path::netfilter::attach;
use crate::path::observer::{Observer, Step};
use crate::path::reason::IcmpSent;
use crate::path::walker::Walker;
use crate::wire::{ETH_P_IP, Frame, IpHeader, PacketType, build, checksum, options, proto};
use core::time::Duration;
use std::net::IpAddr;

impl<O: Observer> Walker<'_, O> {
    /// Tells the sender of `cause` (a packet as it now stands) what became of it. `info` is the word behind
    /// the checksum: an MTU, a gateway or a pointer. `None` when no error may be sent.
    pub(crate) fn icmp_error(
        &mut self,
        cause: &Frame,
        in_dev: Option<DevId>,
        typ: u8,
        code: u8,
        info: u32,
    ) -> Option<IcmpSent> {
        let h = IpHeader::parse_lax(cause.l3()).ok()?;
        if let Err(why) = self.icmp_permitted(cause, &h, typ, code) {
            self.step(in_dev, cause, |_| Step::IcmpSuppressed { why });
            return None;
        }
        if self.icmp_busy[usize::from(!h.is_v4())] {
            let why = "it would be sent from within the sending of another ICMP message";
            self.step(in_dev, cause, |_| Step::IcmpSuppressed { why });
            return None;
        }
        let oif = self.icmp_oif(&h, in_dev);
        // What is only being bridged came in by no device (`br_validate_ipv6` clears `IP6CB`).
        let known_by = match cause.bridged {
            Some(b) if b.physout.is_some() => None,
            b => b.and_then(|b| b.routed).or(cause.iif).or(in_dev),
        };
        let known_by = if h.is_v4() { in_dev } else { known_by };
        let src = self.icmp_source(cause, &h, known_by, oif);
        // Of this packet only, not of what its sending causes.
        self.route_back = false;
        let route = self.ns.route_output(src, h.src, oif, 0, 0).ok();
        let Some(src) = src.or_else(|| route.as_ref().and_then(|r| self.ns.source_for(r, h.src)))
        else {
            self.step(in_dev, cause, |_| Step::IcmpSuppressed {
                why: "no route back to the sender",
            });
            return None;
        };
        if !self.icmp_rate(&h, typ, code) {
            self.step(in_dev, cause, |_| Step::IcmpSuppressed {
                why: "rate limit (icmp_ratelimit)",
            });
            return None;
        }
        let path = route
            .as_ref()
            .map_or(1500, |r| self.ns.path_mtu(h.src, r, self.now));
        let echoed = match src {
            IpAddr::V4(a) => options::echo(cause.l3(), &cause.options, a),
            IpAddr::V6(_) => Vec::new(),
        };
        let whole = &cause.l3()[..h.total_len.min(cause.l3().len())];
        let mut whole = whole.to_vec();
        if cause.partial && h.proto == proto::TCP {
            let sum = checksum::pseudo(h.src, h.dst, h.proto, h.payload(&whole).len()) as u16;
            if let Some(c) = whole.get_mut(h.header_len + 16..h.header_len + 18) {
                c.copy_from_slice(&sum.to_be_bytes());
            }
        }
        let quoted = build::quote(&whole, path, echoed.len());
        let message = build::icmp_message(src, h.src, typ, code, info, quoted);
        let (p, tos) = if h.is_v4() {
            (proto::ICMP, (h.tos & 0x1e) | 0xc0)
        } else {
            (proto::ICMPV6, 0)
        };
        let ttl = self.answer_ttl(h.src, oif.or_else(|| route.as_ref().and_then(|r| r.dev())));
        let id = self.ns.next_ip_id();
        let mut packet = build::ip_packet(src, h.src, p, ttl, tos, id, false, &message);
        options::insert(&mut packet, &echoed);
        let icmp = IcmpSent {
            v6: !h.is_v4(),
            typ,
            code,
        };
        let mut f = self.child_of(cause, Frame::ip(&packet));
        if self.ns.sysctl.fwmark_reflect != 0 {
            f.mark = cause.mark;
        }
        attach(&mut f, cause);
        self.step(in_dev, cause, |_| Step::IcmpError { icmp, to: h.src });
        self.icmp_out(f, oif);
        Some(icmp)
    }

    /// Sends an ICMP message of the kernel's own.
    pub(crate) fn icmp_out(&mut self, mut f: Frame, oif: Option<DevId>) {
        // A copy of it may be cut in spite of the DF that copies get (`ip_sk_ignore_df` in `__ip_make_skb`).
        f.ignore_df = true;
        let family = usize::from(f.ethertype_of_l3() != ETH_P_IP);
        let before = std::mem::replace(&mut self.icmp_busy[family], true);
        // Nobody waits for the result.
        let _ = self.local_out(f, oif);
        self.icmp_busy[family] = before;
        self.softirqs();
    }

    /// Errors never answer groups, broadcasts, later fragments or other errors (RFC 1122 3.2.2, RFC 4443
    /// 2.4).
    fn icmp_permitted(
        &self,
        cause: &Frame,
        h: &IpHeader,
        typ: u8,
        code: u8,
    ) -> Result<(), &'static str> {
        let group_ok = !h.is_v4() && (typ == 2 || (typ == 4 && code == 2));
        if cause.pkt_type != PacketType::Host && !group_ok {
            return Err("it was broadcast or multicast at the link layer");
        }
        if h.frag_off > 0 && h.is_v4() {
            return Err("not for a later fragment");
        }
        if typ != 5 && h.is_icmp_error(cause.l3()) {
            return Err("not for an ICMP error");
        }
        let group = |ip: IpAddr| match ip {
            IpAddr::V4(_) => {
                matches!(
                    self.ns.fib.address_kind(ip),
                    RouteKind::Broadcast | RouteKind::Multicast
                )
            }
            IpAddr::V6(a) => a.is_multicast(),
        };
        // IPv4 asks the packet's route (`rt_flags` in `__icmp_send`).
        if group(h.dst) && !group_ok && !(h.is_v4() && self.routed_elsewhere(cause)) {
            return Err("it was sent to a group");
        }
        // IPv4 leaves that to the check of the source on input, which translation to a group comes after;
        // before that check the route back to the sender tells.
        if h.src.is_unspecified() || group(h.src) && (!h.is_v4() || self.route_back) {
            return Err("its source is no host");
        }
        if self.answers_itself(h) && !self.is_own(h.dst) {
            return Err("its sender has an address of ours, its destination is no source of ours");
        }
        Ok(())
    }

    /// Whether the route an IPv4 packet has is not the one to its destination: a TEE copy's leads to the
    /// gateway, before routing it is the one to its sender, in a bridge none (`br_netfilter_rtable_init`).
    fn routed_elsewhere(&self, cause: &Frame) -> bool {
        let bridged = cause.bridged.is_some_and(|b| b.physout.is_some());
        self.by_gateway() || self.route_back || bridged
    }

    /// Whether the route back, which a packet has before routing, leads here (`nf_reject_fill_skb_dst`): then
    /// `__icmp_send` sees `RTCF_LOCAL` and answers with the packet's destination.
    fn answers_itself(&self, h: &IpHeader) -> bool {
        h.is_v4() && self.route_back && self.is_own(h.src)
    }

    /// A packet that is delivered here answers with its own destination (`RTCF_LOCAL` in `icmp_send`), which
    /// has to be ours (`ip_route_output_key_hash_rcu`).
    pub(crate) fn no_source(&self, h: &IpHeader) -> bool {
        let kind = self.ns.fib.address_kind(h.dst);
        h.is_v4() && kind == RouteKind::Unicast
    }

    /// Link-local senders are answered on the device they were heard on.
    fn icmp_oif(&self, h: &IpHeader, in_dev: Option<DevId>) -> Option<DevId> {
        match h.src {
            IpAddr::V6(a) if crate::net::addr::is_link_local(a) => in_dev,
            _ => None,
        }
    }

    /// The packet's own destination where that is ours; in IPv6 what suits the device it came in by; else
    /// what the route to the sender chooses.
    fn icmp_source(
        &self,
        cause: &Frame,
        h: &IpHeader,
        in_dev: Option<DevId>,
        oif: Option<DevId>,
    ) -> Option<IpAddr> {
        // IPv4 asks the packet's route (`RTCF_LOCAL` in `__icmp_send`).
        let elsewhere = h.is_v4() && self.routed_elsewhere(cause) && !self.answers_itself(h);
        if self.is_own(h.dst) && !elsewhere {
            return Some(h.dst);
        }
        if h.is_v4() && self.ns.sysctl.icmp_errors_use_inbound_ifaddr != 0 {
            let towards = match h.src {
                IpAddr::V4(a) => Some(a),
                IpAddr::V6(_) => None,
            };
            let a = in_dev.and_then(|d| self.ns.select_addr4(d, towards, crate::net::Scope::Link));
            return a.map(IpAddr::V4);
        }
        let IpAddr::V6(to) = h.src else { return None };
        let dev = match (oif, in_dev) {
            (Some(d), _) => d,
            // Where the packet came in tells its sender more than where the error leaves (kernel:
            // `icmp6_send`), unless the route has a source of its own (`icmpv6_rt_has_prefsrc`).
            (None, Some(d)) => match self.ns.route_output(None, h.src, None, 0, 0) {
                Ok(found) if found.route.prefsrc.is_none() => d,
                _ => return None,
            },
            (None, None) => return None,
        };
        self.ns.select_addr6(dev, to).map(IpAddr::V6)
    }

    /// kernel: `icmpv4_xrlim_allow`, `icmpv6_xrlim_allow`. Frag-needed is never limited.
    fn icmp_rate(&mut self, h: &IpHeader, typ: u8, code: u8) -> bool {
        let s = &self.ns.sysctl;
        let (limited, ms) = if h.is_v4() {
            let masked = typ < 32 && s.icmp_ratemask & (1 << typ) != 0;
            (masked && !(typ == 3 && code == 4), s.icmp_ratelimit)
        } else {
            (typ != 2 && s.icmp6_ratemask.has(typ), s.icmp6_ratelimit)
        };
        if !limited {
            return true;
        }
        let now = self.now;
        self.ns
            .icmp
            .allow(h.src, now, Duration::from_millis(ms.max(0) as u64))
    }

    /// TTL of the kernel's own messages: 1 to a group (kernel: `__ip_make_skb`, `inet->mc_ttl`).
    pub(crate) fn answer_ttl(&self, to: IpAddr, dev: Option<DevId>) -> u8 {
        match to {
            IpAddr::V4(a) if a.is_multicast() => 1,
            _ => self.default_ttl(to.is_ipv4(), dev),
        }
    }

    /// TTL of own packets.
    pub(crate) fn default_ttl(&self, v4: bool, dev: Option<DevId>) -> u8 {
        let v = if v4 {
            self.ns.sysctl.ip_default_ttl
        } else {
            dev.and_then(|d| self.device(d))
                .map_or(64, |d| d.conf6.hop_limit)
        };
        u8::try_from(v).unwrap_or(64)
    }
}
