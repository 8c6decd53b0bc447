//! DNS messages as a stub resolver needs them: a query out, header and records of a reply in.
//!
//! Written after RFC 1035 section 4 and, where a libc is lax, after the libc. Independent of the code that
//! plays the servers, so that each finds the other's mistakes. Invariant: no message, however broken, makes
//! it panic, loop, or read beyond its end.

use std::net::IpAddr;

/// Type A.
pub const A: u16 = 1;
/// Type AAAA.
pub const AAAA: u16 = 28;
/// Compression pointers one name may follow; more is a loop (a name has at most 127 labels).
const POINTERS_MAX: usize = 127;

/// A query with one question; `edns`: the payload size of an OPT record. `None` when `name` is no name:
/// an empty label, one above 63 bytes, or more than 255 in all.
pub fn query(name: &str, qtype: u16, id: u16, edns: Option<u16>, ad: bool) -> Option<Vec<u8>> {
    let mut m = Vec::with_capacity(name.len() + 29);
    m.extend_from_slice(&id.to_be_bytes());
    m.extend_from_slice(&[0x01, if ad { 0x20 } else { 0 }]); // RD, AD
    let extra = u8::from(edns.is_some());
    m.extend_from_slice(&[0, 1, 0, 0, 0, 0, 0, extra]);
    for label in name.strip_suffix('.').unwrap_or(name).split('.') {
        if name == "." {
            break;
        }
        let len = u8::try_from(label.len())
            .ok()
            .filter(|l| (1..=63).contains(l))?;
        m.push(len);
        m.extend_from_slice(label.as_bytes());
    }
    m.push(0);
    if m.len() - 12 > 255 {
        return None;
    }
    m.extend_from_slice(&qtype.to_be_bytes());
    m.extend_from_slice(&[0, 1]);
    if let Some(size) = edns {
        m.extend_from_slice(&[0, 0, 41]);
        m.extend_from_slice(&size.to_be_bytes());
        m.extend_from_slice(&[0; 6]);
    }
    Some(m)
}

/// A message's header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Head {
    /// Id.
    pub id: u16,
    /// The 16 bits of flags, opcode and response code.
    pub flags: u16,
    /// How many questions, answers, authorities and additionals it says to have.
    pub counts: [u16; 4],
}

impl Head {
    /// The header; `None` in fewer than 12 bytes.
    pub fn of(m: &[u8]) -> Option<Head> {
        let word = |at: usize| Some(u16::from_be_bytes([*m.get(at)?, *m.get(at + 1)?]));
        Some(Head {
            id: word(0)?,
            flags: word(2)?,
            counts: [word(4)?, word(6)?, word(8)?, word(10)?],
        })
    }

    /// The response code in the header (without EDNS's upper bits).
    pub const fn rcode(&self) -> u16 {
        self.flags & 15
    }

    /// QR.
    pub const fn response(&self) -> bool {
        self.flags & 0x8000 != 0
    }

    /// AA.
    pub const fn aa(&self) -> bool {
        self.flags & 0x0400 != 0
    }

    /// TC.
    pub const fn tc(&self) -> bool {
        self.flags & 0x0200 != 0
    }

    /// RD.
    pub const fn rd(&self) -> bool {
        self.flags & 0x0100 != 0
    }

    /// RA.
    pub const fn ra(&self) -> bool {
        self.flags & 0x0080 != 0
    }

    /// AD.
    pub const fn ad(&self) -> bool {
        self.flags & 0x0020 != 0
    }
}

/// A question.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Question {
    /// Name with its final dot.
    pub name: String,
    /// Type.
    pub qtype: u16,
    /// Class.
    pub class: u16,
}

/// A record; its data are a range of the message, for names in it may point elsewhere.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// Owner with its final dot.
    pub name: String,
    /// Type.
    pub rtype: u16,
    /// Class.
    pub class: u16,
    /// TTL in seconds.
    pub ttl: u32,
    /// First byte of the data in the message.
    pub at: usize,
    /// Bytes of data.
    pub len: usize,
}

/// A message taken apart.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Parsed {
    /// Its header.
    pub head: Head,
    /// Questions.
    pub questions: Vec<Question>,
    /// Answers, authorities and additionals, as far as they could be read.
    pub sections: [Vec<Record>; 3],
    /// Whether all that the header announced could be read.
    pub whole: bool,
}

/// A name at `at` as text with its final dot, and where what follows it begins.
pub fn name_at(m: &[u8], at: usize) -> Option<(String, usize)> {
    let (mut text, mut pos, mut after, mut pointers) = (String::new(), at, None, 0);
    loop {
        let len = usize::from(*m.get(pos)?);
        match len {
            0 => {
                if text.is_empty() {
                    text.push('.');
                }
                return Some((text, after.unwrap_or(pos + 1)));
            }
            1..=63 => {
                let label = m.get(pos + 1..pos + 1 + len)?;
                label.iter().for_each(|b| push_escaped(&mut text, *b));
                text.push('.');
                pos += 1 + len;
                if text.len() > 4 * 255 {
                    return None;
                }
            }
            0xc0.. => {
                pointers += 1;
                if pointers > POINTERS_MAX {
                    return None;
                }
                after = after.or(Some(pos + 2));
                pos = (len & 0x3f) << 8 | usize::from(*m.get(pos + 1)?);
            }
            _ => return None,
        }
    }
}

