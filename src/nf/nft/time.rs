//! Times as nft writes them: `1h30m`, `"2026-01-01 10:00:00"`, `"10:00"`.
//!
//! All in UTC: nft prints dates and hours in the zone of whoever lists, which a dump does not say.

use core::fmt::Write as _;

const UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Reads `3h20m`, `10s500ms` or bare seconds, in milliseconds (nftables time_parse).
pub fn read(word: &str) -> Option<u64> {
    if !word.is_empty() && word.bytes().all(|b| b.is_ascii_digit()) {
        return word.parse::<u64>().ok()?.checked_mul(1_000);
    }
    let (mut rest, mut total) = (word, 0u64);
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (n, tail) = rest.split_at_checked(digits)?;
        let letters = tail.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, tail) = tail.split_at_checked(letters)?;
        let (unit, tail) = match unit.strip_prefix("m") {
            Some("s") | None => (unit, tail),
            Some("") => (unit, tail),
            Some(_) => return None,
        };
        let per = UNITS.iter().find(|u| u.0 == unit)?.1;
        total = total.checked_add(n.parse::<u64>().ok()?.checked_mul(per)?)?;
        rest = tail;
    }
    (!word.is_empty()).then_some(total)
}

/// Prints milliseconds (nftables time_print); nothing is `0s`.
pub fn show(ms: u64, out: &mut String) {
    if ms == 0 {
        out.push_str("0s");
    }
    let mut rest = ms;
    for (unit, per) in UNITS {
        if rest >= per {
            let _ = write!(out, "{}{unit}", rest / per);
            rest %= per;
        }
    }
}

/// Days since 1970 of a date (Howard Hinnant's `days_from_civil`).
fn days(year: i64, month: i64, day: i64) -> i64 {
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let yoe = y - era * 400;
    let doy = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    era * 146_097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719_468
}

/// Reads `YYYY-MM-DD[ HH:MM[:SS]]` as nanoseconds since 1970.
pub fn read_date(word: &str) -> Option<u128> {
    let (date, clock) = word.split_once(' ').unwrap_or((word, "00:00"));
    let mut parts = date.split('-').map(|p| p.parse::<u32>().ok());
    let (y, m, d) = (parts.next()??, parts.next()??, parts.next()??);
    if parts.next().is_some()
        || !(1970..10_000).contains(&y)
        || !(1..=12).contains(&m)
        || !(1..=31).contains(&d)
    {
        return None;
    }
    let secs = days(i64::from(y), i64::from(m), i64::from(d)) * 86_400;
    let secs = u128::try_from(secs).ok()? + read_hour(clock)?;
    Some(secs * 1_000_000_000)
}

/// Prints nanoseconds since 1970.
pub fn show_date(ns: u128, out: &mut String) -> core::fmt::Result {
    let secs = i64::try_from(ns / 1_000_000_000).unwrap_or(i64::MAX);
    let (z, clock) = (secs / 86_400 + 719_468, secs % 86_400);
    let era = z.div_euclid(146_097);
    let doe = z - era * 146_097;
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let (d, m) = (
        doy - (153 * mp + 2) / 5 + 1,
        if mp < 10 { mp + 3 } else { mp - 9 },
    );
    let y = yoe + era * 400 + i64::from(m <= 2);
    let (h, min, s) = (clock / 3600, clock / 60 % 60, clock % 60);
    write!(out, "\"{y:04}-{m:02}-{d:02} {h:02}:{min:02}:{s:02}\"")
}

/// Reads `HH:MM[:SS]` as seconds.
pub fn read_hour(word: &str) -> Option<u128> {
    let mut parts = word.split(':').map(|p| p.parse::<u32>().ok());
    let (h, m) = (parts.next()??, parts.next()??);
    let s = match parts.next() {
        Some(s) => s?,
        None => 0,
    };
    (parts.next().is_none() && h < 24 && m < 60 && s < 60)
        .then(|| u128::from(h * 3600 + m * 60 + s))
}

/// Prints seconds since midnight.
pub fn show_hour(n: u128, out: &mut String) -> core::fmt::Result {
    let (h, m, s) = (n / 3600, n / 60 % 60, n % 60);
    match s {
        0 => write!(out, "\"{h:02}:{m:02}\""),
        _ => write!(out, "\"{h:02}:{m:02}:{s:02}\""),
    }
}
