//! The trace as a versioned JSON document. Keys are documented in docs/json.md and never change their meaning
//! within a version; new keys may come.

use super::lines::icmp_text;
use crate::base::Origin;
use crate::path::{Direction, Disposition, DropReason, Event, EventKind, IcmpSent, RuleAt, Step};
use serde_json::{Map, Value, json};

/// The document's version.
pub const VERSION: u32 = 1;

/// The document.
pub fn json(events: &[Event]) -> Value {
    let events: Vec<Value> = events.iter().map(event).collect();
    json!({"version": VERSION, "events": events})
}

fn event(e: &Event) -> Value {
    let mut m = Map::new();
    let dev = (!e.dev_name.is_empty()).then_some(&e.dev_name);
    put(
        &mut m,
        json!({"time_ns": e.time.as_nanos(), "ns": e.ns_name, "dev": dev}),
    );
    put(
        &mut m,
        json!({"frame": e.frame.0, "root": e.root.0, "parent": e.parent.map(|p| p.0)}),
    );
    let what = match &e.kind {
        EventKind::Tap(Direction::In) => json!({"kind": "tap", "direction": "in"}),
        EventKind::Tap(Direction::Out) => json!({"kind": "tap", "direction": "out"}),
        EventKind::Step(s) => step(s),
        EventKind::End(d) => end(d),
    };
    put(&mut m, what);
    if !e.summary.is_empty() {
        put(&mut m, json!({"summary": e.summary}));
    }
    Value::Object(m)
}

fn put(m: &mut Map<String, Value>, more: Value) {
    if let Value::Object(o) = more {
        m.extend(o);
    }
}

fn step(s: &Step) -> Value {
    let (name, fields) = match s {
        Step::FdbLearn { mac, port } => {
            ("fdb-learn", json!({"mac": mac.to_string(), "port": port}))
        }
        Step::BridgeForward { port } => ("bridge-forward", json!({"port": port})),
        Step::BridgeFlood { ports, why } => ("bridge-flood", json!({"ports": ports, "why": why})),
        Step::BridgeUp { bridge } => ("bridge-up", json!({"bridge": bridge})),
        Step::Route {
            table,
            rule,
            route,
            origin,
        } => (
            "route",
            json!({"table": table, "rule": rule, "route": route, "origin": self::origin(origin)}),
        ),
        Step::Ttl { to } => ("ttl", json!({"to": to})),
        Step::NeighHit { ip, mac, state } => (
            "neigh-hit",
            json!({"ip": ip.to_string(), "mac": mac.to_string(), "state": state}),
        ),
        Step::NeighWait { ip, queued } => (
            "neigh-wait",
            json!({"ip": ip.to_string(), "queued": queued}),
        ),
        Step::NeighResolved { ip, mac } => (
            "neigh-resolved",
            json!({"ip": ip.to_string(), "mac": mac.to_string()}),
        ),
        Step::Encap {
            kind,
            outer: (src, dst),
            vni,
        } => (
            "encap",
            json!({"tunnel": kind, "outer_src": src.to_string(), "outer_dst": dst.to_string(), "vni": vni}),
        ),
        Step::Decap { kind, dev } => ("decap", json!({"tunnel": kind, "tunnel_dev": dev})),
        Step::Fragment { count, mtu } => ("fragment", json!({"count": count, "mtu": mtu})),
        Step::FragmentQueued => ("fragment-queued", json!({})),
        Step::Reassembled { len } => ("reassembled", json!({"length": len})),
        Step::Answer { what } => ("answer", json!({"what": what})),
        Step::IcmpError { icmp, to } => (
            "icmp-error",
            json!({"icmp": self::icmp(*icmp), "to": to.to_string()}),
        ),
        Step::IcmpSuppressed { why } => ("icmp-suppressed", json!({"why": why})),
        Step::PmtuLearned { dst, mtu } => {
            ("pmtu-learned", json!({"dst": dst.to_string(), "mtu": mtu}))
        }
        Step::Rule {
            at,
            skipped,
            chance,
        } => (
            "rule",
            json!({"rule": rule(at), "skipped": skipped, "chance": chance.map(share)}),
        ),
        Step::Policy { at, skipped } => ("policy", json!({"rule": rule(at), "skipped": skipped})),
        Step::Conntrack { hook, state, text } => (
            "conntrack",
            json!({"hook": hook.chain(), "state": state, "text": text}),
        ),
        Step::NatSetup { what, at, from, to } => (
            "nat-setup",
            json!({"what": what, "rule": at.as_ref().map(rule), "from": from, "to": to}),
        ),
        Step::NatPacket { hook, from, to } => {
            ("nat", json!({"hook": hook.chain(), "from": from, "to": to}))
        }
        Step::Ipvs {
            reply,
            virt,
            server,
            forward,
            open,
            origin,
        } => (
            "ipvs",
            json!({"direction": if *reply { "reply" } else { "request" }, "virtual": virt.to_string(),
                "server": server.to_string(), "forward": forward,
                "undecided": (*open > 0).then_some(open), "origin": self::origin(origin)}),
        ),
        Step::Note(text) => ("note", json!({"text": text})),
    };
    let mut m = Map::new();
    put(&mut m, json!({"kind": "step", "step": name}));
    put(&mut m, fields);
    Value::Object(m)
}

