//! Replies to octets and back, requests to octets; [`super::receive`] reads what clients send.
//!
//! Decoding is hickory-proto's. Encoding writes the frame of the message here, because what CoreDNS does is
//! decided here: names are compressed only where a reply would not fit or is large (miekg/dns `Truncate`,
//! CoreDNS `request.Scrub`), records are dropped from the end to the octet with room kept for OPT, and the
//! places of TTLs are kept for `hot`. hickory's encoder compresses 120 names and drops OPT first.
//! Data of types that carry no names is hickory's encoding. Invariant: no input panics.

use hashbrown::HashMap;
use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use hickory_proto::serialize::binary::{BinEncodable, BinEncoder, NameEncoding};

use super::message::{Question, Reply, Request, Transport};

/// A reply of an upstream: its id, and what it says.
pub fn reply(bytes: &[u8]) -> Option<(u16, Option<Reply>)> {
    let mut message = Message::from_vec(bytes).ok()?;
    let meta = message.metadata;
    if meta.message_type != MessageType::Response || meta.op_code != OpCode::Query {
        return None;
    }
    let question = message.queries.pop();
    let reply = question.map(|q| Reply {
        rcode: meta.response_code,
        aa: meta.authoritative,
        ra: meta.recursion_available,
        tc: meta.truncation,
        ad: meta.authentic_data,
        question: Question {
            name: q.name,
            kind: q.query_type,
            class: q.query_class,
        },
        answer: std::mem::take(&mut message.answers),
        authority: std::mem::take(&mut message.authorities),
        additional: std::mem::take(&mut message.additionals),
    });
    Some((meta.id, reply))
}

/// A query to an upstream.
pub fn query(request: &Request, id: u16) -> Vec<u8> {
    let mut w = Writer::new(Vec::with_capacity(64), false);
    w.u16(id);
    w.out.push(u8::from(request.rd));
    w.out
        .push(u8::from(request.ad) << 5 | u8::from(request.cd) << 4);
    for count in [1, 0, 0, u16::from(request.edns.is_some())] {
        w.u16(count);
    }
    w.question(&request.question);
    if let Some(edns) = request.edns {
        w.opt(edns.payload, edns.dnssec_ok, 0);
    }
    w.out
}

/// Where in an encoded reply things are that later copies change.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    /// Offsets of TTLs.
    pub ttls: Vec<u16>,
    /// Octets where each record of the answer section ends; the first begins at `answers_at`.
    pub answer_ends: Vec<u16>,
    /// Where the answer section begins.
    pub answers_at: u16,
    /// Names are compressed.
    pub compressed: bool,
    /// Records were dropped.
    pub cut: bool,
}

/// Octets of a record that carries nothing but a size and flags.
pub const OPT_LEN: usize = 11;

/// A reply as it is sent: OPT as the request had it, records that do not fit dropped.
pub fn encode(reply: &Reply, request: &Request, out: Vec<u8>) -> (Vec<u8>, Layout) {
    let limit = request.size();
    let (bytes, layout) = write(reply, request, limit, false, out);
    let large = match request.source {
        _ if request.transport == Transport::Tcp => usize::MAX,
        std::net::IpAddr::V4(_) => 1_480,
        std::net::IpAddr::V6(_) => 1_220,
    };
    if !layout.cut && bytes.len() <= large {
        return (bytes, layout);
    }
    write(reply, request, limit, true, bytes)
}

/// BADVERS, as CoreDNS writes it: OPT of size 0 (`edns.Version`).
pub fn bad_version(request: &Request, out: Vec<u8>) -> Vec<u8> {
    let mut w = Writer::new(out, false);
    let rcode = ResponseCode::BADVERS;
    w.header(request, &Reply::to(request, rcode));
    w.question(&request.question);
    w.opt(0, false, rcode.high());
    w.count(4, 1);
    w.count(10, 1);
    w.out
}

