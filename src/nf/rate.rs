//! Rates of `limit` and `hashlimit`, in the fixed-point units the kernel keeps.
//!
//! A rate is stored as the time one packet costs, so that a rate prints as it will be enforced (libxt_limit.c
//! `parse_rate`, `print_rate`). Invariant: a period is never 0.

use super::field::Value;
use super::table::Family;

/// Units of a rate with their seconds, longest first.
const UNITS: [(&str, u64); 4] = [("day", 86_400), ("hour", 3_600), ("min", 60), ("sec", 1)];

/// `N/unit` as the period of one packet in units of 1/SCALE s.
fn period(text: &str, scale: u64) -> Result<u64, String> {
    let expected = || "a rate such as 5/min (sec, min, hour, day)".to_owned();
    let (n, unit) = text.split_once('/').unwrap_or((text, "sec"));
    let n: u64 = n.parse().map_err(|_| expected())?;
    let full = ["second", "minute", "hour", "day"];
    let known = |u: &str| !unit.is_empty() && u.starts_with(&unit.to_ascii_lowercase());
    let seconds = match full.iter().position(|u| known(u)) {
        Some(0) => 1,
        Some(1) => 60,
        Some(2) => 3_600,
        Some(_) => 86_400,
        None => return Err(expected()),
    };
    match (scale * seconds).checked_div(n) {
        Some(p) if p > 0 => Ok(p),
        _ => Err("a rate above 0 and not too fast".to_owned()),
    }
}

/// Prints a period in the longest unit that shows it without loss, as `print_rate` chooses.
fn print(period: u64, scale: u64, out: &mut String) {
    let period = period.max(1);
    let mut chosen = UNITS[0];
    for (name, seconds) in UNITS.into_iter().skip(1) {
        let mult = seconds * scale;
        if period > mult || mult / period < mult % period {
            break;
        }
        chosen = (name, seconds);
    }
    out.push_str(&format!("{}/{}", chosen.1 * scale / period, chosen.0));
}

/// A rate of `-m limit`: one packet's cost in 1/10000 s (uapi xt_limit.h XT_LIMIT_SCALE).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct LimitRate(pub u64);

impl LimitRate {
    /// 3/hour, what `-m limit` means without `--limit`.
    pub const DEFAULT: Self = LimitRate(12_000_000);
}

impl Value for LimitRate {
    fn read(_: &str, w: &[&str], _: Family) -> Result<Self, String> {
        period(w.first().copied().unwrap_or_default(), 10_000).map(LimitRate)
    }
    fn text(&self, out: &mut String) {
        print(self.0, 10_000, out);
    }
}

/// Whether a hashlimit matches up to its rate or above it, and the rate.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct HashRate {
    /// `--hashlimit-above`.
    pub above: bool,
    /// The rate.
    pub rate: Rate,
}

/// Packets or bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Rate {
    /// One packet's cost in microseconds (uapi xt_hashlimit.h XT_HASHLIMIT_SCALE_v2).
    Packet(u64),
    /// Bytes per second.
    Bytes(u64),
}

impl Value for HashRate {
    fn read(option: &str, w: &[&str], _: Family) -> Result<Self, String> {
        let text = w.first().copied().unwrap_or_default();
        let rate = match text.strip_suffix("b/s") {
            Some(_) => Rate::Bytes(Bytes::parse(text.trim_end_matches("/s"))?.0),
            None => Rate::Packet(period(text, 1_000_000)?),
        };
        let above = option == "--hashlimit-above";
        Ok(HashRate { above, rate })
    }
    fn show(&self, _: &str, out: &mut String) {
        out.push_str(if self.above {
            " --hashlimit-above "
        } else {
            " --hashlimit-upto "
        });
        self.text(out);
    }
    fn text(&self, out: &mut String) {
        match self.rate {
            Rate::Packet(p) => print(p, 1_000_000, out),
            Rate::Bytes(b) => {
                Bytes(b).text(out);
                out.push_str("/s");
            }
        }
    }
}

/// A number of packets, or of bytes with `b`, `kb`, `mb` behind it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Burst {
    /// Packets.
    Packets(u32),
    /// Bytes.
    Bytes(u64),
}

impl Value for Burst {
    fn read(_: &str, w: &[&str], _: Family) -> Result<Self, String> {
        let text = w.first().copied().unwrap_or_default();
        match text.parse() {
            Ok(n) => Ok(Burst::Packets(n)),
            Err(_) => Ok(Burst::Bytes(Bytes::parse(text)?.0)),
        }
    }
    fn text(&self, out: &mut String) {
        match self {
            Burst::Packets(n) => out.push_str(&n.to_string()),
            Burst::Bytes(b) => Bytes(*b).text(out),
        }
    }
}

struct Bytes(u64);

impl Bytes {
    fn parse(text: &str) -> Result<Self, String> {
        let units = [("kb", 10), ("mb", 20), ("b", 0)];
        let cut = units
            .iter()
            .find_map(|(u, shift)| Some((text.strip_suffix(u)?, shift)));
        let value = cut.and_then(|(n, shift)| n.parse::<u64>().ok()?.checked_mul(1 << shift));
        value
            .map(Bytes)
            .ok_or_else(|| "a number of bytes such as 512kb".to_owned())
    }

    fn text(&self, out: &mut String) {
        let whole = |shift: u32| self.0 > 0 && self.0.is_multiple_of(1 << shift);
        let (shift, unit) = match () {
            () if whole(20) => (20, "mb"),
            () if whole(10) => (10, "kb"),
            () => (0, "b"),
        };
        out.push_str(&format!("{}{unit}", self.0 >> shift));
    }
}
