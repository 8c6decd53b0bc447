//! Counters and rates of services and destinations (kernel: ip_vs_est.c, ip_vs_copy_stats).
//!
//! Packets are counted at once, but what `ipvsadm --stats` shows is what the estimator saw last, every two
//! seconds. Invariant: `shown` and the rates change only in [`Stats::estimate`] and [`Stats::zero`].

use crate::nf::Counters;

/// The largest rate there is room for.
const RATE_MAX: u64 = 1 << 52;

/// Connections, packets and bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Connections made.
    pub conns: u64,
    /// Packets towards the real servers.
    pub in_pkts: u64,
    /// Packets back, where they are seen.
    pub out_pkts: u64,
    /// Bytes from the IP header on, towards the real servers.
    pub in_bytes: u64,
    /// The same back.
    pub out_bytes: u64,
}

impl Counts {
    /// As an array in the order of `ipvsadm`'s columns.
    pub fn columns(&self) -> [u64; 5] {
        [
            self.conns,
            self.in_pkts,
            self.out_pkts,
            self.in_bytes,
            self.out_bytes,
        ]
    }
}

/// One object's counters.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Counted up to now.
    pub live: Counts,
    seen: Counts,
    base: Counts,
    last: Counts,
    rate: [i64; 5],
}

impl Stats {
    /// A packet towards a real server.
    pub fn packet_in(&mut self, bytes: usize) {
        self.live.in_pkts += 1;
        self.live.in_bytes += bytes as u64;
    }

    /// A packet back.
    pub fn packet_out(&mut self, bytes: usize) {
        self.live.out_pkts += 1;
        self.live.out_bytes += bytes as u64;
    }

    /// Packets by one of the two ways.
    pub fn packets(&mut self, reply: bool, n: Counters) {
        let (pkts, bytes) = match reply {
            false => (&mut self.live.in_pkts, &mut self.live.in_bytes),
            true => (&mut self.live.out_pkts, &mut self.live.out_bytes),
        };
        *pkts += n.packets;
        *bytes += n.bytes;
    }

    /// What a listing shows.
    pub fn shown(&self) -> [u64; 5] {
        let (seen, base) = (self.seen.columns(), self.base.columns());
        core::array::from_fn(|i| seen[i].saturating_sub(base[i]))
    }

    /// What `--rate` shows, a second's worth (`ip_vs_read_estimator`).
    pub fn rates(&self) -> [u64; 5] {
        core::array::from_fn(|i| match i {
            0..=2 => ((self.rate[i] + 0x1ff) >> 10).max(0) as u64,
            _ => ((self.rate[i] + 0xf) >> 5).max(0) as u64,
        })
    }

    /// Two seconds have passed: a moving average with weight 1/4 (`estimation_timer`).
    pub fn estimate(&mut self) {
        self.seen = self.live;
        let (now, last) = (self.live.columns(), self.last.columns());
        for (i, r) in self.rate.iter_mut().enumerate() {
            let shift = if i < 3 { 9 } else { 4 };
            let new = (now[i].wrapping_sub(last[i]) as i64) << shift;
            *r += (new - *r) >> 2;
        }
        self.last = self.live;
    }

    /// Begins with what a listing shows.
    pub fn set_counts(&mut self, columns: [u64; 5]) {
        let [conns, in_pkts, out_pkts, in_bytes, out_bytes] = columns;
        self.live = Counts {
            conns,
            in_pkts,
            out_pkts,
            in_bytes,
            out_bytes,
        };
        (self.seen, self.last, self.base) = (self.live, self.live, Counts::default());
    }

    /// Begins with the rates that a listing shows, a second's worth.
    pub fn set_rates(&mut self, columns: [u64; 5]) {
        for (i, (rate, shown)) in self.rate.iter_mut().zip(columns).enumerate() {
            let shift = if i < 3 { 10 } else { 5 };
            *rate = (shown.min(RATE_MAX) << shift) as i64;
        }
    }

    /// `ipvsadm -Z` (`ip_vs_zero_stats`).
    pub fn zero(&mut self) {
        self.base = self.seen;
        self.rate = [0; 5];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_shows_what_the_estimator_saw_and_zero_starts_anew() {
        let mut s = Stats::default();
        s.packet_in(40);
        assert_eq!(s.shown(), [0; 5]);
        s.estimate();
        assert_eq!(s.shown(), [0, 1, 0, 40, 0]);
        s.zero();
        assert_eq!(s.shown(), [0; 5]);
        assert_eq!(s.rates(), [0; 5]);
    }

    #[test]
    fn the_rate_follows_a_steady_stream() {
        let mut s = Stats::default();
        for _ in 0..40 {
            (0..20).for_each(|_| s.packet_out(100));
            s.estimate();
        }
        assert_eq!(s.rates()[2], 10);
        assert_eq!(s.rates()[4], 1000);
    }
}
