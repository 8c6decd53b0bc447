//! What of a native rule gives every packet of a flow the same answer, and what it counts.
//!
//! For whoever compiles a walk. The flow is its addresses, protocol, ports, TCP flags, TOS, devices and MAC
//! addresses, its connection's status and mark, and the state of the configuration. Invariant: what is not
//! known to depend on nothing else makes its rule one that varies.

use super::super::elements::Part;
use super::super::expr::{Expr, Op, RtKey, Stateful};
use super::super::fields::{self, Base, CtKey, MetaKey};
use super::super::model::ObjectKind;
use super::super::types::Value;
use super::Nft;
use super::load::is_beyond;
use super::program::{PExpr, PStmt};
use super::run::Walk;
use super::state::Slot;
use crate::base::Instant;
use crate::nf::ct::CtStatus;
use crate::nf::record::CountAt;
use crate::nf::{Counters, Family};
use crate::wire::{ETH_P_IP, ETH_P_IPV6, Frame, proto};

/// Whether a statement does the same for every packet of a flow, its expressions aside. States and objects
/// speak for themselves, and so does what writes to a connection.
pub(super) fn statement(s: &PStmt) -> bool {
    match s {
        PStmt::Match { .. } | PStmt::Verdict(_) | PStmt::Vmap(..) => true,
        PStmt::State(..) => true,
        PStmt::Object(kind, _) => matches!(
            kind,
            ObjectKind::Counter | ObjectKind::Secmark | ObjectKind::CtHelper
        ),
        // Ends the walk, which is then nothing to be compiled.
        PStmt::Reject(_) => true,
        PStmt::Nat(_) | PStmt::Notrack | PStmt::Pass => true,
        PStmt::Set(to, _) => matches!(to, Expr::Meta(_) | Expr::Ct(..)),
        PStmt::Log(_) | PStmt::Tproxy(..) | PStmt::Queue(..) => false,
        PStmt::Dup(..) | PStmt::Fwd(_) | PStmt::SetOp(_) => false,
        PStmt::ResetTcpOption(_) | PStmt::Unknown(..) => false,
    }
}

/// TCP flags of which only those are asked that a segment's key tells: not PSH, ECE, CWR.
pub(super) fn judged_flags<'e>(op: Op, a: &'e PExpr, b: &PExpr) -> Option<&'e Expr> {
    const UNTOLD: u128 = 0xc8;
    let (PExpr::Load(e), PExpr::Const(Part::Value(Value::Num(mask)))) = (a, b) else {
        return None;
    };
    let flags = matches!(e, Expr::Payload(field) if (field.proto, field.name) == ("tcp", "flags"));
    (op == Op::And && flags && mask & UNTOLD == 0).then_some(e)
}

/// Whether bits of a header are in the key or follow from it, in a packet of `l4` behind an IP header without
/// options.
fn header(base: Base, (from, bits): (u16, u16), family: Option<Family>, l4: Option<u8>) -> bool {
    let end = u32::from(from) + u32::from(bits);
    let within = |a: u16, b: u32| from >= a && end <= b;
    let ported = matches!(l4, Some(proto::TCP | proto::UDP));
    match (base, family) {
        (Base::Link, _) => within(0, 112),
        // Version and header length, TOS; protocol; addresses.
        (Base::Network, Some(Family::V4)) => within(0, 16) || within(72, 80) || within(96, 160),
        // Version and traffic class; next header; addresses.
        (Base::Network, Some(Family::V6)) => within(0, 12) || within(48, 56) || within(64, 320),
        (Base::Transport, Some(_)) => ported && within(0, 32),
        _ => false,
    }
}

