//! JSON against JSON, random names apart.

use super::names::Names;
use serde_json::Value;

/// Differences of two values; object keys in any order.
pub fn json(at: &str, recorded: &Value, ours: &Value, names: &mut Names, out: &mut Vec<String>) {
    match (recorded, ours) {
        (Value::Object(r), Value::Object(o)) => {
            for (k, rv) in r {
                match o.get(k) {
                    Some(ov) => json(&format!("{at}.{k}"), rv, ov, names, out),
                    None => out.push(format!("{at}: {k} is missing (recorded {rv})")),
                }
            }
            out.extend(
                o.iter()
                    .filter(|(k, _)| !r.contains_key(*k))
                    .map(|(k, v)| format!("{at}: extra {k}: {v}")),
            );
        }
        (Value::Array(r), Value::Array(o)) if r.len() == o.len() => {
            for (i, (rv, ov)) in r.iter().zip(o).enumerate() {
                json(&format!("{at}[{i}]"), rv, ov, names, out);
            }
        }
        (Value::String(r), Value::String(o)) if names.same(r, o) => {}
        _ if recorded == ours => {}
        _ => out.push(format!("{at}: recorded {recorded}, ours {ours}")),
    }
}
