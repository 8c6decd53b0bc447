//! libcni: a list of plugins run one after another (containernetworking/cni libcni/api.go, conf.go).
//!
//! ADD hands each plugin the result of the one before; CHECK and DEL hand all of them the last ADD's result,
//! DEL in reverse order. `name` and `cniVersion` are the list's; of the runtime's capability arguments a
//! plugin gets those it declares under `capabilities`.

use crate::base::{Finding, Span};
use crate::kube::cni::conflist;
use crate::kube::cni::error::CniError;
use crate::kube::cni::host::Host;
use crate::kube::cni::json::{self, Obj};
use crate::kube::cni::skel::{Env, Output, at_least, run};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A parsed conflist.
#[derive(Clone, PartialEq, Debug)]
pub struct NetworkList {
    /// `name`
    pub name: String,
    /// `cniVersion`, possibly empty.
    pub version: String,
    /// `disableCheck`
    pub disable_check: bool,
    /// Each plugin's own configuration.
    pub plugins: Vec<Obj>,
    /// A single configuration (`.conf`) is passed on as it is.
    pub(super) single: bool,
}

/// What the runtime says of one attachment.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct RuntimeConf {
    /// Container (sandbox) id.
    pub container_id: String,
    /// Path of the pod's namespace.
    pub netns: String,
    /// Interface name in the pod.
    pub ifname: String,
    /// `CNI_ARGS`
    pub args: String,
    /// Capability arguments by name: `portMappings`, `ips`, `ipRanges`, `mac`...
    pub capabilities: Obj,
}

/// One plugin call of a run.
#[derive(Clone, PartialEq, Debug)]
pub struct Called {
    /// The plugin's type.
    pub plugin: String,
    /// What it got on stdin.
    pub stdin: Value,
    /// What it answered.
    pub output: Output,
}

/// The last ADD results, by container and interface: libcni's cache.
pub type Results = BTreeMap<(String, String), Value>;

impl NetworkList {
    /// Reads a conflist, or a single configuration, from the text of a file.
    pub fn parse(file: &str, text: &str) -> (Option<Self>, Vec<Finding>) {
        let file: Arc<str> = Arc::from(file);
        let doc: Value = match serde_json::from_str(text) {
            Ok(v) => v,
            Err(e) => {
                let line = u32::try_from(e.line()).unwrap_or(u32::MAX);
                let column = u32::try_from(e.column()).unwrap_or(u32::MAX);
                let msg = e.to_string();
                let msg = msg.split(" at line ").next().unwrap_or(&msg).to_owned();
                let f = Finding::error(
                    Span::new(file, line, column),
                    format!("this CNI configuration is not JSON: {msg}"),
                    "correct the syntax at this place; a conflist is one JSON object",
                );
                return (None, vec![f]);
            }
        };
        Self::from_value(&doc, &|key| conflist::locate(&file, text, key))
    }

    /// Reads a conflist, or a single configuration; `place` says where a key stands in the file.
    pub fn from_value(doc: &Value, place: &dyn Fn(&str) -> Span) -> (Option<Self>, Vec<Finding>) {
        let mut found = Vec::new();
        let list = conflist::read(doc, place, &mut found);
        (list.filter(|_| !found.iter().any(Finding::is_error)), found)
    }

    /// The stdin of plugin number `i`.
    pub fn stdin(&self, i: usize, prev: Option<&Value>, rt: &RuntimeConf) -> Value {
        let mut conf = self.plugins.get(i).cloned().unwrap_or_default();
        if self.single {
            return Value::Object(conf);
        }
        conf.insert("name".into(), self.name.clone().into());
        conf.insert("cniVersion".into(), self.version.clone().into());
        let wanted = conf.shift_remove("capabilities");
        if let Some(Value::Object(caps)) = wanted {
            let on = caps
                .iter()
                .filter(|(_, v)| v.as_bool() == Some(true))
                .map(|(k, _)| k);
            let given: Obj = on
                .filter_map(|k| rt.capabilities.get(k).map(|v| (k.clone(), v.clone())))
                .collect();
            if !given.is_empty() {
                conf.insert("runtimeConfig".into(), given.into());
            }
        }
        if let Some(p) = prev {
            conf.insert("prevResult".into(), p.clone());
        }
        Value::Object(conf)
    }

    fn call(
        &self,
        i: usize,
        cmd: &str,
        prev: Option<&Value>,
        rt: &RuntimeConf,
        host: &mut Host<'_>,
    ) -> Called {
        let stdin = self.stdin(i, prev, rt);
        let plugin = stdin
            .as_object()
            .and_then(|o| json::get(o, "type"))
            .and_then(Value::as_str)
            .unwrap_or("");
        let mut env = Env::new();
        for (k, v) in [
            ("CNI_COMMAND", cmd),
            ("CNI_CONTAINERID", &rt.container_id),
            ("CNI_NETNS", &rt.netns),
            ("CNI_IFNAME", &rt.ifname),
            ("CNI_ARGS", &rt.args),
            ("CNI_PATH", "/opt/cni/bin"),
        ] {
            env.insert(k.into(), v.into());
        }
        let plugin = plugin.to_owned();
        let output = match host.plugins().get(&plugin) {
            Some(p) => run(p, &env, &stdin.to_string(), host),
            None => {
                let q = json::quote(&plugin);
                Output::failed(&format!("failed to find plugin {q} in path [/opt/cni/bin]").into())
            }
        };
        Called {
            plugin,
            stdin,
            output,
        }
    }

