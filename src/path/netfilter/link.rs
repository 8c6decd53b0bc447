//! Rules below the IP layer in the walk: bridge and netdev base chains at their hooks.
//!
//! Kernel: `NF_HOOK(NFPROTO_BRIDGE, ..)` in br_input.c and br_forward.c, `nf_ingress`, `nf_hook_egress`,
//! nft_reject_bridge.c. A namespace without such chains pays one test a hook. Invariant: as for the IP hooks,
//! `ns.nf` is out of the namespace only while one chain runs.

use super::effects::From;
use super::reject::{checksum_ok, code};
use crate::base::{DevId, limits};
use crate::nf::eval::{At, Cx, Effect, RuleRef, Verdict};
use crate::nf::nft::eval::Halted;
use crate::nf::nft::eval::link::{self, BRNF, LinkAt, LinkHook, LinkOp, LinkOutcome};
use crate::nf::target::RejectWith;
use crate::nf::{Family, Hook};
use crate::path::observer::{Observer, Step};
use crate::path::reason::{Disposition, DropReason, IcmpSent};
use crate::path::walker::Walker;
use crate::wire::{Frame, IpHeader, build, proto};

/// Which chains of a bridge hook: the bridge shows its frames to the IP hooks at a priority of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Part {
    /// Those before the IP hooks. One of the same priority was registered later than the bridge's own.
    BeforeIp,
    /// Those after.
    AfterIp,
    /// All.
    Whole,
}

/// `NF_RECURSION_LIMIT`: `nf_do_netdev_egress`
const RECURSION: u8 = 2;
/// `NF_REJECT`'s copy of the packet in an ICMP error, bytes (`nf_reject_skb_v4_unreach`).
const COPY_V4: usize = 536;
/// The same in IPv6 (`nf_reject_skb_v6_unreach`).
const COPY_V6: usize = 1220;

