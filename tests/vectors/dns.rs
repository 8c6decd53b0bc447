//! The responder against what CoreDNS answered: query sets and timelines of `dns/`.
//!
//! Upstreams are played here: they answer at once, or not at all, as `upstream_mode` says. Virtual time passes
//! from one of the responder's deadlines to the next until a query is answered.

use crate::dns_upstream::Upstream;
use core::time::Duration;
use hickory_proto::op::Message;
use hickory_proto::rr::{RData, Record};
use podpath::base::Instant;
use podpath::kube::dns::{
    Api, Arrival, Client, Corefile, Environment, Objects, Outcome, Resource, Responder, Send,
    Transport, Version, names, text,
};
use podpath::kube::manifest::Input;
use podpath::kube::store::Store;
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::IpAddr;

type Results = Vec<(String, Result<(), String>)>;

/// Every query and step with its outcome, by id; the client's files of the folder have suites of their own.
pub fn case(value: &Value) -> Results {
    if value.get("corefile").is_none() {
        return Results::new();
    }
    let mut play = match Play::new(value) {
        Ok(play) => play,
        Err(e) => return vec![("corefile".to_owned(), Err(e))],
    };
    let list = |key: &str| {
        value
            .get(key)
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default()
    };
    let mut out = Results::new();
    for query in list("queries") {
        out.push((query["id"].to_string(), play.query(&query)));
    }
    for step in list("steps") {
        let at = Duration::from_secs_f64(step["at"].as_f64().unwrap_or(0.0));
        let at = Instant::ZERO + at;
        play.until(at);
        match step["do"].as_str() {
            Some("query") => out.push((step["id"].to_string(), play.query(&step))),
            Some("upstream_queries") => out.push((step["id"].to_string(), play.seen(&step))),
            Some("upstream_mode") => {
                let name = step["upstream"].as_str().unwrap_or("").to_owned();
                if let Some(up) = play.upstreams.get_mut(&name) {
                    up.mode = step["mode"].as_str().unwrap_or("").to_owned();
                }
            }
            Some("apply") => play.change(&step["manifest"], true),
            Some("delete") => play.change(&step["manifest"], false),
            other => out.push((
                step["id"].to_string(),
                Err(format!("unknown step {other:?}")),
            )),
        }
    }
    out
}

struct Play {
    responder: Responder,
    upstreams: BTreeMap<String, Upstream>,
    manifests: Vec<Value>,
    api: Api,
    now: Instant,
    id: u16,
    pending: BTreeMap<u64, Vec<Vec<u8>>>,
}

fn strings(value: &Value) -> Vec<String> {
    let list = value.as_array().into_iter().flatten();
    list.filter_map(|v| v.as_str().map(str::to_owned)).collect()
}

impl Play {
    fn new(value: &Value) -> Result<Play, String> {
        let addresses: Vec<IpAddr> = strings(&value["server_ips"])
            .iter()
            .filter_map(|t| t.parse().ok())
            .collect();
        let environment = Environment {
            addresses,
            search: strings(&value["server_resolv_search"]),
            version: if value["name"] == "k8s-zonal" {
                Version::V1_14
            } else {
                Version::V1_13
            },
            seed: 7,
            ..Environment::default()
        };
        let text = value["corefile"].as_str().unwrap_or("");
        let (corefile, mut findings) = Corefile::parse("Corefile", text, &environment.around);
        let (responder, more) = Responder::new(&corefile, &environment);
        findings.extend(more);
        if let Some(finding) = findings.iter().find(|f| f.is_error()) {
            return Err(finding.to_string());
        }
        let mut upstreams = BTreeMap::new();
        for (name, up) in value["upstreams"].as_object().into_iter().flatten() {
            upstreams.insert(name.clone(), Upstream::new(up));
        }
        let forbidden = strings(&value["forbidden"]);
        let resources = Resource::ALL.into_iter();
        let api = Api {
            reachable: value["api_available"] != false,
            forbidden: resources
                .filter(|r| forbidden.iter().any(|f| f == r.name()))
                .collect(),
        };
        let mut play = Play {
            responder,
            upstreams,
            manifests: value["manifests"].as_array().cloned().unwrap_or_default(),
            api,
            now: Instant::ZERO,
            id: 0,
            pending: BTreeMap::new(),
        };
        play.learn();
        Ok(play)
    }

