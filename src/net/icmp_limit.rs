//! How many ICMP errors a host sends: one token bucket per peer and a global one.
//!
//! The per-peer bucket serves both `icmp_ratelimit` (`inet_peer_xrlim_allow`, burst of 6) and the errors of
//! routes that end in one (`ip_error`: one a second, burst of 5), as in the kernel: so with
//! `icmp_ratelimit=0` any error empties the bucket of the other. The global one is `icmp_global_allow`
//! (`icmp_msgs_per_sec` 1000 with a burst of 50; the small random credit it takes off is left out).

use crate::base::Instant;
use core::time::Duration;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// XRLIM_BURST_FACTOR
const XRLIM_BURST: u64 = 6;
/// `ip_rt_error_cost` and `ip_rt_error_burst`, nanoseconds.
const ERROR_COST: u64 = 1_000_000_000;
const ERROR_BURST: u64 = 5 * ERROR_COST;
/// What a peer seen for the first time has (kernel: `rate_last = jiffies - 60*HZ`).
const NEW_PEER: u64 = 60 * ERROR_COST;
/// `net.ipv4.icmp_msgs_per_sec`
const GLOBAL_PER_SEC: u64 = 1000;
/// `net.ipv4.icmp_msgs_burst`
const GLOBAL_BURST: u64 = 50;
/// Hosts remembered; the table is emptied beyond that (kernel: inet_peer garbage collection).
const PEERS_MAX: usize = 65_536;

/// Buckets of a namespace. Tokens are nanoseconds.
#[derive(Clone, Debug, Default)]
pub struct IcmpLimiter {
    peers: BTreeMap<IpAddr, (u64, Instant)>,
    global: Option<(u64, Instant)>,
}

/// ICMPv6 types as `net.ipv6.icmp.ratemask` has them: those that are limited.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TypeMask([u64; 4]);

impl Default for TypeMask {
    /// All but packet-too-big and what is no error: `0-1,3-127`.
    fn default() -> Self {
        TypeMask([!(1 << 2), u64::MAX, 0, 0])
    }
}

impl TypeMask {
    /// Reads the kernel's text, `0-1,3-127`; none: no type (kernel: `proc_do_large_bitmap`).
    pub fn parse(text: &str) -> Option<Self> {
        let mut bits = [0; 4];
        for part in text.trim().split(',').filter(|p| !p.is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last): (u8, u8) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
            for t in first..=last {
                bits[usize::from(t / 64)] |= 1 << (t % 64);
            }
        }
        Some(TypeMask(bits))
    }

    /// Whether errors of this type are limited.
    pub fn has(self, typ: u8) -> bool {
        self.0[usize::from(typ / 64)] & 1 << (typ % 64) != 0
    }
}

impl IcmpLimiter {
    fn peer(&mut self, peer: IpAddr, now: Instant) -> &mut (u64, Instant) {
        if self.peers.len() >= PEERS_MAX {
            self.peers.clear();
        }
        let p = self.peers.entry(peer).or_insert((NEW_PEER, now));
        p.0 =
            p.0.saturating_add(u64::try_from(now.since(p.1).as_nanos()).unwrap_or(u64::MAX));
        p
    }

    /// Takes a token for an error to `peer`; false when it must not be sent. `every` is the sysctl; `None`
    /// for a type that only the global bucket limits.
    pub fn allow(&mut self, peer: IpAddr, now: Instant, every: Duration) -> bool {
        if !self.global_allow(now) {
            return false;
        }
        let every = u64::try_from(every.as_nanos()).unwrap_or(u64::MAX);
        let fresh = !self.peers.contains_key(&peer);
        let p = self.peer(peer, now);
        if fresh || p.1 != now {
            p.0 = p.0.min(every.saturating_mul(XRLIM_BURST));
            p.1 = now;
        }
        if p.0 < every {
            return false;
        }
        p.0 -= every;
        true
    }

    /// Takes a token for a route that ends in an error (kernel: `ip_error`).
    pub fn allow_route_error(&mut self, peer: IpAddr, now: Instant) -> bool {
        let p = self.peer(peer, now);
        *p = (p.0.min(ERROR_BURST), now);
        if p.0 < ERROR_COST {
            return false;
        }
        p.0 -= ERROR_COST;
        true
    }

    fn global_allow(&mut self, now: Instant) -> bool {
        let (credit, stamp) = self.global.get_or_insert((GLOBAL_BURST, now));
        let earned = now.since(*stamp).as_nanos() as u64 * GLOBAL_PER_SEC / 1_000_000_000;
        if earned > 0 {
            *credit = (*credit + earned).min(GLOBAL_BURST);
            *stamp = now;
        }
        if *credit == 0 {
            return false;
        }
        *credit -= 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_are_ranges() {
        assert_eq!(TypeMask::parse("0-1,3-127"), Some(TypeMask::default()));
        let none = TypeMask::parse("").unwrap();
        assert!((0..=255).all(|t| !none.has(t)));
        assert!(TypeMask::parse("255").is_some_and(|m| m.has(255) && !m.has(1)));
        assert_eq!(TypeMask::parse("1-256"), None);
    }

    #[test]
    fn six_at_once_then_one_a_second() {
        let mut l = IcmpLimiter::default();
        let ip: IpAddr = "10.0.0.1".parse().unwrap();
        let s = Duration::from_secs(1);
        let t = Instant::from_secs(100);
        assert_eq!((0..10).filter(|_| l.allow(ip, t, s)).count(), 6);
        assert!(l.allow(ip, Instant::from_secs(101), s));
        assert!(!l.allow(ip, Instant::from_secs(101), s));
        assert!(
            l.allow("10.0.0.2".parse().unwrap(), t, s),
            "another host has its own bucket"
        );
    }
}
