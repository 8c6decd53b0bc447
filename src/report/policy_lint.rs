//! `podpath policy lint`'s output: one paragraph for each mistake, or JSON.

use core::fmt::Write;

use serde_json::{Value, json};

use crate::kube::policy::lint::Lint;

/// The text; how many there are of it at the end.
pub fn text(lints: &[Lint], policies: usize) -> String {
    let mut out = String::new();
    for lint in lints {
        let f = &lint.finding;
        let _ = writeln!(out, "{}: {}: {}", f.span, lint.kind, f.message);
        if !f.help.is_empty() {
            let _ = writeln!(out, "  help: {}", f.help);
        }
    }
    let word = |n: usize, one: &str, many: &str| format!("{n} {}", if n == 1 { one } else { many });
    let policies = word(policies, "policy", "policies");
    let found = match lints.len() {
        0 => "nothing to complain about".into(),
        n => word(n, "finding", "findings"),
    };
    let _ = writeln!(out, "{policies}: {found}");
    out
}

/// The JSON: version 1.
pub fn json(lints: &[Lint], policies: usize) -> Value {
    let one = |lint: &Lint| {
        let f = &lint.finding;
        json!({
            "kind": lint.kind.to_string(),
            "policy": lint.policy.as_ref().map(ToString::to_string),
            "file": &*f.span.file,
            "line": f.span.line,
            "column": f.span.column,
            "message": f.message,
            "help": f.help,
        })
    };
    json!({"version": 1, "policies": policies, "findings": lints.iter().map(one).collect::<Vec<_>>()})
}
