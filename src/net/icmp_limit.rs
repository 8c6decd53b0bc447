//! How many ICMP errors a host sends: the per-host token bucket and the global one.
//!
//! Kernel: `inet_peer_xrlim_allow` (one token per `ratelimit`, burst of 6) and `icmp_global_allow`
//! (`icmp_msgs_per_sec` 1000 with a burst of 50; the small random credit it takes off is left out).

use crate::base::Instant;
use core::time::Duration;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// `net.ipv4.icmp_msgs_per_sec`
const GLOBAL_PER_SEC: u64 = 1000;
/// `net.ipv4.icmp_msgs_burst`
const GLOBAL_BURST: u64 = 50;
/// Hosts remembered; the table is emptied beyond that (kernel: inet_peer garbage collection).
const PEERS_MAX: usize = 65_536;

/// Buckets of a namespace.
#[derive(Clone, Debug)]
pub struct IcmpLimiter {
    burst: u64,
    peers: BTreeMap<IpAddr, (u64, Instant)>,
    global: Option<(u64, Instant)>,
}

impl IcmpLimiter {
    /// Buckets that hold `burst` tokens: 6 for errors (XRLIM_BURST_FACTOR), 5 for routes that end in one
    /// (`ip_rt_error_burst`).
    pub fn new(burst: u64) -> Self {
        IcmpLimiter {
            burst,
            peers: BTreeMap::new(),
            global: None,
        }
    }

    /// Takes a token for an error to `peer`; false when it must not be sent. `every` is the sysctl.
    pub fn allow(&mut self, peer: IpAddr, now: Instant, every: Duration) -> bool {
        if !self.global_allow(now) {
            return false;
        }
        let every = u64::try_from(every.as_nanos()).unwrap_or(u64::MAX);
        if every == 0 {
            return true;
        }
        if self.peers.len() >= PEERS_MAX {
            self.peers.clear();
        }
        // Tokens are nanoseconds; a new peer starts with a full burst: rate_last is zero on a machine that
        // has been up for longer than that.
        let (tokens, last) = self.peers.entry(peer).or_insert((every * self.burst, now));
        *tokens = (*tokens + now.since(*last).as_nanos() as u64).min(every * self.burst);
        *last = now;
        if *tokens < every {
            return false;
        }
        *tokens -= every;
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
    fn six_at_once_then_one_a_second() {
        let mut l = IcmpLimiter::new(6);
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
