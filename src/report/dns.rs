//! Look-ups and digs as text and JSON.
//!
//! The text of a dig is dig's own (BIND 9.18), comments included; a look-up lists every query with its time,
//! socket and answer. Invariant: the same record gives the same text.

use crate::cluster::dns::ask::{Asked, Record};
use crate::cluster::dns::{Resolved, Seen};
use crate::kube::dns::client::dig::Found;
use crate::kube::dns::client::message::{Parsed, parse};
use crate::kube::dns::client::text;
use crate::kube::store::Name;
use core::fmt::Write;
use core::time::Duration;
use serde_json::{Value, json};
use std::net::SocketAddr;

/// A dig's response code; `None` without a reply.
pub fn rcode(found: &Found) -> Option<u16> {
    match found {
        Found::Reply { message, .. } => parse(message).map(|p| p.head.rcode()),
        _ => None,
    }
}

/// How many answers it got.
pub fn answers(found: &Found) -> usize {
    match found {
        Found::Reply { message, .. } => parse(message).map_or(0, |p| p.sections[0].len()),
        _ => 0,
    }
}

/// A dig as dig prints it.
pub fn dig(name: &str, server: SocketAddr, found: &Found, record: &Record, short: bool) -> String {
    let mut o = String::new();
    if !short {
        let _ = writeln!(o, "\n; <<>> podpath dns <<>> {name}");
    }
    for a in record.asked.iter().filter(|a| !short && a.reply.is_none()) {
        let at = place(a.server);
        let _ = match a.error {
            Some((_, e)) => writeln!(o, ";; communications error to {at}: {}", words(e)),
            None => writeln!(o, ";; communications error to {at}: timed out"),
        };
    }
    let cut = record.asked.iter().find(|a| !a.tcp && truncated(a));
    if let (Some(_), Found::Reply { tcp: true, .. }, false) = (cut, found, short) {
        o.push_str(";; Truncated, retrying in TCP mode.\n");
    }
    match found {
        Found::Reply { message, tcp, took } => match parse(message) {
            Some(p) if short => p.sections[0].iter().for_each(|r| {
                let _ = writeln!(o, "{}", text::rdata(message, r));
            }),
            Some(p) => reply(&mut o, message, &p, server, *tcp, *took),
            None => o.push_str(";; Got bad packet\n"),
        },
        Found::BadName => {
            let _ = writeln!(o, "dig: '{name}' is not a legal name");
        }
        Found::NoReply | Found::Failed(_) => o.push_str(";; no servers could be reached\n"),
    }
    o
}

fn truncated(a: &Asked) -> bool {
    let reply = a.reply.as_ref().and_then(|(_, m)| parse(m));
    reply.is_some_and(|p| p.head.tc())
}

fn place(s: SocketAddr) -> String {
    format!("{}#{}", s.ip(), s.port())
}

/// isc_result's words for an error of a socket.
fn words(e: crate::endpoint::Errno) -> String {
    use crate::endpoint::Errno;
    match e {
        Errno::ConnRefused => "connection refused".to_owned(),
        Errno::HostUnreach => "host unreachable".to_owned(),
        Errno::NetUnreach => "network unreachable".to_owned(),
        Errno::TimedOut => "timed out".to_owned(),
        Errno::ConnReset => "connection reset".to_owned(),
        other => other.to_string(),
    }
}

