//! Targets: what a matching rule does to the packet, its connection and its verdict.
//!
//! As net/netfilter/xt_*.c, net/ipv4/netfilter/ipt_*.c. `None` goes on with the next rule (XT_CONTINUE).
//! Invariant: checksums stay right, whatever is changed.

use super::chain::Env;
use super::{Effect, Verdict, targets_ip, targets_nat, tcpmss};
use crate::nf::Target;
use crate::nf::target::{
    ConnmarkTarget, Ct, Log, MarkCopy, MarkTarget, Nflog, Nfqueue, Tee, Tproxy, XMark,
};
use crate::nf::value::{Hex, MarkMask};
use crate::wire::{CtRef, Frame};
use std::sync::Arc;

fn change(old: u32, x: XMark) -> u32 {
    (old & !x.mask) ^ x.value
}

/// Carries a target out.
pub(super) fn run(env: &mut Env<'_, '_>, f: &mut Frame, target: &Target) -> Option<Verdict> {
    let rule = env.rule;
    match target {
        Target::Reject(r) => match r.with {
            Some(with) => return Some(Verdict::Reject(with, rule)),
            None => return Some(Verdict::Depends(rule)),
        },
        Target::Log(m) => env.log(m),
        Target::Nflog(m) => env.nflog(m),
        Target::Audit(m) => {
            if let Some(kind) = m.kind {
                env.fx.push(Effect::Audit { rule, kind });
            }
        }
        Target::Mark(m) => set_mark(f, m),
        Target::Connmark(m) => env.connmark_target(f, m),
        Target::Dnat(_)
        | Target::Snat(_)
        | Target::Masquerade(_)
        | Target::Redirect(_)
        | Target::Netmap(_) => return Some(targets_nat::run(env, f, target)),
        Target::Tproxy(m) => return Some(env.tproxy(f, m)),
        Target::Ct(m) => env.ct_target(f, m),
        Target::Notrack(_) => notrack(f),
        Target::Tcpmss(m) => {
            let verdict = tcpmss::run(env, f, m);
            // An option that was put in makes the packet longer (skb->len) for the rules to come.
            env.pkt.len = f.l3().len();
            return verdict;
        }
        Target::Dscp(m) => targets_ip::dscp(f, m),
        Target::Tos(m) => targets_ip::tos(f, m),
        Target::Ttl(m) => targets_ip::hop_limit(f, (m.set, m.dec, m.inc)),
        Target::Hl(m) => targets_ip::hop_limit(f, (m.set, m.dec, m.inc)),
        Target::Classify(m) => {
            if let Some(class) = m.class {
                f.priority = u32::from(class.major) << 16 | u32::from(class.minor);
            }
        }
        Target::Set(m) => return env.set_target(f, m),
        Target::Tee(m) => env.tee(f, m),
        // Nothing leaves a checksum out here.
        Target::Checksum(_) => {}
        Target::Nfqueue(m) => return Some(queue(env, m, f)),
        Target::Queue => return Some(Verdict::Queue(rule)),
        Target::None | Target::Accept | Target::Drop | Target::Return => {}
        Target::Jump(_) | Target::Goto(_) | Target::Unknown { .. } => {
            return Some(Verdict::Depends(rule));
        }
    }
    None
}

/// `mark_tg`
fn set_mark(f: &mut Frame, m: &MarkTarget) {
    if let Some(x) = m.xmark {
        f.mark = change(f.mark, x);
    }
}

/// `notrack_tg`: what conntrack has seen already stays.
fn notrack(f: &mut Frame) {
    if f.ct == CtRef::None {
        f.ct = CtRef::Untracked;
    }
}

/// `nfqueue_tg`; of several queues none is asked.
fn queue(env: &mut Env<'_, '_>, m: &Nfqueue, f: &Frame) -> Verdict {
    env.queue(
        if m.balance.is_some() {
            None
        } else {
            m.num.or(Some(0))
        },
        m.bypass,
        f,
    )
}

impl Env<'_, '_> {
    fn log(&mut self, m: &Log) {
        self.fx.push(Effect::Log {
            rule: self.rule,
            prefix: Arc::from(m.prefix.as_ref().map_or("", |p| p.0.as_str())),
            level: m.level.map_or(4, |l| l.0),
        });
    }

    fn nflog(&mut self, m: &Nflog) {
        self.fx.push(Effect::Nflog {
            rule: self.rule,
            prefix: Arc::from(m.prefix.as_ref().map_or("", |p| p.0.as_str())),
            group: m.group.unwrap_or(0),
        });
    }

    /// `connmark_tg`
    fn connmark_target(&mut self, f: &mut Frame, m: &ConnmarkTarget) {
        let mask = |h: Option<Hex>| h.map_or(u32::MAX, |h| h.0);
        let (nfmask, ctmask) = (mask(m.nfmask), mask(m.ctmask));
        let packet = f.mark;
        let Some(c) = self.conn_mut(f) else { return };
        match (m.xmark, m.copy) {
            (Some(x), _) => c.mark = change(c.mark, x),
            (_, Some(MarkCopy::Save)) => c.mark = (c.mark & !ctmask) ^ (packet & nfmask),
            (_, Some(MarkCopy::Restore)) => f.mark = (packet & !nfmask) ^ (c.mark & ctmask),
            (None, None) => {}
        }
    }

    /// `xt_ct_target`: a packet that has a connection, a template or is untracked is left alone.
    fn ct_target(&mut self, f: &mut Frame, m: &Ct) {
        if f.ct != CtRef::None {
            return;
        }
        f.ct = match m.notrack {
            true => CtRef::Untracked,
            false => self.template(m),
        };
    }

    /// `tproxy_tg4`, `tproxy_tg6_v1`
    pub fn tproxy(&mut self, f: &mut Frame, m: &Tproxy) -> Verdict {
        let rule = self.rule;
        let drop = Verdict::Drop(rule);
        let Some(mut t) = self.socket_tuple(f) else {
            return drop;
        };
        let sockets = self.ns.sockets();
        // A connection that was proxied before is found by the packet's own addresses.
        let established = sockets.find(&t).filter(|(b, _)| b.remote.is_some());
        let found = established.or_else(|| {
            t.dst = match m.ip.filter(|ip| !ip.is_unspecified()) {
                Some(ip) => ip,
                None => targets_nat::local_address(self.ns, self.at, t.dst).unwrap_or(t.dst),
            };
            t.dport = m.port.filter(|p| *p != 0).unwrap_or(t.dport);
            sockets.find(&t)
        });
        let Some((_, socket)) = found.filter(|(_, id)| sockets.owner(*id).transparent) else {
            return drop;
        };
        if let Some(mark) = m.mark {
            let MarkMask { value, mask } = mark.0;
            f.mark = change(f.mark, XMark { value, mask });
        }
        self.fx.push(Effect::Tproxy { rule, socket });
        Verdict::Accept
    }

    /// `tee_tg4`, `tee_tg6`: a copy that was sent itself is not copied again (the walker marks it local).
    fn tee(&mut self, f: &Frame, m: &Tee) {
        let Some(gateway) = m.gateway else { return };
        let oif = m.oif.as_ref().and_then(|o| self.ns.dev_by_name(&o.0));
        if m.oif.is_some() && oif.is_none() {
            return;
        }
        self.fx.push(Effect::Tee {
            rule: self.rule,
            gateway,
            oif: oif.map(|d| d.id),
            copy: Box::new(f.clone()),
        });
    }
}
