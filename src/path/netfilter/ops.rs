//! One operation of a hook: the calls into `nf`, with the namespace's netfilter taken out meanwhile.

use super::effects::From;
use crate::base::DevId;
use crate::net::NetNs;
use crate::nf::ct::{Confirmed, Conn, CtDrop, CtTuple, Helped, Tracked};
use crate::nf::eval::{At, Cx, Effect, NfStep, RuleRef, Verdict};
use crate::nf::hook::OpKind;
use crate::nf::record::Record;
use crate::nf::{Family, Hook, Netfilter, eval, nat, nft};
use crate::path::observer::Observer;
use crate::path::touch::{Touch, Varies};
use crate::path::walker::Walker;
use crate::wire::tuple::proto_name;
use crate::wire::{ConnId, CtInfo, CtRef, ETH_P_IPV6, Frame};
use std::net::SocketAddr;

impl<O: Observer> Walker<'_, O> {
    /// Lets a new connection enter the table outside its hook (kernel: `nf_ct_hook->confirm`).
    pub(super) fn nf_confirm(&mut self, bridge: DevId, f: &mut Frame) {
        let at = At {
            hook: Hook::Input,
            family: family(f),
            input: Some(bridge),
            output: None,
        };
        // A connection that cannot be confirmed (a clash) leaves the copy as it is.
        let _ = self.nf_op(OpKind::Confirm, &at, f, &mut Vec::new());
    }

    /// Lets a new connection enter the table where its packet leaves the hooks (kernel:
    /// `ip_vs_confirm_conntrack`).
    pub(super) fn nf_confirm_now(&mut self, at: &At, f: &mut Frame) {
        let _ = self.nf_op(OpKind::Confirm, at, f, &mut Vec::new());
    }

    /// A connection that was reset by a rule closes (kernel: `nf_ct_set_closing`).
    pub(super) fn nf_closing(&mut self, f: &Frame) {
        let CtRef::Conn { id, .. } = f.ct else { return };
        let Some(mut nf) = self.ns.nf.take() else {
            return;
        };
        nf.ct.set_closing(self.ns, id, self.now);
        self.ns.nf = Some(nf);
    }

    /// Runs one operation; `Err` says why conntrack dropped the packet.
    pub(super) fn nf_op(
        &mut self,
        kind: OpKind,
        at: &At,
        f: &mut Frame,
        fx: &mut Vec<Effect>,
    ) -> Result<Verdict, String> {
        self.nf_op_from(kind, at, f, fx, None)
    }

    /// The same from where a table stopped.
    pub(super) fn nf_op_from(
        &mut self,
        kind: OpKind,
        at: &At,
        f: &mut Frame,
        fx: &mut Vec<Effect>,
        from: Option<From>,
    ) -> Result<Verdict, String> {
        let Some(mut nf) = self.ns.nf.take() else {
            return Ok(Verdict::Accept);
        };
        nf.recall = self.cx.recall;
        let mut steps = O::TRACING.then(Vec::new);
        let records = O::RECORDING && self.obs.records();
        nf.record = records.then(|| self.cx.record.take().unwrap_or_default());
        // It was looked up at another hook already.
        let tracked = matches!(f.ct, CtRef::Conn { .. } | CtRef::Untracked);
        let mut cx = Cx {
            now: self.now,
            rng: &mut self.cx.rng,
            steps: steps.as_mut(),
            assume: self.cx.assume.get(&self.ns.id).unwrap_or(&NOTHING),
        };
        let verdict = match (kind, from) {
            (OpKind::Nft { chain, .. }, Some(From::Native(from))) => {
                let from = (true, Some(*from));
                Ok(nft::eval::run_from(
                    &mut nf, self.ns, f, at, chain, from, &mut cx, fx,
                ))
            }
            (OpKind::Table(b, t), Some(From::Table(from))) => Ok(eval::resume(
                &mut nf,
                self.ns,
                f,
                at,
                (b, t),
                from,
                &mut cx,
                fx,
            )),
            _ => run(&mut nf, self.ns, f, at, kind, &mut cx, fx),
        };
        let record = nf.record.take();
        self.ns.nf = Some(nf);
        if O::RECORDING {
            self.nf_touched(kind, f, tracked, record.as_deref());
        }
        if let Some(mut record) = record {
            record.clear();
            self.cx.record = Some(record);
        }
        if let Some(steps) = steps {
            self.nf_tell(at, f, steps);
        }
        verdict
    }
}

impl<O: Observer> Walker<'_, O> {
    /// Tells whoever compiles what an operation touched; `tracked`: conntrack knew the packet before.
    fn nf_touched(&mut self, kind: OpKind, f: &Frame, tracked: bool, record: Option<&Record>) {
        if let Some(record) = record {
            self.nf_recorded(record);
        }
        match kind {
            OpKind::Conntrack if !tracked => {
                let touched = match f.ct {
                    CtRef::Conn { id, info } if self.settled(id) => Touch::Conn {
                        id,
                        reply: info.is_reply(),
                        len: f.l3().len(),
                    },
                    CtRef::Untracked => return,
                    _ => Touch::Varies(Varies::Connection),
                };
                self.touch(None, touched);
            }
            _ => {}
        }
    }

    /// Tells what rules touched.
    pub(super) fn nf_recorded(&mut self, record: &Record) {
        for (counter, len) in &record.counters {
            self.touch(None, Touch::Counter(*counter, *len));
        }
        if let Some(end) = record.until {
            self.touch(None, Touch::Until(end));
        }
        if let Some(rule) = record.varies {
            self.touch(None, Touch::Varies(Varies::Rule(rule)));
        }
    }

    /// Whether a connection treats every further packet of a direction alike, but for its life.
    fn settled(&self, id: ConnId) -> bool {
        self.ns.nf().is_some_and(|nf| nf.ct.is_settled(id))
    }
}

