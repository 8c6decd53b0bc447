//! Records, types and response codes as text, as dig prints them.
//!
//! Types and codes by their names in IANA's registry; data of types without a form of their own as RFC 3597
//! section 5 has it. Invariant: any bytes give a text.

use super::message::{Parsed, Record, name_at};
use std::net::{Ipv4Addr, Ipv6Addr};

/// Types with a name.
const TYPES: &[(u16, &str)] = &[
    (1, "A"),
    (2, "NS"),
    (5, "CNAME"),
    (6, "SOA"),
    (12, "PTR"),
    (13, "HINFO"),
    (15, "MX"),
    (16, "TXT"),
    (28, "AAAA"),
    (33, "SRV"),
    (41, "OPT"),
    (43, "DS"),
    (46, "RRSIG"),
    (48, "DNSKEY"),
    (64, "SVCB"),
    (65, "HTTPS"),
    (251, "IXFR"),
    (252, "AXFR"),
    (255, "ANY"),
    (257, "CAA"),
];

/// Response codes by number.
const RCODES: &[&str] = &[
    "NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "YXDOMAIN", "YXRRSET",
    "NXRRSET", "NOTAUTH", "NOTZONE",
];

/// A type's name: `AAAA`, `TYPE99`.
pub fn type_name(t: u16) -> String {
    let known = TYPES.iter().find(|(n, _)| *n == t);
    known.map_or_else(|| format!("TYPE{t}"), |(_, name)| (*name).to_owned())
}

/// The type of a name, in any case, or `TYPE99`.
pub fn type_number(name: &str) -> Option<u16> {
    let upper = name.to_ascii_uppercase();
    let known = TYPES.iter().find(|(_, n)| *n == upper).map(|(t, _)| *t);
    known.or_else(|| upper.strip_prefix("TYPE")?.parse().ok())
}

/// A response code's name: `NXDOMAIN`, `RCODE99`.
pub fn rcode_name(code: u16) -> String {
    match (RCODES.get(usize::from(code)), code) {
        (Some(name), _) => (*name).to_owned(),
        (None, 16) => "BADVERS".to_owned(),
        (None, _) => format!("RCODE{code}"),
    }
}

/// A class's name.
pub fn class_name(class: u16) -> String {
    match class {
        1 => "IN".to_owned(),
        3 => "CH".to_owned(),
        4 => "HS".to_owned(),
        254 => "NONE".to_owned(),
        255 => "ANY".to_owned(),
        other => format!("CLASS{other}"),
    }
}

/// A record's data.
pub fn rdata(m: &[u8], r: &Record) -> String {
    let data = m.get(r.at..r.at + r.len).unwrap_or(&[]);
    form(m, r, data).unwrap_or_else(|| unknown(data))
}

fn unknown(data: &[u8]) -> String {
    let hex: String = data.iter().map(|b| format!("{b:02X}")).collect();
    format!("\\# {} {hex}", data.len()).trim_end().to_owned()
}

fn form(m: &[u8], r: &Record, data: &[u8]) -> Option<String> {
    let word = |at: usize| Some(u16::from_be_bytes([*data.get(at)?, *data.get(at + 1)?]));
    let long = |at: usize| Some(u32::from(word(at)?) << 16 | u32::from(word(at + 2)?));
    let name = |skip: usize| name_at(m, r.at + skip).map(|(n, _)| n);
    match r.rtype {
        1 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(data).ok()?).to_string()),
        28 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(data).ok()?).to_string()),
        2 | 5 | 12 => name(0),
        15 => Some(format!("{} {}", word(0)?, name(2)?)),
        33 => Some(format!(
            "{} {} {} {}",
            word(0)?,
            word(2)?,
            word(4)?,
            name(6)?
        )),
        13 | 16 => strings(data),
        6 => {
            let (mname, at) = name_at(m, r.at)?;
            let (rname, at) = name_at(m, at)?;
            let at = at.checked_sub(r.at)?;
            let numbers: Option<Vec<String>> = (0..5)
                .map(|i| Some(long(at + 4 * i)?.to_string()))
                .collect();
            Some(format!("{mname} {rname} {}", numbers?.join(" ")))
        }
        _ => None,
    }
}

/// Character strings, each in quotes.
fn strings(mut data: &[u8]) -> Option<String> {
    let mut out: Vec<String> = Vec::new();
    while let Some((len, rest)) = data.split_first() {
        let text = rest.get(..usize::from(*len))?;
        let shown: String = text
            .iter()
            .map(|b| match b {
                b'"' | b'\\' => format!("\\{}", char::from(*b)),
                0x20..=0x7e => char::from(*b).to_string(),
                _ => format!("\\{b:03}"),
            })
            .collect();
        out.push(format!("\"{shown}\""));
        data = rest.get(usize::from(*len)..)?;
    }
    Some(out.join(" "))
}

/// A message's flags in dig's order.
pub fn flags(p: &Parsed) -> String {
    let h = &p.head;
    let all = [
        (h.response(), "qr"),
        (h.aa(), "aa"),
        (h.tc(), "tc"),
        (h.rd(), "rd"),
        (h.ra(), "ra"),
        (h.ad(), "ad"),
    ];
    let set: Vec<&str> = all.iter().filter(|(on, _)| *on).map(|(_, f)| *f).collect();
    set.join(" ")
}

/// A record as dig prints it: owner, TTL, class, type and data between tabs.
pub fn record(m: &[u8], r: &Record) -> String {
    let gap = match r.name.len() {
        24.. => " ".to_owned(),
        n => "\t".repeat((31 - n) / 8),
    };
    format!(
        "{}{gap}{}\t{}\t{}\t{}",
        r.name,
        r.ttl,
        class_name(r.class),
        type_name(r.rtype),
        rdata(m, r)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube::dns::client::message::{parse, query};

    fn with(rtype: u16, data: &[u8]) -> String {
        let mut m = query("a.test", 1, 1, None, false).unwrap();
        m[7] = 1;
        m.extend_from_slice(&[0xc0, 12]);
        m.extend_from_slice(&rtype.to_be_bytes());
        m.extend_from_slice(&[0, 1, 0, 0, 0, 30]);
        m.extend_from_slice(&(data.len() as u16).to_be_bytes());
        m.extend_from_slice(data);
        let p = parse(&m).unwrap();
        record(&m, &p.sections[0][0])
    }

    #[test]
    fn records() {
        assert_eq!(with(1, &[10, 0, 0, 1]), "a.test.\t\t\t30\tIN\tA\t10.0.0.1");
        assert_eq!(
            with(33, &[0, 0, 0, 100, 0, 53, 0xc0, 12]),
            "a.test.\t\t\t30\tIN\tSRV\t0 100 53 a.test."
        );
        assert_eq!(
            with(16, b"\x03a\"b\x01\xff"),
            "a.test.\t\t\t30\tIN\tTXT\t\"a\\\"b\" \"\\255\""
        );
        assert_eq!(with(1, &[1, 2]), "a.test.\t\t\t30\tIN\tA\t\\# 2 0102");
        assert_eq!(with(99, &[]), "a.test.\t\t\t30\tIN\tTYPE99\t\\# 0");
    }

    #[test]
    fn names_of_numbers() {
        assert_eq!(type_number("aaaa"), Some(28));
        assert_eq!(type_number("type99"), Some(99));
        assert_eq!(type_number("bogus"), None);
        assert_eq!(
            (rcode_name(3), rcode_name(77)),
            ("NXDOMAIN".into(), "RCODE77".into())
        );
    }
}
