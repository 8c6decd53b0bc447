//! A resolver outside the cluster: zones of its own, answers as a recursive server gives them.
//!
//! RA set and AA clear, CNAMEs followed within its own records, NXDOMAIN when neither the name nor one below
//! it exists, the closest SOA in the authority section; over UDP cut at 512 bytes or what the query's OPT
//! record announces (RFC 1035 section 4.2.1, RFC 6891 section 6.2.5). Not DNSSEC, not AXFR.
//! Invariant: any octets give an answer or silence, and an answer fits.

use crate::base::Instant;
use crate::base::limits::DNS_CNAMES_MAX;
use crate::kube::dns::client::message::{self, Parsed};
use crate::kube::dns::client::text::type_number;
use crate::kube::podpath_v1alpha1::{HostDns, HostDnsMode, ZoneRecord};
use crate::lab::{Call, Cause, Incoming, Player};
use crate::wire::Tuple;
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};

/// One record ready to be sent: type, TTL, data without compression.
#[derive(Clone, Debug)]
struct Record {
    owner: String,
    rtype: u16,
    ttl: u32,
    data: Vec<u8>,
    /// A CNAME's target.
    target: Option<String>,
}

/// The server.
#[derive(Debug)]
pub(super) struct Zones {
    records: Vec<Record>,
    mode: HostDnsMode,
    delay: core::time::Duration,
    /// Answers that take their time.
    later: VecDeque<(Instant, Call)>,
    /// Bytes of connections whose message is not complete.
    streams: BTreeMap<Tuple, Vec<u8>>,
}

impl Zones {
    /// A server of these records; those whose data are not their type's are returned.
    pub(super) fn new(spec: &HostDns) -> (Zones, Vec<ZoneRecord>) {
        let mut bad = Vec::new();
        let mut records = Vec::new();
        for r in &spec.records {
            match record(r) {
                Some(read) => records.push(read),
                None => bad.push(r.clone()),
            }
        }
        let zones = Zones {
            records,
            mode: spec.mode,
            delay: spec.delay,
            later: VecDeque::new(),
            streams: BTreeMap::new(),
        };
        (zones, bad)
    }

    /// The answer to one message; `None`: silence.
    fn answer(&self, query: &[u8], tcp: bool) -> Option<Vec<u8>> {
        let p = message::parse(query).filter(|p| !p.head.response())?;
        match self.mode {
            HostDnsMode::Normal => {}
            HostDnsMode::Drop => return None,
            HostDnsMode::Refuse => return reply(query, &p, 5, &[], &[], tcp),
            HostDnsMode::Servfail => return reply(query, &p, 2, &[], &[], tcp),
        }
        if !p.whole || p.questions.len() != 1 {
            return reply(query, &p, 1, &[], &[], tcp);
        }
        let q = p.questions.first()?;
        let (mut name, mut answers) = (q.name.to_ascii_lowercase(), Vec::new());
        for _ in 0..DNS_CNAMES_MAX {
            let own: Vec<&Record> = self.records.iter().filter(|r| r.owner == name).collect();
            let fits = |r: &&&Record| r.rtype == q.qtype || q.qtype == 255;
            answers.extend(own.iter().filter(fits).copied());
            let cname = own
                .iter()
                .find(|r| r.target.is_some() && r.rtype != q.qtype);
            let Some((r, target)) = cname.and_then(|r| Some((r, r.target.clone()?))) else {
                break;
            };
            answers.push(r);
            name = target;
        }
        let below = format!(".{}", name.trim_start_matches('.'));
        let known = name == "."
            || self
                .records
                .iter()
                .any(|r| r.owner == name || r.owner.ends_with(&below));
        let last = answers.last().is_some_and(|r| r.target.is_none());
        let found = last || answers.iter().any(|r| r.rtype == q.qtype);
        let soa: Vec<&Record> = match found {
            true => Vec::new(),
            false => self.soa(&name).into_iter().collect(),
        };
        let rcode = if known || found { 0 } else { 3 };
        reply(query, &p, rcode, &answers, &soa, tcp)
    }

    /// The SOA of the closest zone.
    fn soa(&self, name: &str) -> Option<&Record> {
        let of = |r: &&Record| {
            r.rtype == 6 && (name == r.owner || name.ends_with(&format!(".{}", r.owner)))
        };
        self.records.iter().filter(of).max_by_key(|r| r.owner.len())
    }

    fn send(&mut self, now: Instant, call: Call) -> Vec<Call> {
        if self.delay.is_zero() {
            return vec![call];
        }
        if self.later.len() < crate::base::limits::LAB_MAIL_MAX {
            self.later.push_back((now + self.delay, call));
        }
        Vec::new()
    }
}