/// What is assumed where nobody assumes anything.
pub(super) static NOTHING: std::collections::BTreeMap<RuleRef, bool> =
    std::collections::BTreeMap::new();

/// The rules a packet meets.
pub(super) fn family(f: &Frame) -> Family {
    match f.ethertype_of_l3() {
        ETH_P_IPV6 => Family::V6,
        _ => Family::V4,
    }
}

fn run(
    nf: &mut Netfilter,
    ns: &NetNs,
    f: &mut Frame,
    at: &At,
    kind: OpKind,
    cx: &mut Cx<'_>,
    fx: &mut Vec<Effect>,
) -> Result<Verdict, String> {
    match kind {
        OpKind::Defrag | OpKind::Ipvs(_) => Ok(Verdict::Accept),
        OpKind::Conntrack => match nf.ct.track(ns, f, at, cx) {
            Tracked::Accept => {
                tell_tracked(nf, f, cx);
                Ok(Verdict::Accept)
            }
            Tracked::Drop(why) => Err(why_dropped(why).to_owned()),
        },
        OpKind::Table(backend, table) => Ok(eval::table(nf, ns, f, at, backend, table, cx, fx)),
        OpKind::Nft { chain, .. } => Ok(nft::eval::run_from(
            nf,
            ns,
            f,
            at,
            chain,
            (true, None),
            cx,
            fx,
        )),
        OpKind::Nat => nat::hook(nf, f, at, cx, &mut |nf, f, cx, chain| {
            eval::nat_chain(nf, ns, f, at, chain, cx, fx)
        })
        .map_err(|why| why.to_string()),
        OpKind::Helper => match nat::helper::run(&mut nf.ct, ns, f, at, cx) {
            Ok(Helped::Drop(why)) => Err(why_dropped(why).to_owned()),
            Ok(_) => Ok(Verdict::Accept),
            Err(why) => Err(why.to_string()),
        },
        OpKind::Confirm => {
            let new = unconfirmed(nf, f);
            let confirmed = nf.ct.confirm(ns, f, at, cx);
            if let Some((id, orig)) = new
                && nf.ct.get(id).is_some_and(Conn::is_confirmed)
            {
                nf.forced.used(&orig);
            }
            match confirmed {
                Confirmed::Accept => Ok(Verdict::Accept),
                Confirmed::Drop(why) => Err(why_dropped(why).to_owned()),
            }
        }
    }
}

/// A packet's connection that is not in the table yet, where something is decided for connections.
fn unconfirmed(nf: &Netfilter, f: &Frame) -> Option<(ConnId, CtTuple)> {
    let CtRef::Conn { id, .. } = f.ct else {
        return None;
    };
    let conn = nf.ct.get(id).filter(|c| !c.is_confirmed())?;
    (!nf.forced.is_empty()).then_some((id, conn.tuple(crate::nf::ct::Dir::Original)))
}

fn why_dropped(why: CtDrop) -> &'static str {
    match why {
        CtDrop::TableFull => "nf_conntrack: table full, dropping packet",
        CtDrop::Clash => "another connection took its tuple first (insert_failed)",
        CtDrop::PartialFtp => "half an FTP announcement: it shall come again whole",
        CtDrop::Expectation => "the connection that a helper announced cannot be expected",
        CtDrop::Dying => "its connection was deleted meanwhile (insert_failed)",
    }
}

/// What conntrack made of a packet.
fn tell_tracked(nf: &Netfilter, f: &Frame, cx: &mut Cx<'_>) {
    let Some(steps) = &mut cx.steps else { return };
    let (state, text) = match f.ct {
        CtRef::Conn { id, info } => {
            let state = match info {
                CtInfo::New => "NEW",
                CtInfo::Established | CtInfo::EstablishedReply => "ESTABLISHED",
                CtInfo::Related | CtInfo::RelatedReply => "RELATED",
            };
            (state, nf.ct.get(id).map(connection).unwrap_or_default())
        }
        CtRef::Untracked => ("UNTRACKED", String::new()),
        CtRef::None | CtRef::Orphan | CtRef::Template { .. } => ("INVALID", String::new()),
    };
    steps.push(NfStep::Conntrack { text, state });
}

/// A connection in one line: its original tuple, and its replies' where they are not just the reverse.
fn connection(c: &Conn) -> String {
    let [orig, reply] = c.tuples();
    let mapped = orig.invert() != Some(reply);
    let reply = if mapped {
        format!(", replies {}", tuple(&reply))
    } else {
        String::new()
    };
    format!("{} {}{reply}", proto_name(orig.proto), tuple(&orig))
}

fn tuple(t: &CtTuple) -> String {
    if t.is_icmp() {
        return format!("{} > {} id {}", t.src, t.dst, t.sport);
    }
    match (t.sport, t.dport) {
        (0, 0) => format!("{} > {}", t.src, t.dst),
        (s, d) => format!(
            "{} > {}",
            SocketAddr::new(t.src, s),
            SocketAddr::new(t.dst, d)
        ),
    }
}
