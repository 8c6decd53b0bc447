//! `lblc` and `lblcr`: a virtual address keeps its server until that is overloaded (kernel: ip_vs_lblc.c,
//! ip_vs_lblcr.c).
//!
//! Invariant: at most [`limits::IPVS_CACHE_MAX`] addresses are remembered; the least recently used go first.

use super::super::service::{Dest, DestId};
use super::least::least;
use super::{Dests, Pick};
use crate::base::{Instant, limits};
use core::time::Duration;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// How often stale entries are looked for (`CHECK_EXPIRE_INTERVAL` times `COUNT_FOR_FULL_EXPIRATION`).
const CHECK: Duration = Duration::from_secs(60 * 30);

#[derive(Clone, Debug)]
struct Entry {
    /// The server, or the set of them, the last added first.
    set: Vec<DestId>,
    used: Instant,
    changed: Instant,
}

/// What is remembered by virtual address.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct Cache {
    entries: BTreeMap<IpAddr, Entry>,
    checked: Instant,
}

impl Cache {
    /// `ip_vs_lblc_schedule`
    pub(super) fn lblc(
        &mut self,
        list: &[(DestId, &Dest)],
        dests: &Dests,
        p: &Pick,
    ) -> Option<DestId> {
        self.expire(p);
        if let Some(e) = self.entries.get_mut(&p.dst) {
            e.used = p.now;
            let id = e.set.first().copied();
            let d = id.and_then(|id| dests.get(&id));
            if d.is_some_and(|d| d.available && d.spec.weight > 0 && !overloaded(d, list)) {
                return id;
            }
        }
        let id = lightest(list)?;
        self.keep(p, vec![id]);
        Some(id)
    }

    /// `ip_vs_lblcr_schedule`
    pub(super) fn lblcr(
        &mut self,
        list: &[(DestId, &Dest)],
        dests: &Dests,
        p: &Pick,
    ) -> Option<DestId> {
        self.expire(p);
        let Some(e) = self.entries.get_mut(&p.dst) else {
            let id = lightest(list)?;
            self.keep(p, vec![id]);
            return Some(id);
        };
        e.used = p.now;
        let of = |set: &[DestId]| -> Vec<(DestId, Dest)> {
            let all = set.iter();
            all.filter_map(|id| dests.get(id).map(|d| (*id, d.clone())))
                .collect()
        };
        let set = of(&e.set);
        let refs: Vec<(DestId, &Dest)> = set.iter().map(|(id, d)| (*id, d)).collect();
        let usable = refs.iter().filter(|(_, d)| d.available && d.usable());
        let id = least(usable, Dest::overhead, true);
        let long_ago = e.set.len() > 1 && p.now.since(e.changed) > p.expiration;
        if let Some(most) = heaviest(&refs).filter(|_| long_ago) {
            e.set.retain(|x| *x != most);
            e.changed = p.now;
        }
        let d = id.and_then(|id| dests.get(&id));
        if d.is_some_and(|d| !overloaded(d, list)) {
            return id;
        }
        let id = lightest(list)?;
        if !e.set.contains(&id) {
            e.set.insert(0, id);
            e.changed = p.now;
        }
        Some(id)
    }

    fn keep(&mut self, p: &Pick, set: Vec<DestId>) {
        if self.entries.len() >= limits::IPVS_CACHE_MAX {
            let oldest = self.entries.iter().min_by_key(|(_, e)| e.used);
            if let Some(ip) = oldest.map(|(ip, _)| *ip) {
                self.entries.remove(&ip);
            }
        }
        let (used, changed) = (p.now, p.now);
        let entry = Entry { set, used, changed };
        self.entries.insert(p.dst, entry);
    }

    fn expire(&mut self, p: &Pick) {
        if p.now.since(self.checked) >= CHECK {
            self.checked = p.now;
            self.entries
                .retain(|_, e| p.now.since(e.used) < p.expiration);
        }
    }
}

/// The least loaded of all (`__ip_vs_lblc_schedule`).
fn lightest(list: &[(DestId, &Dest)]) -> Option<DestId> {
    least(
        list.iter().filter(|(_, d)| d.usable()),
        Dest::overhead,
        true,
    )
}

/// The most loaded of a set (`ip_vs_dest_set_max`).
fn heaviest(set: &[(DestId, &Dest)]) -> Option<DestId> {
    let mut most: Option<(DestId, i64, i64)> = None;
    for (id, d) in set.iter().filter(|(_, d)| d.spec.weight > 0) {
        let (h, w) = (d.overhead(), i64::from(d.spec.weight));
        if most.is_none_or(|(_, mh, mw)| {
            i128::from(mh) * i128::from(w) < i128::from(h) * i128::from(mw)
        }) {
            most = Some((*id, h, w));
        }
    }
    most.map(|m| m.0)
}

/// It has more active connections than its weight, and another fewer than half of its own (`is_overloaded`).
fn overloaded(d: &Dest, list: &[(DestId, &Dest)]) -> bool {
    i64::from(d.active) > i64::from(d.spec.weight)
        && list
            .iter()
            .any(|(_, o)| i64::from(o.active) * 2 < i64::from(o.spec.weight))
}