    fn learn(&mut self) {
        let inputs: Vec<Input> = self
            .manifests
            .iter()
            .map(|m| Input::new("m", m.to_string()))
            .collect();
        let (store, _) = Store::load(&inputs);
        let mut objects = Objects::of_store(&store);
        objects.api = self.api.clone();
        self.responder.learn(self.now, &objects);
    }

    fn change(&mut self, manifest: &Value, apply: bool) {
        let key = |m: &Value| {
            let meta = &m["metadata"];
            (
                m["kind"].clone(),
                meta["namespace"].clone(),
                meta["name"].clone(),
            )
        };
        self.manifests.retain(|m| key(m) != key(manifest));
        if apply {
            self.manifests.push(manifest.clone());
        }
        self.learn();
    }

    /// Lets upstreams answer what has been sent.
    fn carry(&mut self) {
        while let Some(send) = self.responder.next_send() {
            if let Some(arrival) = self.upstream(&send) {
                self.responder
                    .upstream_reply(self.now, send.exchange, arrival);
            }
        }
        while let Some(answer) = self.responder.next_answer() {
            self.pending.insert(answer.ticket, answer.messages);
        }
    }

    /// Lets time pass.
    fn until(&mut self, at: Instant) {
        self.carry();
        while let Some(next) = self.responder.next_deadline().filter(|d| *d <= at) {
            self.now = next;
            self.responder.tick(next);
            self.carry();
        }
        self.now = self.now.max(at);
    }

    fn upstream(&mut self, send: &Send) -> Option<Arrival> {
        let up = self.upstreams.get_mut(&send.to.ip().to_string())?;
        let reply = up.reply(&send.bytes, send.transport)?;
        Some(Arrival::Message(reply))
    }

    fn seen(&self, step: &Value) -> Result<(), String> {
        let name = step["upstream"].as_str().unwrap_or("");
        let got = self
            .upstreams
            .get(name)
            .map(|u| u.seen.clone())
            .unwrap_or_default();
        let expected = strings(&step["expect"]);
        if got == expected {
            Ok(())
        } else {
            Err(format!("upstream saw {got:?}, expected {expected:?}"))
        }
    }

    /// Sends a query and waits; the messages, and how long it took.
    fn ask(&mut self, query: &Value, transport: Transport) -> (Vec<Vec<u8>>, Duration) {
        self.id += 1;
        let client = Client {
            from: (
                query["client"]
                    .as_str()
                    .and_then(|c| c.parse().ok())
                    .unwrap_or(IpAddr::from([10, 244, 1, 9])),
                40_000,
            )
                .into(),
            port: 53,
            transport,
        };
        let began = self.now;
        let messages = match self
            .responder
            .query(self.now, &client, &encode(query, self.id))
        {
            Outcome::Reply(message) => vec![message],
            Outcome::Transfer(messages) => messages,
            Outcome::Silence => Vec::new(),
            Outcome::Pending(ticket) => {
                self.carry();
                while !self.pending.contains_key(&ticket) {
                    let Some(next) = self.responder.next_deadline() else {
                        break;
                    };
                    self.now = next;
                    self.responder.tick(next);
                    self.carry();
                }
                self.pending.remove(&ticket).unwrap_or_default()
            }
        };
        self.carry();
        (messages, self.now.since(began))
    }

