//! `rr` and `wrr` (kernel: ip_vs_rr.c, ip_vs_wrr.c).
//!
//! Invariant: one call goes round the list a bounded number of times, whatever the weights.

use super::super::service::{Dest, DestId};

/// The next usable one behind the last choice.
pub(super) fn choose(at: &mut Option<DestId>, list: &[(DestId, &Dest)]) -> Option<DestId> {
    let n = list.len();
    let last = at.and_then(|a| list.iter().position(|(id, _)| *id == a));
    let first = last.map_or(0, |i| i + 1);
    let found = (0..n).map(|k| (first + k) % n).find(|i| usable(list, *i))?;
    *at = list.get(found).map(|(id, _)| *id);
    *at
}

fn usable(list: &[(DestId, &Dest)], i: usize) -> bool {
    list.get(i).is_some_and(|(_, d)| d.usable())
}

/// Where `wrr` stands (`struct ip_vs_wrr_mark`).
#[derive(Clone, Debug)]
pub(in super::super) struct Mark {
    at: Option<DestId>,
    weight: i32,
    max: i32,
    step: i32,
}

impl Mark {
    pub(super) fn new(weights: &[i32]) -> Mark {
        let (step, max) = bounds(weights);
        Mark {
            at: None,
            weight: max,
            max,
            step,
        }
    }

    /// Its last choice was this one.
    pub(super) fn stands_at(&mut self, id: DestId) {
        self.at = Some(id);
    }

    /// The current weight survives changes (`ip_vs_wrr_dest_changed`).
    pub(super) fn changed(&mut self, weights: &[i32]) {
        self.at = None;
        (self.step, self.max) = bounds(weights);
        if self.weight > self.max || self.weight == 0 {
            self.weight = self.max;
        } else if self.step > 1 {
            self.weight = self.weight / self.step * self.step + 1;
        }
    }

    /// `ip_vs_wrr_schedule`
    pub(super) fn choose(&mut self, list: &[(DestId, &Dest)]) -> Option<DestId> {
        let usable = list.iter().filter(|(_, d)| d.usable());
        let most = usable.map(|(_, d)| d.spec.weight).max();
        let most = most.filter(|_| self.max != 0)?;
        let last = self
            .at
            .and_then(|a| list.iter().position(|(id, _)| *id == a));
        let mut from = last.map_or(0, |i| i + 1);
        loop {
            let fits = |d: &Dest| d.usable() && d.spec.weight >= self.weight;
            if let Some((id, _)) = list.iter().skip(from).find(|(_, d)| fits(d)) {
                self.at = Some(*id);
                return self.at;
            }
            from = 0;
            self.weight = self.weight.saturating_sub(self.step);
            // Rounds in which nobody weighs enough are left out.
            if self.weight > most {
                let over = (self.weight - most).div_euclid(self.step.max(1));
                self.weight = self.weight.saturating_sub(over.saturating_mul(self.step));
                if self.weight > most {
                    self.weight = self.weight.saturating_sub(self.step);
                }
            }
            if self.weight <= 0 {
                self.weight = self.max;
            }
        }
    }
}

/// The greatest common divisor of the weights, and the largest weight less that divisor's last part.
fn bounds(weights: &[i32]) -> (i32, i32) {
    let step = weights
        .iter()
        .filter(|w| **w > 0)
        .fold(0, |g, w| gcd(g, *w));
    let step = if step > 0 { step } else { 1 };
    let max = weights.iter().copied().max().unwrap_or(0).max(0);
    (step, max - (step - 1))
}

pub(super) fn gcd(a: i32, b: i32) -> i32 {
    let (mut a, mut b) = (a, b);
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}