impl<O: Observer> Walker<'_, O> {
    /// A frame in a bridge; `None` when it went no further.
    pub(crate) fn bridge_hook(
        &mut self,
        hook: Hook,
        part: Part,
        f: Frame,
        input: Option<DevId>,
        output: Option<DevId>,
    ) -> Option<Frame> {
        let at = LinkAt {
            hook: LinkHook::Bridge(hook),
            input,
            output,
        };
        self.link_hook(&at, f, |op| match part {
            Part::BeforeIp => op.priority <= BRNF,
            Part::AfterIp => op.priority > BRNF,
            Part::Whole => true,
        })
    }

    /// A frame that a device received.
    pub(crate) fn ingress(&mut self, dev: DevId, f: Frame) -> Option<Frame> {
        let at = LinkAt {
            hook: LinkHook::Ingress,
            input: Some(dev),
            output: None,
        };
        self.link_hook(&at, f, |_| true)
    }

    /// A frame that a device is to send.
    pub(crate) fn egress(&mut self, dev: DevId, f: Frame) -> Option<Frame> {
        let at = LinkAt {
            hook: LinkHook::Egress,
            input: None,
            output: Some(dev),
        };
        self.link_hook(&at, f, |_| true)
    }

    fn link_hook(
        &mut self,
        at: &LinkAt,
        mut f: Frame,
        wanted: impl Fn(&LinkOp) -> bool,
    ) -> Option<Frame> {
        let mut next = 0;
        loop {
            let nf = self.ns.nf.as_deref();
            let Some(op) = nf.and_then(|nf| nf.link_ops(at.hook).get(next)) else {
                return Some(f);
            };
            next += 1;
            let dev = at.input.or(at.output);
            let here = |d: &str| dev.is_some_and(|at| self.ns.dev_name(at) == d);
            if !wanted(op) || !op.device.as_deref().is_none_or(here) {
                continue;
            }
            let op = op.clone();
            f = self.link_chain(at, &op, f)?;
        }
    }

    fn link_chain(&mut self, at: &LinkAt, op: &LinkOp, mut f: Frame) -> Option<Frame> {
        let mut from = None;
        // A text's chains may have loops.
        for _ in 0..limits::NFT_STEPS_MAX {
            let (done, halted) = self.link_part(at, op, from.take(), &mut f)?;
            let LinkOutcome {
                verdict,
                sent,
                stolen,
            } = done;
            for (dev, copy) in sent {
                self.link_send(dev, &f, copy);
            }
            if halted.is_none() {
                return match stolen {
                    true => None,
                    false => self.link_end(at, op, f, verdict),
                };
            }
            from = halted;
        }
        None
    }

    /// One chain to its end, or to where it stops behind a copy (`dup`), where it goes on next.
    fn link_part(
        &mut self,
        at: &LinkAt,
        op: &LinkOp,
        from: Option<Halted>,
        f: &mut Frame,
    ) -> Option<(LinkOutcome, Option<Halted>)> {
        let mut nf = self.ns.nf.take()?;
        let mut steps = O::TRACING.then(Vec::new);
        nf.record = O::RECORDING.then(|| self.cx.record.take().unwrap_or_default());
        let mut cx = Cx {
            now: self.now,
            rng: &mut self.cx.rng,
            steps: steps.as_mut(),
            assume: self
                .cx
                .assume
                .get(&self.ns.id)
                .unwrap_or(&super::ops::NOTHING),
        };
        let mut fx: Vec<Effect> = Vec::new();
        let done = link::run(&mut nf, self.ns, f, at, op, from, &mut cx, &mut fx);
        let record = nf.record.take();
        self.ns.nf = Some(nf);
        if let Some(mut record) = record {
            self.nf_recorded(&record);
            record.clear();
            self.cx.record = Some(record);
        }
        let ip_at = at.as_ip(f);
        if let Some(steps) = steps {
            self.nf_tell(&ip_at, f, steps);
        }
        let halted = match self.nf_effects(&ip_at, f, fx) {
            Some(From::Native(h)) => Some(*h),
            _ => None,
        };
        Some((done, halted))
    }

    /// What a rule sends out of a device (`dup`, `fwd`; kernel: `nf_do_netdev_egress`).
    fn link_send(&mut self, dev: DevId, f: &Frame, copy: Frame) {
        let name = self.ns.dev_name(dev).to_owned();
        let copy = self.child_of(f, copy);
        self.step(Some(dev), &copy, |_| {
            Step::Note(format!("a rule sends it out of {name}"))
        });
        if self.forwarding > RECURSION {
            return self.end(Some(dev), &copy, Disposition::Loop);
        }
        self.forwarding += 1;
        self.transmit(dev, copy);
        self.forwarding -= 1;
    }

    /// What a chain decided.
    fn link_end(&mut self, at: &LinkAt, op: &LinkOp, f: Frame, verdict: Verdict) -> Option<Frame> {
        let ip_at = at.as_ip(&f);
        match verdict {
            // `nft_reject_inet_eval`: as the IP layer does it.
            Verdict::Reject(..) if op.ip_only => {
                let ip_at = At {
                    // `IP6CB(skb)->iif` is not set yet.
                    input: ip_at.input.filter(|_| ip_at.family == Family::V4),
                    ..ip_at
                };
                self.nf_end(&ip_at, f, verdict)
            }
            Verdict::Reject(with, rule) => {
                self.link_reject(at, f, with, &rule);
                None
            }
            other => {
                if at.hook == LinkHook::Egress && !matches!(other, Verdict::Accept) {
                    self.refused_by = at.output;
                }
                self.nf_end(&ip_at, f, other)
            }
        }
    }

    /// The answer goes back the way the frame came, as if the other end had sent it (kernel:
    /// `nft_reject_bridge_eval`, `nft_reject_netdev_eval`).
    fn link_reject(&mut self, at: &LinkAt, f: Frame, with: RejectWith, rule: &RuleRef) {
        let dev = at.input.or(at.output);
        let (text, origin) = self.nf_rule(rule);
        let answer = match code(with) {
            None => self.link_reset(&f).map(|p| (p, None)),
            Some(code) => self.link_unreach(&f, code).map(|(p, icmp)| (p, Some(icmp))),
        };
        let icmp = answer.as_ref().and_then(|(_, icmp)| *icmp);
        self.rejected(dev, &f, icmp, DropReason::NetfilterReject, origin, |_| text);
        let (Some((packet, _)), Some(port)) = (answer, at.input) else {
            return;
        };
        let mut r = self.child_of(&f, Frame::ip(&packet));
        r.set_ethernet(f.src_mac(), f.dst_mac(), f.ethertype());
        // Made without a route: on `lo` it is looked at as if it came from elsewhere.
        r.route_lost = true;
        self.step(Some(port), &f, |_| Step::Answer { what: "reject" });
        let bridge = self
            .device(port)
            .and_then(|d| d.master.as_ref())
            .map(|m| m.0);
        match (at.hook, bridge) {
            (LinkHook::Bridge(_), Some(bridge)) => self.bridge_own(bridge, port, r),
            _ => self.transmit(port, r),
        }
    }

    /// Kernel: `nf_reject_skb_v4_tcp_reset`, `nf_reject_skb_v6_tcp_reset`: no route is asked, so a group gets
    /// an answer too.
    fn link_reset(&self, f: &Frame) -> Option<Vec<u8>> {
        let h = IpHeader::parse_lax(f.l3()).ok()?;
        if h.proto != proto::TCP || h.frag_off != 0 || !checksum_ok(&h, f.l3()) {
            return None;
        }
        let segment = build::tcp_reset(&h, f.l3())?;
        let (ttl, kind) = (self.default_ttl(h.is_v4(), None), proto::TCP);
        let (from, to) = (h.dst, h.src);
        Some(build::ip_packet(from, to, kind, ttl, 0, 0, true, &segment))
    }

    /// Kernel: `nf_reject_skb_v4_unreach`, `nf_reject_skb_v6_unreach`
    fn link_unreach(&self, f: &Frame, code: u8) -> Option<(Vec<u8>, IcmpSent)> {
        let b = f.l3();
        let h = IpHeader::parse_lax(b).ok()?;
        if h.frag_off > 0 || !checksum_ok(&h, b) {
            return None;
        }
        let v4 = h.is_v4();
        // `nf_skb_is_icmp_unreach`, `nf_skb_is_icmp6_unreach`
        let told = match h.proto {
            proto::ICMP => Some(3),
            proto::ICMPV6 => Some(1),
            _ => None,
        };
        if told.is_some_and(|t| h.payload(b).first() == Some(&t)) {
            return None;
        }
        let (typ, most) = if v4 { (3, COPY_V4) } else { (1, COPY_V6) };
        let copy = b.get(..most.min(b.len()))?;
        let message = build::icmp_message(h.dst, h.src, typ, code, 0, copy);
        let kind = if v4 { proto::ICMP } else { proto::ICMPV6 };
        let ttl = self.default_ttl(v4, None);
        let packet = build::ip_packet(h.dst, h.src, kind, ttl, 0, 0, true, &message);
        Some((packet, IcmpSent { v6: !v4, typ, code }))
    }
}