    fn query(&mut self, query: &Value) -> Result<(), String> {
        let transport = if query["transport"] == "tcp" || query["qtype"] == "AXFR" {
            Transport::Tcp
        } else {
            Transport::Udp
        };
        let (messages, took) = self.ask(query, transport);
        let mut got = None;
        for bytes in &messages {
            let message = Message::from_vec(bytes).map_err(|e| format!("no DNS message: {e}"))?;
            match &mut got {
                None => got = Some(message),
                Some(all) => all.answers.extend(message.answers),
            }
        }
        let got = got.ok_or("no reply")?;
        let expect = &query["expect"];
        let size = messages.first().map_or(0, Vec::len);
        let mut wrong = flags(&got, expect, query, self.id, messages.first());
        if expect["counts"].is_object() {
            let (full, _) = self.ask(query, Transport::Tcp);
            let full = full
                .first()
                .and_then(|b| Message::from_vec(b).ok())
                .ok_or("no full reply")?;
            wrong.extend(truncated(&got, &full, expect, size, query));
        } else {
            for (name, records) in [
                ("answer", &got.answers),
                ("authority", &got.authorities),
                ("additional", &got.additionals),
            ] {
                wrong.extend(section(name, records, expect, query));
            }
        }
        if let Some(about) = expect["elapsed_ms_about"].as_u64() {
            let ms = u64::try_from((took.as_millis() + 50) / 100 * 100).unwrap_or(0);
            if ms != about {
                wrong.push(format!("took {ms} ms, expected {about}"));
            }
        }
        if wrong.is_empty() {
            Ok(())
        } else {
            Err(format!(
                "{} {}: {}",
                query["qname"],
                query["qtype"],
                wrong.join("\n")
            ))
        }
    }
}

/// The octets of a query, options and EDNS versions of all kinds included.
fn encode(query: &Value, id: u16) -> Vec<u8> {
    let mut out = id.to_be_bytes().to_vec();
    out.extend([
        u8::from(query["no_rd"] != true),
        0,
        0,
        1,
        0,
        0,
        0,
        0,
        0,
        u8::from(query["edns"].is_object()),
    ]);
    let name = names::parse(query["qname"].as_str().unwrap_or("")).expect("a name");
    for label in name.iter() {
        out.push(label.len() as u8);
        out.extend(label);
    }
    out.push(0);
    let kind = text::kind(query["qtype"].as_str().unwrap_or("")).expect("a type");
    out.extend(u16::from(kind).to_be_bytes());
    let class: u16 = if query["qclass"] == "CH" { 3 } else { 1 };
    out.extend(class.to_be_bytes());
    if let Some(edns) = query["edns"].as_object() {
        let number =
            |key: &str, default: u64| edns.get(key).and_then(Value::as_u64).unwrap_or(default);
        let payload = number("payload", 1232) as u16;
        let dnssec = edns.get("do") == Some(&Value::Bool(true));
        let mut options = Vec::new();
        for option in edns
            .get("options")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            let hex = option["data"].as_str().unwrap_or("");
            let octet =
                |i: usize| u8::from_str_radix(hex.get(i..i + 2).unwrap_or("0"), 16).unwrap_or(0);
            let data: Vec<u8> = (0..hex.len()).step_by(2).map(octet).collect();
            options.extend((option["code"].as_u64().unwrap_or(0) as u16).to_be_bytes());
            options.extend((data.len() as u16).to_be_bytes());
            options.extend(data);
        }
        out.extend([0, 0, 41]);
        out.extend(payload.to_be_bytes());
        out.extend([0, number("version", 0) as u8, u8::from(dnssec) << 7, 0]);
        out.extend((options.len() as u16).to_be_bytes());
        out.extend(options);
    }
    out
}

