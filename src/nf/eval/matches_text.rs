//! `-m u32` and `-m string`: the packet's bytes themselves; `-m time`: the wall clock.
//!
//! As xt_u32.c, xt_string.c, xt_time.c. Invariant: nothing outside the packet is read.

use super::chain::Env;
use crate::nf::matches::{DayTime, Moment, Monthdays, StringMatch, Time, U32Match, U32Op, U32Test};
use crate::wire::Frame;

/// Four bytes at an offset, big endian.
fn word(b: &[u8], at: u32) -> Option<u32> {
    let w: &[u8; 4] = b.get(at as usize..)?.first_chunk()?;
    Some(u32::from_be_bytes(*w))
}

/// One test of xt_u32.c `u32_match_it`.
fn u32_test(b: &[u8], test: &U32Test) -> bool {
    let value = || {
        let (mut value, mut base) = (word(b, test.start)?, 0u32);
        for (op, n) in &test.steps {
            match op {
                U32Op::And => value &= n,
                U32Op::Left => value = value.wrapping_shl(*n),
                U32Op::Right => value = value.wrapping_shr(*n),
                U32Op::At => {
                    base = base.checked_add(value)?;
                    value = word(b, base.checked_add(*n)?)?;
                }
            }
        }
        Some(value)
    };
    value().is_some_and(|v| test.values.iter().any(|(min, max)| *min <= v && v <= *max))
}

/// Whether `pattern` is in `text`.
fn contains(text: &[u8], pattern: &[u8], icase: bool) -> bool {
    let same = |w: &[u8]| match icase {
        true => w.eq_ignore_ascii_case(pattern),
        false => w == pattern,
    };
    !pattern.is_empty() && text.windows(pattern.len()).any(same)
}

/// Day of the month, from 1, of a day since 1970.
fn monthday(day: i64) -> u32 {
    let z = day + 719_468;
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    (doy - (153 * mp + 2) / 5 + 1) as u32
}

impl Env<'_, '_> {
    /// `u32_mt`
    pub fn u32(&self, f: &Frame, m: &U32Match) -> bool {
        m.tests.as_ref().is_none_or(|is| {
            let all = is.value.0.iter().all(|t| u32_test(f.l3(), t));
            all != is.not
        })
    }

    /// `string_mt`: the whole pattern lies between the two offsets (`skb_find_text`).
    pub fn string(&self, f: &Frame, m: &StringMatch) -> bool {
        let Some(is) = &m.pattern else { return true };
        let (from, to) = (m.from.unwrap_or(0), m.to.unwrap_or(u16::MAX));
        let text = f.l3();
        let end = text.len().min(usize::from(to));
        let inside = text.get(usize::from(from)..end).unwrap_or_default();
        contains(inside, &is.value.0, m.icase) != is.not
    }

    /// `time_mt`, with the world's clock; `--kerneltz` is UTC, as on every node.
    pub fn time(&self, m: &Time) -> bool {
        const DAY: i64 = 86_400;
        let since = self.cx.now.as_nanos() / 1_000_000_000;
        let mut stamp =
            i64::try_from(self.nf.state.epoch.saturating_add(since)).unwrap_or(i64::MAX);
        let from = m.datestart.map_or(0, |d| i64::from(d.0));
        let until = i64::from(m.datestop.unwrap_or(Moment::LAST).0);
        if stamp < from || stamp > until {
            return false;
        }
        let now = stamp.rem_euclid(DAY);
        let start = i64::from(m.start.unwrap_or(DayTime(0)).0);
        let stop = i64::from(m.stop.unwrap_or(DayTime(86_399)).0);
        if start < stop {
            if now < start || now > stop {
                return false;
            }
        } else {
            if now < start && now > stop {
                return false;
            }
            // The small hours belong to the day on which the span began.
            if m.contiguous && now <= stop {
                stamp -= DAY;
            }
        }
        let day = stamp.div_euclid(DAY);
        // 1970-01-01 was a Thursday, which is bit 3 when Monday is bit 0.
        let weekday = (day + 3).rem_euclid(7) as u32;
        let bit = |set: u32, n: u32| set >> n & 1 == 1;
        m.weekdays.is_none_or(|w| bit(w.value.0, weekday) != w.not)
            && m.monthdays
                .is_none_or(|d: crate::nf::field::Is<Monthdays>| {
                    bit(d.value.0, monthday(day)) != d.not
                })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_of_months() {
        // 2024-02-29, 2024-03-01, 2026-11-21, 1970-01-01
        let days = [(19_782, 29), (19_783, 1), (20_778, 21), (0, 1)];
        for (day, want) in days {
            assert_eq!(monthday(day), want, "{day}");
        }
    }

    #[test]
    fn text_is_found_at_both_ends() {
        assert!(contains(b"GET /", b"GET", false) && contains(b"GET /", b" /", false));
        assert!(contains(b"get /", b"GET", true) && !contains(b"get /", b"GET", false));
        assert!(!contains(b"GE", b"GET", false));
    }
}
