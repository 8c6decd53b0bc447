//! Reads what `conntrack -L` and /proc/net/nf_conntrack print.
//!
//! Invariant: every line ends in an entry or in one finding with its place.

use super::entry::{Entry, Mode, Side, State, has_ports, proto_name};
use crate::base::{Finding, Span, limits};
use crate::nf::Counters;
use crate::nf::ct::tuple::{CtTuple, GRE};
use core::str::FromStr;
use std::net::IpAddr;

/// The entries of a dump, each with its line.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Dump {
    /// Entries in the dump's order.
    pub entries: Vec<(u32, Entry)>,
}

impl Dump {
    /// As it was printed, comments and unreadable lines left out.
    pub fn to_text(&self) -> String {
        let lines = self.entries.iter().map(|(_, e)| format!("{e}\n"));
        lines.collect()
    }
}

/// Reads a dump. Blank lines, comments and the tool's own closing line are passed over.
pub fn parse(file: &str, text: &str) -> (Dump, Vec<Finding>) {
    let mut dump = Dump::default();
    let mut findings = Vec::new();
    for (line, number) in text.lines().zip(1u32..) {
        if is_noise(line) {
            continue;
        }
        match parse_line(line) {
            Ok(entry) => dump.entries.push((number, entry)),
            Err(wrong) => push(&mut findings, wrong.finding(file, number)),
        }
    }
    (dump, findings)
}

/// Findings are bounded: what is beyond the bound is not told one by one.
pub(super) fn push(findings: &mut Vec<Finding>, f: Finding) {
    if findings.len() < limits::NF_FINDINGS_MAX {
        findings.push(f);
    }
}

/// Whether a line of a dump says nothing of a connection.
pub(super) fn is_noise(line: &str) -> bool {
    let l = line.trim();
    l.is_empty() || l.starts_with('#') || l.starts_with("conntrack v")
}

/// What is wrong with a line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Wrong {
    column: usize,
    message: String,
}

impl Wrong {
    pub fn finding(self, file: &str, line: u32) -> Finding {
        let column = u32::try_from(self.column + 1).unwrap_or(u32::MAX);
        Finding::error(
            Span::new(file, line, column),
            self.message,
            "this connection is left out; give the line as `conntrack -L` prints it",
        )
    }
}

/// The words of a line, each with its column; `[start=...]` is one word.
pub(super) struct Words<'a> {
    line: &'a str,
    at: usize,
}

impl<'a> Words<'a> {
    pub fn new(line: &'a str) -> Self {
        Words { line, at: 0 }
    }

    fn rest(&self) -> &'a str {
        self.line.get(self.at..).unwrap_or("")
    }

    fn skip_space(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
    }

    /// The next word, not taken.
    pub fn peek(&mut self) -> &'a str {
        self.skip_space();
        let rest = self.rest();
        let stamp = rest.starts_with("[start=") || rest.starts_with("[stop=");
        let end = if stamp {
            rest.find(']').map(|at| at + 1)
        } else {
            rest.find(char::is_whitespace)
        };
        rest.get(..end.unwrap_or(rest.len())).unwrap_or(rest)
    }

    pub fn next(&mut self) -> &'a str {
        let word = self.peek();
        self.at += word.len();
        word
    }

    /// An error about the next word.
    pub fn wrong<T>(&mut self, expected: &str) -> Result<T, Wrong> {
        let word = self.peek();
        let found = if word.is_empty() {
            "the line ends".to_owned()
        } else {
            format!("found {word:?}")
        };
        Err(Wrong {
            column: self.at,
            message: format!("expected {expected}, {found}"),
        })
    }

    /// `key=value`, if the next word is that.
    pub fn value(&mut self, key: &str) -> Option<&'a str> {
        let word = self.peek();
        let value = word.strip_prefix(key)?.strip_prefix('=')?;
        self.at += word.len();
        Some(value)
    }

    /// `key=number`, if the next word begins so.
    pub fn number<T: FromStr>(&mut self, key: &str) -> Result<Option<T>, Wrong> {
        let before = self.at;
        match self.value(key).map(str::parse) {
            None => Ok(None),
            Some(Ok(n)) => Ok(Some(n)),
            Some(Err(_)) => {
                self.at = before;
                self.wrong(&format!("{key}= with a number"))
            }
        }
    }

    /// `key=value` that must be there.
    pub fn must<T: FromStr>(&mut self, key: &str, what: &str) -> Result<T, Wrong> {
        let before = self.at;
        match self.value(key).and_then(|v| v.parse().ok()) {
            Some(v) => Ok(v),
            None => {
                self.at = before;
                self.wrong(&format!("{key}= with {what}"))
            }
        }
    }
}

/// One line, all of it.
fn parse_line(line: &str) -> Result<Entry, Wrong> {
    let mut w = Words::new(line);
    let entry = parse_entry(&mut w)?;
    if w.peek().is_empty() {
        Ok(entry)
    } else {
        w.wrong("the end of the line")
    }
}