/// A rule or policy with its place.
fn rule(at: &RuleAt) -> Value {
    json!({
        "tool": at.tool,
        "table": at.table,
        "chain": at.chain,
        "number": at.number,
        "text": at.text,
        "origin": self::origin(&at.origin),
    })
}

/// A chance in 1/2^31 as a fraction of 1.
fn share(chance: u32) -> f64 {
    f64::from(chance) / f64::from(1u32 << 31)
}

fn icmp(i: IcmpSent) -> Value {
    json!({"version": if i.v6 { 6 } else { 4 }, "type": i.typ, "code": i.code, "text": icmp_text(i)})
}

fn end(d: &Disposition) -> Value {
    let (name, fields) = match d {
        Disposition::Delivered(s) => ("delivered", json!({"socket": s.0})),
        Disposition::LeftTheCluster => ("left-the-cluster", json!({})),
        Disposition::Consumed(what) => ("consumed", json!({"what": what})),
        Disposition::Loop => ("loop", json!({})),
        Disposition::Unknown { origin } => ("unknown", json!({"origin": self::origin(origin)})),
        Disposition::Dropped {
            reason,
            detail,
            origin,
        } => ("dropped", cause(*reason, detail, origin)),
        Disposition::Rejected {
            icmp,
            reason,
            detail,
            origin,
        } => {
            let mut c = cause(*reason, detail, origin);
            if let Value::Object(m) = &mut c {
                m.insert("icmp".to_owned(), self::icmp(*icmp));
            }
            ("rejected", c)
        }
    };
    let mut m = Map::new();
    put(&mut m, json!({"kind": "end", "disposition": name}));
    put(&mut m, fields);
    Value::Object(m)
}

fn cause(reason: DropReason, detail: &str, origin: &Origin) -> Value {
    json!({
        "reason": reason.name(),
        "kernel": reason.kernel(),
        "text": reason.text(),
        "detail": detail,
        "origin": self::origin(origin),
    })
}

/// An origin with its parts and as one line.
fn origin(o: &Origin) -> Value {
    let mut v = match o {
        Origin::Kernel => json!({"kind": "kernel"}),
        Origin::Manifest { file, line, column } => {
            json!({"kind": "manifest", "file": **file, "line": line, "column": column})
        }
        Origin::Dump { file, line } => json!({"kind": "dump", "file": **file, "line": line}),
        Origin::Controller { name, from } => {
            json!({"kind": "controller", "name": name, "from": **from})
        }
        Origin::Scenario(_) => json!({"kind": "scenario"}),
    };
    if let Value::Object(m) = &mut v {
        m.insert("text".to_owned(), o.to_string().into());
    }
    v
}
