//! Statements: what a rule does.
//!
//! As nft_counter.c, nft_log.c, nft_reject.c, nft_ct.c, nft_meta.c, nft_dynset.c, nft_objref.c, nft_tproxy.c,
//! nft_dup_ipv4.c, nft_queue.c. Invariant: a statement that fails ends its rule, it never drops by itself
//! (but NAT, which does).

use super::super::expr::{Direction, Expr, Log, Reject, SetVerb, Stateful};
use super::super::fields::{CtKey, MetaKey};
use super::super::model::{ObjectBody, ObjectKind};
use super::super::types::Value;
use super::super::{Element, Part};
use super::mangle::Sum;
use super::program::{PExpr, PSet, PSetOp, PStmt};
use super::run::{After, Stop, Walk, key_of, verdict_of};
use super::state::{Seen, Slot, ask};
use super::steady;
use crate::nf::Family;
use crate::nf::ct::Template;
use crate::nf::ct::conn::Zones;
use crate::nf::ct::{CtStatus, EventBits};
use crate::nf::eval::conn::helper;
use crate::nf::eval::{Effect, Verdict};
use crate::nf::record::CountAt;
use crate::nf::target::{FullMark, RejectWith, Tproxy};
use crate::nf::value::MarkMask;
use crate::wire::{CtRef, ETH_P_IP, ETH_P_IPV6, Frame, PacketType, proto};
use std::net::IpAddr;
use std::sync::Arc;

/// How often a set is swept that does not say it, in milliseconds (`nft_set_gc_interval`: HZ).
const GC: u64 = 1000;

/// What a failed expression does to its rule.
fn stopped(s: Stop) -> After {
    match s {
        Stop::Break => After::Break,
        Stop::Unknown => After::Unknown,
    }
}

