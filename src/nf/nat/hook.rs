//! NAT at a hook: new connections are shown to the rules, packets of mapped ones are changed.
//!
//! Follows `nf_nat_inet_fn` and the families' functions around it in nf_nat_proto.c. Rerouting after
//! OUTPUT is the walker's. Invariant: after this a connection's mapping for the hook's side is decided, if
//! only to leave it as it is.

use super::icmp::{self, About, concerned};
use super::setup::{Nat, NoNat, follow_master, initialized};
use super::{Manip, inverse, manip_packet};
use crate::nf::ct::Dir;
use crate::nf::eval::{At, Cx, NfStep, Verdict};
use crate::nf::hook::NatChain;
use crate::nf::{Hook, Netfilter};
use crate::wire::{ConnId, CtInfo, CtRef, Frame, IpHeader, Tuple, proto};

/// Shows a packet to one nat chain.
pub type Ask<'a> = dyn FnMut(&mut Netfilter, &mut Frame, &mut Cx<'_>, NatChain) -> Verdict + 'a;

/// NAT at PREROUTING, INPUT, OUTPUT or POSTROUTING; `ask` is how the rules are asked. `Err`: NAT itself drops
/// the packet, no rule.
pub fn hook(
    nf: &mut Netfilter,
    f: &mut Frame,
    at: &At,
    cx: &mut Cx<'_>,
    ask: &mut Ask<'_>,
) -> Result<Verdict, NoNat> {
    let CtRef::Conn { id, info } = f.ct else {
        return Ok(Verdict::Accept);
    };
    let manip = Manip::at(at.hook);
    let dir = if info.is_reply() {
        Dir::Reply
    } else {
        Dir::Original
    };
    let related = matches!(info, CtInfo::Related | CtInfo::RelatedReply);
    if related && is_icmp(f) {
        return translate_error(nf, f, (id, dir), manip, cx).map(|()| Verdict::Accept);
    }
    if info == CtInfo::Related {
        let mut nat = Nat {
            ct: &mut nf.ct,
            forced: &nf.forced,
            rule: None,
        };
        follow_master(&mut nat, id, cx)?;
    }
    let Some(conn) = nf.ct.get(id) else {
        return Ok(Verdict::Accept);
    };
    if (related || info == CtInfo::New) && !initialized(conn, manip) {
        let verdict = decide(nf, f, at, cx, ask)?;
        if verdict != Verdict::Accept {
            return Ok(verdict);
        }
    } else if at.hook == Hook::Postrouting
        && dir == Dir::Original
        && conn.masq_dev().is_some_and(|d| Some(d) != at.output)
    {
        nf.ct.kill(id);
        return Err(NoNat::OifChanged);
    }
    change(nf, f, (id, dir), manip, cx).map(|()| Verdict::Accept)
}

fn is_icmp(f: &Frame) -> bool {
    let h = IpHeader::parse_lax(f.l3());
    h.is_ok_and(|h| {
        matches!(
            (h.is_v4(), h.proto),
            (true, proto::ICMP) | (false, proto::ICMPV6)
        )
    })
}

/// Asks the rules for a mapping, both back ends' until one sets it up; a connection that none maps is bound
/// to itself.
fn decide(
    nf: &mut Netfilter,
    f: &mut Frame,
    at: &At,
    cx: &mut Cx<'_>,
    ask: &mut Ask<'_>,
) -> Result<Verdict, NoNat> {
    let manip = Manip::at(at.hook);
    let CtRef::Conn { id, .. } = f.ct else {
        return Ok(Verdict::Accept);
    };
    let mut next = 0;
    while let Some(chain) = nf.nat_chains(at.family, at.hook).get(next).copied() {
        next += 1;
        let verdict = ask(nf, f, cx, chain);
        if verdict != Verdict::Accept {
            return Ok(verdict);
        }
        if nf.ct.get(id).is_none_or(|c| initialized(c, manip)) {
            return Ok(Verdict::Accept);
        }
    }
    let mut nat = Nat {
        ct: &mut nf.ct,
        forced: &nf.forced,
        rule: None,
    };
    nat.null_binding(id, manip, cx)?;
    Ok(Verdict::Accept)
}

/// Changes a packet as its connection is mapped (kernel: `nf_nat_packet`).
fn change(
    nf: &Netfilter,
    f: &mut Frame,
    (id, dir): (ConnId, Dir),
    manip: Manip,
    cx: &mut Cx<'_>,
) -> Result<(), NoNat> {
    let Some(conn) = nf.ct.get(id).filter(|c| concerned(c.status, dir, manip)) else {
        return Ok(());
    };
    let target = inverse(&conn.tuple(dir.other()));
    told(f, cx, |p| manip_packet(p, &target, manip)).ok_or(NoNat::Header)
}

/// Translates an ICMP error about a connection.
fn translate_error(
    nf: &Netfilter,
    f: &mut Frame,
    (id, dir): (ConnId, Dir),
    manip: Manip,
    cx: &mut Cx<'_>,
) -> Result<(), NoNat> {
    let Some(conn) = nf.ct.get(id) else {
        return Ok(());
    };
    let about = About {
        tuples: &conn.tuples(),
        status: conn.status,
        dir,
    };
    told(f, cx, |p| icmp::translate(p, &about, manip)).ok_or(NoNat::IcmpError)
}

/// Runs `change` on the packet without link padding, and tells what came of it.
fn told(
    f: &mut Frame,
    cx: &mut Cx<'_>,
    change: impl FnOnce(&mut [u8]) -> Option<()>,
) -> Option<()> {
    let before = IpHeader::parse_lax(f.l3()).ok()?;
    let from = cx.steps.is_some().then(|| Tuple::of(&before, f.l3()));
    let len = before.total_len.min(f.l3().len());
    change(f.l3_mut().get_mut(..len)?)?;
    if let (Some(from), Some(steps)) = (from, &mut cx.steps) {
        let to = IpHeader::parse_lax(f.l3()).map_or(from, |h| Tuple::of(&h, f.l3()));
        if from != to {
            steps.push(NfStep::NatPacket {
                from: from.to_string(),
                to: to.to_string(),
            });
        }
    }
    Some(())
}
