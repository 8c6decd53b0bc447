//! What a server takes a received packet for: a query, nothing, or something to be refused at once.
//!
//! Reads as miekg/dns does under CoreDNS (`server.go` serveDNS, `acceptfunc.go`, `msg.go` unpack), which is
//! neither stricter nor laxer than others but different: records that the header promises may be missing,
//! types and classes may be cut off, octets may follow, pointers may point forward; what cannot be unpacked
//! behind the question is FORMERR with that question. Data of the types in `fields` is looked at, of
//! others it is not. Invariant: no input panics, and a name costs at most `POINTERS_MAX` jumps.
//! `tests/dns_hostile.rs` holds it against recorded replies.

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;

use super::message::{Client, Edns, Question, Request};
use super::names;

/// What a received message is.
#[derive(Debug)]
pub enum Received {
    /// A query to be answered.
    Query(Box<Request>),
    /// To be answered with these octets at once: FORMERR, NOTIMP, or SERVFAIL where there is a header only.
    Refused(Vec<u8>),
    /// Not answered: too short for a header, or itself a response.
    Ignored,
}

/// Pointers of one name (`maxCompressionPointers`).
const POINTERS_MAX: usize = 126;
/// Octets of one name (RFC 1035 section 3.1).
const NAME_MAX: usize = 255;

/// A packet, whole or up to the end of a record's data, and a place in it.
#[derive(Clone, Copy)]
struct At<'a> {
    bytes: &'a [u8],
    off: usize,
}

/// One thing that a record's data is made of.
#[derive(Clone, Copy)]
enum Field {
    /// So many octets.
    Octets(usize),
    /// A domain name.
    Name,
    /// A length and so many octets.
    Text,
    /// Those up to the end.
    Texts,
    /// EDNS options up to the end.
    Options,
    /// Whatever there is.
    Rest,
}

impl<'a> At<'a> {
    fn is_end(self) -> bool {
        self.off == self.bytes.len()
    }

    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let end = self.off.checked_add(len)?;
        let taken = self.bytes.get(self.off..end)?;
        self.off = end;
        Some(taken)
    }

    fn u16(&mut self) -> Option<u16> {
        let octets: [u8; 2] = self.take(2)?.try_into().ok()?;
        Some(u16::from_be_bytes(octets))
    }

    /// A name without pointers, as it would be written (`UnpackDomainName`).
    fn name(&mut self) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        let mut from = *self;
        let mut jumps = 0;
        loop {
            let len = *from.take(1)?.first()?;
            match len >> 6 {
                0 if len == 0 => break,
                0 => {
                    let label = from.take(usize::from(len))?;
                    out.push(len);
                    out.extend_from_slice(label);
                    if out.len() >= NAME_MAX {
                        return None;
                    }
                }
                3 => {
                    let low = *from.take(1)?.first()?;
                    if jumps == 0 {
                        self.off = from.off;
                    }
                    jumps += 1;
                    if jumps > POINTERS_MAX {
                        return None;
                    }
                    from.off = usize::from(len & 0x3f) << 8 | usize::from(low);
                }
                // Reserved (RFC 1035 section 4.1.4).
                _ => return None,
            }
        }
        if jumps == 0 {
            self.off = from.off;
        }
        out.push(0);
        Some(out)
    }

    fn field(&mut self, field: Field) -> Option<()> {
        match field {
            Field::Octets(len) => drop(self.take(len)?),
            Field::Name => drop(self.name()?),
            Field::Text => {
                let len = *self.take(1)?.first()?;
                self.take(usize::from(len))?;
            }
            Field::Texts => {
                while !self.is_end() {
                    self.field(Field::Text)?;
                }
            }
            Field::Options => {
                while !self.is_end() {
                    let (code, len) = (self.u16()?, self.u16()?);
                    let data = self.take(usize::from(len))?;
                    option(code, data)?;
                }
            }
            Field::Rest => self.off = self.bytes.len(),
        }
        Some(())
    }
}