impl Player for Zones {
    fn incoming(&mut self, now: Instant, what: Incoming) -> Vec<Call> {
        match what {
            Incoming::Datagram {
                local,
                from,
                data,
                cause,
                ..
            } => match self.answer(&data, false) {
                Some(m) => self.send(now, answer(local, from, m, cause)),
                None => Vec::new(),
            },
            Incoming::Request { conn, data, cause } => {
                let mut buffer = self.streams.remove(&conn).unwrap_or_default();
                buffer.extend_from_slice(&data);
                let mut calls = Vec::new();
                while let Some(m) = next_message(&mut buffer) {
                    if let Some(reply) = self.answer(&m, true) {
                        let data = framed(&reply);
                        calls.extend(self.send(now, Call::Write { conn, data, cause }));
                    }
                }
                if !buffer.is_empty() && self.streams.len() < crate::base::limits::LAB_MAIL_MAX {
                    self.streams.insert(conn, buffer);
                }
                calls
            }
            Incoming::Stream { .. } | Incoming::Closed { .. } | Incoming::Failed { .. } => {
                Vec::new()
            }
        }
    }

    fn due(&self) -> Option<Instant> {
        self.later.front().map(|(at, _)| *at)
    }

    fn tick(&mut self, now: Instant) -> Vec<Call> {
        let mut calls = Vec::new();
        while self.later.front().is_some_and(|(at, _)| *at <= now) {
            calls.extend(self.later.pop_front().map(|(_, call)| call));
        }
        calls
    }

    fn as_any(&self) -> &dyn core::any::Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn core::any::Any {
        self
    }
}

fn answer(local: SocketAddr, to: SocketAddr, data: Vec<u8>, cause: Cause) -> Call {
    Call::Answer {
        local,
        to,
        data: data.into(),
        cause,
    }
}

/// A message with its length before it (RFC 1035 section 4.2.2).
pub(super) fn framed(m: &[u8]) -> Bytes {
    let len = u16::try_from(m.len()).unwrap_or(u16::MAX);
    let mut out = len.to_be_bytes().to_vec();
    out.extend_from_slice(&m[..usize::from(len)]);
    out.into()
}

/// Takes the first whole message off a stream.
pub(super) fn next_message(buffer: &mut Vec<u8>) -> Option<Vec<u8>> {
    let len = usize::from(u16::from_be_bytes([*buffer.first()?, *buffer.get(1)?]));
    if buffer.len() < 2 + len {
        return None;
    }
    let rest = buffer.split_off(2 + len);
    let whole = core::mem::replace(buffer, rest);
    whole.get(2..).map(<[u8]>::to_vec)
}

/// A reply with header, question, and what fits of the records.
fn reply(
    query: &[u8],
    p: &Parsed,
    rcode: u8,
    answers: &[&Record],
    authority: &[&Record],
    tcp: bool,
) -> Option<Vec<u8>> {
    let asked = p.questions.len() == 1;
    let mut m = query.get(..12)?.to_vec();
    m[2] = 0x80 | (m[2] & 0x79);
    m[3] = 0x80 | rcode;
    m[4..12].copy_from_slice(&[0, u8::from(asked), 0, 0, 0, 0, 0, 0]);
    if asked {
        let (_, end) = message::name_at(query, 12)?;
        m.extend_from_slice(query.get(12..end + 4)?);
    }
    let opt = p.sections[2].iter().find(|r| r.rtype == 41);
    let room = match (tcp, opt) {
        (true, _) => 65_535,
        (false, Some(o)) => usize::from(o.class).clamp(512, 4096),
        (false, None) => 512,
    } - if opt.is_some() { 11 } else { 0 };
    let mut counts = [0u16; 2];
    'all: for (n, list) in [answers, authority].into_iter().enumerate() {
        for r in list {
            let before = m.len();
            push_name(&mut m, &r.owner)?;
            m.extend_from_slice(&r.rtype.to_be_bytes());
            m.extend_from_slice(&[0, 1]);
            m.extend_from_slice(&r.ttl.to_be_bytes());
            m.extend_from_slice(&u16::try_from(r.data.len()).ok()?.to_be_bytes());
            m.extend_from_slice(&r.data);
            if m.len() > room {
                m.truncate(before);
                m[2] |= 2;
                break 'all;
            }
            counts[n] += 1;
        }
    }
    m[6..8].copy_from_slice(&counts[0].to_be_bytes());
    m[8..10].copy_from_slice(&counts[1].to_be_bytes());
    if opt.is_some() {
        m[11] = 1;
        m.extend_from_slice(&[0, 0, 41, 0x04, 0xd0, 0, 0, 0, 0, 0, 0]);
    }
    Some(m)
}

fn push_name(m: &mut Vec<u8>, name: &str) -> Option<()> {
    let query = message::query(name, 0, 0, None, false)?;
    m.extend_from_slice(query.get(12..query.len() - 4)?);
    Some(())
}

