//! Netfilter in the walk: what runs at a hook, in order, and what its verdicts lead to.
//!
//! The rules, connections and mappings are `nf`'s; here is what the kernel's IP layer does around them
//! (kernel: `nf_hook_slow`). A namespace without netfilter pays one test a hook. Invariant: `ns.nf` is
//! out of the namespace only while one operation runs, never while a frame is sent.

mod bridge;
mod defrag;
mod effects;
mod ipvs;
mod link;
mod ops;
mod output;
mod refragment;
mod reject;
mod tell;

use crate::base::DevId;
use crate::net::fib::Found;
use crate::nf::ct::Conntrack;
use crate::nf::eval::{At, RuleRef, Verdict};
use crate::nf::hook::OpKind;
use crate::nf::{Backend, Hook};
use crate::path::observer::Observer;
use crate::path::reason::{Disposition, DropReason};
use crate::path::walker::{Errno, Output, Walker};
use crate::wire::{ConnId, CtRef, Frame, IpHeader};
use output::Routed;
use std::net::IpAddr;

pub(crate) use defrag::LOCAL_DELIVER;
pub(crate) use ipvs::vs_between;
pub(crate) use link::Part;
pub(crate) use refragment::refragments;

/// The route of a packet of this host's own, which OUTPUT may change.
pub(super) struct OutRoute<'a> {
    /// The route.
    pub found: &'a mut Found,
    /// The device its socket is bound to.
    pub oif: Option<DevId>,
    /// Whether OUTPUT looked it up again.
    pub changed: bool,
    /// What its sender is told if it went no further.
    pub errno: &'a mut Errno,
    /// It went on by another way: its sender is told nothing.
    pub sent: &'a mut bool,
}

