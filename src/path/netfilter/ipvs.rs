//! IPVS in the walk: its verdicts carried out, its packets sent (kernel: ip_vs_xmit.c).
//!
//! What becomes of a packet is [`crate::ipvs`]'s; routes, TTL, MTU and the further hooks are here. Invariant:
//! a packet that was sent to a real server is marked, so that no IPVS hook sees it again.

use super::{OutRoute, ops};
use crate::base::limits::UNDECIDED_MAX;
use crate::base::{DevId, Instant, Origin};
use crate::ipvs::xmit::{self, Side};
use crate::ipvs::{Forward, Met, Order, Seen, Verdict, Virtual};
use crate::net::fib::Found;
use crate::net::{DeviceKind, NetNs, RouteKind};
use crate::nf::Hook;
use crate::nf::eval::At;
use crate::nf::hook::IpvsOp;
use crate::path::observer::{Observer, Step};
use crate::path::reason::DropReason;
use crate::path::touch::{Touch, Varies};
use crate::path::walker::Walker;
use crate::wire::{Frame, IpHeader, ip, proto};
use std::net::{IpAddr, SocketAddr};

/// Lets connections of IPVS go whose time has come, with conntrack's entries for them, and its estimator
/// look.
pub(crate) fn vs_timers(ns: &mut NetNs, now: Instant) {
    let Some(vs) = ns.ipvs.as_deref_mut() else {
        return;
    };
    vs.expire(now);
    let gone = vs.take_dropped();
    if let Some(nf) = ns.nf.as_deref_mut() {
        for tuple in gone {
            if let Some((id, _)) = nf.ct.find(&tuple, 0) {
                nf.ct.kill(id);
            }
        }
    }
}

/// The same between two walks, when no packet has a connection that may be emptied: the next one finds the
/// same slots free, whether packets were walked or carried before it.
pub(crate) fn vs_between(ns: &mut NetNs, now: Instant) {
    if ns.ipvs.is_none() {
        return;
    }
    vs_timers(ns, now);
    if let Some(nf) = ns.nf.as_deref_mut() {
        nf.ct.end_walk();
    }
}