/// A record's data on the wire.
fn record(r: &ZoneRecord) -> Option<Record> {
    let words: Vec<&str> = r.data.split_whitespace().collect();
    let mut data = Vec::new();
    let mut target = None;
    match (r.rtype.as_str(), words.as_slice()) {
        ("A" | "AAAA", [ip]) => match (ip.parse().ok()?, r.rtype.len()) {
            (IpAddr::V4(a), 1) => data.extend_from_slice(&a.octets()),
            (IpAddr::V6(a), 4) => data.extend_from_slice(&a.octets()),
            _ => return None,
        },
        ("CNAME", [name]) => {
            push_name(&mut data, name)?;
            target = Some(format!("{}.", name.trim_end_matches('.')).to_ascii_lowercase());
        }
        ("NS" | "PTR", [name]) => push_name(&mut data, name)?,
        ("TXT", _) => {
            for part in r.data.trim_matches('"').as_bytes().chunks(255) {
                data.push(part.len() as u8);
                data.extend_from_slice(part);
            }
        }
        ("MX", [preference, name]) => {
            data.extend_from_slice(&preference.parse::<u16>().ok()?.to_be_bytes());
            push_name(&mut data, name)?;
        }
        ("SRV", [priority, weight, port, name]) => {
            for n in [priority, weight, port] {
                data.extend_from_slice(&n.parse::<u16>().ok()?.to_be_bytes());
            }
            push_name(&mut data, name)?;
        }
        ("SOA", [mname, rname, numbers @ ..]) if numbers.len() == 5 => {
            push_name(&mut data, mname)?;
            push_name(&mut data, rname)?;
            for n in numbers {
                data.extend_from_slice(&n.parse::<u32>().ok()?.to_be_bytes());
            }
        }
        _ => return None,
    }
    let owner = r.owner.to_ascii_lowercase();
    push_name(&mut Vec::new(), &owner)?;
    Some(Record {
        owner,
        rtype: type_number(&r.rtype)?,
        ttl: r.ttl,
        data,
        target,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube::dns::client::message::{addresses, parse, query};

    fn zones(lines: &[&str]) -> Zones {
        let spec = HostDns {
            records: lines.iter().map(|l| l.parse().unwrap()).collect(),
            ..HostDns::default()
        };
        let (zones, bad) = Zones::new(&spec);
        assert!(bad.is_empty(), "{bad:?}");
        zones
    }

    #[test]
    fn cnames_are_followed_and_what_is_not_there_is_said() {
        let z = zones(&[
            "example.org. 60 IN SOA ns.example.org. h.example.org. 1 2 3 4 5",
            "www.example.org. 60 IN CNAME web.example.org.",
            "web.example.org. 60 IN A 203.0.113.9",
            "a.b.example.org. 60 IN A 203.0.113.8",
        ]);
        let ask = |name, t| {
            z.answer(&query(name, t, 7, Some(1232), false).unwrap(), false)
                .unwrap()
        };
        let m = ask("WWW.example.org", 1);
        assert_eq!(
            addresses(&m, None),
            ["203.0.113.9".parse::<IpAddr>().unwrap()]
        );
        let p = parse(&m).unwrap();
        assert!(
            p.whole && p.head.ra() && !p.head.aa() && p.head.counts == [1, 2, 0, 1],
            "{p:?}"
        );
        for (name, rcode) in [
            ("b.example.org", 0),
            ("web.example.org", 0),
            ("nope.example.org", 3),
        ] {
            let p = parse(&ask(name, 28)).unwrap();
            assert_eq!(
                (p.head.rcode(), p.head.counts),
                (rcode, [1, 0, 1, 1]),
                "{name}"
            );
        }
    }

    #[test]
    fn a_long_answer_is_cut_over_udp_only() {
        let many: Vec<String> = (0..60)
            .map(|i| format!("m.test. 60 IN A 10.0.0.{i}"))
            .collect();
        let lines: Vec<&str> = many.iter().map(String::as_str).collect();
        let z = zones(&lines);
        let q = query("m.test", 1, 7, None, false).unwrap();
        let (udp, tcp) = (z.answer(&q, false).unwrap(), z.answer(&q, true).unwrap());
        let (u, t) = (parse(&udp).unwrap(), parse(&tcp).unwrap());
        assert!(u.head.tc() && u.whole && udp.len() <= 512 && u.head.counts[1] < 60);
        assert!(!t.head.tc() && t.head.counts[1] == 60);
        let mut stream = framed(&tcp).to_vec();
        stream.push(0);
        assert_eq!(next_message(&mut stream), Some(tcp));
        assert_eq!(next_message(&mut stream), None);
    }
}
