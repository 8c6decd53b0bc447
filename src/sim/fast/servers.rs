//! IPVS beside the fast path: its estimators look every two seconds at what was counted until then.
//!
//! Invariant: when an estimator looks, all that was carried before is written back, and nothing after.

use crate::base::{Instant, NsId};
use crate::ipvs::Ipvs;
use crate::net::NetNs;
use crate::path::vs_between;
use crate::sim::World;
use crate::sim::fast::engine::FastPath;
use crate::sim::fast::record::{Held, Kept};

/// How often an estimator looks, from the beginning of time on (kernel: `estimation_timer`).
const ESTIMATE: u64 = 2_000_000_000;

impl FastPath {
    /// An entry holds these connections from `now` on.
    pub(super) fn watch(&mut self, now: Instant, conns: &[Held]) {
        let new = conns.iter().filter(|h| h.kept == Kept::Ipvs);
        let count = self.servers.len();
        self.servers.extend(new.map(|h| h.ns));
        if count == 0 && !self.servers.is_empty() {
            self.tick = after(now);
        }
    }

    /// Lets the estimators look, and lets go of the connections whose time has come, as a walk would.
    pub(super) fn estimate(&mut self, world: &mut World) {
        self.sync(world);
        let now = world.now();
        let spaces: Vec<NsId> = self.servers.iter().copied().collect();
        for ns in spaces {
            let Some(space) = world.space_mut(ns) else {
                continue;
            };
            let surprises = |space: &NetNs| space.ipvs().map_or(0, Ipvs::surprises);
            let before = surprises(space);
            vs_between(space, now);
            if surprises(space) != before {
                self.next_epoch();
            }
            world.mark_ended(ns);
        }
        self.tick = after(now);
    }
}

/// The estimators' next look.
fn after(now: Instant) -> Instant {
    let next = (now.as_nanos() / ESTIMATE).saturating_add(1);
    Instant::from_nanos(next.saturating_mul(ESTIMATE))
}