    /// ADD. The calls made, the last one failed if there is an error; the result is remembered in `results`.
    pub fn add(
        &self,
        rt: &RuntimeConf,
        host: &mut Host<'_>,
        results: &mut Results,
    ) -> (Vec<Called>, Result<Value, CniError>) {
        let mut calls = Vec::new();
        let mut prev = None;
        for i in 0..self.plugins.len() {
            let c = self.call(i, "ADD", prev.as_ref(), rt, host);
            let failed = failure(&c, "add");
            prev = c.output.value.clone();
            calls.push(c);
            if let Some(e) = failed {
                return (calls, Err(e));
            }
        }
        let result = prev.unwrap_or(Value::Null);
        results.insert(key(rt), result.clone());
        (calls, Ok(result))
    }

    /// CHECK, unless the list disables it.
    pub fn check(
        &self,
        rt: &RuntimeConf,
        host: &mut Host<'_>,
        results: &Results,
    ) -> (Vec<Called>, Result<(), CniError>) {
        match at_least(&self.version, "0.4.0") {
            Err(e) => return (Vec::new(), Err(e.into())),
            Ok(false) => {
                let v = json::quote(&self.version);
                return (
                    Vec::new(),
                    Err(
                        format!("configuration version {v} does not support the CHECK command")
                            .into(),
                    ),
                );
            }
            Ok(true) if self.disable_check => return (Vec::new(), Ok(())),
            Ok(true) => {}
        }
        let mut calls = Vec::new();
        for i in 0..self.plugins.len() {
            let c = self.call(i, "CHECK", results.get(&key(rt)), rt, host);
            let failed = (c.output.rc != 0).then(|| error_of(&c));
            calls.push(c);
            if let Some(e) = failed {
                return (calls, Err(e));
            }
        }
        (calls, Ok(()))
    }

    /// DEL, last plugin first; stops at the first failure and then keeps the remembered result.
    pub fn del(
        &self,
        rt: &RuntimeConf,
        host: &mut Host<'_>,
        results: &mut Results,
    ) -> (Vec<Called>, Result<(), CniError>) {
        let cached = at_least(&self.version, "0.4.0").unwrap_or(false);
        let prev = results.get(&key(rt)).cloned().filter(|_| cached);
        let mut calls = Vec::new();
        for i in (0..self.plugins.len()).rev() {
            let c = self.call(i, "DEL", prev.as_ref(), rt, host);
            let failed = failure(&c, "delete");
            calls.push(c);
            if let Some(e) = failed {
                return (calls, Err(e));
            }
        }
        results.remove(&key(rt));
        (calls, Ok(()))
    }
}

fn key(rt: &RuntimeConf) -> (String, String) {
    (rt.container_id.clone(), rt.ifname.clone())
}

fn error_of(c: &Called) -> CniError {
    c.output
        .value
        .as_ref()
        .map(CniError::from_json)
        .unwrap_or_else(|| "netplugin failed with no error message".into())
}

fn failure(c: &Called, what: &str) -> Option<CniError> {
    if c.output.rc == 0 {
        return None;
    }
    let e = error_of(c);
    let msg = format!(
        "plugin type={} failed ({what}): {}",
        json::quote(&c.plugin),
        e.msg
    );
    Some(CniError::new(e.code, msg, e.details))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_are_placed() {
        let place = |t: &str| {
            let (list, f) = NetworkList::parse("10-x.conflist", t);
            assert!(list.is_none());
            f.iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join("\n")
        };
        assert!(
            place("{\n  \"name\": ]")
                .starts_with("10-x.conflist:2:11: error: this CNI configuration is not JSON")
        );
        assert!(
            place("{\"name\": \"n\",\n \"plugins\": 3}")
                .starts_with("10-x.conflist:2:2: error: \"plugins\" must be a list")
        );
        assert!(
            place("{\"name\": 1, \"plugins\": [{}]}")
                .contains("plugin 0 of the list has no \"type\"")
        );
        assert!(place("[]").contains("must be a JSON object"));
    }

    #[test]
    fn stdin_is_composed_as_libcni_does() {
        let text = r#"{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"portmap","name":"own",
            "capabilities":{"portMappings":true,"mac":false}}]}"#;
        let (list, f) = NetworkList::parse("x", text);
        assert!(f.is_empty());
        let mut rt = RuntimeConf::default();
        rt.capabilities
            .insert("portMappings".into(), serde_json::json!([]));
        rt.capabilities.insert("mac".into(), "x".into());
        let stdin = list.unwrap().stdin(0, Some(&Value::from(1)), &rt);
        assert_eq!(
            stdin,
            serde_json::json!({
                "type": "portmap", "name": "n", "cniVersion": "1.0.0",
                "runtimeConfig": { "portMappings": [] }, "prevResult": 1
            })
        );
    }
}