fn write(
    reply: &Reply,
    request: &Request,
    limit: usize,
    compress: bool,
    out: Vec<u8>,
) -> (Vec<u8>, Layout) {
    let mut w = Writer::new(out, compress);
    let room = limit.saturating_sub(if request.edns.is_some() { OPT_LEN } else { 0 });
    w.header(request, reply);
    w.question(&reply.question);
    w.count(4, 1);
    let mut layout = Layout {
        answers_at: w.offset(),
        compressed: compress,
        ..Layout::default()
    };
    let sections = [&reply.answer, &reply.authority, &reply.additional];
    let mut counts = [0_u16; 3];
    'all: for (section, count) in sections.into_iter().zip(&mut counts) {
        for record in section {
            let (before, ttls) = (w.out.len(), layout.ttls.len());
            w.record(record, &mut layout.ttls);
            if w.out.len() > room || *count == u16::MAX {
                w.out.truncate(before);
                layout.ttls.truncate(ttls);
                layout.cut = true;
                break 'all;
            }
            *count += 1;
            if std::ptr::eq(section, &reply.answer) {
                layout.answer_ends.push(w.offset());
            }
        }
    }
    if let Some(edns) = request.edns {
        w.opt(edns.payload, edns.dnssec_ok, reply.rcode.high());
        counts[2] = counts[2].saturating_add(1);
    }
    for (i, count) in counts.into_iter().enumerate() {
        w.count(6 + 2 * i, count);
    }
    if layout.cut
        && let Some(flags) = w.out.get_mut(2)
    {
        *flags |= 2;
    }
    (w.out, layout)
}

/// Octets being written. Everything written stays below 64 KiB + one record.
struct Writer {
    out: Vec<u8>,
    /// Where names that may be pointed at begin, by the rest of the name as written. Case counts, as in
    /// miekg/dns: a pointer must not change a name's case.
    names: Option<HashMap<Vec<u8>, u16, foldhash::fast::FixedState>>,
}

impl Writer {
    fn new(mut out: Vec<u8>, compress: bool) -> Writer {
        out.clear();
        Writer {
            out,
            names: compress.then(HashMap::default),
        }
    }

    fn offset(&self) -> u16 {
        u16::try_from(self.out.len()).unwrap_or(u16::MAX)
    }

    fn u16(&mut self, value: u16) {
        self.out.extend_from_slice(&value.to_be_bytes());
    }

    fn u32(&mut self, value: u32) {
        self.out.extend_from_slice(&value.to_be_bytes());
    }

    fn count(&mut self, offset: usize, value: u16) {
        if let Some(place) = self.out.get_mut(offset..offset + 2) {
            place.copy_from_slice(&value.to_be_bytes());
        }
    }

    /// RD and CD are a query's (`SetReply`), not a NOTIFY's.
    fn header(&mut self, request: &Request, reply: &Reply) {
        self.u16(request.id);
        let flag = |on: bool, bit: u8| u8::from(on) << bit;
        self.out.push(
            0x80 | request.opcode << 3
                | flag(reply.aa, 2)
                | flag(reply.tc, 1)
                | flag(request.rd && request.opcode == 0, 0),
        );
        self.out.push(
            flag(reply.ra, 7)
                | flag(reply.ad, 5)
                | flag(request.cd && request.opcode == 0, 4)
                | reply.rcode.low() & 15,
        );
        self.out.extend_from_slice(&[0; 8]);
    }

    fn question(&mut self, question: &Question) {
        self.name(&question.name);
        self.u16(question.kind.into());
        self.u16(question.class.into());
    }

    fn opt(&mut self, payload: u16, dnssec_ok: bool, rcode_high: u8) {
        self.out.push(0);
        self.u16(RecordType::OPT.into());
        self.u16(payload);
        self.out
            .extend_from_slice(&[rcode_high, 0, u8::from(dnssec_ok) << 7, 0, 0, 0]);
    }

    fn plain_name(&mut self, name: &Name) {
        for label in name.iter() {
            self.out.push(u8::try_from(label.len()).unwrap_or(63));
            self.out.extend_from_slice(label);
        }
        self.out.push(0);
    }

    fn name(&mut self, name: &Name) {
        self.any_name(name, true);
    }

    /// Later names may point into every name, also into one that must not point itself.
    fn any_name(&mut self, name: &Name, may_point: bool) {
        let begin = self.out.len();
        self.plain_name(name);
        let Some(names) = &mut self.names else { return };
        let mut at = begin;
        while let Some(&len) = self.out.get(at).filter(|len| **len != 0) {
            let rest = self.out.get(at..).unwrap_or_default();
            if let Some(place) = names.get(rest).filter(|_| may_point) {
                let pointer = 0xC000 | place;
                self.out.truncate(at);
                self.u16(pointer);
                return;
            }
            if let Some(place) = u16::try_from(at).ok().filter(|p| *p < 0x4000) {
                names.entry_ref(rest).or_insert(place);
            }
            at += 1 + usize::from(len);
        }
    }

    fn record(&mut self, record: &Record, ttls: &mut Vec<u16>) {
        self.name(&record.name);
        self.u16(record.record_type().into());
        self.u16(u16::from(record.dns_class));
        ttls.push(self.offset());
        self.u32(record.ttl);
        let length = self.out.len();
        self.u16(0);
        self.data(&record.data);
        let octets = u16::try_from(self.out.len().saturating_sub(length + 2)).unwrap_or(u16::MAX);
        self.count(length, octets);
    }

