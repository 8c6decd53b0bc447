//! Walks that are about to come, looked at ahead: the memory of several is fetched at once.
//!
//! Invariant: changes nothing.

use crate::fast::Batch;
use crate::nf::eval::Ahead;
use crate::sim::World;
use crate::sim::fast::FastPath;
use crate::wire::{ETH_HLEN, IpHeader, Tuple};
use smallvec::SmallVec;

/// Walks that are looked at ahead: what they need has to stay in the first-level cache until then.
const WALKS: usize = 16;

impl FastPath {
    /// Looks at the walks of a group from frame `at` on; gives the first frame behind them.
    #[cold]
    #[inline(never)]
    pub(super) fn look_ahead(&self, world: &World, batch: &Batch<'_>, at: usize) -> usize {
        let misses: SmallVec<[usize; WALKS]> = self.group.misses(at, WALKS).collect();
        let [_, .., last] = misses.as_slice() else {
            return at + 1;
        };
        let of = |i: &usize| {
            let port = self.port_at(*batch.ingress.get(*i)?)?;
            let nf = world.ns(port.ns)?.nf().filter(|nf| nf.is_large())?;
            let packet = batch.frames.get(*i)?.get(ETH_HLEN..)?;
            let h = IpHeader::parse_lax(packet).ok()?;
            nf.look_ahead(&Tuple::of(&h, packet))
        };
        let mut all: SmallVec<[Ahead<'_>; WALKS]> = misses.iter().filter_map(of).collect();
        while !all.is_empty() {
            all.retain(Ahead::step);
        }
        last + 1
    }
}