impl<O: Observer> Walker<'_, O> {
    /// Lets connections go whose time has come, with conntrack's entries for them.
    pub(super) fn vs_timers(&mut self) {
        vs_timers(self.ns, self.now);
    }

    /// One of IPVS's hooks; `None`: the packet went no further here, or went on by another way.
    pub(super) fn vs_hook(
        &mut self,
        op: IpvsOp,
        at: &At,
        f: Frame,
        route: &mut Option<&mut OutRoute<'_>>,
    ) -> Option<Frame> {
        let mut f = self.vs_defrag(op, at, f)?;
        let Some(mut vs) = self.ns.ipvs.take() else {
            return Some(f);
        };
        let seen = Seen {
            ns: self.ns,
            now: self.now,
            hook: at.hook,
            loopback: at.input.is_none_or(|d| self.is_loopback(d)),
            mark: f.mark,
        };
        let assumed = self.cx.servers.get(&(self.ns.id, vs.next_open())).copied();
        vs.assume(assumed);
        let verdict = match op {
            IpvsOp::Reply => vs.reply(&mut f, &seen),
            IpvsOp::Request => vs.request(&mut f, &seen),
            IpvsOp::ForwardIcmp => vs.forward_icmp(&mut f, &seen),
        };
        if let Some(open) = vs.take_open().filter(|_| assumed.is_none())
            && self.cx.open_choices.len() < UNDECIDED_MAX
        {
            self.cx.open_choices.push((self.ns.id, open));
        }
        let met = vs.take_met();
        self.ns.ipvs = Some(vs);
        self.vs_touched(met, f.l3().len());
        let dev = at.input.or(at.output);
        match verdict {
            Verdict::Accept => Some(f),
            Verdict::Translated(o) => self.vs_translated(at, f, &o, route),
            Verdict::Drop(why) => {
                self.drop_with(dev, &f, DropReason::Ipvs, Origin::Kernel, |_| why.into());
                None
            }
            Verdict::Unreachable(of) => {
                let (typ, code) = match ops::family(&f) {
                    crate::nf::Family::V4 => (3, 3),
                    crate::nf::Family::V6 => (1, 4),
                };
                let why = "no real server can take it".into();
                self.vs_refuse(at, &f, (typ, code, 0), (of, why));
                None
            }
            Verdict::Send(o) => {
                let on = self.vs_send(at, f, &o);
                if on.is_none()
                    && let Some(r) = route
                {
                    *r.sent = true;
                }
                on
            }
        }
    }

    /// Tells whoever compiles what a packet met.
    fn vs_touched(&mut self, met: Met, len: usize) {
        let touch = match met {
            Met::Nothing => return,
            Met::Stranger(hash) => Touch::Stranger(hash),
            Met::Other => Touch::Varies(Varies::Ipvs),
            Met::Conn { id, dest, reply } => Touch::Server {
                id,
                dest,
                reply,
                len,
            },
        };
        self.touch(None, touch);
    }

    /// Fragments that pass by are put together first (`ip_vs_gather_frags`).
    fn vs_defrag(&mut self, op: IpvsOp, at: &At, f: Frame) -> Option<Frame> {
        let fragment = IpHeader::parse_lax(f.l3()).is_ok_and(|h| {
            h.is_v4()
                && h.is_fragment()
                && match op {
                    IpvsOp::ForwardIcmp => h.proto == proto::ICMP,
                    _ => matches!(h.proto, proto::TCP | proto::UDP | proto::SCTP | proto::ICMP),
                }
        });
        match fragment && !f.ipvs {
            true => self.nf_defrag(at, f),
            false => Some(f),
        }
    }

    /// Whether a device is `lo`.
    pub(crate) fn is_loopback(&self, d: DevId) -> bool {
        let dev = self.device(d);
        dev.is_some_and(|d| matches!(d.kind, DeviceKind::Loopback))
    }

    /// A reply with the virtual address is routed anew, as one of this host's own (`ip_vs_route_me_harder`).
    fn vs_translated(
        &mut self,
        at: &At,
        mut f: Frame,
        o: &Order,
        route: &mut Option<&mut OutRoute<'_>>,
    ) -> Option<Frame> {
        self.vs_step(at, &f, o, true);
        if let Some(nf) = self.ns.nf.as_deref_mut() {
            f.ipvs = true;
            xmit::tell_conntrack(&mut nf.ct, &mut f, o, Side::Reply);
        }
        let harder = at.hook != Hook::Input && self.ns.sysctl.vs.snat_reroute != 0;
        match route {
            Some(r) if harder => self.nf_reroute(r, f),
            _ => Some(f),
        }
    }

    fn vs_refuse(
        &mut self,
        at: &At,
        f: &Frame,
        (typ, code, info): (u8, u8, u32),
        (of, why): (Option<Virtual>, String),
    ) {
        let dev = at.input.or(at.output);
        let origin = self.vs_origin(of);
        let sent = self.icmp_error(f, at.input, typ, code, info);
        self.rejected(dev, f, sent, DropReason::Ipvs, origin, |_| why);
    }

    /// Who made a service.
    fn vs_origin(&self, of: Option<Virtual>) -> Origin {
        let svc = self.ns.ipvs().and_then(|vs| vs.service(&of?));
        svc.map_or(Origin::Kernel, |svc| svc.origin.clone())
    }

    fn vs_step(&mut self, at: &At, f: &Frame, o: &Order, reply: bool) {
        let origin = self.vs_origin(o.of);
        self.step(at.input.or(at.output), f, |_| Step::Ipvs {
            reply,
            virt: SocketAddr::new(o.virt.0, o.virt.1),
            server: SocketAddr::new(o.to, o.port),
            forward: o.fwd.name(),
            open: o.open,
            origin,
        });
    }

    /// Sends a request to its real server; `Some`: the real server is this host, and the packet goes on here.
    fn vs_send(&mut self, at: &At, mut f: Frame, o: &Order) -> Option<Frame> {
        self.vs_step(at, &f, o, false);
        if o.fwd == Forward::Local {
            self.vs_marked(&mut f, o);
            return Some(f);
        }
        let (found, local) = self.vs_route(at, &mut f, o)?;
        match o.fwd {
            Forward::Masq => {
                if !xmit::translate_request(f.l3_mut(), o) {
                    self.drop(at.input, &f, DropReason::IpTruncated);
                    return None;
                }
                f.ignore_df = true;
                self.vs_marked(&mut f, o);
            }
            Forward::Tunnel(..) if !local => f = self.vs_wrap(at, f, o, &found)?,
            _ => {
                f.ignore_df |= o.fwd == Forward::Droute;
                self.vs_marked(&mut f, o);
            }
        }
        if local {
            return Some(f);
        }
        f.local = true;
        if let Ok(Some((f, found, _))) = self.nf_output(f, found, None) {
            self.ip_output(&found, o.to, f, at.input);
        }
        None
    }

    /// It is IPVS's from here on, and conntrack's only if wanted.
    fn vs_marked(&mut self, f: &mut Frame, o: &Order) {
        f.ipvs = true;
        if let Some(nf) = self.ns.nf.as_deref_mut() {
            xmit::tell_conntrack(&mut nf.ct, f, o, Side::Request);
        }
    }

    /// The route to a real server, the TTL and the MTU on the way (`__ip_vs_get_out_rt`); whether it leads
    /// back here.
    fn vs_route(&mut self, at: &At, f: &mut Frame, o: &Order) -> Option<(Found, bool)> {
        let h = IpHeader::parse_lax(f.l3()).ok()?;
        let unreachable = if h.is_v4() { (3, 1, 0) } else { (1, 3, 0) };
        let Ok(found) = self.ns.route_output(None, o.to, None, 0, 0) else {
            let why = format!("no route to {}", o.to);
            self.vs_refuse(at, f, unreachable, (o.of, why));
            return None;
        };
        let local = found.route.kind == RouteKind::Local;
        let was_local = self.ns.is_local(h.dst);
        let masq_back = o.fwd == Forward::Masq && (!o.icmp || at.hook != Hook::Forward);
        let crosses = match local {
            true => o.fwd == Forward::Bypass || !masq_back && !was_local,
            false => h.src.is_loopback(),
        };
        if crosses {
            self.vs_refuse(
                at,
                f,
                unreachable,
                (o.of, format!("{} must not go to {}", h.src, o.to)),
            );
            return None;
        }
        if local {
            if o.to.is_loopback() && o.fwd == Forward::Masq && at.hook == Hook::Input {
                self.drop(at.input, f, DropReason::MartianDestination);
                return None;
            }
            return Some((found, true));
        }
        if h.ttl <= 1 {
            let expired = if h.is_v4() { (11, 0, 0) } else { (3, 0, 0) };
            self.vs_refuse(at, f, expired, (o.of, format!("ttl {}", h.ttl)));
            return None;
        }
        ip::decrease_ttl(f.l3_mut());
        self.step(at.input, f, |_| Step::Ttl { to: h.ttl - 1 });
        self.vs_mtu(at, f, o, &found)?;
        Some((found, false))
    }

    /// `ensure_mtu_is_adequate`
    fn vs_mtu(&mut self, at: &At, f: &Frame, o: &Order, found: &Found) -> Option<()> {
        let h = IpHeader::parse_lax(f.l3()).ok()?;
        let tunnel = matches!(o.fwd, Forward::Tunnel(..));
        let path = self.ns.path_mtu(o.to, found, self.now);
        let mtu = path.saturating_sub(xmit::overhead(o));
        let len = f.l3().len();
        self.touch(at.input, Touch::Cap { max: mtu, len });
        let big = f.l3().len() > mtu && h.df && !o.icmp;
        if !big || tunnel && h.is_v4() && self.ns.sysctl.vs.pmtu_disc == 0 {
            return Some(());
        }
        let too_big = if h.is_v4() { (3, 4) } else { (2, 0) };
        let why = format!("{} bytes, mtu {mtu}", f.l3().len());
        self.vs_refuse(at, f, (too_big.0, too_big.1, mtu as u32), (o.of, why));
        None
    }

    /// `ip_vs_tunnel_xmit`
    fn vs_wrap(&mut self, at: &At, mut f: Frame, o: &Order, found: &Found) -> Option<Frame> {
        let Some(src) = self.ns.source_for(found, o.to) else {
            self.drop(at.input, &f, DropReason::NoSourceAddress);
            return None;
        };
        let id = match o.to {
            IpAddr::V4(_) => self.ns.next_ip_id(),
            IpAddr::V6(_) => 0,
        };
        let pmtu = self.ns.sysctl.vs.pmtu_disc != 0;
        let packet = match xmit::wrap(f.l3(), o, src, id, pmtu) {
            Ok(packet) => packet,
            Err(why) => {
                self.drop_with(at.input, &f, DropReason::Ipvs, Origin::Kernel, |_| {
                    why.into()
                });
                return None;
            }
        };
        // The inner connection is confirmed as it is (`ip_vs_confirm_conntrack`); the outer has none.
        if o.nfct {
            self.nf_confirm_now(at, &mut f);
        }
        f.strip_link();
        f.replace_l3(&packet);
        f.ct = crate::wire::CtRef::None;
        f.forget_fragments();
        f.frag_list.clear();
        f.ipvs = true;
        Some(f)
    }
}