fn reply(o: &mut String, m: &[u8], p: &Parsed, server: SocketAddr, tcp: bool, took: Duration) {
    let h = &p.head;
    let status = text::rcode_name(h.rcode());
    let c = h.counts;
    let _ = writeln!(o, ";; Got answer:");
    let _ = writeln!(
        o,
        ";; ->>HEADER<<- opcode: QUERY, status: {status}, id: {}",
        h.id
    );
    let _ = writeln!(
        o,
        ";; flags: {}; QUERY: {}, ANSWER: {}, AUTHORITY: {}, ADDITIONAL: {}",
        text::flags(p),
        c[0],
        c[1],
        c[2],
        c[3]
    );
    if h.rd() && !h.ra() {
        o.push_str(";; WARNING: recursion requested but not available\n");
    }
    if !p.whole {
        o.push_str(";; WARNING: the message is cut short\n");
    }
    if let Some(opt) = p.sections[2].iter().find(|r| r.rtype == 41) {
        let bits = if opt.ttl & 0x8000 != 0 { " do" } else { "" };
        let version = opt.ttl >> 16 & 0xff;
        let _ = writeln!(o, "\n;; OPT PSEUDOSECTION:");
        let _ = writeln!(
            o,
            "; EDNS: version: {version}, flags:{bits}; udp: {}",
            opt.class
        );
    } else {
        o.push('\n');
    }
    if !p.questions.is_empty() {
        o.push_str(";; QUESTION SECTION:\n");
    }
    for q in &p.questions {
        let gap = if q.name.len() < 23 {
            "\t".repeat((30 - q.name.len()) / 8)
        } else {
            "\t".into()
        };
        let class = text::class_name(q.class);
        let _ = writeln!(o, ";{}{gap}\t{class}\t{}", q.name, text::type_name(q.qtype));
    }
    let titles = ["ANSWER", "AUTHORITY", "ADDITIONAL"];
    for (section, title) in p.sections.iter().zip(titles) {
        let shown: Vec<_> = section.iter().filter(|r| r.rtype != 41).collect();
        if shown.is_empty() {
            continue;
        }
        let _ = writeln!(o, "\n;; {title} SECTION:");
        for r in shown {
            let _ = writeln!(o, "{}", text::record(m, r));
        }
    }
    let ms = took.as_secs_f64() * 1000.0;
    let _ = writeln!(o, "\n;; Query time: {ms:.3} msec");
    let l4 = if tcp { "TCP" } else { "UDP" };
    let _ = writeln!(o, ";; SERVER: {}({}) ({l4})", place(server), server.ip());
    let _ = writeln!(o, ";; MSG SIZE  rcvd: {}", m.len());
}

/// A look-up: its queries, and what getaddrinfo(3) returned.
pub fn lookup(name: &str, r: &Resolved) -> String {
    let mut o = String::new();
    let _ = writeln!(o, "getaddrinfo(\"{name}\") by {}", r.libc.name());
    for line in r.resolv_conf.lines() {
        let _ = writeln!(o, "  {line}");
    }
    let Some(record) = &r.record else {
        let all: Vec<String> = r.answer.addresses.iter().map(ToString::to_string).collect();
        let _ = writeln!(o, "no query: {}", all.join(" "));
        return o;
    };
    o.push('\n');
    for a in &record.asked {
        let _ = writeln!(o, "{}", asked(a));
    }
    let took = crate::report::time(record.took);
    let _ = match r.answer.error {
        None => {
            let all: Vec<String> = r.answer.addresses.iter().map(ToString::to_string).collect();
            writeln!(o, "\n{} after {took}: {}", r.answer.asked, all.join(" "))
        }
        Some(e) => {
            let why = r.libc.error_text(e);
            writeln!(o, "\n{} after {took}: {why}, {}", e.name(), r.outcome())
        }
    };
    o
}

fn asked(a: &Asked) -> String {
    let q = parse(&a.query).and_then(|p| p.questions.into_iter().next());
    let (name, qtype) = q.map_or(("?".into(), 0), |q| (q.name, q.qtype));
    let l4 = if a.tcp { "tcp" } else { "udp" };
    let after = match (&a.reply, &a.error) {
        (Some((at, m)), _) => {
            let took = crate::report::time(at.saturating_sub(a.at));
            format!("{} after {took}", summary(m))
        }
        (None, Some((at, e))) => {
            let took = crate::report::time(at.saturating_sub(a.at));
            format!("{e} after {took}")
        }
        (None, None) => "no reply".to_owned(),
    };
    let at = crate::report::time(a.at);
    format!(
        "{at:>9}  {} {l4} {} {name} {}: {after}",
        a.sock,
        a.server.ip(),
        text::type_name(qtype)
    )
}