impl Walk<'_, '_, '_> {
    /// Whether an expression gives the same for every packet of the flow; its parts speak for themselves.
    pub(super) fn is_steady(&self, e: &PExpr, f: &Frame) -> bool {
        match e {
            PExpr::Load(e) => self.load_is_steady(e, f),
            PExpr::Const(_) | PExpr::Concat(_) | PExpr::Binop(..) => true,
            PExpr::Map(..) | PExpr::Jhash(..) => true,
            PExpr::Inc(..) | PExpr::Random(..) | PExpr::Unknown => false,
        }
    }

    fn load_is_steady(&self, e: &Expr, f: &Frame) -> bool {
        let p = &self.env.pkt;
        let family = match (self.link.is_some(), f.ethertype()) {
            (false, _) => Some(p.family),
            (true, ETH_P_IP) => Some(Family::V4),
            (true, ETH_P_IPV6) => Some(Family::V6),
            _ => None,
        };
        let l4 = p.proto.ok();
        // Another protocol's field ends the rule for every packet of the flow.
        let of_other = |proto: &str| fields::l4proto(proto).is_some_and(|n| l4 != Some(n));
        match e {
            _ if self.link.is_some() && is_beyond(e, f) => false,
            Expr::Payload(field) if of_other(field.proto) => true,
            Expr::Payload(field) => header(field.base, (field.offset, field.bits), family, l4),
            Expr::Raw(base, from, bits) => header(*base, (*from, *bits), family, l4),
            Expr::Meta(key) => match key {
                MetaKey::Length | MetaKey::Random => false,
                MetaKey::Time | MetaKey::Day | MetaKey::Hour => false,
                MetaKey::SkUid | MetaKey::SkGid => !f.local,
                _ => true,
            },
            Expr::Ct(key, _) => match key {
                CtKey::Bytes | CtKey::Packets | CtKey::AvgPkt => false,
                CtKey::Expiration | CtKey::Label | CtKey::Id => false,
                CtKey::Status => self.env.conn(f).is_none_or(|(c, _)| {
                    // A packet that is carried may assure it.
                    c.status.any(CtStatus::ASSURED) || !c.status.any(CtStatus::SEEN_REPLY)
                }),
                _ => true,
            },
            Expr::Fib(_) => true,
            Expr::Rt(key) => *key != RtKey::Mtu,
            Expr::TcpOption(_) | Expr::TcpOptionExists(_) | Expr::TcpOptionRaw(..) => {
                l4 != Some(proto::TCP)
            }
            // A packet with a key has no options and no extension headers.
            Expr::IpOption(_) | Expr::IpOptionExists(..) => {
                family != Some(Family::V4) || f.l3().first() == Some(&0x45)
            }
            Expr::Exthdr(_) | Expr::ExthdrExists(..) => {
                let next = f.l3().get(6);
                family != Some(Family::V6) || matches!(next, Some(&(proto::TCP | proto::UDP)))
            }
            Expr::Symhash { .. } => matches!(l4, Some(proto::TCP | proto::UDP)),
            _ => false,
        }
    }

    /// Notes what a state did with the packet.
    pub(super) fn noted(&mut self, what: &Stateful, at: CountAt) {
        match what {
            Stateful::Counter(_) | Stateful::Last(_) => self.counted(at),
            Stateful::Limit(_) | Stateful::Quota(_) | Stateful::CtCount { .. } => self.env.varies(),
        }
    }

    /// Notes that something counted the packet.
    pub(super) fn counted(&mut self, at: CountAt) {
        let len = self.env.pkt.len;
        if let Some(r) = &mut self.env.nf.record {
            r.counters.push((at, len));
        }
    }
}

impl Nft {
    /// Adds packets that a native counter would have counted, had they been walked; the last came at `last`.
    pub(in crate::nf) fn count(&mut self, at: &CountAt, n: Counters, last: Instant) {
        let add = |slot: Option<&mut Slot>| match slot {
            Some(Slot::Counter(c)) => add(c, n),
            Some(Slot::Last(at)) => *at = Some(at.map_or(last, |t| t.max(last))),
            _ => {}
        };
        match *at {
            CountAt::Table(_) => {}
            CountAt::Native(slot) => add(self.slots.get_mut(slot as usize)),
            CountAt::Object(table, object) => {
                let table = self.set.tables.get_index_mut(table.into());
                let object = table.and_then(|t| t.1.objects.get_index_mut(object.into()));
                if let Some((_, o)) = object
                    && let super::super::model::ObjectBody::Counter(c) = &mut o.body
                {
                    self::add(c, n);
                }
            }
            CountAt::Element(number, which) => {
                let slots = self.noted.get_index(number as usize);
                let slots = slots.and_then(|place| self.elements.get_mut(place));
                add(slots.and_then(|s| s.get_mut(usize::from(which))));
            }
        }
    }
}

fn add(c: &mut Counters, n: Counters) {
    c.packets = c.packets.saturating_add(n.packets);
    c.bytes = c.bytes.saturating_add(n.bytes);
}
