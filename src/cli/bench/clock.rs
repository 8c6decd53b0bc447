//! Time as a benchmark takes it: the thread's own CPU time, several repetitions, the least and the median.
//!
//! A machine that does other things besides takes the processor away, and that is not counted. Invariant:
//! every repetition does the same work.

use nix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// CPU time of this thread.
pub fn cpu() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

/// What the repetitions took for one operation, in nanoseconds, sorted.
#[derive(Clone, Debug, Default)]
pub struct Timing(Vec<f64>);

impl Timing {
    /// From repetitions of `operations` each.
    pub fn of(mut each: Vec<f64>) -> Timing {
        each.sort_by(f64::total_cmp);
        Timing(each)
    }

    /// The least.
    pub fn least(&self) -> f64 {
        self.0.first().copied().unwrap_or(f64::NAN)
    }

    /// The middle one.
    pub fn median(&self) -> f64 {
        self.0.get(self.0.len() / 2).copied().unwrap_or(f64::NAN)
    }

    /// How far the most is from the least, as a part of the median.
    pub fn spread(&self) -> f64 {
        let most = self.0.last().copied().unwrap_or(f64::NAN);
        (most - self.least()) / self.median()
    }
}

/// Runs `work` until so much CPU time has passed; gives nanoseconds for one of its operations. `work` says
/// how many it did.
pub fn repetition(at_least: Duration, mut work: impl FnMut() -> u64) -> f64 {
    let began = cpu();
    let mut done = 0;
    loop {
        done += work();
        let took = cpu().saturating_sub(began);
        if took >= at_least {
            return took.as_nanos() as f64 / done.max(1) as f64;
        }
    }
}

/// Most memory that this process has had, in bytes (`VmHWM` of proc(5)).
pub fn peak_memory() -> u64 {
    status("VmHWM:")
}

fn status(name: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix(name));
    let word = line.and_then(|l| l.split_whitespace().next());
    word.and_then(|w| w.parse::<u64>().ok()).unwrap_or(0) * 1024
}