/// Whether an EDNS option can be unpacked (`edns.go`).
fn option(code: u16, data: &[u8]) -> Option<()> {
    let good = match (code, data.len()) {
        // LLQ, update lease, expire, keepalive, extended error.
        (1, len) => len >= 18,
        (2, len) => matches!(len, 4 | 8),
        (9, len) => len == 0 || len >= 4,
        (11, len) => matches!(len, 0 | 2),
        (15, len) => len >= 2,
        // Client subnet: a family and masks that fit it.
        (8, _) => match (data.first_chunk::<4>()?, 32, 128) {
            ([0, 0, mask, _], _, _) => *mask == 0,
            ([0, 1, mask, scope], most, _) | ([0, 2, mask, scope], _, most) => {
                *mask <= most && *scope <= most
            }
            _ => false,
        },
        _ => true,
    };
    good.then_some(())
}

/// What a type's data is made of; data may end behind any of it (`zmsg.go`).
fn fields(kind: u16) -> &'static [Field] {
    use Field::{Name, Octets, Options, Rest, Text, Texts};
    match kind {
        1 => &[Octets(4)],
        28 => &[Octets(16)],
        2 | 3 | 4 | 5 | 7 | 8 | 9 | 12 | 23 | 39 => &[Name],
        6 => &[
            Name,
            Name,
            Octets(4),
            Octets(4),
            Octets(4),
            Octets(4),
            Octets(4),
        ],
        13 | 20 => &[Text, Text],
        14 | 17 | 58 => &[Name, Name],
        15 | 18 | 21 | 36 | 107 => &[Octets(2), Name],
        16 | 56 | 99 | 258 => &[Texts],
        19 | 100 => &[Text],
        27 => &[Text, Text, Text],
        33 => &[Octets(2), Octets(2), Octets(2), Name],
        35 => &[Octets(2), Octets(2), Text, Text, Text, Name],
        41 => &[Options],
        25 | 43 | 48 | 59 | 60 | 32_768 | 32_769 => &[Octets(2), Octets(1), Octets(1), Rest],
        44 => &[Octets(1), Octets(1), Rest],
        52 | 53 => &[Octets(1), Octets(1), Octets(1), Rest],
        101 | 102 => &[Octets(4)],
        104 | 106 => &[Octets(2), Octets(8)],
        105 => &[Octets(2), Octets(4)],
        108 => &[Octets(6)],
        109 => &[Octets(8)],
        256 => &[Octets(2), Octets(2), Rest],
        257 => &[Octets(1), Text, Rest],
        // ANY is no type of a record.
        255 => &[],
        _ => &[Rest],
    }
}

/// A record's type, class, the octets of its TTL and its data; none where the message is at its end.
type Found<'a> = Option<(u16, u16, &'a [u8], At<'a>)>;

/// `UnpackRR`.
fn record<'a>(at: &mut At<'a>) -> Option<Found<'a>> {
    if at.is_end() {
        return Some(None);
    }
    at.name()?;
    let (kind, class, ttl, len) = (at.u16()?, at.u16()?, at.take(4)?, at.u16()?);
    let data = At {
        off: at.off,
        bytes: at.bytes.get(..at.off.checked_add(usize::from(len))?)?,
    };
    at.off = data.bytes.len();
    let mut read = data;
    for field in fields(kind) {
        if read.is_end() {
            break;
        }
        read.field(*field)?;
    }
    read.is_end().then_some(Some((kind, class, ttl, data)))
}

/// What stands behind the question and matters here.
#[derive(Default)]
struct Behind {
    /// The last OPT record counts (`IsEdns0`).
    edns: Option<Edns>,
    /// Of an SOA record in the authority section.
    serial: Option<u32>,
}