    /// Names are compressed in the types of RFC 1035 only (RFC 3597 section 4).
    fn data(&mut self, data: &RData) {
        match data {
            RData::A(a) => self.out.extend_from_slice(&a.0.octets()),
            RData::AAAA(a) => self.out.extend_from_slice(&a.0.octets()),
            RData::CNAME(n) => self.name(&n.0),
            RData::NS(n) => self.name(&n.0),
            RData::PTR(n) => self.name(&n.0),
            RData::MX(mx) => {
                self.u16(mx.preference);
                self.name(&mx.exchange);
            }
            RData::SRV(srv) => {
                self.u16(srv.priority);
                self.u16(srv.weight);
                self.u16(srv.port);
                self.any_name(&srv.target, false);
            }
            RData::SOA(soa) => {
                self.name(&soa.mname);
                self.name(&soa.rname);
                self.u32(soa.serial);
                for value in [soa.refresh, soa.retry, soa.expire] {
                    self.out.extend_from_slice(&value.to_be_bytes());
                }
                self.u32(soa.minimum);
            }
            RData::Update0(_) => {}
            other => {
                let mut octets = Vec::new();
                let mut encoder = BinEncoder::new(&mut octets);
                encoder.set_name_encoding(NameEncoding::Uncompressed);
                if other.emit(&mut encoder).is_ok() {
                    self.out.append(&mut octets);
                }
            }
        }
    }
}

/// The class of a question that asks for Internet data.
pub const IN: DNSClass = DNSClass::IN;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube::dns::message::{Client, Edns};
    use crate::kube::dns::receive::{Received, receive};
    use crate::kube::dns::{names, text};

    fn client() -> Client {
        Client {
            from: "10.0.0.1:4000".parse().unwrap(),
            port: 53,
            transport: Transport::Udp,
        }
    }

    fn request(name: &str, edns: Option<u16>) -> Request {
        let edns = edns.map(|payload| Edns {
            payload,
            dnssec_ok: true,
            version: 0,
        });
        let question = Question {
            name: names::parse(name).unwrap(),
            kind: RecordType::A,
            class: IN,
        };
        Request {
            id: 7,
            question,
            rd: true,
            ad: false,
            cd: true,
            opcode: 0,
            edns,
            source: client().from.ip(),
            source_port: 4000,
            port: 53,
            transport: Transport::Udp,
            serial: None,
        }
    }

    #[test]
    fn queries_round_trip() {
        let asked = request("A.b.test.", Some(1232));
        let Received::Query(got) = receive(&query(&asked, 7), &client()) else {
            panic!("no query")
        };
        assert_eq!(*got, asked);
    }

    #[test]
    fn replies_are_cut_to_the_octet_and_compressed_then() {
        for (edns, kept, tc) in [
            (None, 29, true),
            (Some(512), 28, true),
            (Some(4096), 252, true),
            (Some(65000), 300, false),
        ] {
            let asked = request("h.big.svc.cluster.local.", edns);
            let mut reply = Reply::to(&asked, ResponseCode::NoError);
            for i in 0..300 {
                let line = format!(
                    "h.big.svc.cluster.local. 5 IN A 10.0.{}.{}",
                    i / 256,
                    i % 256
                );
                reply.answer.push(text::parse(&line).unwrap());
            }
            let (bytes, layout) = encode(&reply, &asked, Vec::new());
            let got = Message::from_vec(&bytes).unwrap();
            assert_eq!((got.answers.len(), got.metadata.truncation), (kept, tc));
            assert_eq!(layout.ttls.len(), kept);
            assert_eq!(got.edns.map(|e| e.max_payload()), edns);
        }
    }

    #[test]
    fn a_pointer_keeps_the_case() {
        let asked = request("A.Test.", Some(4096));
        let mut reply = Reply::to(&asked, ResponseCode::NoError);
        for i in 0..99 {
            reply
                .answer
                .push(text::parse(&format!("a.test. 5 IN CNAME x{i}.TEST.")).unwrap());
        }
        let (bytes, layout) = encode(&reply, &asked, Vec::new());
        assert!(layout.compressed);
        let (_, got) = super::reply(&bytes).unwrap();
        let got = got.unwrap();
        assert_eq!(text::line(&got.answer[98]), "a.test. 5 IN CNAME x98.TEST.");
        assert_eq!(names::text(&got.question.name), "A.Test.");
    }
}
