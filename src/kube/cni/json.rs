//! JSON as Go's encoding/json reads and writes it, since the plugins are Go programs.
//!
//! Keys match without regard to case and the last one wins; `null` means absent; a wrong type is an error
//! whose text names the Go struct field. Output is indented by four spaces with `<`, `>` and `&` escaped.

use serde::Serialize;
use serde_json::{Map, Value};

/// A JSON object.
pub type Obj = Map<String, Value>;

/// The value of `key`, found as Go finds it.
pub fn get<'a>(o: &'a Obj, key: &str) -> Option<&'a Value> {
    o.iter()
        .rev()
        .find(|(k, _)| k.eq_ignore_ascii_case(key))
        .map(|(_, v)| v)
        .filter(|v| !v.is_null())
}

/// Go's word for what kind of value it found.
fn kind(v: &Value) -> String {
    match v {
        Value::Null => "null".into(),
        Value::Bool(_) => "bool".into(),
        Value::Number(n) => format!("number {n}"),
        Value::String(_) => "string".into(),
        Value::Array(_) => "array".into(),
        Value::Object(_) => "object".into(),
    }
}

/// A place in a configuration: the object, the Go type that holds it and the path to it, for messages.
#[derive(Clone, Copy)]
pub struct At<'a> {
    obj: &'a Obj,
    ty: &'static str,
    path: &'static str,
}

impl<'a> At<'a> {
    /// The document itself; `ty` is the Go type it is read into.
    pub fn root(v: &'a Value, ty: &'static str) -> Result<Self, String> {
        match v {
            Value::Object(obj) => Ok(At { obj, ty, path: "" }),
            other => {
                let k = if let Value::Number(_) = other {
                    "number".into()
                } else {
                    kind(other)
                };
                Err(format!(
                    "json: cannot unmarshal {k} into Go value of type {ty}"
                ))
            }
        }
    }

    fn wrong(&self, key: &str, v: &Value, want: &str) -> String {
        let k = match v {
            Value::Number(_) if want == "string" || want == "bool" => "number".into(),
            other if kind(other).starts_with("number") && !want.starts_with("int") => {
                "number".into()
            }
            other => kind(other),
        };
        let dot = if self.path.is_empty() { "" } else { "." };
        format!(
            "json: cannot unmarshal {k} into Go struct field {}.{}{dot}{key} of type {want}",
            self.ty, self.path
        )
    }

    /// The raw value of a field.
    pub fn raw(&self, key: &str) -> Option<&'a Value> {
        get(self.obj, key)
    }

    /// An object inside; `path` is the whole path to it and `ty` its Go type.
    pub fn object(
        &self,
        key: &str,
        path: &'static str,
        ty: &'static str,
    ) -> Result<Option<At<'a>>, String> {
        match self.raw(key) {
            None => Ok(None),
            Some(Value::Object(obj)) => Ok(Some(At { obj, ty, path })),
            Some(v) => Err(self.wrong(key, v, ty)),
        }
    }

    /// A list; `want` is its Go type.
    pub fn list(&self, key: &str, want: &str) -> Result<&'a [Value], String> {
        match self.raw(key) {
            None => Ok(&[]),
            Some(Value::Array(a)) => Ok(a),
            Some(v) => Err(self.wrong(key, v, want)),
        }
    }

    /// A string, empty when absent.
    pub fn string(&self, key: &str) -> Result<&'a str, String> {
        match self.raw(key) {
            None => Ok(""),
            Some(Value::String(s)) => Ok(s),
            Some(v) => Err(self.wrong(key, v, "string")),
        }
    }

    /// A list of strings.
    pub fn strings(&self, key: &str) -> Result<Vec<String>, String> {
        let mut out = Vec::new();
        for v in self.list(key, "[]string")? {
            match v {
                Value::String(s) => out.push(s.clone()),
                Value::Null => out.push(String::new()),
                v => return Err(self.wrong(key, v, "string")),
            }
        }
        Ok(out)
    }

    /// A boolean where absence matters.
    pub fn bool_opt(&self, key: &str) -> Result<Option<bool>, String> {
        match self.raw(key) {
            None => Ok(None),
            Some(Value::Bool(b)) => Ok(Some(*b)),
            Some(v) => Err(self.wrong(key, v, "bool")),
        }
    }

    /// A boolean, false when absent.
    pub fn bool(&self, key: &str) -> Result<bool, String> {
        Ok(self.bool_opt(key)?.unwrap_or(false))
    }

    /// An integer where absence matters.
    pub fn int_opt(&self, key: &str) -> Result<Option<i64>, String> {
        match self.raw(key) {
            None => Ok(None),
            Some(v) => v
                .as_i64()
                .map(Some)
                .ok_or_else(|| self.wrong(key, v, "int")),
        }
    }

    /// An integer, zero when absent.
    pub fn int(&self, key: &str) -> Result<i64, String> {
        Ok(self.int_opt(key)?.unwrap_or(0))
    }
}

/// Prints like `json.MarshalIndent(v, "", "    ")`.
pub fn pretty(v: &Value) -> String {
    let mut out = Vec::new();
    let f = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut s = serde_json::Serializer::with_formatter(&mut out, f);
    if v.serialize(&mut s).is_err() {
        return String::new(); // a Value always serialises
    }
    go_escape(&String::from_utf8_lossy(&out))
}

/// Prints like `json.Marshal(v)`.
pub fn compact(v: &Value) -> String {
    go_escape(&v.to_string())
}

/// Go escapes what HTML would interpret; outside of strings these characters do not occur in JSON.
fn go_escape(s: &str) -> String {
    let mut out = String::with_capacity(s.len());
    for c in s.chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                out.push_str(&format!("\\u{:04x}", c as u32))
            }
            c => out.push(c),
        }
    }
    out
}

/// Go's `%q`.
pub fn quote(s: &str) -> String {
    let mut out = String::from("\"");
    for c in s.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => {
                out.push_str(&format!("\\x{:02x}", c as u32))
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Go's `%q` of a list.
pub fn quote_list<S: AsRef<str>>(items: &[S]) -> String {
    let q: Vec<String> = items.iter().map(|i| quote(i.as_ref())).collect();
    format!("[{}]", q.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn reads_as_go_does() {
        let v = json!({"ISGATEWAY": true, "mtu": "x", "name": null, "n": 1.5});
        let at = At::root(&v, "NetConf").unwrap();
        assert!(at.bool("isGateway").unwrap());
        assert_eq!(at.string("name").unwrap(), "");
        assert_eq!(
            at.int("mtu").unwrap_err(),
            "json: cannot unmarshal string into Go struct field NetConf.mtu of type int"
        );
        assert_eq!(
            at.int("n").unwrap_err(),
            "json: cannot unmarshal number 1.5 into Go struct field NetConf.n of type int"
        );
        assert!(At::root(&json!([]), "NetConf").is_err());
    }

    #[test]
    fn writes_as_go_does() {
        assert_eq!(
            pretty(&json!({"a": "<b>", "dns": {}})),
            "{\n    \"a\": \"\\u003cb\\u003e\",\n    \"dns\": {}\n}"
        );
        assert_eq!(quote_list(&["a=\"b\"", "c"]), "[\"a=\\\"b\\\"\" \"c\"]");
    }
}
