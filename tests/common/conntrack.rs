//! Lines of `conntrack -L` and `-E`, taken apart for comparison.
//!
//! A reader of the judge's own: the product's is what is judged.

use podpath::nf::ct::CtTuple;
use podpath::nf::forced::Choice;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// One connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Line {
    /// All but the timeout and the use count.
    pub rest: String,
    /// Seconds left; not there for dying entries.
    pub timeout: Option<i64>,
    /// Protocol number.
    pub proto: u8,
    /// Keys and values of the original direction, then of the reply.
    pub fields: [BTreeMap<String, String>; 2],
}

/// Reads a line, with or without `[NEW]` and family before it.
pub fn parse(line: &str) -> Option<Line> {
    let mut words = line.split_whitespace().peekable();
    if words.peek().is_some_and(|w| w.starts_with('[')) {
        words.next();
    }
    if words.peek().is_some_and(|w| w.starts_with("ipv")) {
        words.next();
        words.next();
    }
    let (name, number) = (words.next()?, words.next()?.parse().ok()?);
    let timeout = words.peek().and_then(|w| w.parse().ok());
    if timeout.is_some() {
        words.next();
    }
    let mut fields: [BTreeMap<String, String>; 2] = Default::default();
    let mut rest = name.to_owned();
    for w in words.filter(|w| !w.starts_with("use=") && !w.starts_with("id=0x")) {
        rest += " ";
        rest += w;
        if let Some((k, v)) = w.split_once('=') {
            let second = fields[0].contains_key(k);
            fields[usize::from(second)].insert(k.to_owned(), v.to_owned());
        }
    }
    Some(Line {
        rest,
        timeout,
        proto: number,
        fields,
    })
}

impl Line {
    /// An address of a direction.
    pub fn ip(&self, dir: usize, key: &str) -> Option<IpAddr> {
        self.fields[dir].get(key)?.parse().ok()
    }

    /// A number of a direction.
    pub fn number(&self, dir: usize, key: &str) -> Option<u16> {
        self.fields[dir].get(key)?.parse().ok()
    }
}

/// What NAT decided, of a `[NEW]` line.
pub fn choice(event: &str) -> Option<(CtTuple, Choice)> {
    let l = parse(event)?;
    let (src, dst) = (l.ip(0, "src")?, l.ip(0, "dst")?);
    let icmp = l.number(0, "id");
    let (sport, dport) = match icmp {
        Some(id) => (id, l.number(0, "type")? << 8 | l.number(0, "code")?),
        None => (
            l.number(0, "sport").unwrap_or(0),
            l.number(0, "dport").unwrap_or(0),
        ),
    };
    let proto = l.proto;
    let orig = CtTuple {
        proto,
        src,
        dst,
        sport,
        dport,
    };
    let (to, from) = (l.ip(1, "src")?, l.ip(1, "dst")?);
    let (kept, to_port, from_port) = match icmp {
        Some(id) => (id, id, l.number(1, "id")?),
        None => (
            dport,
            l.number(1, "sport").unwrap_or(0),
            l.number(1, "dport").unwrap_or(0),
        ),
    };
    let choice = Choice {
        dnat: ((to, to_port) != (dst, kept)).then_some((to, to_port)),
        snat: ((from, from_port) != (src, sport)).then_some((from, from_port)),
    };
    Some((orig, choice))
}