/// One entry, up to the first word that is not its.
pub(super) fn parse_entry(w: &mut Words<'_>) -> Result<Entry, Wrong> {
    let layer3 = match w.peek() {
        "ipv4" | "ipv6" => {
            let number = if w.next() == "ipv4" { "2" } else { "10" };
            if w.peek() != number {
                return w.wrong(&format!("{number}, the number of that network layer"));
            }
            w.next();
            true
        }
        _ => false,
    };
    let name = w.peek();
    let known = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') && !name.is_empty();
    if !known {
        return w.wrong("a protocol's name");
    }
    w.next();
    let Ok(protocol) = w.peek().parse::<u8>() else {
        return w.wrong("the protocol's number");
    };
    if proto_name(protocol) != name {
        return w.wrong(&format!("the number of protocol {name:?}"));
    }
    w.next();
    let timeout = w.peek().parse().ok();
    if timeout.is_some() {
        w.next();
    }
    let state = State::of_name(protocol, w.peek());
    if state.is_some() {
        w.next();
    } else if !w.peek().contains('=') {
        return w.wrong("a state or src=");
    }
    let gre = parse_gre(w)?;
    let mut full_v6 = false;
    let orig = parse_side(w, protocol, "zone-orig", &mut full_v6)?;
    let unreplied = w.peek() == "[UNREPLIED]";
    if unreplied {
        w.next();
    }
    let reply = parse_side(w, protocol, "zone-reply", &mut full_v6)?;
    if orig.tuple.src.is_ipv4() != reply.tuple.src.is_ipv4() {
        return w.wrong("both directions in one family, before this");
    }
    let mode = Mode::ALL.into_iter().find(|m| m.word() == w.peek());
    if mode.is_some() {
        w.next();
    }
    let entry = Entry {
        layer3,
        full_v6,
        timeout,
        state,
        gre,
        sides: [orig, reply],
        unreplied,
        mode,
        mark: None,
        secmark: None,
        secctx: None,
        zone: None,
        delta_time: None,
        start: None,
        stop: None,
        helper: None,
        uses: None,
        id: None,
        labels: None,
    };
    parse_tail(w, entry)
}

fn parse_gre(w: &mut Words<'_>) -> Result<Option<(u64, u64)>, Wrong> {
    if !w.peek().starts_with("timeout=") {
        return Ok(None);
    }
    let Some(short) = w
        .peek()
        .strip_prefix("timeout=")
        .and_then(|v| v.strip_suffix(',')?.parse().ok())
    else {
        return w.wrong("timeout= with seconds and a comma");
    };
    w.next();
    Ok(Some((short, w.must("stream_timeout", "seconds")?)))
}

fn parse_tail(w: &mut Words<'_>, mut e: Entry) -> Result<Entry, Wrong> {
    let owned = |v: Option<&str>| v.map(str::to_owned);
    e.mark = w.number("mark")?;
    e.secmark = w.number("secmark")?;
    e.secctx = owned(w.value("secctx"));
    e.zone = w.number("zone")?;
    e.delta_time = w.number("delta-time")?;
    let stamp = |v: Option<&str>| v.and_then(|v| v.strip_suffix(']')).map(str::to_owned);
    e.start = stamp(w.value("[start"));
    e.stop = stamp(w.value("[stop"));
    e.helper = owned(w.value("helper"));
    e.uses = w.number("use")?;
    e.id = w.number("id")?;
    e.labels = owned(w.value("labels"));
    Ok(e)
}

fn parse_side(
    w: &mut Words<'_>,
    protocol: u8,
    zone: &str,
    full_v6: &mut bool,
) -> Result<Side, Wrong> {
    // The longest short form of an IPv6 address has no leading zeros.
    *full_v6 |= w.peek().len() == "src=".len() + 39 && w.peek().contains(":0");
    let src: IpAddr = w.must("src", "an address")?;
    if w.peek()
        .strip_prefix("dst=")
        .is_some_and(|a| a.contains(':'))
        != src.is_ipv6()
    {
        return w.wrong("dst= with an address of the same family");
    }
    let dst = w.must("dst", "an address")?;
    let (sport, dport) = if has_ports(protocol) {
        (w.must("sport", "a port")?, w.must("dport", "a port")?)
    } else if protocol == GRE {
        (key(w, "srckey")?, key(w, "dstkey")?)
    } else if matches!(protocol, 1 | 58) {
        let typ: u8 = w.must("type", "a number below 256")?;
        let code: u8 = w.must("code", "a number below 256")?;
        let id = w.must("id", "a number below 65536")?;
        (id, u16::from_be_bytes([typ, code]))
    } else {
        (0, 0)
    };
    let zone = w.number(zone)?;
    let counters = match w.number("packets")? {
        Some(packets) => Some(Counters {
            packets,
            bytes: w.must("bytes", "a number")?,
        }),
        None => None,
    };
    Ok(Side {
        tuple: CtTuple {
            proto: protocol,
            src,
            dst,
            sport,
            dport,
        },
        zone,
        counters,
    })
}

fn key(w: &mut Words<'_>, name: &str) -> Result<u16, Wrong> {
    let value = w
        .peek()
        .strip_prefix(name)
        .and_then(|v| u16::from_str_radix(v.strip_prefix("=0x")?, 16).ok());
    match value {
        Some(v) => {
            w.next();
            Ok(v)
        }
        None => w.wrong(&format!("{name}=0x with a hexadecimal number below 10000")),
    }
}
