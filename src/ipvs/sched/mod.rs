//! Schedulers: which real server gets a new connection (kernel: ip_vs_sched.c and the modules ip_vs_*.c).
//!
//! Each reads the service's list in its order, the destination added last first. Invariant: nobody is
//! chosen who is quiesced (weight 0) or has reached its upper threshold.

mod hash;
mod least;
mod local;
mod mh;
mod rr;

use super::service::{Dest, DestId, Service};
use crate::base::Instant;
use core::time::Duration;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// The schedulers there are.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Scheduler {
    /// Round robin.
    Rr,
    /// Weighted round robin.
    Wrr,
    /// Least connections.
    Lc,
    /// Weighted least connections.
    Wlc,
    /// Locality-based least connections.
    Lblc,
    /// The same with a set of servers per destination address.
    Lblcr,
    /// By a hash of the destination address.
    Dh,
    /// By a hash of the source address.
    Sh,
    /// Maglev hashing.
    Mh,
    /// Shortest expected delay.
    Sed,
    /// Never queue.
    Nq,
    /// Weighted failover.
    Fo,
    /// Weighted overflow.
    Ovf,
}

impl Scheduler {
    /// All, with their names.
    pub const NAMES: [(Scheduler, &'static str); 13] = [
        (Scheduler::Rr, "rr"),
        (Scheduler::Wrr, "wrr"),
        (Scheduler::Lc, "lc"),
        (Scheduler::Wlc, "wlc"),
        (Scheduler::Lblc, "lblc"),
        (Scheduler::Lblcr, "lblcr"),
        (Scheduler::Dh, "dh"),
        (Scheduler::Sh, "sh"),
        (Scheduler::Mh, "mh"),
        (Scheduler::Sed, "sed"),
        (Scheduler::Nq, "nq"),
        (Scheduler::Fo, "fo"),
        (Scheduler::Ovf, "ovf"),
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        let found = Self::NAMES.iter().find(|(s, _)| *s == self);
        found.map_or("", |(_, n)| n)
    }

    /// The scheduler of that name.
    pub fn of_name(name: &str) -> Option<Scheduler> {
        let found = Self::NAMES.iter().find(|(_, n)| *n == name);
        found.map(|(s, _)| *s)
    }

    /// The names of its flags 1, 2 and 3 (ipvsadm: `print_sched_flags`).
    pub fn flag_names(self) -> [&'static str; 3] {
        match self {
            Scheduler::Sh => ["sh-fallback", "sh-port", "flag-3"],
            Scheduler::Mh => ["mh-fallback", "mh-port", "flag-3"],
            _ => ["flag-1", "flag-2", "flag-3"],
        }
    }
}

/// What of a new connection its scheduler may look at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pick {
    /// Its client.
    pub src: IpAddr,
    /// The virtual address.
    pub dst: IpAddr,
    /// The client's port.
    pub sport: u16,
    /// The time.
    pub now: Instant,
    /// `lblc_expiration` or `lblcr_expiration`.
    pub expiration: Duration,
}

/// What a scheduler remembers.
#[derive(Clone, Debug, Default)]
pub(super) enum SchedState {
    /// Nothing.
    #[default]
    None,
    /// The last choice of `rr`; none: the list's head.
    Cursor(Option<DestId>),
    /// `wrr`'s.
    Wrr(rr::Mark),
    /// Buckets of `sh`, `dh` and `mh`; empty while there is nobody to fill them with.
    Buckets(Vec<DestId>),
    /// `lblc`'s and `lblcr`'s.
    Local(local::Cache),
}

/// The service's list with its destinations.
pub(super) type Dests = BTreeMap<DestId, Dest>;

/// The state with which a scheduler takes over a service as it is.
pub(super) fn init(svc: &mut Service, dests: &Dests) {
    svc.state = match svc.spec.sched {
        Scheduler::Rr => SchedState::Cursor(None),
        Scheduler::Wrr => SchedState::Wrr(rr::Mark::new(&weights(svc, dests))),
        Scheduler::Sh | Scheduler::Dh | Scheduler::Mh => SchedState::Buckets(Vec::new()),
        Scheduler::Lblc | Scheduler::Lblcr => SchedState::Local(local::Cache::default()),
        _ => SchedState::None,
    };
    if matches!(svc.state, SchedState::Buckets(_)) {
        changed(svc, dests);
    }
}

