//! Quantities in fields: durations with units, CIDRs with prefixes, percentages, scalars that are text.
//!
//! Durations are Go's (`time.ParseDuration`), as everywhere in Kubernetes, but exact and never
//! negative.

use core::fmt::{self, Display};
use core::marker::PhantomData;
use core::str::FromStr;
use core::time::Duration;
use std::collections::BTreeMap;

use ipnetwork::IpNetwork;
use serde::de::{self, Deserialize, Deserializer, Visitor};

const DURATION: &str = "a duration such as 200us, 1500ms, 3s or 1m30s";
const CIDR: &str = "a CIDR such as 10.244.0.0/16";

/// Reads `3s`, `1.5ms`, `1m30s`, `0`.
///
/// # Errors
/// What was expected, when the text is not a duration or too long for 64-bit nanoseconds.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("expected {DURATION}, found \"{text}\"");
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = text;
    let mut nanos: u128 = 0;
    while !rest.is_empty() {
        let end = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(|| missing_unit(text))?;
        let (number, after) = rest.split_at_checked(end).ok_or_else(wrong)?;
        let end = after
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(after.len());
        let (unit, after) = after.split_at_checked(end).ok_or_else(wrong)?;
        let scale: u128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return Err(wrong()),
        };
        nanos = scaled(number, scale)
            .and_then(|part| nanos.checked_add(part))
            .ok_or_else(wrong)?;
        rest = after;
    }
    match u64::try_from(nanos) {
        Ok(nanos) if !text.is_empty() => Ok(Duration::from_nanos(nanos)),
        _ => Err(wrong()),
    }
}

fn missing_unit(text: &str) -> String {
    format!("expected {DURATION}, found \"{text}\" without a unit")
}

/// A decimal number times `scale`, whole nanoseconds.
fn scaled(number: &str, scale: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let digits = |text: &str| {
        if text.is_empty() {
            Some(0)
        } else {
            text.parse::<u64>().ok().map(u128::from)
        }
    };
    // Beyond 18 places a nanosecond is not touched.
    let fraction = fraction.get(..fraction.len().min(18))?;
    let divisor = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    Some(digits(whole)?.checked_mul(scale)? + digits(fraction)?.checked_mul(scale)? / divisor)
}

/// Reads a value from its text.
struct Text<T, F>(&'static str, F, PhantomData<T>);

impl<T, F: Fn(&str) -> Result<T, String>> Visitor<'_> for Text<T, F> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        (self.1)(text).map_err(E::custom)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        (self.1)(&number.to_string()).map_err(E::custom)
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<T, E> {
        (self.1)(&number.to_string()).map_err(E::custom)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<T, E> {
        // A sysctl set to `yes` or `true` means 1.
        (self.1)(if value { "1" } else { "0" }).map_err(E::custom)
    }
}

fn text<'de, T, D: Deserializer<'de>>(
    from: D,
    expected: &'static str,
    read: impl Fn(&str) -> Result<T, String>,
) -> Result<T, D::Error> {
    from.deserialize_any(Text(expected, read, PhantomData))
}

pub(super) fn duration<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    text(from, DURATION, parse_duration)
}

pub(super) fn some_duration<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<Duration>, D::Error> {
    duration(from).map(Some)
}

fn parse_cidr(written: &str) -> Result<IpNetwork, String> {
    let found = || format!("expected {CIDR}, found \"{written}\"");
    if !written.contains('/') {
        return Err(format!("{} without a prefix length", found()));
    }
    written.parse().map_err(|_| found())
}

/// A CIDR that must have its prefix.
pub(super) struct Cidr(IpNetwork);

impl<'de> Deserialize<'de> for Cidr {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        text(from, CIDR, parse_cidr).map(Cidr)
    }
}

pub(super) fn cidr<'de, D: Deserializer<'de>>(from: D) -> Result<IpNetwork, D::Error> {
    Cidr::deserialize(from).map(|cidr| cidr.0)
}

pub(super) fn some_cidr<'de, D: Deserializer<'de>>(from: D) -> Result<Option<IpNetwork>, D::Error> {
    cidr(from).map(Some)
}

pub(super) fn cidrs<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<IpNetwork>, D::Error> {
    Vec::<Cidr>::deserialize(from).map(|list| list.into_iter().map(|cidr| cidr.0).collect())
}

/// A value that `T` reads from text.
struct Parsed<T>(T);

impl<'de, T: FromStr<Err: Display>> Deserialize<'de> for Parsed<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let read = |text: &str| {
            text.parse().map_err(|e: T::Err| match e.to_string() {
                said if said.starts_with("expected") => said,
                // The standard library's and ipnetwork's addresses do not say what they wanted.
                _ => format!(
                    "expected an address such as 192.0.2.10 or 192.0.2.10/24, found \"{text}\""
                ),
            })
        };
        text(from, "a string", read).map(Parsed)
    }
}

pub(super) fn parsed<'de, T: FromStr<Err: Display>, D: Deserializer<'de>>(
    from: D,
) -> Result<T, D::Error> {
    Parsed::deserialize(from).map(|parsed| parsed.0)
}

pub(super) fn some_parsed<'de, T: FromStr<Err: Display>, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<T>, D::Error> {
    parsed(from).map(Some)
}

pub(super) fn all_parsed<'de, T: FromStr<Err: Display>, D: Deserializer<'de>>(
    from: D,
) -> Result<Vec<T>, D::Error> {
    Vec::<Parsed<T>>::deserialize(from)
        .map(|list| list.into_iter().map(|parsed| parsed.0).collect())
}

/// Values that are text but that people write as numbers: sysctls.
pub(super) fn scalars<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<BTreeMap<String, String>, D::Error> {
    let map = BTreeMap::<String, Parsed<String>>::deserialize(from)?;
    Ok(map
        .into_iter()
        .map(|(name, value)| (name, value.0))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, nanos) in [
            ("0", 0),
            ("200us", 200_000),
            ("200µs", 200_000),
            ("1500ms", 1_500_000_000),
            ("1.5s", 1_500_000_000),
            ("1m30s", 90_000_000_000),
            (".5ms", 500_000),
            ("0.1s", 100_000_000),
        ] {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_nanos(nanos)),
                "{text}"
            );
        }
        for text in [
            "",
            "3",
            "s",
            "3 s",
            "-1s",
            "1.2.3s",
            ".s",
            "99999999999h",
            "3sec",
        ] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        assert!(
            parse_duration("200")
                .unwrap_err()
                .contains("without a unit")
        );
    }
}
