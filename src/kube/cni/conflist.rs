//! Reading a conflist: what libcni's `ConfListFromBytes` accepts, with every mistake placed.

use crate::base::limits::CNI_PLUGINS_MAX as PLUGINS_MAX;
use crate::base::{Finding, Span};
use crate::kube::cni::json::Obj;
use crate::kube::cni::list::NetworkList;
use serde_json::Value;
use std::sync::Arc;

struct Reader<'a> {
    doc: &'a Obj,
    place: &'a dyn Fn(&str) -> Span,
    found: &'a mut Vec<Finding>,
}

impl Reader<'_> {
    fn wrong(&mut self, key: &str, what: String, help: &str) {
        self.found
            .push(Finding::error((self.place)(key), what, help));
    }

    fn text(&mut self, key: &str, needed: bool) -> String {
        match self.doc.get(key) {
            Some(Value::String(s)) => return s.clone(),
            None | Some(Value::Null) if !needed => {}
            None => {
                let what = format!("the CNI configuration has no {key:?}");
                self.wrong("", what, "every network needs a name");
            }
            Some(v) => {
                let what = format!("{key:?} must be a string, not {}", short(v));
                self.wrong(key, what, "put it in quotes");
            }
        }
        String::new()
    }

    fn disable_check(&mut self) -> bool {
        match self.doc.get("disableCheck") {
            None => false,
            Some(Value::Bool(b)) => *b,
            Some(_) => {
                let what = "\"disableCheck\" must be true or false".into();
                self.wrong("disableCheck", what, "remove the quotes");
                false
            }
        }
    }

    fn plugins(&mut self) -> Vec<Obj> {
        let key = "plugins";
        let list = match self.doc.get(key) {
            Some(Value::Array(a)) => a,
            Some(v) => {
                let what = format!("\"plugins\" must be a list, not {}", short(v));
                self.wrong(key, what, "write [ {...}, {...} ]");
                return Vec::new();
            }
            None => {
                let what = "the CNI configuration has neither \"plugins\" nor \"type\"".into();
                self.wrong("", what, "add a \"plugins\" list");
                return Vec::new();
            }
        };
        if list.is_empty() {
            self.wrong(
                key,
                "\"plugins\" is empty".into(),
                "list at least one plugin",
            );
        }
        if list.len() > PLUGINS_MAX {
            let what = format!(
                "\"plugins\" lists {} plugins, at most {PLUGINS_MAX} are read",
                list.len()
            );
            self.wrong(key, what, "shorten the list");
        }
        let mut out = Vec::new();
        for (i, p) in list.iter().take(PLUGINS_MAX).enumerate() {
            let ty = p.get("type").and_then(Value::as_str).unwrap_or("");
            match p {
                Value::Object(p) if !ty.is_empty() => out.push(p.clone()),
                _ => {
                    let what = format!("plugin {i} of the list has no \"type\"");
                    let help = "name the plugin's binary, for example \"type\": \"bridge\"";
                    self.wrong(key, what, help);
                }
            }
        }
        out
    }
}

/// Reads a conflist or a single configuration; findings say what is wrong with it.
pub(super) fn read(
    doc: &Value,
    place: &dyn Fn(&str) -> Span,
    found: &mut Vec<Finding>,
) -> Option<NetworkList> {
    let Value::Object(o) = doc else {
        let what = "a CNI configuration must be a JSON object";
        let help = "write { \"name\": ..., \"plugins\": [...] }";
        found.push(Finding::error(place(""), what, help));
        return None;
    };
    let mut r = Reader {
        doc: o,
        place,
        found,
    };
    let (name, version) = (r.text("name", true), r.text("cniVersion", false));
    let disable_check = r.disable_check();
    let single = !o.contains_key("plugins") && o.get("type").is_some_and(Value::is_string);
    let plugins = if single { vec![o.clone()] } else { r.plugins() };
    Some(NetworkList {
        name,
        version,
        disable_check,
        plugins,
        single,
    })
}

fn short(v: &Value) -> &'static str {
    match v {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// Where the first `"key":` stands; the file as a whole for an empty key.
pub(super) fn locate(file: &Arc<str>, text: &str, key: &str) -> Span {
    let quoted = format!("\"{key}\"");
    for (n, line) in text.lines().enumerate().filter(|_| !key.is_empty()) {
        if let Some(at) = line.find(&quoted) {
            let column = line.get(..at).map_or(0, |p| p.chars().count()) + 1;
            return Span::new(
                file.clone(),
                u32::try_from(n + 1).unwrap_or(u32::MAX),
                u32::try_from(column).unwrap_or(u32::MAX),
            );
        }
    }
    Span::new(
        file.clone(),
        u32::from(!text.is_empty()),
        u32::from(!text.is_empty()),
    )
}
