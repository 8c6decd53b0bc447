//! Records as text: one line of a master file to a record, a record to the line that dig prints.
//!
//! Types: A, AAAA, CNAME, NS, PTR, MX, SRV, SOA, TXT, HINFO, CAA is not read. Zone files ([`zone`]) may use
//! `$ORIGIN`, `$TTL`, `@`, parentheses, comments and omitted owners (RFC 1035 section 5.1). Bounded by
//! [`crate::base::limits::DNS_ZONE_RECORDS_MAX`].

use hickory_proto::rr::rdata::{A, AAAA, CNAME, HINFO, MX, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use super::names;
use crate::base::limits::DNS_ZONE_RECORDS_MAX;
use crate::base::{Finding, Span};

/// One word of a master file.
#[derive(Clone, Debug)]
struct Word {
    text: String,
    line: u32,
    column: u32,
    /// It begins its line without blanks before it.
    first: bool,
}

/// One logical line: parentheses join lines.
fn lines(text: &str) -> Vec<Vec<Word>> {
    let (mut out, mut line): (Vec<Vec<Word>>, Vec<Word>) = (Vec::new(), Vec::new());
    let mut depth = 0_u32;
    for (n, raw) in text.lines().enumerate() {
        let mut chars = raw.char_indices().peekable();
        while let Some((at, c)) = chars.next() {
            let place = |text: String| Word {
                text,
                line: u32::try_from(n + 1).unwrap_or(u32::MAX),
                column: u32::try_from(at + 1).unwrap_or(u32::MAX),
                first: at == 0,
            };
            match c {
                ';' => break,
                '(' => depth += 1,
                ')' => depth = depth.saturating_sub(1),
                '"' => {
                    let mut word = String::new();
                    while let Some((_, c)) = chars.next() {
                        match c {
                            '"' => break,
                            '\\' => word.extend(chars.next().map(|(_, c)| c)),
                            c => word.push(c),
                        }
                    }
                    line.push(place(word));
                }
                c if c.is_whitespace() => {}
                c => {
                    let mut word = String::from(c);
                    while let Some((_, c)) = chars
                        .next_if(|(_, c)| !c.is_whitespace() && !matches!(c, ';' | '(' | ')' | '"'))
                    {
                        word.push(c);
                    }
                    line.push(place(word));
                }
            }
        }
        if depth == 0 && !line.is_empty() {
            out.push(std::mem::take(&mut line));
        }
    }
    if !line.is_empty() {
        out.push(line);
    }
    out
}

fn absolute(text: &str, origin: &Name) -> Option<Name> {
    if text == "@" {
        return Some(origin.clone());
    }
    let name = names::parse(text)?;
    if text.ends_with('.') {
        return Some(name);
    }
    names::join(name.iter(), origin)
}

/// A record type from its name or from `TYPE65` (RFC 3597 section 5).
pub fn kind(text: &str) -> Option<RecordType> {
    let upper = text.to_ascii_uppercase();
    match upper.as_str() {
        "IXFR" => return Some(RecordType::IXFR),
        "DS" => return Some(RecordType::from(43)),
        _ => {}
    }
    let number = upper
        .strip_prefix("TYPE")
        .and_then(|n| n.parse::<u16>().ok());
    number.map(RecordType::from).or_else(|| upper.parse().ok())
}

/// A duration of a master file: seconds, or `1h30m` as BIND and CoreDNS read it.
pub fn seconds(text: &str) -> Option<u32> {
    let (mut total, mut number) = (0_u32, None::<u32>);
    for c in text.chars() {
        if let Some(digit) = c.to_digit(10) {
            number = Some(number.unwrap_or(0).checked_mul(10)?.checked_add(digit)?);
            continue;
        }
        let unit = match c.to_ascii_lowercase() {
            's' => 1,
            'm' => 60,
            'h' => 3_600,
            'd' => 86_400,
            'w' => 604_800,
            _ => return None,
        };
        total = total.checked_add(number.take()?.checked_mul(unit)?)?;
    }
    total
        .checked_add(number.unwrap_or(0))
        .filter(|_| !text.is_empty())
}

fn rdata(kind: RecordType, words: &[Word], origin: &Name) -> Option<RData> {
    let word = |i: usize| words.get(i).map(|w| w.text.as_str());
    let name = |i: usize| absolute(word(i)?, origin);
    let number = |i: usize| word(i)?.parse::<u16>().ok();
    let time = |i: usize| seconds(word(i)?);
    let signed = |i: usize| i32::try_from(time(i)?).ok();
    Some(match kind {
        RecordType::A => RData::A(A(word(0)?.parse().ok()?)),
        RecordType::AAAA => RData::AAAA(AAAA(word(0)?.parse().ok()?)),
        RecordType::CNAME => RData::CNAME(CNAME(name(0)?)),
        RecordType::NS => RData::NS(NS(name(0)?)),
        RecordType::PTR => RData::PTR(PTR(name(0)?)),
        RecordType::MX => RData::MX(MX::new(number(0)?, name(1)?)),
        RecordType::SRV => RData::SRV(SRV::new(number(0)?, number(1)?, number(2)?, name(3)?)),
        RecordType::TXT => RData::TXT(TXT::new(words.iter().map(|w| w.text.clone()).collect())),
        RecordType::HINFO => RData::HINFO(HINFO::new(word(0)?.to_owned(), word(1)?.to_owned())),
        RecordType::SOA => RData::SOA(SOA::new(
            name(0)?,
            name(1)?,
            word(2)?.parse().ok()?,
            signed(3)?,
            signed(4)?,
            signed(5)?,
            time(6)?,
        )),
        _ => return None,
    })
}

/// What holds from line to line.
struct Defaults {
    origin: Name,
    owner: Option<Name>,
    ttl: u32,
}

fn record(words: &[Word], defaults: &mut Defaults) -> Option<Record> {
    let mut at = 0;
    let first = words.first()?;
    // An owner begins the line; a line that begins with blanks has that of the line before.
    if first.first || defaults.owner.is_none() {
        defaults.owner = Some(absolute(&first.text, &defaults.origin)?);
        at = 1;
    }
    let owner = defaults.owner.clone()?;
    let (mut ttl, mut class) = (defaults.ttl, DNSClass::IN);
    loop {
        let word = words.get(at)?;
        match word.text.to_ascii_uppercase().as_str() {
            "IN" => class = DNSClass::IN,
            "CH" => class = DNSClass::CH,
            "HS" => class = DNSClass::HS,
            t if t.starts_with(|c: char| c.is_ascii_digit()) => ttl = seconds(t)?,
            t => {
                let kind = kind(t)?;
                let data = rdata(kind, words.get(at + 1..)?, &defaults.origin)?;
                let mut record = Record::from_rdata(owner, ttl, data);
                record.dns_class = class;
                return Some(record);
            }
        }
        at += 1;
    }
}

/// One record from one line, as `dns.NewRR` reads it: TTL 3600 where there is none.
pub fn parse(line: &str) -> Option<Record> {
    let words = lines(line);
    let mut defaults = Defaults {
        origin: Name::root(),
        owner: None,
        ttl: 3_600,
    };
    match words.as_slice() {
        [one] => record(one, &mut defaults),
        _ => None,
    }
}

/// A zone file's records, and what could not be read with its place.
pub fn zone(file: &str, text: &str, origin: &Name) -> (Vec<Record>, Vec<Finding>) {
    let (mut records, mut findings) = (Vec::new(), Vec::new());
    let mut defaults = Defaults {
        origin: origin.clone(),
        owner: None,
        ttl: 3_600,
    };
    for words in lines(text) {
        let Some(first) = words.first() else { continue };
        let second = words.get(1).map(|w| w.text.as_str());
        let done = match first.text.as_str() {
            "$ORIGIN" => second
                .and_then(|t| absolute(t, &defaults.origin))
                .map(|origin| defaults.origin = origin),
            "$TTL" => second.and_then(seconds).map(|ttl| defaults.ttl = ttl),
            _ if records.len() >= DNS_ZONE_RECORDS_MAX => None,
            _ => record(&words, &mut defaults).map(|r| records.push(r)),
        };
        if done.is_none() {
            findings.push(Finding::error(
                Span::new(file, first.line, first.column),
                "this line is no record that podpath reads: owner [TTL] [class] type data was expected",
                "types read: A AAAA CNAME NS PTR MX SRV SOA TXT HINFO; $ORIGIN and $TTL",
            ));
        }
    }
    (records, findings)
}

/// The record's data, as dig prints it.
pub fn data(data: &RData) -> String {
    match data {
        RData::A(a) => a.0.to_string(),
        RData::AAAA(a) => a.0.to_string(),
        RData::CNAME(n) => names::text(&n.0),
        RData::NS(n) => names::text(&n.0),
        RData::PTR(n) => names::text(&n.0),
        RData::MX(m) => format!("{} {}", m.preference, names::text(&m.exchange)),
        RData::SRV(s) => format!(
            "{} {} {} {}",
            s.priority,
            s.weight,
            s.port,
            names::text(&s.target)
        ),
        RData::SOA(s) => format!(
            "{} {} {} {} {} {} {}",
            names::text(&s.mname),
            names::text(&s.rname),
            s.serial,
            s.refresh,
            s.retry,
            s.expire,
            s.minimum
        ),
        RData::TXT(t) => {
            let quoted =
                |part: &[u8]| format!("\"{}\"", String::from_utf8_lossy(part).replace('"', "\\\""));
            let parts: Vec<String> = t.txt_data.iter().map(|p| quoted(p)).collect();
            parts.join(" ")
        }
        other => other.to_string(),
    }
}

/// `owner TTL class type data`.
pub fn line(record: &Record) -> String {
    format!(
        "{} {} {} {} {}",
        names::text(&record.name),
        record.ttl,
        record.dns_class,
        record.record_type(),
        data(&record.data)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_round_trip() {
        for t in [
            "a.b. 60 IN A 1.2.3.4",
            "a.b. 5 IN AAAA 2001:db8::1",
            "_x._tcp.a. 5 IN SRV 0 50 80 t.a.",
            "x. 9 IN TXT \"a b\" \"c\"",
            "z. 3600 IN SOA ns.z. h.z. 1 60 60 60 60",
            "m. 1 IN MX 10 a.b.",
        ] {
            assert_eq!(line(&parse(t).unwrap()), t);
        }
        let soa = parse("blocked.test. 60 IN SOA ns.b. h.b. (1 60 60 60 60)").unwrap();
        assert_eq!(
            line(&soa),
            "blocked.test. 60 IN SOA ns.b. h.b. 1 60 60 60 60"
        );
        assert_eq!(
            line(&parse("x. A 1.1.1.1").unwrap()),
            "x. 3600 IN A 1.1.1.1"
        );
        for bad in [
            "",
            "x.",
            "x. 60 IN",
            "x. IN A 1.2.3",
            "x. IN BOGUS 1",
            "x. IN A 1.2.3.4\ny. IN A 1.2.3.4",
        ] {
            assert!(parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn zone_files_have_origins_and_owners_of_the_line_before() {
        let text = "$TTL 1h\n@ IN SOA ns host (\n 7 ; serial\n 1m 1 1 1 )\n IN NS ns\nns 5 A 10.0.0.1\nbad line\n";
        let (records, findings) = zone("db", text, &names::parse("ex.test").unwrap());
        let got: Vec<String> = records.iter().map(line).collect();
        assert_eq!(
            got,
            [
                "ex.test. 3600 IN SOA ns.ex.test. host.ex.test. 7 60 1 1 1",
                "ex.test. 3600 IN NS ns.ex.test.",
                "ns.ex.test. 5 IN A 10.0.0.1"
            ]
        );
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].span, Span::new("db", 7, 1));
    }
}
