//! The normaliser of the oracle's lib/frames.py: what is random on Linux becomes a token, what is left must
//! be equal.
//!
//! Dropped: timestamps, IPv4 id, checksum values (kept: ok/bad/none/?), TCP seq, ack, window and the values
//! of every option but MSS, the outer VXLAN source port. Mapped in order of first appearance: ports that
//! are not fixed (p1, p2, ...) and ICMP echo ids (e1, ...). The tables are shared by all interfaces of one
//! recording, so the order in which frames are shown to a `Normaliser` is part of its result.

use indexmap::IndexMap;
use serde_json::{Value, json};

use super::decode::Layers;

/// The token tables of one recording.
pub struct Normaliser {
    fixed: Vec<u64>,
    ports: IndexMap<u64, String>,
    echo: IndexMap<u64, String>,
    keep_payload: bool,
}

impl Normaliser {
    /// Tables for a recording whose `fixed` ports keep their numbers; payload hashes are kept on request.
    pub fn new(fixed: &[u16], keep_payload: bool) -> Self {
        let fixed = fixed.iter().map(|p| u64::from(*p)).collect();
        Normaliser {
            fixed,
            ports: IndexMap::new(),
            echo: IndexMap::new(),
            keep_payload,
        }
    }

    fn port(&mut self, p: &Value) -> Value {
        let Some(n) = p.as_u64().filter(|n| !self.fixed.contains(n)) else {
            return p.clone();
        };
        let next = format!("p{}", self.ports.len() + 1);
        json!(self.ports.entry(n).or_insert(next))
    }

    /// The normalised form of a decoded frame (or of one layer of it).
    pub fn norm(&mut self, d: &Layers) -> Layers {
        let mut o = Layers::new();
        for k in ["len", "eth", "arp", "vxlan", "ipip"] {
            if let Some(v) = d.get(k) {
                o.insert(k.into(), v.clone());
            }
        }
        if let Some(Value::Object(ip)) = d.get("ip") {
            let kept = ip
                .iter()
                .filter(|(k, _)| *k != "id")
                .map(|(k, v)| (k.clone(), v.clone()))
                .collect();
            o.insert("ip".into(), Value::Object(kept));
        }
        if let Some(u) = d.get("udp") {
            let mut u = u.clone();
            if d.contains_key("vxlan") {
                u["sport"] = json!("*");
            } else {
                u["sport"] = self.port(&u["sport"]);
                u["dport"] = self.port(&u["dport"]);
            }
            o.insert("udp".into(), u);
        }
        if let Some(t) = d.get("tcp") {
            let opts: Layers = t["opts"]
                .as_object()
                .into_iter()
                .flatten()
                .map(option_value)
                .collect();
            let t = json!({"sport": self.port(&t["sport"]), "dport": self.port(&t["dport"]),
                "flags": t["flags"],
                "csum": t["csum"], "opts": opts});
            o.insert("tcp".into(), t);
        }
        if let Some(c) = d.get("icmp") {
            o.insert("icmp".into(), self.icmp(c));
        }
        if let Some(p) = d.get("payload") {
            let p = if self.keep_payload {
                p.clone()
            } else {
                json!({"len": p["len"]})
            };
            o.insert("payload".into(), p);
        }
        if let Some(Value::Object(inner)) = d.get("inner") {
            let inner = self.norm(inner);
            o.insert("inner".into(), Value::Object(inner));
        }
        o
    }

    fn icmp(&mut self, c: &Value) -> Value {
        let mut c = c.clone();
        if let Some(id) = c.get("id").and_then(Value::as_u64) {
            let next = format!("e{}", self.echo.len() + 1);
            c["id"] = json!(self.echo.entry(id).or_insert(next));
        }
        if let Some(Value::Object(q)) = c.get("quoted") {
            let q = self.norm(q);
            c["quoted"] = Value::Object(q);
        }
        c
    }
}

fn option_value((k, v): (&String, &Value)) -> (String, Value) {
    (k.clone(), if k == "mss" { v.clone() } else { json!(true) })
}