fn behind(at: &mut At<'_>, counts: [u16; 3]) -> Option<Behind> {
    let mut out = Behind::default();
    for (section, count) in counts.into_iter().enumerate() {
        for _ in 0..count {
            // Fewer than promised is no error.
            let Some((kind, class, ttl, mut data)) = record(at)? else {
                break;
            };
            match (section, kind) {
                (1, 6) => {
                    let mut serial = || {
                        data.name()?;
                        data.name()?;
                        let octets: [u8; 4] = data.take(4)?.try_into().ok()?;
                        Some(u32::from_be_bytes(octets))
                    };
                    out.serial = out.serial.or_else(&mut serial);
                }
                (2, 41) => {
                    let at = |i: usize| ttl.get(i).copied().unwrap_or(0);
                    out.edns = Some(Edns {
                        payload: class,
                        dnssec_ok: at(2) & 0x80 != 0,
                        version: at(1),
                    });
                }
                _ => {}
            }
        }
    }
    Some(out)
}

/// The header of an early answer: id, opcode, and of the flags those that the query shares with it.
fn early(query: [u8; 12], opcode: u8, keep: [u8; 2], rcode: ResponseCode) -> Vec<u8> {
    let mut out = vec![0; 12];
    for (to, from) in out.iter_mut().zip([
        query[0],
        query[1],
        0x80 | opcode << 3 | query[2] & keep[0],
        query[3] & keep[1] | rcode.low(),
    ]) {
        *to = from;
    }
    out
}

/// TC and RD; RA, AD and CD: what `SetRcodeFormatError` leaves as it came.
const FORMERR_KEEPS: [u8; 2] = [0x03, 0xb0];
/// RD; CD: what `SetReply` copies.
const REPLY_KEEPS: [u8; 2] = [0x01, 0x10];

/// A query as the server accepts it: the header is looked at first, then all is unpacked.
pub fn receive(bytes: &[u8], client: &Client) -> Received {
    let Some(header) = bytes.first_chunk::<12>().copied() else {
        return Received::Ignored;
    };
    if header[2] & 0x80 != 0 {
        return Received::Ignored;
    }
    let opcode = header[2] >> 3 & 15;
    let refused = |opcode, rcode| early(header, opcode, FORMERR_KEEPS, rcode);
    if !matches!(opcode, 0 | 4) {
        return Received::Refused(refused(opcode, ResponseCode::NotImp));
    }
    let count = |i: usize| {
        let octet = |i: usize| header.get(i).copied().unwrap_or(0);
        u16::from_be_bytes([octet(i), octet(i + 1)])
    };
    let counts = [count(6), count(8), count(10)];
    if count(4) != 1 || counts[0] > 1 || counts[1] > 1 || counts[2] > 2 {
        return Received::Refused(refused(0, ResponseCode::FormErr));
    }
    let mut at = At { bytes, off: 12 };
    if at.is_end() {
        // A header alone is a message; CoreDNS then has no question.
        let keep = if opcode == 0 { REPLY_KEEPS } else { [0, 0] };
        return Received::Refused(early(header, opcode, keep, ResponseCode::ServFail));
    }
    let Some((name, kind, class)) = question(&mut at) else {
        return Received::Refused(refused(0, ResponseCode::FormErr));
    };
    let parsed = names::from_labels(Labels(&name));
    let (Some(parsed), Some(behind)) = (parsed, behind(&mut at, counts)) else {
        let mut out = refused(0, ResponseCode::FormErr);
        if let Some(count) = out.get_mut(5) {
            *count = 1;
        }
        out.extend_from_slice(&name);
        out.extend_from_slice(&kind.to_be_bytes());
        out.extend_from_slice(&class.to_be_bytes());
        return Received::Refused(out);
    };
    Received::Query(Box::new(Request {
        id: u16::from_be_bytes([header[0], header[1]]),
        question: Question {
            name: parsed,
            kind: RecordType::from(kind),
            class: class.into(),
        },
        rd: header[2] & 1 != 0,
        ad: header[3] & 0x20 != 0,
        cd: header[3] & 0x10 != 0,
        opcode,
        edns: behind.edns,
        source: client.from.ip(),
        source_port: client.from.port(),
        port: client.port,
        transport: client.transport,
        serial: behind.serial,
    }))
}