fn weights(svc: &Service, dests: &Dests) -> Vec<i32> {
    let list = svc.dests.iter().filter_map(|d| dests.get(d));
    list.map(|d| d.spec.weight).collect()
}

/// A destination came, went or was edited (`add_dest`, `del_dest`, `upd_dest`).
pub(super) fn changed(svc: &mut Service, dests: &Dests) {
    let weights = weights(svc, dests);
    let list = || {
        let all = svc.dests.iter();
        all.filter_map(|id| dests.get(id).map(|d| (*id, d)))
    };
    match (&mut svc.state, svc.spec.sched) {
        (SchedState::Wrr(mark), _) => mark.changed(&weights),
        (SchedState::Buckets(b), Scheduler::Sh) => {
            *b = hash::fill(list().map(|(id, d)| (id, d.spec.weight)));
        }
        (SchedState::Buckets(b), Scheduler::Dh) => *b = hash::fill(list().map(|(id, _)| (id, 1))),
        (SchedState::Buckets(b), _) => *b = mh::fill(&list().collect::<Vec<_>>()),
        _ => {}
    }
}

/// A destination is taken off the list: a cursor on it goes back by one (`ip_vs_rr_del_dest`).
pub(super) fn leaving(svc: &mut Service, id: DestId) {
    if let SchedState::Cursor(at) = &mut svc.state
        && *at == Some(id)
    {
        let i = svc.dests.iter().position(|d| *d == id).unwrap_or(0);
        *at = i.checked_sub(1).and_then(|i| svc.dests.get(i).copied());
    }
}

/// The choice; `None`: nobody can take it.
pub(super) fn choose(svc: &mut Service, dests: &Dests, p: &Pick) -> Option<DestId> {
    let list: Vec<(DestId, &Dest)> = svc
        .dests
        .iter()
        .filter_map(|id| dests.get(id).map(|d| (*id, d)))
        .collect();
    let flags = svc.spec.flags;
    match (&mut svc.state, svc.spec.sched) {
        (SchedState::Cursor(at), _) => rr::choose(at, &list),
        (SchedState::Wrr(mark), _) => mark.choose(&list),
        (SchedState::Buckets(b), Scheduler::Sh) => hash::source(b, dests, p, flags),
        (SchedState::Buckets(b), Scheduler::Dh) => hash::destination(b, dests, p),
        (SchedState::Buckets(b), _) => mh::choose(b, dests, p, flags),
        (SchedState::Local(c), Scheduler::Lblc) => c.lblc(&list, dests, p),
        (SchedState::Local(c), _) => c.lblcr(&list, dests, p),
        (SchedState::None, sched) => least::choose(sched, &list),
    }
}

/// Whom the scheduler may choose where the list's order and what it remembers are not known, as after a dump.
///
/// Schedulers that compare loads differ by the order of equals only; the others may be anywhere.
pub(super) fn open(svc: &Service, dests: &Dests) -> Vec<DestId> {
    let all = svc.dests.iter();
    let list: Vec<(DestId, &Dest)> = all
        .filter_map(|id| dests.get(id).map(|d| (*id, d)))
        .collect();
    let usable = list.iter().filter(|(_, d)| d.usable());
    let first = |id: DestId| {
        let mut moved = list.clone();
        moved.sort_by_key(|(other, _)| *other != id);
        least::choose(svc.spec.sched, &moved) == Some(id)
    };
    let by_load = matches!(svc.state, SchedState::None);
    let open = usable.filter(|(id, _)| !by_load || first(*id));
    open.map(|(id, _)| *id).collect()
}

/// Puts a scheduler where it stands after it chose a destination.
pub(super) fn chosen(svc: &mut Service, id: DestId) {
    match &mut svc.state {
        SchedState::Cursor(at) => *at = Some(id),
        SchedState::Wrr(mark) => mark.stands_at(id),
        _ => {}
    }
}

/// An address as one word (`addr_fold`).
fn fold(ip: IpAddr) -> u32 {
    match ip {
        IpAddr::V4(a) => u32::from(a),
        IpAddr::V6(a) => {
            let words = a.octets();
            let words = words.as_chunks::<4>().0;
            words.iter().fold(0, |x, w| x ^ u32::from_be_bytes(*w))
        }
    }
}

#[cfg(test)]
mod tests;
