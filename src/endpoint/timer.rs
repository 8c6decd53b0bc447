//! When Linux retransmits: the timer wheel's rounding, the RTO estimator and its back-off.
//!
//! Knows no packets. The measured schedule of SYNs (0, 1.0, 2.1, 3.1, 4.1, 5.1, 7.1, 11.2, 19.4,
//! 35.6 s on 6.18 with HZ=250) is not a table here: it *is* 1 s doubled, rounded up by the wheel.
//! Invariant: a deadline is later than its start by at least the asked delay, and a probe's delays do
//! not depend on when it starts (the wheel's phase is fixed to the connection's beginning).

use crate::base::Instant;
use core::time::Duration;

/// Nanoseconds of a jiffy at HZ=250, the distributions' usual choice.
const JIFFY: u64 = 4_000_000;
/// Jiffies on the wheel when a connection begins. Any value is a real kernel's at some moment; this
/// one gives the measured SYN schedule to the digit.
const PHASE: u64 = 7 + 4 * 64;

/// Kernel: TCP_TIMEOUT_INIT, the RTO before any round trip was measured (RFC 6298 section 2.1).
pub const RTO_INIT: Duration = Duration::from_secs(1);
/// Kernel: TCP_RTO_MIN.
pub const RTO_MIN: Duration = Duration::from_millis(200);
/// Kernel: TCP_RTO_MAX.
pub const RTO_MAX: Duration = Duration::from_secs(120);
/// Kernel: TCP_TIMEWAIT_LEN, and the default of tcp_fin_timeout.
pub const TIMEWAIT: Duration = Duration::from_secs(60);

/// The timer wheel of kernel/time/timer.c for timers of one connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wheel {
    start: Instant,
}

impl Wheel {
    /// A wheel for a connection that begins at `start`.
    pub(super) fn new(start: Instant) -> Self {
        Wheel { start }
    }

    /// When a timer armed at `now` for `delay` fires: the delay in jiffies, rounded up to the bucket
    /// of its level (`calc_wheel_index`: level n holds deltas from 63 << 3(n-1) in steps of 8^n).
    pub(super) fn fires(&self, now: Instant, delay: Duration) -> Instant {
        let clk = PHASE + self.nanos(now) / JIFFY;
        let delay = u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX / 2);
        let delta = delay.div_ceil(JIFFY);
        let mut shift = 0;
        while shift < 24 && delta >= 63 << shift {
            shift += 3;
        }
        let bucket = (((clk + delta) >> shift) + 1) << shift;
        self.start + Duration::from_nanos((bucket - PHASE) * JIFFY)
    }

    fn nanos(&self, now: Instant) -> u64 {
        now.as_nanos().saturating_sub(self.start.as_nanos())
    }
}

/// Round-trip estimator and retransmission timeout (kernel: `tcp_rtt_estimator`, `__tcp_set_rto`).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rto {
    srtt: Duration,
    mdev4: Duration,
    measured: bool,
}

impl Rto {
    /// Takes a round-trip sample of a segment that was sent once (Karn's rule is the caller's).
    pub(super) fn sample(&mut self, rtt: Duration) {
        if !self.measured {
            self.measured = true;
            self.srtt = rtt;
            self.mdev4 = rtt * 2;
            return;
        }
        let err = rtt.abs_diff(self.srtt);
        self.mdev4 = self.mdev4 * 3 / 4 + err;
        self.srtt = self.srtt * 7 / 8 + rtt / 8;
    }

    /// The timeout after `backoff` doublings.
    pub(super) fn after(&self, backoff: u32) -> Duration {
        let base = if self.measured {
            self.srtt + self.mdev4.max(RTO_MIN)
        } else {
            RTO_INIT
        };
        base.saturating_mul(1 << backoff.min(16)).min(RTO_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seconds after the first SYN of each of `n` timeouts with `linear` linear ones.
    fn schedule(linear: u32, n: u32) -> Vec<f64> {
        let start = Instant::from_secs(17);
        let (wheel, rto, mut now) = (Wheel::new(start), Rto::default(), start);
        (0..n)
            .map(|i| {
                now = wheel.fires(now, rto.after(i.saturating_sub(linear)));
                now.since(start).as_secs_f64()
            })
            .collect()
    }

    #[test]
    fn syn_schedule_is_the_measured_one() {
        let measured = [1.0, 2.1, 3.1, 4.1, 5.1, 7.1, 11.2, 19.4, 35.6];
        for (got, want) in schedule(4, 9).into_iter().zip(measured) {
            assert_eq!(format!("{got:.1}"), format!("{want:.1}"));
        }
        let older = [1.0, 3.0, 7.0, 15.0, 31.0, 63.0, 127.0];
        for (got, want) in schedule(0, 7).into_iter().zip(older) {
            assert!(got >= want && got < want * 1.07, "{got} for {want}");
        }
    }

    #[test]
    fn data_schedule_is_the_recorded_one() {
        // Recording pmtu-blackhole: 208, 436, 832, 1664 ms between retransmissions (RTT 0.1 ms).
        let start = Instant::ZERO;
        let (wheel, mut rto, mut now) = (Wheel::new(start), Rto::default(), start);
        rto.sample(Duration::from_micros(140));
        for (i, want) in [208u64, 436, 832, 1664].into_iter().enumerate() {
            let next = wheel.fires(now, rto.after(i as u32));
            let got = next.since(now).as_millis() as u64;
            // Up to one bucket of the wheel's level lies between phases.
            assert!(got.abs_diff(want) <= 32, "{got} ms, recorded {want} ms");
            now = next;
        }
    }

    #[test]
    fn a_deadline_never_comes_early_and_never_by_more_than_an_eighth_late() {
        let wheel = Wheel::new(Instant::ZERO);
        for ms in (1..200_000u64).step_by(37) {
            let (now, d) = (Instant::from_millis(ms * 3), Duration::from_millis(ms));
            let got = wheel.fires(now, d).since(now);
            assert!(got >= d, "{ms} ms fired after {got:?}");
            assert!(got <= d + d / 7 + Duration::from_millis(8), "{ms}: {got:?}");
        }
    }
}