fn flags(
    got: &Message,
    expect: &Value,
    query: &Value,
    id: u16,
    bytes: Option<&Vec<u8>>,
) -> Vec<String> {
    let meta = &got.metadata;
    let mut wrong = Vec::new();
    let rcode = podpath::kube::dns::plugins::log::rcode_name(meta.response_code);
    if expect["rcode"] != rcode.as_str() {
        wrong.push(format!("{rcode}, expected {}", expect["rcode"]));
    }
    for (name, value) in [
        ("aa", meta.authoritative),
        ("ra", meta.recursion_available),
        ("tc", meta.truncation),
    ] {
        if !expect[name].is_null() && expect[name] != value {
            wrong.push(format!("{name} is {value}"));
        }
    }
    if meta.id != id || meta.recursion_desired == (query["no_rd"] == true) {
        wrong.push("id or RD is not the query's".to_owned());
    }
    let name = got.queries.first().map(|q| names::text(&q.name));
    if name.as_deref() != query["qname"].as_str() {
        wrong.push(format!("the question is {name:?}"));
    }
    let (want, have) = (expect["edns"].as_object(), got.edns.as_ref());
    match (want, have) {
        (None, None) => {}
        (Some(want), Some(have)) => {
            // Its size is read from the octets: hickory raises it to 512. OPT is the last record.
            let size = bytes
                .and_then(|b| b.get(b.len().checked_sub(8)?..b.len() - 6))
                .map_or(0, |s| u16::from_be_bytes([s[0], s[1]]));
            let same = want["version"] == have.version()
                && want["payload"] == size
                && want["do"] == have.flags().dnssec_ok;
            if !same {
                wrong.push(format!("OPT is {have}, size {size}"));
            }
        }
        _ => wrong.push(format!("OPT is {have:?}")),
    }
    wrong
}

/// A record as the vectors write it: serials are 1.
fn shown(record: &Record) -> String {
    let mut record = record.clone();
    if let RData::SOA(soa) = &mut record.data {
        soa.serial = 1;
    }
    text::line(&record)
}

fn section(name: &str, records: &[Record], expect: &Value, query: &Value) -> Vec<String> {
    let got: Vec<String> = records.iter().map(shown).collect();
    let want = strings(&expect[name]);
    let (mut a, mut b) = (got.clone(), want.clone());
    a.sort();
    b.sort();
    let mut wrong = Vec::new();
    if a != b {
        let missing: Vec<&String> = b.iter().filter(|l| !a.contains(l)).collect();
        let extra: Vec<&String> = a.iter().filter(|l| !b.contains(l)).collect();
        wrong.push(format!(
            "{name}: missing {missing:?}, not expected {extra:?} ({} for {})",
            got.len(),
            want.len()
        ));
    }
    if query["qtype"] == "AXFR" && (got.first() != want.first() || got.last() != want.last()) {
        wrong.push("a transfer begins and ends with the SOA".to_owned());
    }
    // A CNAME stands before the records of its target.
    for (i, record) in records
        .iter()
        .enumerate()
        .filter(|_| query["qtype"] != "AXFR")
    {
        if let RData::CNAME(target) = &record.data
            && records.iter().take(i).any(|r| r.name == target.0)
        {
            wrong.push(format!("{} stands behind its target", shown(record)));
        }
    }
    wrong
}

fn truncated(
    got: &Message,
    full: &Message,
    expect: &Value,
    size: usize,
    query: &Value,
) -> Vec<String> {
    let mut wrong = Vec::new();
    let sections = [
        ("answer", &got.answers, &full.answers),
        ("authority", &got.authorities, &full.authorities),
        ("additional", &got.additionals, &full.additionals),
    ];
    for (name, some, all) in sections {
        if expect["counts"][name] != some.len() {
            wrong.push(format!(
                "{} records in {name}, expected {}",
                some.len(),
                expect["counts"][name]
            ));
        }
        if some.iter().any(|r| !all.contains(r)) {
            wrong.push(format!("{name} has records that the whole has not"));
        }
    }
    let limit = query["edns"]["payload"].as_u64().unwrap_or(512).max(512);
    if size as u64 > limit {
        wrong.push(format!("{size} octets, {limit} at most"));
    }
    wrong
}