/// Name, type and class (`unpackQuestion`): behind the name and behind the type the message may end, and what
/// is too short for a class is one that ends.
fn question(at: &mut At<'_>) -> Option<(Vec<u8>, u16, u16)> {
    let name = at.name()?;
    if at.is_end() {
        return Some((name, 0, 0));
    }
    let kind = at.u16()?;
    let class = at.u16().unwrap_or_else(|| {
        at.off = at.bytes.len();
        0
    });
    Some((name, kind, class))
}

/// The labels of a name without pointers.
struct Labels<'a>(&'a [u8]);

impl<'a> Iterator for Labels<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (len, rest) = self.0.split_first()?;
        let (label, after) = rest.split_at_checked(usize::from(*len))?;
        self.0 = after;
        (!label.is_empty()).then_some(label)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube::dns::message::Transport;

    fn read(bytes: &[u8]) -> Received {
        let client = Client {
            from: "10.1.2.3:4000".parse().expect("an address"),
            port: 53,
            transport: Transport::Udp,
        };
        receive(bytes, &client)
    }

    const GOOD: [u8; 19] = [0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, b'a', 0, 0, 1, 0, 1];

    #[test]
    fn what_is_no_query() {
        assert!(matches!(read(&GOOD[..11]), Received::Ignored));
        let changed = |at: usize, to: u8| {
            let mut bytes = GOOD;
            bytes[at] = to;
            read(&bytes)
        };
        assert!(matches!(changed(2, 0x80), Received::Ignored));
        let refused = |r: Received| match r {
            Received::Refused(bytes) => bytes,
            other => panic!("{other:?}"),
        };
        assert_eq!(
            refused(changed(2, 0x11)),
            [0, 1, 0x91, 4, 0, 0, 0, 0, 0, 0, 0, 0]
        );
        assert_eq!(
            refused(changed(5, 2)),
            [0, 1, 0x81, 1, 0, 0, 0, 0, 0, 0, 0, 0]
        );
        assert_eq!(
            refused(read(&GOOD[..12])),
            [0, 1, 0x81, 2, 0, 0, 0, 0, 0, 0, 0, 0]
        );
        assert_eq!(refused(read(&GOOD[..14])).len(), 12);
        // Behind the question the question is known.
        let more = [&GOOD[..], &[0, 0, 41]].concat();
        let mut counted = more.clone();
        counted[11] = 1;
        assert_eq!(
            refused(read(&counted))[3..],
            [&[1, 0, 1, 0, 0, 0, 0, 0, 0][..], &GOOD[12..]].concat()
        );
        assert!(
            matches!(read(&more), Received::Query(_)),
            "what is not counted is not read"
        );
    }

    #[test]
    fn names_end() {
        // To itself; forward to a name; 127 jumps.
        let name = |bytes: &[u8]| At { bytes, off: 0 }.name();
        assert_eq!(name(&[0xC0, 0]), None);
        assert_eq!(name(&[0xC0, 2, 1, b'a', 0]), Some(vec![1, b'a', 0]));
        let mut chain: Vec<u8> = (1..=127_u8).flat_map(|i| [0xC0, i * 2]).collect();
        chain.push(0);
        assert_eq!(name(&chain), None);
        assert_eq!(
            At {
                bytes: &chain,
                off: 2
            }
            .name(),
            Some(vec![0])
        );
        let label = [&[63][..], &[b'x'; 63]].concat();
        let long = [&label[..], &label, &label, &[61], &[b'x'; 61], &[0]].concat();
        assert_eq!(name(&long).map(|n| n.len()), Some(255));
        let longer = [&label[..], &label, &label, &[62], &[b'x'; 62], &[0]].concat();
        assert_eq!(name(&longer), None);
    }
}
