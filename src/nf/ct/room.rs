//! Room in the table: its limit, and whom a newcomer may push out.
//!
//! Invariant: only connections that are not assured are pushed out (kernel: `early_drop_list`).

use super::conn::{Conn, CtStatus};
use super::sysctl::CtSysctl;
use super::tuple::Dir;
use super::tuples::Key;
use super::{Conntrack, CtDrop};
use crate::base::{Instant, Rng};
use crate::wire::ConnId;

/// Hash buckets the kernel searches (`NF_CT_EVICTION_RANGE`).
const EVICTION_RANGE: usize = 8;

impl Conntrack {
    /// Makes sure one more connection fits (kernel: `__nf_conntrack_alloc`). What is over by `now` counts no
    /// more: the kernel's `gc_worker` comes by on its own; here it does when somebody wants the room, which
    /// no packet does that is carried without a walk.
    pub(super) fn make_room(
        &mut self,
        s: &CtSysctl,
        rng: &mut Rng,
        now: Instant,
    ) -> Result<(), CtDrop> {
        self.collect(now);
        let max = usize::try_from(s.max).unwrap_or(0);
        if max == 0 || self.count() < max || self.early_drop(s, rng) {
            return Ok(());
        }
        Err(CtDrop::TableFull)
    }

    /// Kernel: `early_drop`. Which entries stand in the buckets it searches depends on the key of the
    /// hash, which is the machine's secret: as many entries as such buckets hold on average are drawn.
    fn early_drop(&mut self, s: &CtSysctl, rng: &mut Rng) -> bool {
        let buckets = usize::try_from(s.buckets).unwrap_or(1).max(1);
        let tuples = self.count().saturating_mul(2);
        let draws = (tuples * EVICTION_RANGE).div_ceil(buckets).max(1);
        let slots = self.table.slots() as u64;
        for _ in 0..draws.min(self.table.slots()) {
            let at = usize::try_from(rng.below(slots)).unwrap_or(0);
            let found = self.table.at(at).map(|(id, c)| (id, c.status));
            let Some((id, status)) = found else { continue };
            let in_table = status.any(CtStatus::CONFIRMED) && !status.any(CtStatus::DYING);
            if in_table && !status.any(CtStatus::ASSURED | CtStatus::OFFLOAD) {
                self.kill(id);
                self.stats.early_drop += 1;
                return true;
            }
        }
        false
    }

    /// A new connection, in a slot but not yet findable.
    pub(super) fn add_unconfirmed(&mut self, conn: Conn) -> Result<ConnId, CtDrop> {
        self.table.add(conn).ok_or(CtDrop::TableFull)
    }

    /// Enters a confirmed connection by both tuples.
    pub(super) fn index_both(&mut self, id: ConnId, [orig, reply]: &[Key; 2]) {
        self.table.index(id, Dir::Original, orig);
        self.index_one(id, Dir::Reply, reply);
    }

    /// Enters it by one.
    pub(super) fn index_one(&mut self, id: ConnId, dir: Dir, key: &Key) {
        self.table.index(id, dir, key);
        self.table.alarm(id);
    }
}