/// RFC 1035 section 5.1: `\.` and `\DDD`.
fn push_escaped(text: &mut String, b: u8) {
    match b {
        b'.' | b'\\' | b'"' | b'(' | b')' | b';' | b'@' | b'$' => {
            text.push('\\');
            text.push(char::from(b));
        }
        0x21..=0x7e => text.push(char::from(b)),
        _ => text.push_str(&format!("\\{b:03}")),
    }
}

/// Takes a message apart; `None` without a header.
pub fn parse(m: &[u8]) -> Option<Parsed> {
    let head = Head::of(m)?;
    let mut p = Parsed {
        head,
        questions: Vec::new(),
        sections: [const { Vec::new() }; 3],
        whole: true,
    };
    let mut at = 12;
    for _ in 0..head.counts[0] {
        let Some((q, next)) = question_at(m, at) else {
            p.whole = false;
            return Some(p);
        };
        p.questions.push(q);
        at = next;
    }
    for (section, count) in p.sections.iter_mut().zip(&head.counts[1..]) {
        for _ in 0..*count {
            let Some((r, next)) = record_at(m, at) else {
                p.whole = false;
                return Some(p);
            };
            section.push(r);
            at = next;
        }
    }
    Some(p)
}

fn word(m: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*m.get(at)?, *m.get(at + 1)?]))
}

fn question_at(m: &[u8], at: usize) -> Option<(Question, usize)> {
    let (name, at) = name_at(m, at)?;
    let (qtype, class) = (word(m, at)?, word(m, at + 2)?);
    Some((Question { name, qtype, class }, at + 4))
}

fn record_at(m: &[u8], at: usize) -> Option<(Record, usize)> {
    let (name, at) = name_at(m, at)?;
    let (rtype, class) = (word(m, at)?, word(m, at + 2)?);
    let ttl = u32::from(word(m, at + 4)?) << 16 | u32::from(word(m, at + 6)?);
    let len = usize::from(word(m, at + 8)?);
    let at = at + 10;
    m.get(at..at + len)?;
    let record = Record {
        name,
        rtype,
        class,
        ttl,
        at,
        len,
    };
    Some((record, at + len))
}

/// Whether a reply repeats a query's question (glibc `__libc_res_queriesmatch`: case does not count).
pub fn answers_question(query: &[u8], reply: &[u8]) -> bool {
    let (Some(q), Some(r)) = (Head::of(query), Head::of(reply)) else {
        return false;
    };
    if q.counts[0] != 1 || r.counts[0] != 1 {
        return false;
    }
    match (question_at(query, 12), question_at(reply, 12)) {
        (Some((a, _)), Some((b, _))) => {
            a.name.eq_ignore_ascii_case(&b.name) && (a.qtype, a.class) == (b.qtype, b.class)
        }
        _ => false,
    }
}

/// The addresses in a reply's answer section; of one type, or (`None`) of both.
pub fn addresses(reply: &[u8], only: Option<u16>) -> Vec<IpAddr> {
    let Some(p) = parse(reply) else {
        return Vec::new();
    };
    let wanted = |r: &&Record| only.is_none_or(|t| r.rtype == t);
    let read = |r: &Record| address(reply, r);
    p.sections[0]
        .iter()
        .filter(wanted)
        .filter_map(read)
        .collect()
}

/// An A or AAAA record's address.
pub fn address(m: &[u8], r: &Record) -> Option<IpAddr> {
    let data = m.get(r.at..r.at + r.len)?;
    match r.rtype {
        A => <[u8; 4]>::try_from(data).ok().map(IpAddr::from),
        AAAA => <[u8; 16]>::try_from(data).ok().map(IpAddr::from),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_query_reads_back() {
        let q = query("www.Example.org", AAAA, 0x1234, Some(1200), true).unwrap();
        let p = parse(&q).unwrap();
        assert!(p.whole && p.head.rd() && p.head.ad() && !p.head.response());
        assert_eq!(
            (p.questions[0].name.as_str(), p.questions[0].qtype),
            ("www.Example.org.", AAAA)
        );
        assert_eq!((p.sections[2][0].rtype, p.sections[2][0].class), (41, 1200));
        for bad in ["", "a..b", &"x".repeat(64), &"abc.".repeat(70)] {
            assert_eq!(query(bad, A, 1, None, false), None, "{bad}");
        }
        assert_eq!(query(".", A, 1, None, false).unwrap().len(), 17);
    }

    #[test]
    fn pointers_that_go_round_are_no_name() {
        let mut m = query("a", A, 1, None, false).unwrap();
        m[7] = 1;
        m.extend_from_slice(&[0xc0, 19, 0, 1, 0, 1]);
        let p = parse(&m).unwrap();
        assert!(!p.whole && p.sections[0].is_empty());
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(m in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Some(p) = parse(&m) {
                for r in p.sections.iter().flatten() {
                    prop_assert!(r.at + r.len <= m.len());
                }
            }
            let _ = (addresses(&m, None), answers_question(&m, &m));
        }
    }
}
