//! Messages as plugins see them: a question with what came with it, and a reply.
//!
//! hickory-proto's names and records are used throughout; its `Message` only while decoding
//! ([`super::codec`]).

use std::net::{IpAddr, SocketAddr};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{DNSClass, Name, Record, RecordType};

/// How a message travels.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Transport {
    /// One datagram.
    Udp,
    /// A connection; messages here are without the two octets of length.
    Tcp,
}

impl Transport {
    /// `udp` or `tcp`.
    pub fn name(self) -> &'static str {
        match self {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
        }
    }
}

/// Who asks, and where.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Client {
    /// Source address and port.
    pub from: SocketAddr,
    /// The server's port, which chooses among server blocks: 53.
    pub port: u16,
    /// How the query came.
    pub transport: Transport,
}

/// The OPT record of a query.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Edns {
    /// Largest UDP reply, as advertised.
    pub payload: u16,
    /// DNSSEC OK.
    pub dnssec_ok: bool,
    /// EDNS version.
    pub version: u8,
}

/// What is asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Question {
    /// Name, in the case it was asked in.
    pub name: Name,
    /// Type.
    pub kind: RecordType,
    /// Class.
    pub class: DNSClass,
}

impl Question {
    /// Same name (whatever its case), type and class.
    pub fn matches(&self, other: &Question) -> bool {
        self.name == other.name && self.kind == other.kind && self.class == other.class
    }
}

/// A query on its way through plugins.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request {
    /// Message id of the client.
    pub id: u16,
    /// What is asked now: plugins rewrite it.
    pub question: Question,
    /// Recursion desired.
    pub rd: bool,
    /// Authentic data.
    pub ad: bool,
    /// Checking disabled.
    pub cd: bool,
    /// Opcode, 0 for a query.
    pub opcode: u8,
    /// The OPT record, where there was one.
    pub edns: Option<Edns>,
    /// Source address, which autopath and acl look at.
    pub source: IpAddr,
    /// Source port, for logs.
    pub source_port: u16,
    /// The server's port.
    pub port: u16,
    /// How the query came.
    pub transport: Transport,
    /// Serial number of an IXFR query.
    pub serial: Option<u32>,
}

impl Request {
    /// The name asked for.
    pub fn name(&self) -> &Name {
        &self.question.name
    }

    /// DNSSEC OK.
    pub fn dnssec_ok(&self) -> bool {
        self.edns.is_some_and(|e| e.dnssec_ok)
    }

    /// Octets of the largest reply: `edns.Size` of CoreDNS.
    pub fn size(&self) -> usize {
        match self.transport {
            Transport::Tcp => 65_535,
            Transport::Udp => usize::from(self.edns.map_or(0, |e| e.payload)).max(512),
        }
    }

    /// A plugin's own look-up of another name: recursion desired, with an OPT record of the client's size
    /// (`upstream.Lookup`, `dns.Msg.SetQuestion`).
    pub fn look_up(&self, name: Name, kind: RecordType) -> Request {
        let mut other = self.clone();
        other.question = Question {
            name,
            kind,
            class: DNSClass::IN,
        };
        (other.rd, other.ad, other.cd) = (true, false, false);
        other.edns = Some(Edns {
            payload: u16::try_from(self.size()).unwrap_or(u16::MAX),
            dnssec_ok: self.dnssec_ok(),
            version: 0,
        });
        other
    }
}

/// A reply on its way back through plugins.
#[derive(Clone, PartialEq, Debug)]
pub struct Reply {
    /// Code.
    pub rcode: ResponseCode,
    /// Authoritative answer.
    pub aa: bool,
    /// Recursion available.
    pub ra: bool,
    /// Cut short.
    pub tc: bool,
    /// Authentic data.
    pub ad: bool,
    /// The question as the reply states it.
    pub question: Question,
    /// Answer section.
    pub answer: Vec<Record>,
    /// Authority section.
    pub authority: Vec<Record>,
    /// Additional section without OPT.
    pub additional: Vec<Record>,
}

impl Reply {
    /// An empty reply to a request.
    pub fn to(request: &Request, rcode: ResponseCode) -> Reply {
        Reply {
            rcode,
            aa: false,
            ra: false,
            tc: false,
            ad: false,
            question: request.question.clone(),
            answer: Vec::new(),
            authority: Vec::new(),
            additional: Vec::new(),
        }
    }

    /// All records, section by section.
    pub fn records(&self) -> impl Iterator<Item = &Record> {
        self.answer
            .iter()
            .chain(&self.authority)
            .chain(&self.additional)
    }

    /// All records, to be changed.
    pub fn records_mut(&mut self) -> impl Iterator<Item = &mut Record> {
        self.answer
            .iter_mut()
            .chain(&mut self.authority)
            .chain(&mut self.additional)
    }
}

/// How a chain of plugins ended.
#[derive(Clone, PartialEq, Debug)]
pub enum Ended {
    /// A plugin wrote a reply.
    Written(Box<Reply>),
    /// None did: the server answers with this code and nothing else (`plugin.ClientWrite` is false).
    Code(ResponseCode),
    /// No reply at all.
    Dropped,
}

impl Ended {
    /// A written reply.
    pub fn reply(reply: Reply) -> Ended {
        Ended::Written(Box::new(reply))
    }
}
