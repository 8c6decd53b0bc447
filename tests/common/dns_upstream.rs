//! A name server outside, as the vectors describe one: it answers from a list of records, follows its own CNAMEs,
//! and drops, refuses or truncates where it is told to.

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{RData, Record};
use podpath::kube::dns::{Transport, names, text};
use serde_json::Value;

/// See the module.
pub struct Upstream {
    records: Vec<Record>,
    soa: Option<Record>,
    /// `normal`, `drop`, `refuse` or `servfail`.
    pub mode: String,
    truncates: bool,
    /// `TRANSPORT NAME TYPE` of every query but health checks.
    pub seen: Vec<String>,
}

impl Upstream {
    /// One entry of a case's `upstreams`.
    pub fn new(value: &Value) -> Upstream {
        let records = value["records"].as_array().into_iter().flatten();
        Upstream {
            records: records.filter_map(|t| text::parse(t.as_str()?)).collect(),
            soa: value["soa"].as_str().and_then(text::parse),
            mode: value["mode"].as_str().unwrap_or("normal").to_owned(),
            truncates: value["udp_truncates"] == true,
            seen: Vec::new(),
        }
    }

    /// The reply to a message, if there is one.
    pub fn reply(&mut self, bytes: &[u8], transport: Transport) -> Option<Vec<u8>> {
        let asked = Message::from_vec(bytes).ok()?;
        let query = asked.queries.first()?.clone();
        let name = names::text(&query.name);
        if name != "." {
            self.seen
                .push(format!("{} {name} {}", transport.name(), query.query_type));
        }
        let mut reply = Message::new(asked.metadata.id, MessageType::Response, OpCode::Query);
        reply.metadata.recursion_available = true;
        reply.metadata.recursion_desired = asked.metadata.recursion_desired;
        match self.mode.as_str() {
            "drop" => return None,
            "refuse" => reply.metadata.response_code = ResponseCode::Refused,
            "servfail" => reply.metadata.response_code = ResponseCode::ServFail,
            _ if self.truncates && transport == Transport::Udp => reply.metadata.truncation = true,
            _ => self.answer(&query, &mut reply),
        }
        reply.queries.push(query);
        reply.to_vec().ok()
    }

    fn answer(&self, query: &Query, reply: &mut Message) {
        let mut name = query.name.clone();
        for _ in 0..8 {
            let here: Vec<&Record> = self.records.iter().filter(|r| r.name == name).collect();
            let own = |r: &Record| Record::from_rdata(name.clone(), r.ttl, r.data.clone());
            let found: Vec<Record> = here
                .iter()
                .filter(|r| r.record_type() == query.query_type)
                .map(|r| own(r))
                .collect();
            if !found.is_empty() {
                reply.answers.extend(found);
                return;
            }
            let cname = here.iter().find_map(|r| match &r.data {
                RData::CNAME(target) => Some((own(r), target.0.clone())),
                _ => None,
            });
            match cname {
                Some((record, target)) => {
                    reply.answers.push(record);
                    name = target;
                }
                None => {
                    let exists = self.records.iter().any(|r| name.zone_of(&r.name));
                    if !exists {
                        reply.metadata.response_code = ResponseCode::NXDomain;
                    }
                    reply.authorities.extend(self.soa.clone());
                    return;
                }
            }
        }
    }
}