impl<O: Observer> Walker<'_, O> {
    /// Lets a packet through a hook; `None` when it went no further (its end has been told then).
    pub(crate) fn nf_hook(
        &mut self,
        hook: Hook,
        f: Frame,
        input: Option<DevId>,
        output: Option<DevId>,
    ) -> Option<Frame> {
        if self.ns.nf.is_none() {
            return Some(f);
        }
        self.nf_run(hook, f, input, output, None)
    }

    /// PREROUTING for a packet whose header was `h`: the packet and its header as they are afterwards.
    pub(crate) fn nf_prerouting(
        &mut self,
        dev: DevId,
        h: IpHeader,
        mut f: Frame,
    ) -> Option<(IpHeader, Frame)> {
        if self.ns.nf.is_none() {
            return Some((h, f));
        }
        // It was done in the bridge (kernel: ip_sabotage_in).
        if let Some(b) = &mut f.bridged
            && !b.skipped
        {
            b.skipped = true;
            if self.ns.bridge_shared.skip(b.shared) {
                return Some((h, f));
            }
        }
        let f = self.nf_run(Hook::Prerouting, f, Some(dev), None, None)?;
        self.nf_header(Some(dev), f)
    }

    /// A hook for a packet whose header was `h`: both as they are afterwards.
    pub(crate) fn nf_hook_h(
        &mut self,
        hook: Hook,
        h: IpHeader,
        f: Frame,
        input: Option<DevId>,
        output: Option<DevId>,
    ) -> Option<(IpHeader, Frame)> {
        if self.ns.nf.is_none() {
            return Some((h, f));
        }
        let f = self.nf_run(hook, f, input, output, None)?;
        self.nf_header(input.or(output), f)
    }

    /// The header anew: translation may have changed it.
    pub(super) fn nf_header(&mut self, dev: Option<DevId>, f: Frame) -> Option<(IpHeader, Frame)> {
        match IpHeader::parse_lax(f.l3()) {
            Ok(h) => Some((h, f)),
            Err(_) => {
                self.drop(dev, &f, DropReason::IpHeader);
                None
            }
        }
    }

    fn nf_run(
        &mut self,
        hook: Hook,
        mut f: Frame,
        input: Option<DevId>,
        output: Option<DevId>,
        mut route: Option<&mut OutRoute<'_>>,
    ) -> Option<Frame> {
        self.vs_timers();
        let at = At {
            hook,
            family: ops::family(&f),
            input,
            output,
        };
        let mut next = 0;
        while let Some(kind) = self.nf_op_at(&at, next) {
            next += 1;
            if kind == OpKind::Defrag {
                f = self.nf_defrag(&at, f)?;
                continue;
            }
            if let OpKind::Ipvs(op) = kind {
                f = self.vs_hook(op, &at, f, &mut route)?;
                continue;
            }
            let own = route.as_ref().filter(|_| hook == Hook::Output);
            let before = own.and_then(|_| Routed::of(kind, &f));
            let mut fx = Vec::new();
            let sent_to = match (kind, hook) {
                (OpKind::Nat, Hook::Prerouting) => destination(&f),
                _ => None,
            };
            let mut verdict = self.nf_op(kind, &at, &mut f, &mut fx);
            while !fx.is_empty()
                && let Some(from) = self.nf_effects(&at, &mut f, std::mem::take(&mut fx))
            {
                // `ipt_do_table` keeps bottom halves off to its end, `nft_do_chain` does not.
                if !matches!(kind, OpKind::Table(Backend::Legacy, _)) {
                    self.softirqs();
                }
                verdict = self.nf_op_from(kind, &at, &mut f, &mut fx, Some(from));
            }
            self.softirqs();
            f.route_lost |= sent_to.is_some() && sent_to != destination(&f);
            f = match verdict {
                Ok(Verdict::Accept | Verdict::Bypass) => f,
                Ok(other) => return self.nf_end(&at, f, other),
                Err(why) => {
                    self.drop_with(
                        at.input.or(at.output),
                        &f,
                        DropReason::Conntrack,
                        crate::base::Origin::Kernel,
                        |_| why,
                    );
                    return None;
                }
            };
            if let (Some(r), Some(b)) = (&mut route, before)
                && b != Routed::now(&b, &f)
                && (kind != OpKind::Nat || self.nf_moved(&f))
            {
                f = self.nf_reroute(r, f)?;
            }
        }
        Some(f)
    }

    /// Whether the connection goes to another address than its sender's packets say
    /// (`nf_nat_ipv4_local_fn`): what a rule of a nat chain wrote into the packet itself does not count.
    pub(crate) fn nf_moved(&self, f: &Frame) -> bool {
        let CtRef::Conn { id, info } = f.ct else {
            return false;
        };
        let nf = self.ns.nf.as_deref();
        nf.and_then(|nf| nf.ct.get(id)).is_some_and(|c| {
            let [there, back] = &c.tuples();
            match info.is_reply() {
                false => there.dst != back.src,
                true => back.dst != there.src,
            }
        })
    }

    fn nf_op_at(&self, at: &At, i: usize) -> Option<OpKind> {
        let nf = self.ns.nf.as_deref()?;
        nf.ops(at.family, at.hook).get(i).map(|op| op.kind)
    }

    /// What a verdict other than ACCEPT leads to.
    fn nf_end(&mut self, at: &At, f: Frame, verdict: Verdict) -> Option<Frame> {
        let dev = at.input.or(at.output);
        match verdict {
            Verdict::Accept | Verdict::Bypass => return Some(f),
            Verdict::Drop(rule) => {
                let (text, origin) = self.nf_rule(&rule);
                self.drop_with(dev, &f, DropReason::Netfilter, origin, |_| text);
            }
            Verdict::Queue(rule) => {
                let (text, origin) = self.nf_rule(&rule);
                self.drop_with(dev, &f, DropReason::NetfilterQueue, origin, |_| text);
            }
            Verdict::Reject(with, rule) => self.nf_reject(at, f, with, &rule),
            Verdict::Depends(rule) => self.nf_depends(dev, &f, rule),
        }
        None
    }

    /// Notes a rule that nothing decides, for the lab to ask again with either answer.
    fn nf_depends(&mut self, dev: Option<DevId>, f: &Frame, rule: RuleRef) {
        let met = (self.ns.id, rule);
        if !self.cx.undecided.contains(&met)
            && self.cx.undecided.len() < crate::base::limits::UNDECIDED_MAX
        {
            self.cx.undecided.push(met);
        }
        let (_, origin) = self.nf_rule(&rule);
        self.end(dev, f, Disposition::Unknown { origin });
    }

    /// Ends the walk for conntrack: a new connection that was not confirmed dies, unless a frame that
    /// waits for a neighbour still holds it (a bridged, translated one; kernel: the skb's reference).
    pub fn finish(&mut self) {
        if self.ns.nf.is_none() {
            return;
        }
        let held = self.nf_held();
        self.ns.bridge_waits = !held.is_empty();
        if let Some(nf) = self.ns.nf.as_deref_mut() {
            held.iter().for_each(|id| nf.ct.hold(*id));
            // The backlog's frames keep theirs until they are received.
            for o in &self.cx.out {
                if let Output::Backlog { frame, .. } = o
                    && let CtRef::Conn { id, .. } = frame.ct
                {
                    nf.ct.hold(id);
                }
            }
            nf.ct.end_walk();
            held.iter().for_each(|id| nf.ct.release(*id));
        }
    }

    /// A frame is back from the backlog, and with it its connection, whether or not that was ever confirmed
    /// (an error about a packet that a rule refused reaches its sender on the same host as RELATED).
    pub fn from_backlog(&mut self, f: &Frame) {
        if let (CtRef::Conn { id, .. }, Some(nf)) = (f.ct, self.ns.nf.as_deref_mut()) {
            nf.ct.release(id);
        }
    }

    /// Connections of bridged frames that wait for a neighbour.
    fn nf_held(&self) -> Vec<ConnId> {
        if !self.ns.bridge_waits {
            return Vec::new();
        }
        let queues = self.ns.neigh.iter().map(|(_, _, n)| &n.queue);
        let waiting = queues.flatten().filter(|f| f.bridged.is_some());
        waiting
            .filter_map(|f| match f.ct {
                CtRef::Conn { id, .. } => Some(id),
                _ => None,
            })
            .collect()
    }
}

/// Where a packet is addressed to.
fn destination(f: &Frame) -> Option<IpAddr> {
    IpHeader::parse_lax(f.l3()).ok().map(|h| h.dst)
}

/// An error or reset belongs to the connection of the packet that caused it, the other way round
/// (kernel: `nf_conntrack_attach`).
pub(crate) fn attach(new: &mut Frame, cause: &Frame) {
    new.ct = Conntrack::attach(cause.ct);
}