/// A reply in a few words.
fn summary(m: &[u8]) -> String {
    let Some(p) = parse(m) else {
        return "not a message".to_owned();
    };
    let code = text::rcode_name(p.head.rcode());
    let cut = if p.head.tc() { " truncated" } else { "" };
    let data: Vec<String> = p.sections[0].iter().map(|r| text::rdata(m, r)).collect();
    match data.len() {
        0 => format!("{code}{cut}"),
        1..=4 => format!("{code}{cut} {}", data.join(" ")),
        n => format!("{code}{cut} {n} records"),
    }
}

/// What servers saw and what their plugins decided.
pub fn decisions(began: crate::base::Instant, all: &[(Name, Vec<Seen>)]) -> String {
    let mut o = String::new();
    for (pod, seen) in all {
        for s in seen {
            let q = parse(&s.query).and_then(|p| p.questions.into_iter().next());
            let Some(q) = q else { continue };
            let at = crate::report::time(s.at.since(began));
            let qtype = text::type_name(q.qtype);
            let _ = writeln!(o, "{at:>9}  {pod}: {} {qtype} from {}", q.name, s.from);
            for d in &s.decisions {
                let at = crate::report::time(d.at.since(began));
                let _ = writeln!(o, "{at:>9}    {}: {}", d.plugin, d.what);
            }
        }
    }
    o
}

fn asked_json(a: &Asked) -> Value {
    let q = parse(&a.query).and_then(|p| p.questions.into_iter().next());
    json!({
        "at_us": a.at.as_micros() as u64,
        "socket": a.sock.to_string(),
        "server": a.server.to_string(),
        "transport": if a.tcp { "tcp" } else { "udp" },
        "name": q.as_ref().map(|q| q.name.clone()),
        "type": q.as_ref().map(|q| text::type_name(q.qtype)),
        "reply": a.reply.as_ref().map(|(at, m)| json!({
            "at_us": at.as_micros() as u64,
            "message": message_json(m),
        })),
        "error": a.error.map(|(_, e)| e.name()),
    })
}

fn message_json(m: &[u8]) -> Value {
    let Some(p) = parse(m) else {
        return Value::Null;
    };
    let section = |i: usize| -> Vec<Value> {
        let shown = p.sections[i].iter().filter(|r| r.rtype != 41);
        let each = shown.map(|r| {
            json!({
                "name": r.name, "ttl": r.ttl, "class": text::class_name(r.class),
                "type": text::type_name(r.rtype), "data": text::rdata(m, r),
            })
        });
        each.collect()
    };
    json!({
        "rcode": text::rcode_name(p.head.rcode()),
        "flags": text::flags(&p),
        "size": m.len(),
        "answer": section(0),
        "authority": section(1),
        "additional": section(2),
    })
}

/// A look-up as JSON.
pub fn lookup_json(name: &str, r: &Resolved) -> Value {
    let asked = r.record.iter().flat_map(|x| &x.asked).map(asked_json);
    json!({
        "version": 1,
        "name": name,
        "libc": r.libc.name(),
        "outcome": r.outcome().to_string(),
        "error": r.answer.error.map(|e| e.name()),
        "addresses": r.answer.addresses,
        "canonical": r.answer.asked,
        "delay_us": r.record.as_ref().map_or(0, |x| x.took.as_micros() as u64),
        "queries": asked.collect::<Vec<_>>(),
    })
}

/// A dig as JSON.
pub fn dig_json(name: &str, server: SocketAddr, found: &Found, record: &Record) -> Value {
    let reply = match found {
        Found::Reply { message, .. } => message_json(message),
        _ => Value::Null,
    };
    json!({
        "version": 1,
        "name": name,
        "server": server.to_string(),
        "delay_us": record.took.as_micros() as u64,
        "reply": reply,
        "queries": record.asked.iter().map(asked_json).collect::<Vec<_>>(),
    })
}
