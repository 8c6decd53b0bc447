//! Schedulers that compare all destinations and remember nothing: `lc wlc sed nq fo ovf`.
//!
//! Kernel: ip_vs_lc.c, _wlc.c, _sed.c, _nq.c, _fo.c, _ovf.c. Invariant: of equals the first in the list wins.

use super::super::service::{Dest, DestId};
use super::Scheduler;

pub(super) fn choose(sched: Scheduler, list: &[(DestId, &Dest)]) -> Option<DestId> {
    let usable = list.iter().filter(|(_, d)| d.usable());
    match sched {
        Scheduler::Fo => first_max(usable, |_| true),
        Scheduler::Ovf => first_max(usable, |d| i64::from(d.active) <= i64::from(d.spec.weight)),
        Scheduler::Nq => match usable.clone().find(|(_, d)| d.active == 0) {
            Some((id, _)) => Some(*id),
            None => least(usable, delay, true),
        },
        Scheduler::Sed => least(usable, delay, true),
        Scheduler::Lc => least(usable, Dest::overhead, false),
        _ => least(usable, Dest::overhead, true),
    }
}

/// The delay `sed` and `nq` expect, in connections (`ip_vs_sed_dest_overhead`).
fn delay(d: &Dest) -> i64 {
    i64::from(d.active) + 1
}

/// The least loaded, by weight or not: `h1/w1 > h2/w2` as `h1*w2 > h2*w1`.
pub(super) fn least<'a>(
    list: impl Iterator<Item = &'a (DestId, &'a Dest)>,
    load: fn(&Dest) -> i64,
    weighted: bool,
) -> Option<DestId> {
    let mut best: Option<(DestId, i64, i64)> = None;
    for (id, d) in list {
        let w = if weighted {
            i64::from(d.spec.weight)
        } else {
            1
        };
        let h = load(d);
        if best.is_none_or(|(_, bh, bw)| {
            i128::from(bh) * i128::from(w) > i128::from(h) * i128::from(bw)
        }) {
            best = Some((*id, h, w));
        }
    }
    best.map(|b| b.0)
}

/// The one of the largest weight that has room.
fn first_max<'a>(
    list: impl Iterator<Item = &'a (DestId, &'a Dest)>,
    room: impl Fn(&Dest) -> bool,
) -> Option<DestId> {
    let mut best: Option<(DestId, i32)> = None;
    for (id, d) in list.filter(|(_, d)| room(d)) {
        if best.is_none_or(|(_, w)| d.spec.weight > w) {
            best = Some((*id, d.spec.weight));
        }
    }
    best.map(|b| b.0)
}
