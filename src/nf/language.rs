//! Values of `-m u32`, `-m string` and `-m time`.
//!
//! Small languages of their own (libxt_u32.c, libxt_string.c, libxt_time.c). Invariant: as in
//! [`super::value`].

use super::field::Value;
use super::table::Family;
use super::value::number;
use super::words;

fn first<'a>(w: &[&'a str]) -> &'a str {
    w.first().copied().unwrap_or_default()
}

/// A step from one number to the next in a u32 location.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum U32Op {
    /// `&`: and with the number.
    And,
    /// `<<`.
    Left,
    /// `>>`.
    Right,
    /// `@`: move the base by the value, then read at the number.
    At,
}

/// One test: where the value comes from, and the ranges it must be in.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct U32Test {
    /// Offset of the first four bytes.
    pub start: u32,
    /// What follows.
    pub steps: Vec<(U32Op, u32)>,
    /// Ranges, both ends included.
    pub values: Vec<(u32, u32)>,
}

/// The tests of `-m u32`, all of which must hold.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct U32(pub Vec<U32Test>);

const U32_OPS: [(&str, U32Op); 4] = [
    ("<<", U32Op::Left),
    (">>", U32Op::Right),
    ("&", U32Op::And),
    ("@", U32Op::At),
];

fn u32_number(text: &str) -> Option<u32> {
    number(text.trim()).and_then(|n| u32::try_from(n).ok())
}

fn u32_test(text: &str) -> Option<U32Test> {
    let (location, values) = text.split_once('=')?;
    let mut test = U32Test::default();
    let cut = |t: &str| t.find(['<', '>', '&', '@']).unwrap_or(t.len());
    let mut rest = location;
    test.start = u32_number(rest.get(..cut(rest))?)?;
    rest = rest.get(cut(rest)..)?;
    while !rest.is_empty() {
        let (op, after) = U32_OPS
            .iter()
            .find_map(|(s, op)| Some((*op, rest.strip_prefix(s)?)))?;
        let end = cut(after);
        test.steps.push((op, u32_number(after.get(..end)?)?));
        rest = after.get(end..)?;
    }
    for range in values.split(',') {
        let (min, max) = range.split_once(':').unwrap_or((range, range));
        test.values.push((u32_number(min)?, u32_number(max)?));
    }
    // uapi xt_u32.h XT_U32_MAXSIZE.
    (test.steps.len() <= 10 && test.values.len() <= 10).then_some(test)
}

impl Value for U32 {
    fn read(_: &str, w: &[&str], _: Family) -> Result<Self, String> {
        let tests: Option<Vec<_>> = first(w).split("&&").map(u32_test).collect();
        match tests {
            Some(tests) if tests.len() <= 10 => Ok(U32(tests)),
            _ => Err("u32 tests such as 0>>22&0x3C@4=0x50,80:90".to_owned()),
        }
    }
    fn text(&self, out: &mut String) {
        let mut text = String::new();
        for (i, test) in self.0.iter().enumerate() {
            text.push_str(if i > 0 { "&&" } else { "" });
            text.push_str(&format!("{:#x}", test.start));
            for (op, n) in &test.steps {
                let sign = U32_OPS.iter().find(|o| o.1 == *op).map_or("", |o| o.0);
                text.push_str(&format!("{sign}{n:#x}"));
            }
            for (j, (min, max)) in test.values.iter().enumerate() {
                text.push(if j > 0 { ',' } else { '=' });
                text.push_str(&format!("{min:#x}"));
                if min != max {
                    text.push_str(&format!(":{max:#x}"));
                }
            }
        }
        words::always_quote(&text, out);
    }
}

/// The bytes that `-m string` looks for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Pattern(pub Vec<u8>);

impl Pattern {
    /// Text with hexadecimal bytes between bars; a backslash takes the next letter as it is.
    fn hex(text: &str) -> Option<Vec<u8>> {
        let (mut out, mut digits, mut inside) = (Vec::new(), String::new(), false);
        let mut bytes = text.bytes();
        while let Some(b) = bytes.next() {
            match (inside, b) {
                (_, b'|') => inside = !inside,
                (true, b' ') => {}
                (true, _) => digits.push(char::from(b)),
                (false, b'\\') => out.push(bytes.next()?),
                (false, _) => out.push(b),
            }
            if digits.len() == 2 {
                out.push(u8::from_str_radix(&digits, 16).ok()?);
                digits.clear();
            }
        }
        (!inside && digits.is_empty()).then_some(out)
    }
}

