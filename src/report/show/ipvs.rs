//! `show WHO ipvs`: services, real servers and connections as ipvsadm lists them.
//!
//! What is printed is `ipvs::text`'s. Invariant: nothing but comment lines is added, and every service whose
//! next real server a dump left open has one.

use core::fmt::Write as _;

use crate::base::Instant;
use crate::ipvs::Ipvs;
use crate::ipvs::text::{Command, List, Show, run, save};
use crate::net::NetNs;

/// Which listing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Listing {
    /// `ipvsadm -Sn`
    Save,
    /// `ipvsadm -Ln`, with one of its options or none.
    Show(Show),
}

/// The listing; where IPVS was never used, an empty one.
pub fn text(ns: &NetNs, listing: Listing, now: Instant) -> String {
    // Timers and the estimator run with the listing: on a copy, so that showing changes nothing.
    let mut vs: Ipvs = ns.ipvs().cloned().unwrap_or_default();
    let mut out = match listing {
        Listing::Save => save(&vs),
        Listing::Show(show) => {
            let list = List {
                show,
                ..List::default()
            };
            run(&mut vs, &Command::List(list), now).unwrap_or_default()
        }
    };
    if matches!(listing, Listing::Save | Listing::Show(Show::Table)) {
        for s in vs.services() {
            let open = vs.undecided(s);
            if open > 1 {
                let (at, sched) = (s.spec.at, s.spec.sched.name());
                let _ = writeln!(
                    out,
                    "# {at} -s {sched}: the dump does not say which of {open} real servers is next"
                );
            }
        }
    }
    out
}
