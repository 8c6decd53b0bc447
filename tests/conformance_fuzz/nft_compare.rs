//! Compares native rule sets as `nft -j list ruleset` prints them.
//!
//! Compared: every table, chain, set, element and object, and what every rule counted. Left out: handles, the
//! order of elements, the remaining time of elements by a second, and how rules are spelt, which `nft_text`
//! compares.

use serde_json::Value;
use std::collections::BTreeMap;

/// Seconds by which the remaining time of an element may differ.
const SLACK: i64 = 1;

/// What differs, of the tables that this test made.
pub fn differences(kernel: &str, ours: &str) -> Vec<String> {
    if kernel.is_empty() && ours.is_empty() {
        return Vec::new();
    }
    let (a, b) = match (items(kernel), items(ours)) {
        (Ok(a), Ok(b)) => (a, b),
        (Err(e), _) => return vec![format!("the kernel's listing: {e}")],
        (_, Err(e)) => return vec![format!("podpath's listing: {e}")],
    };
    let mut keys: Vec<&String> = a.keys().chain(b.keys()).collect();
    keys.sort();
    keys.dedup();
    let mut out = Vec::new();
    for key in keys {
        let (x, y) = (a.get(key), b.get(key));
        let same = match (x, y) {
            (Some(x), Some(y)) => same(&told(x), &told(y)),
            _ => false,
        };
        if !same {
            let show = |v: Option<&Value>| v.map_or("(none)".to_owned(), Value::to_string);
            out.push(format!(
                "nft {key}\n  kernel  {}\n  podpath {}",
                show(x),
                show(y)
            ));
        }
    }
    out
}

/// What every native rule and object counted.
pub fn amounts(text: &str) -> Vec<String> {
    let items = items(text).unwrap_or_default();
    let counts = |key: &str| !key.contains(" set ") && !key.contains(" map ");
    let counted = items.iter().filter(|(key, _)| counts(key));
    counted
        .map(|(key, v)| format!("{key}: {}", told(v)))
        .collect()
}

/// The things listed by their names; rules by their number in the chain.
fn items(text: &str) -> Result<BTreeMap<String, Value>, String> {
    let root: Value = serde_json::from_str(text).map_err(|e| e.to_string())?;
    let list = root.get("nftables").and_then(Value::as_array);
    let (mut out, mut rules) = (BTreeMap::new(), BTreeMap::<String, usize>::new());
    for item in list.ok_or("no list")? {
        let Some((kind, body)) = item.as_object().and_then(|o| o.iter().next()) else {
            continue;
        };
        let word = |key: &str| body.get(key).and_then(Value::as_str).unwrap_or_default();
        let table = if kind == "table" {
            word("name")
        } else {
            word("table")
        };
        if !table.starts_with("fz") {
            continue;
        }
        let mut key = format!(
            "{} {table} {kind} {}{}",
            word("family"),
            word("chain"),
            word("name")
        );
        if kind == "rule" {
            let n = rules.entry(key.clone()).or_default();
            key += &format!(" {n:>3}");
            *n += 1;
        }
        let mut body = body.clone();
        plain(&mut body);
        out.insert(key, body);
    }
    Ok(out)
}

/// Without handles, elements sorted.
fn plain(v: &mut Value) {
    match v {
        Value::Object(o) => {
            o.remove("handle");
            o.values_mut().for_each(plain);
            for key in ["elem", "set"] {
                if let Some(Value::Array(elements)) = o.get_mut(key) {
                    elements.sort_by_key(timeless);
                }
            }
        }
        Value::Array(all) => all.iter_mut().for_each(plain),
        _ => {}
    }
}

/// The text of an element without what runs.
fn timeless(v: &Value) -> String {
    fn strip(v: &mut Value) {
        match v {
            Value::Object(o) => {
                for key in ["expires", "counter", "limit", "quota"] {
                    o.remove(key);
                }
                o.values_mut().for_each(strip);
            }
            Value::Array(all) => all.iter_mut().for_each(strip),
            _ => {}
        }
    }
    let mut v = v.clone();
    strip(&mut v);
    v.to_string()
}

fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len()
                && a.iter().all(|(k, x)| match (k.as_str(), b.get(k)) {
                    ("expires", Some(y)) => match (x.as_i64(), y.as_i64()) {
                        (Some(x), Some(y)) => (x - y).abs() <= SLACK,
                        _ => false,
                    },
                    (_, Some(y)) => same(x, y),
                    (_, None) => false,
                })
        }
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(x, y)| same(x, y))
        }
        _ => a == b,
    }
}

/// What has to be the same: of a rule what it counted, of the rest everything but the flag and the devices of chains
/// that JSON listings leave out (nft 1.0.6) and the size that is taken for granted.
fn told(v: &Value) -> Value {
    let mut out = Vec::new();
    if let Some(rule) = v.get("expr") {
        states(rule, &mut out);
        return Value::Array(out);
    }
    let mut v = v.clone();
    if let Some(o) = v.as_object_mut() {
        o.remove("dev");
    }
    // nft bounds a set that a rule of the same script fills.
    if v.get("size").and_then(Value::as_u64) == Some(65_535)
        && let Some(o) = v.as_object_mut()
    {
        o.remove("size");
    }
    if let Some(Value::Array(flags)) = v.get_mut("flags") {
        flags.retain(|f| f != "dynamic");
        if flags.is_empty()
            && let Some(o) = v.as_object_mut()
        {
            o.remove("flags");
        }
    }
    v
}

/// Counters and quotas of a rule, in order.
fn states(v: &Value, out: &mut Vec<Value>) {
    match v {
        Value::Object(o) => {
            for (k, x) in o {
                match k.as_str() {
                    "counter" | "quota" if x.get("bytes").or(x.get("val")).is_some() => {
                        out.push(x.clone())
                    }
                    _ => states(x, out),
                }
            }
        }
        Value::Array(all) => all.iter().for_each(|x| states(x, out)),
        _ => {}
    }
}