impl Value for Pattern {
    fn read(o: &str, w: &[&str], _: Family) -> Result<Self, String> {
        let bytes = match o {
            "--hex-string" => Pattern::hex(first(w)),
            _ => Some(first(w).as_bytes().to_vec()),
        };
        match bytes {
            // uapi xt_string.h XT_STRING_MAX_PATTERN_SIZE.
            Some(b) if (1..=128).contains(&b.len()) => Ok(Pattern(b)),
            _ => Err("a pattern of 1 to 128 bytes; hexadecimal pairs between bars".to_owned()),
        }
    }
    fn show(&self, _: &str, out: &mut String) {
        let plain =
            self.0.iter().all(|b| (0x20..0x7f).contains(b)) && self.0.last() != Some(&b'\\');
        out.push_str(if plain {
            " --string "
        } else {
            " --hex-string "
        });
        match plain {
            true => words::always_quote(&String::from_utf8_lossy(&self.0), out),
            false => self.text(out),
        }
    }
    fn text(&self, out: &mut String) {
        out.push_str("\"|");
        self.0
            .iter()
            .for_each(|b| out.push_str(&format!("{b:02x}")));
        out.push_str("|\"");
    }
}

/// Second of a day.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct DayTime(pub u32);

fn day_time(text: &str) -> Option<u32> {
    let mut parts = text.split(':').map(|p| p.parse::<u32>().ok());
    let (h, m, s) = (
        parts.next()??,
        parts.next().unwrap_or(Some(0))?,
        parts.next().unwrap_or(Some(0))?,
    );
    (h < 24 && m < 60 && s < 60 && parts.next().is_none()).then_some(h * 3600 + m * 60 + s)
}

impl Value for DayTime {
    fn read(_: &str, w: &[&str], _: Family) -> Result<Self, String> {
        let time = first(w).contains(':').then(|| day_time(first(w))).flatten();
        time.map(DayTime)
            .ok_or_else(|| "a time hh:mm or hh:mm:ss".to_owned())
    }
    fn text(&self, out: &mut String) {
        let t = self.0;
        out.push_str(&format!("{:02}:{:02}:{:02}", t / 3600, t / 60 % 60, t % 60));
    }
}

/// Seconds since 1970, as far as 32 signed bits go.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Moment(pub u32);

impl Moment {
    /// `--datestop` when none is given.
    pub const LAST: Self = Moment(i32::MAX as u32);
}

/// Days since 1970-01-01 of the first of March of `year`, and the length of the months from March on.
fn days(year: u32, month: u32, day: u32) -> Option<u32> {
    if !(1970..=2038).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let (y, m) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1;
    days.checked_sub(719_468)
}

impl Value for Moment {
    fn read(_: &str, w: &[&str], _: Family) -> Result<Self, String> {
        let moment = || {
            let (date, time) = first(w).split_once(['T', 't']).unwrap_or((first(w), "0"));
            let mut parts = date.split('-').map(|p| p.parse::<u32>().ok());
            let (y, m, d) = (
                parts.next()??,
                parts.next().unwrap_or(Some(1))?,
                parts.next().unwrap_or(Some(1))?,
            );
            let seconds = days(y, m, d)?
                .checked_mul(86_400)?
                .checked_add(day_time(time)?)?;
            (parts.next().is_none() && seconds <= Moment::LAST.0).then_some(Moment(seconds))
        };
        moment().ok_or_else(|| "a date YYYY-MM-DDThh:mm:ss up to 2038".to_owned())
    }
    fn text(&self, out: &mut String) {
        // Days to year, month, day in the calendar that begins in March.
        let z = self.0 / 86_400 + 719_468;
        let (era, doe) = (z / 146_097, z % 146_097);
        let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
        let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
        let mp = (5 * doy + 2) / 153;
        let month = if mp < 10 { mp + 3 } else { mp - 9 };
        let year = era * 400 + yoe + u32::from(month < 3);
        out.push_str(&format!(
            "{year:04}-{month:02}-{:02}T",
            doy - (153 * mp + 2) / 5 + 1
        ));
        DayTime(self.0 % 86_400).text(out);
    }
}

/// Days of a month, bit 1 is the first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Monthdays(pub u32);

impl Monthdays {
    /// All of them.
    pub const ALL: u32 = 0xffff_fffe;
}

impl Value for Monthdays {
    fn read(_: &str, w: &[&str], _: Family) -> Result<Self, String> {
        let mut set = 0;
        for day in first(w).split(',') {
            match day.parse::<u32>() {
                Ok(d) if (1..=31).contains(&d) => set |= 1 << d,
                _ => return Err("a list of days from 1 to 31".to_owned()),
            }
        }
        Ok(Monthdays(set))
    }
    fn text(&self, out: &mut String) {
        let days: Vec<String> = (1..32)
            .filter(|d| self.0 >> d & 1 == 1)
            .map(|d: u32| d.to_string())
            .collect();
        out.push_str(&days.join(","));
    }
}
