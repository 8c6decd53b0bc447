//! A new connection enters the table, or clashes with one that did so first (kernel:
//! `__nf_conntrack_confirm`, `nf_ct_resolve_clash`).
//!
//! Invariant: both tuples of a connection enter the index together; a clashing one enters with its
//! reply tuple only and dies within a second.

use super::conn::{Conn, CtStatus};
use super::event::{EventBits, EventKind};
use super::tuple::Dir;
use super::tuples::Key;
use super::{Conntrack, CtDrop};
use crate::net::NetNs;
use crate::nf::eval::{At, Cx};
use crate::wire::{ConnId, CtInfo, CtRef, Frame, proto};
use core::time::Duration;

/// What became of a packet at the confirm hook.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Confirmed {
    /// It goes on.
    Accept,
    /// It is dropped.
    Drop(CtDrop),
}

/// Life of an entry that lets only one packet's answer through (kernel: `nf_ct_resolve_clash_harder`).
const CLASH_LIFE: Duration = Duration::from_secs(1);

impl Conntrack {
    /// Puts the packet's connection into the table if it is new, and tells what happened to it.
    pub fn confirm(&mut self, _ns: &NetNs, f: &mut Frame, _at: &At, cx: &mut Cx<'_>) -> Confirmed {
        self.now = cx.now;
        let CtRef::Conn { id, info } = f.ct else {
            return Confirmed::Accept;
        };
        let Some(conn) = self.get(id) else {
            return Confirmed::Accept;
        };
        if !conn.is_confirmed() && !info.is_reply() {
            match self.enter(id, info) {
                Ok(None) => {}
                Ok(Some(other)) => f.ct = other,
                Err(why) => return Confirmed::Drop(why),
            }
        }
        if let CtRef::Conn { id, .. } = f.ct {
            self.tell(id);
        }
        Confirmed::Accept
    }

    /// Kernel: `__nf_conntrack_confirm`. The other connection if the packet's own lost a race.
    fn enter(&mut self, id: ConnId, info: CtInfo) -> Result<Option<CtRef>, CtDrop> {
        let Some(conn) = self.get(id) else {
            return Ok(None);
        };
        let (keys, zones, dying) = (conn.tuples().map(Key::new), conn.zones(), conn.is_dying());
        let event = if conn.master().is_some() {
            EventBits::RELATED
        } else {
            EventBits::NEW
        };
        if dying {
            self.stats.insert_failed += 1;
            return Err(CtDrop::Dying);
        }
        if let Some((winner, _)) = self.in_the_way(&keys, zones) {
            return self.clash(id, winner, info).map(Some);
        }
        let now = self.now;
        if let Some(conn) = self.get_mut(id) {
            conn.begin_life(now);
            conn.set_started(conn.started().map(|_| now));
            conn.status.set(CtStatus::CONFIRMED);
            conn.events.set(event);
            if conn.helper().is_some() {
                conn.events.set(EventBits::HELPER);
            }
        }
        self.index_both(id, &keys);
        Ok(None)
    }

    /// Kernel: `nf_ct_resolve_clash`.
    fn clash(&mut self, loser: ConnId, winner: ConnId, info: CtInfo) -> Result<CtRef, CtDrop> {
        let out = self.try_clash(loser, winner, info);
        match out {
            Some(_) => self.stats.clash_resolve += 1,
            None => {
                self.stats.drop += 1;
                self.stats.insert_failed += 1;
            }
        }
        out.ok_or(CtDrop::Clash)
    }

    fn try_clash(&mut self, loser: ConnId, winner: ConnId, info: CtInfo) -> Option<CtRef> {
        let (l, w) = (self.get(loser)?, self.get(winner)?);
        // Kernel: `allow_clash` of the protocol; those without a tracker have it too since 6.18.
        let t = l.tuple(Dir::Original);
        if matches!(t.proto, proto::TCP | proto::SCTP) || t.is_icmp() {
            return None;
        }
        // Kernel: `nf_ct_can_merge`.
        if same(w, l) || reverse(w, l) {
            return self.join(loser, winner, info);
        }
        self.clash_harder(loser, info)
    }

    /// The packet goes on with the connection that was first (kernel: `__nf_ct_resolve_clash`).
    fn join(&mut self, loser: ConnId, winner: ConnId, info: CtInfo) -> Option<CtRef> {
        let counted = self.get(loser)?.acct();
        let winner_conn = self.get_mut(winner)?;
        if let Some([orig, reply]) = counted {
            winner_conn.account(Dir::Original, orig);
            winner_conn.account(Dir::Reply, reply);
        }
        Some(CtRef::Conn { id: winner, info })
    }

    /// The loser was mapped elsewhere: it enters by its reply tuple alone, for one answer (kernel:
    /// `nf_ct_resolve_clash_harder`).
    fn clash_harder(&mut self, loser: ConnId, info: CtInfo) -> Option<CtRef> {
        let l = self.get(loser)?;
        let key = Key::new(l.tuple(Dir::Reply));
        if self.drops_clashes || self.lookup_key(&key, l.zones()).is_some() {
            return None;
        }
        let now = self.now;
        let conn = self.get_mut(loser)?;
        conn.set_timeout(CLASH_LIFE);
        conn.begin_life(now);
        let bits = CtStatus::FIXED_TIMEOUT | CtStatus::NAT_CLASH | CtStatus::CONFIRMED;
        conn.status.set(bits);
        self.index_one(loser, Dir::Reply, &key);
        Some(CtRef::Conn { id: loser, info })
    }

    /// Tells what gathered on a connection (kernel: `nf_ct_deliver_cached_events`).
    pub(super) fn tell(&mut self, id: ConnId) {
        let now = self.now;
        let listening = self.events.listening;
        let Some(conn) = self.table.get_mut(id) else {
            return;
        };
        let mut bits = core::mem::take(&mut conn.events);
        if !conn.is_confirmed() || conn.is_dying() {
            return;
        }
        if let Some(mask) = conn.event_mask() {
            bits.0 &= mask as u16;
        }
        if bits.0 == 0 || !listening {
            return;
        }
        let kind = if bits.any(EventBits::NEW | EventBits::RELATED) {
            EventKind::New
        } else {
            EventKind::Update
        };
        let conn = conn.clone();
        self.events.tell(kind, now, &conn);
    }
}

/// Kernel: `nf_ct_match`.
fn same(a: &Conn, b: &Conn) -> bool {
    a.tuples() == b.tuples() && a.zones() == b.zones()
}

/// Both ends sent at the same moment (kernel: `nf_ct_match_reverse`).
fn reverse(a: &Conn, b: &Conn) -> bool {
    let [orig, reply] = b.tuples();
    let (za, zb) = (a.zones(), b.zones());
    a.tuples() == [reply, orig] && (za.orig, za.reply) == (zb.reply, zb.orig)
}
