//! Round robin through a range set (host-local backend/allocator/allocator.go).

use super::range::{Range, RangeSet};
use super::store::Store;
use crate::kube::cni::addr::next_ip;
use crate::kube::cni::result::IpConfig;
use ipnetwork::IpNetwork;
use std::net::IpAddr;

/// Leases an address of `set` (number `idx`): the requested one, else the next free one after the last
/// leased.
pub fn get(
    set: &RangeSet,
    idx: usize,
    store: &mut Store<'_>,
    id: &str,
    ifname: &str,
    want: Option<IpAddr>,
) -> Result<IpConfig, String> {
    if let Some(ip) = want {
        let (_, r) = set
            .range_of(ip)
            .ok_or_else(|| format!("{ip} not in range set {set}"))?;
        if ip == r.gateway {
            return Err(format!("requested ip {ip} is subnet's gateway"));
        }
        if !store.reserve(id, ifname, ip, idx) {
            return Err(format!(
                "requested IP address {ip} is not available in range set {set}"
            ));
        }
        return config(ip, r);
    }
    if let Some(ip) = store
        .leases(id, ifname)
        .into_iter()
        .find(|ip| set.range_of(*ip).is_some())
    {
        return Err(format!(
            "{ip} has been allocated to {id}, duplicate allocation is not allowed"
        ));
    }
    let none = || format!("no IP addresses available in range set: {set}");
    // Each step offers another address, so more steps than files means the set is used up.
    let tries = store.len() + 2;
    let mut iter = Iter::new(set, store.last_reserved(idx));
    for _ in 0..tries {
        let (ip, r) = iter.next_free().ok_or_else(none)?;
        if store.reserve(id, ifname, ip, idx) {
            return config(ip, r);
        }
    }
    Err(none())
}

fn config(ip: IpAddr, r: &Range) -> Result<IpConfig, String> {
    let address = IpNetwork::new(ip, r.subnet.prefix()).map_err(|e| e.to_string())?;
    Ok(IpConfig {
        interface: None,
        address,
        gateway: Some(r.gateway),
    })
}

/// Where the search is: the range, the last address offered, where it began.
struct Iter<'a> {
    set: &'a [Range],
    at: usize,
    cur: Option<IpAddr>,
    start: Option<IpAddr>,
}

impl<'a> Iter<'a> {
    fn new(set: &'a RangeSet, last: Option<IpAddr>) -> Self {
        let after = last.and_then(|ip| set.range_of(ip).map(|(i, _)| (i, ip)));
        Iter {
            set: set.ranges(),
            at: after.map_or(0, |a| a.0),
            cur: after.map(|a| a.1),
            start: None,
        }
    }

    /// The next address that is no gateway; `None` once it is back where it began.
    fn next_free(&mut self) -> Option<(IpAddr, &'a Range)> {
        // At most one gateway per range is skipped in a row.
        for _ in 0..=self.set.len() {
            let (ip, r) = self.step()?;
            if ip != r.gateway {
                return Some((ip, r));
            }
        }
        None
    }

    fn step(&mut self) -> Option<(IpAddr, &'a Range)> {
        let mut r = self.set.get(self.at)?;
        let ip = match self.cur {
            None => r.start,
            Some(c) if c == r.end => {
                self.at = (self.at + 1) % self.set.len();
                r = self.set.get(self.at)?;
                r.start
            }
            Some(c) => next_ip(c),
        };
        let first = self.start.is_none();
        let start = *self.start.get_or_insert(ip);
        self.cur = Some(ip);
        (first || ip != start).then_some((ip, r))
    }
}