impl Walk<'_, '_, '_> {
    /// Runs one statement.
    pub(super) fn stmt(&mut self, s: &PStmt, f: &mut Frame) -> After {
        match self.run_stmt(s, f) {
            Ok(after) => after,
            Err(stop) => stopped(stop),
        }
    }

    fn run_stmt(&mut self, s: &PStmt, f: &mut Frame) -> Result<After, Stop> {
        if self.env.nf.record.is_some() && !steady::statement(s) {
            self.env.varies();
        }
        let holds = |yes: bool| if yes { After::Next } else { After::Break };
        Ok(match s {
            PStmt::Match {
                left,
                types,
                op,
                right,
            } => holds(self.compare((left, types), *op, right, f)?),
            PStmt::Verdict(v) => After::Go(v.clone()),
            PStmt::Vmap(key, set) => {
                let (e, _) = self.look_up(key, set, f)?;
                match verdict_of(&e).ok_or(Stop::Break)? {
                    super::super::expr::Verdict::Continue => After::Next,
                    verdict => After::Go(verdict),
                }
            }
            PStmt::State(slot, what) => holds(self.state(*slot, what, f)),
            PStmt::Object(kind, name) => self.object(*kind, name, f)?,
            PStmt::Log(l) => self.log(l),
            PStmt::Reject(r) => self.reject(*r, f)?,
            PStmt::Nat(n) => self.nat(n, f)?,
            PStmt::Set(to, value) => {
                let value = self.value(value, f)?;
                self.set(to, &value, f)?
            }
            PStmt::Notrack => {
                // Of what answers an untracked packet too, which iptables leaves (`nft_notrack_eval`).
                if matches!(f.ct, CtRef::None | CtRef::Orphan) {
                    f.ct = CtRef::Untracked;
                }
                After::Next
            }
            PStmt::Tproxy(family, addr, port) => self.tproxy((*family, addr, port), f)?,
            PStmt::Queue(number, bypass) => After::Done(self.env.queue(*number, *bypass, f)),
            PStmt::Fwd(dev) => self.redirect(dev, true, f)?,
            PStmt::Dup(dev, None) if self.link.is_some() => self.redirect(dev, false, f)?,
            PStmt::Dup(to, dev) => self.dup(to, dev.as_ref(), f)?,
            PStmt::SetOp(op) => self.set_op(op, f)?,
            PStmt::ResetTcpOption(kind) => self.reset_option(*kind, f),
            PStmt::Pass => After::Next,
            PStmt::Unknown(..) => After::Unknown,
        })
    }

    fn state(&mut self, slot: u32, what: &Stateful, f: &Frame) -> bool {
        let conn = self.own_tuple(f);
        let seen = Seen {
            now: self.env.cx.now,
            len: self.env.pkt.len as u64,
            ct: &self.env.nf.ct,
            conn,
        };
        let state = self.nft.slots.get_mut(slot as usize);
        let holds = state.is_some_and(|state| ask(what, state, &seen));
        self.noted(what, CountAt::Native(slot));
        holds
    }

    /// `nft_objref_eval`, `nft_objref_map_eval`
    fn object(&mut self, kind: ObjectKind, name: &PExpr, f: &mut Frame) -> Result<After, Stop> {
        let Value::Text(name, _) = self.value(name, f)? else {
            return Err(Stop::Unknown);
        };
        let (t, conn) = (self.t, self.own_tuple(f));
        let seen = Seen {
            now: self.env.cx.now,
            len: self.env.pkt.len as u64,
            ct: &self.env.nf.ct,
            conn,
        };
        let key = (kind, Arc::<str>::from(&*name));
        let table = self.nft.set.tables.get_index_mut(t).ok_or(Stop::Unknown)?.1;
        let (at, _, object) = table.objects.get_full_mut(&key).ok_or(Stop::Unknown)?;
        let holds = match &mut object.body {
            ObjectBody::Counter(c) => {
                super::state::count(c, seen.len);
                self.counted(CountAt::Object(t as u16, at as u16));
                true
            }
            ObjectBody::Quota(q) => {
                let mut used = q.used;
                let holds = super::state::quota(q, &mut used, seen.len);
                q.used = used;
                holds
            }
            ObjectBody::Limit(l) => {
                let slot = self.nft.objects.entry((t as u16, at as u16));
                match slot.or_insert(Slot::Limit(None, 0)) {
                    Slot::Limit(tokens, last) => super::state::limit(l, tokens, last, &seen),
                    _ => false,
                }
            }
            ObjectBody::CtHelper {
                helper, protocol, ..
            } => {
                let (name, protocol) = (helper.clone(), *protocol);
                return Ok(self.ct_helper(&name, protocol, f));
            }
            // Marks of the security modules and timeouts change nothing that is followed here.
            ObjectBody::Secmark(_) => true,
            ObjectBody::CtTimeout { .. }
            | ObjectBody::CtExpect { .. }
            | ObjectBody::Synproxy(_) => {
                return Err(Stop::Unknown);
            }
        };
        Ok(if holds { After::Next } else { After::Break })
    }

    /// `nft_ct_helper_obj_eval`: a connection that is new gets it if the protocol is right.
    fn ct_helper(&mut self, name: &str, protocol: u8, f: &Frame) -> After {
        let fits = self.env.pkt.proto == Ok(protocol);
        if let Some(c) = self.env.conn_mut(f)
            && fits
            && !c.is_confirmed()
            && c.helper().is_none()
        {
            c.set_helper(helper(name));
            if c.helper().is_some() {
                c.status.set(CtStatus::HELPER);
            }
        }
        After::Next
    }

    fn log(&mut self, l: &Log) -> After {
        let rule = self.env.rule;
        let prefix = Arc::from(l.prefix.as_deref().unwrap_or(""));
        const LEVELS: [&str; 8] = [
            "emerg", "alert", "crit", "err", "warn", "notice", "info", "debug",
        ];
        let level = l.level.as_deref().unwrap_or("warn");
        self.env.fx.push(match l.group {
            Some(group) => Effect::Nflog {
                rule,
                prefix,
                group,
            },
            None => Effect::Log {
                rule,
                prefix,
                level: LEVELS.iter().position(|w| *w == level).unwrap_or(4) as u8,
            },
        });
        After::Next
    }

    /// `nft_reject_ipv4_eval`, `nft_reject_ipv6_eval`, `nft_reject_inet_eval`
    fn reject(&self, r: Reject, f: &Frame) -> Result<After, Stop> {
        // `nft_reject_bridge_eval`: nothing but IP is answered, all is dropped.
        let ip = matches!(f.ethertype(), ETH_P_IP | ETH_P_IPV6);
        if self.link.is_some() && (!ip || f.dst_mac().is_multicast()) {
            return Ok(After::Done(Verdict::Drop(self.env.rule)));
        }
        let v4 = self.env.pkt.family == Family::V4;
        let with = match (r, v4) {
            (Reject::TcpReset, _) if self.env.pkt.proto != Ok(proto::TCP) => {
                return Err(Stop::Break);
            }
            (Reject::TcpReset, _) => RejectWith::TcpReset,
            (Reject::Default | Reject::Icmpx(1) | Reject::Icmp(3), true) => {
                RejectWith::PortUnreachable
            }
            (Reject::Icmpx(0) | Reject::Icmp(0), true) => RejectWith::NetUnreachable,
            (Reject::Icmpx(2) | Reject::Icmp(1), true) => RejectWith::HostUnreachable,
            (Reject::Icmpx(3) | Reject::Icmp(13), true) => RejectWith::AdminProhibited,
            (Reject::Icmp(2), true) => RejectWith::ProtoUnreachable,
            (Reject::Icmp(9), true) => RejectWith::NetProhibited,
            (Reject::Icmp(10), true) => RejectWith::HostProhibited,
            (Reject::Default | Reject::Icmpx(1) | Reject::Icmpv6(4), false) => {
                RejectWith::V6PortUnreachable
            }
            (Reject::Icmpx(0) | Reject::Icmpv6(0), false) => RejectWith::V6NoRoute,
            (Reject::Icmpx(2) | Reject::Icmpv6(3), false) => RejectWith::V6AddrUnreachable,
            (Reject::Icmpx(3) | Reject::Icmpv6(1), false) => RejectWith::V6AdmProhibited,
            (Reject::Icmpv6(5), false) => RejectWith::V6PolicyFail,
            (Reject::Icmpv6(6), false) => RejectWith::V6RejectRoute,
            (Reject::Icmp(_), false) | (Reject::Icmpv6(_), true) => return Err(Stop::Break),
            _ => return Err(Stop::Unknown),
        };
        Ok(After::Done(Verdict::Reject(with, self.env.rule)))
    }

    /// `meta set`, `ct set`, payload and option writes.
    fn set(&mut self, to: &Expr, value: &Value, f: &mut Frame) -> Result<After, Stop> {
        let n = value.num();
        let low = n.unwrap_or(0) as u32;
        match to {
            Expr::Meta(MetaKey::Mark) => f.mark = low,
            Expr::Meta(MetaKey::Priority) => f.priority = low,
            Expr::Meta(MetaKey::PktType) => f.pkt_type = packet_type(low, f.pkt_type),
            Expr::Meta(MetaKey::NfTrace | MetaKey::SecMark) => {}
            Expr::Ct(CtKey::Zone, dir) => self.zone(low as u16, *dir, f),
            Expr::Ct(key, _) => self.set_ct(*key, n.unwrap_or(0), f)?,
            Expr::Payload(field) | Expr::Unasked(field) => {
                self.load(to, f)?;
                let place = (field.base, field.offset, field.bits);
                let sum = Sum::of(field.proto);
                self.set_payload(place, n.ok_or(Stop::Break)?, sum, f)?;
            }
            Expr::Raw(base, from, bits) => {
                let place = (*base, *from, *bits);
                self.set_payload(place, n.ok_or(Stop::Break)?, Sum::None, f)?;
            }
            Expr::TcpOption(x) => self.set_option(x, low, f)?,
            _ => return Err(Stop::Unknown),
        }
        Ok(After::Next)
    }

    /// `nft_ct_set_eval`
    fn set_ct(&mut self, key: CtKey, n: u128, f: &Frame) -> Result<(), Stop> {
        if matches!(f.ct, CtRef::Template { .. }) {
            return Ok(());
        }
        let Some(c) = self.env.conn_mut(f) else {
            return Ok(());
        };
        match key {
            CtKey::Mark if c.mark != n as u32 => {
                c.mark = n as u32;
                c.events.set(EventBits::MARK);
                self.env.varies();
            }
            CtKey::Label if c.labels() & n != n => {
                c.add_labels(n);
                c.events.set(EventBits::LABEL);
                self.env.varies();
            }
            CtKey::Event if !c.is_confirmed() => c.set_event_mask(Some(n as u32)),
            CtKey::Mark | CtKey::Label | CtKey::Event | CtKey::SecMark => {}
            _ => return Err(Stop::Unknown),
        }
        Ok(())
    }

    /// `nft_ct_set_zone_eval`: a template, on packets that conntrack has not seen.
    fn zone(&mut self, zone: u16, dir: Option<Direction>, f: &mut Frame) {
        // What is untracked has no connection (`nf_ct_get`), and is tracked after all.
        if matches!(f.ct, CtRef::Template { .. } | CtRef::Conn { .. }) {
            return;
        }
        let of = |d: Direction| if dir.is_none_or(|x| x == d) { zone } else { 0 };
        let template = Template {
            zones: Zones {
                orig: of(Direction::Original),
                reply: of(Direction::Reply),
            },
            zone_from_mark: None,
            helper: None,
            events: None,
        };
        let id = {
            let family = self.env.pkt.family;
            self.env.nf.ct.new_template(family, template)
        };
        f.ct = CtRef::template(id);
    }

    /// `nft_tproxy_eval`: without a socket the rule ends; with one it goes on.
    fn tproxy(
        &mut self,
        (family, addr, port): (
            Option<super::super::expr::IpFamily>,
            &Option<PExpr>,
            &Option<PExpr>,
        ),
        f: &mut Frame,
    ) -> Result<After, Stop> {
        use super::super::expr::IpFamily;
        let v4 = self.env.pkt.family == Family::V4;
        if family.is_some_and(|x| (x == IpFamily::Ip) != v4) {
            return Err(Stop::Break);
        }
        let ip = match addr {
            Some(e) => Some(self.number(e, f)?),
            None => None,
        };
        let port = match port {
            Some(e) => Some(self.number(e, f)? as u16),
            None => None,
        };
        let target = Tproxy {
            port,
            ip: ip.map(|n| address(n, v4)),
            mark: Some(FullMark(MarkMask { value: 0, mask: 0 })),
        };
        Ok(match self.env.tproxy(f, &target) {
            Verdict::Accept => After::Next,
            _ => After::Break,
        })
    }

    /// `nft_dup_ipv4_eval`, `nft_dup_ipv6_eval`
    fn dup(&mut self, to: &PExpr, dev: Option<&PExpr>, f: &Frame) -> Result<After, Stop> {
        let v4 = self.env.pkt.family == Family::V4;
        let gateway = address(self.number(to, f)?, v4);
        let oif = match dev {
            None => None,
            Some(e) => match self.value(e, f)? {
                Value::Text(name, _) => match self.env.ns.dev_by_name(&name) {
                    Some(d) => Some(d.id),
                    None => return Ok(After::Next),
                },
                Value::Num(n) => Some(crate::base::DevId(n as u32)),
            },
        };
        self.env.fx.push(Effect::Tee {
            rule: self.env.rule,
            gateway,
            oif,
            copy: Box::new(f.clone()),
        });
        Ok(After::Pause)
    }

    /// `nft_fwd_netdev_eval`, `nft_dup_netdev_eval`: as it is, out of another device.
    fn redirect(&mut self, dev: &PExpr, whole: bool, f: &Frame) -> Result<After, Stop> {
        let dev = match self.value(dev, f)? {
            Value::Text(name, _) => self.env.ns.dev_by_name(&name).map(|d| d.id),
            Value::Num(n) => Some(crate::base::DevId(n as u32)),
        };
        let Some(link) = &mut self.link else {
            return Err(Stop::Unknown);
        };
        link.sent.extend(dev.map(|d| (d, f.clone())));
        link.stolen |= whole;
        Ok(match whole {
            true => After::Done(Verdict::Accept),
            // The copy goes its way, by other rules too, before the next statement (`nf_do_netdev_egress`).
            false => After::Pause,
        })
    }

    /// `nft_dynset_eval`
    fn set_op(&mut self, op: &PSetOp, f: &Frame) -> Result<After, Stop> {
        let parts = self.parts(&op.key, f)?;
        let data = match &op.data {
            Some(e) => Some(self.parts(e, f)?),
            None => None,
        };
        let now = super::millis(self.env.cx.now);
        let (Some(n), t) = (op.set, self.t) else {
            return Err(Stop::Unknown);
        };
        let tables = &mut self.nft.set.tables;
        let table = tables.get_index_mut(t).ok_or(Stop::Unknown)?.1;
        let set = table.sets.get_index_mut(n.into()).ok_or(Stop::Unknown)?.1;
        let types: Vec<_> = set.elements.types().to_vec();
        let key = key_of(&parts, &types);
        let place = (t as u16, n, key.clone());
        let fresh = Element::new(parts);
        let graves = self.nft.graves.entry((t as u16, n)).or_default();
        let sweeps = now.saturating_sub(self.nft.since) / set.gc_interval.unwrap_or(GC).max(1);
        let dead = |e: &Element| e.expires.is_some_and(|end| end <= now);
        if graves.sweep(sweeps) {
            set.elements.retain(|e| !dead(e));
        }
        if op.verb == SetVerb::Delete || set.elements.find(&key).is_some_and(dead) {
            let gone = set.elements.remove(&fresh).is_some();
            graves.dead += usize::from(gone);
            self.env.nf.sets_changed += u64::from(gone);
            self.nft.elements.remove(&place);
        }
        if op.verb == SetVerb::Delete {
            return Ok(After::Next);
        }
        let life = op.timeout.or(set.timeout);
        if let Some(e) = set.elements.get_mut(&key) {
            if op.verb == SetVerb::Update && e.expires.is_some() {
                // Without a timeout of the rule's or the set's own that is now.
                let end = Some(now.saturating_add(life.unwrap_or(0)));
                // Whoever counts on the former end is asked anew then; not so on an earlier one.
                self.env.nf.sets_changed += u64::from(end < e.expires);
                e.expires = end;
            }
        } else {
            // The dead take room until they are swept.
            let size = set.size.unwrap_or(65_535) as usize;
            if set.elements.len() + graves.dead >= size {
                return Err(Stop::Break);
            }
            self.nft.elements.remove(&place);
            let state = if op.state.is_empty() {
                &set.state
            } else {
                &op.state
            };
            let element = Element {
                // One that is the set's own is not told apart (`nft_set_elem_init`).
                timeout: op.timeout.filter(|t| Some(*t) != set.timeout),
                expires: life.map(|ms| now.saturating_add(ms)),
                state: state.clone(),
                data: data.map(|d| super::super::Data::Values(d.into_iter().collect())),
                ..fresh
            };
            let _ = set.elements.insert(element);
            self.env.nf.sets_changed += 1;
        }
        Ok(match self.element_states(&PSet::Named(n), &key, f) {
            true => After::Next,
            false => After::Break,
        })
    }
}

/// A number as an address of that family.
pub(super) fn address(n: u128, v4: bool) -> IpAddr {
    match v4 {
        true => IpAddr::V4((n as u32).into()),
        false => IpAddr::V6(n.into()),
    }
}

/// `nft_meta_set_eval`: only between host, broadcast, multicast and other host.
fn packet_type(n: u32, old: PacketType) -> PacketType {
    match n {
        0 => PacketType::Host,
        1 => PacketType::Broadcast,
        2 => PacketType::Multicast,
        3 => PacketType::OtherHost,
        _ => old,
    }
}

/// One value as a range.
pub(super) fn ends(p: &Part, bits: u32) -> Option<(u128, u128)> {
    Some(match p {
        Part::Value(v) => (v.num()?, v.num()?),
        Part::Range(a, b) => (a.num()?, b.num()?),
        Part::Prefix(v, len) => {
            let host = bits.saturating_sub(u32::from(*len));
            let mask = 1u128.checked_shl(host).map_or(u128::MAX, |m| m - 1);
            (v.num()? & !mask, v.num()? | mask)
        }
        Part::Any => return None,
    })
}
