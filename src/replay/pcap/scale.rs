//! Timestamps of any resolution into nanoseconds since 1970.
//!
//! draft-ietf-opsawg-pcapng 4.2: `if_tsresol` is a power of 10, or of 2 with the top bit set; `if_tsoffset`
//! is a signed number of seconds to add. Finer than a nanosecond is rounded down.

/// How many nanoseconds one unit of an interface's clock is, and where its zero lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct TimeScale {
    unit: Unit,
    offset_s: i64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Unit {
    /// Units of this many nanoseconds.
    Nanos(u64),
    /// This many units make a nanosecond.
    PerNano(u128),
    /// 2^n units make a second.
    PowerOfTwo(u32),
}

impl TimeScale {
    /// Nanoseconds from 1970.
    pub(super) const NANOS: TimeScale = TimeScale {
        unit: Unit::Nanos(1),
        offset_s: 0,
    };
    /// Microseconds from 1970: the default of pcapng.
    pub(super) const MICROS: TimeScale = TimeScale {
        unit: Unit::Nanos(1_000),
        offset_s: 0,
    };

    /// The scale of an `if_tsresol` byte.
    pub(super) fn with_resolution(self, tsresol: u8) -> Self {
        let exponent = u32::from(tsresol & 0x7f);
        let unit = if tsresol & 0x80 != 0 {
            Unit::PowerOfTwo(exponent)
        } else if exponent <= 9 {
            Unit::Nanos(10u64.pow(9 - exponent))
        } else {
            // Past 10^28 no 64-bit count reaches a nanosecond; a divisor larger than any count says just
            // that.
            Unit::PerNano(10u128.checked_pow(exponent - 9).unwrap_or(u128::MAX))
        };
        TimeScale { unit, ..self }
    }

    /// The scale shifted by an `if_tsoffset`.
    pub(super) fn with_offset(self, offset_s: i64) -> Self {
        TimeScale { offset_s, ..self }
    }

    /// `count` units as nanoseconds since 1970; None when that is before 1970 or does not fit 64 bits.
    pub(super) fn nanos(self, count: u64) -> Option<u64> {
        let since_zero = match self.unit {
            Unit::Nanos(1) if self.offset_s == 0 => return Some(count),
            Unit::Nanos(n) => u128::from(count) * u128::from(n),
            Unit::PerNano(n) => u128::from(count) / n,
            Unit::PowerOfTwo(n) => (u128::from(count) * 1_000_000_000) >> n,
        };
        let offset = i128::from(self.offset_s) * 1_000_000_000;
        u64::try_from(i128::try_from(since_zero).ok()?.checked_add(offset)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_power_of_ten_and_two() {
        let at = |tsresol, count| TimeScale::MICROS.with_resolution(tsresol).nanos(count);
        assert_eq!(at(0, 7), Some(7_000_000_000));
        assert_eq!(at(3, 7), Some(7_000_000));
        assert_eq!(at(6, 7), Some(7_000));
        assert_eq!(at(9, 7), Some(7));
        assert_eq!(at(12, 7_999), Some(7));
        assert_eq!(at(28, u64::MAX), Some(1));
        assert_eq!(at(29, u64::MAX), Some(0));
        assert_eq!(at(127, u64::MAX), Some(0));
        assert_eq!(at(0x80, 3), Some(3_000_000_000));
        assert_eq!(at(0x80 | 10, 1_536), Some(1_500_000_000));
        assert_eq!(at(0x80 | 32, 1 << 31), Some(500_000_000));
        assert_eq!(at(0xff, u64::MAX), Some(0));
        assert_eq!(at(0, u64::MAX), None);
    }

    #[test]
    fn offsets_reach_both_ways() {
        let scale = TimeScale::MICROS.with_offset(1_000);
        assert_eq!(scale.nanos(5), Some(1_000_000_005_000));
        assert_eq!(
            TimeScale::NANOS.with_offset(-1).nanos(1_500_000_000),
            Some(500_000_000)
        );
        assert_eq!(TimeScale::NANOS.with_offset(-2).nanos(1_500_000_000), None);
        assert_eq!(TimeScale::NANOS.with_offset(i64::MAX).nanos(u64::MAX), None);
        assert_eq!(TimeScale::MICROS.nanos(1), Some(1_000));
    }
}
