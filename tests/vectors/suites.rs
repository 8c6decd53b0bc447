//! Which file is judged by what, and how many cases there are in those that nothing judges yet.

use crate::{Part, kube_proxy};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Judges one file's cases; names are without the suite.
type Judge = fn(&Value) -> Vec<(String, Result<(), String>)>;

/// The suites that are judged.
const JUDGES: &[(&str, Judge)] = &[
    ("kube-proxy/names", kube_proxy::names),
    ("kube-proxy/topology", kube_proxy::topology),
    ("kube-proxy/iptables", kube_proxy::iptables),
    ("kube-proxy/iptables-incremental", kube_proxy::incremental),
    ("kube-proxy/conntrack", kube_proxy::conntrack),
];

/// What the others wait for, by what the suite's name begins with.
const NEEDS: &[(&str, &str)] = &[
    ("kube-proxy/kernel-dumps", "needs the engine"),
    ("kube-proxy/nftables", "needs kube-proxy in nftables mode"),
    ("kube-proxy/ipvs", "needs IPVS"),
    ("dns/", "needs DNS"),
    ("networkpolicy/", "needs NetworkPolicy"),
];

/// Every suite by name with its parts: those that are judged first, as in the table.
pub fn all(dir: &Path) -> Result<Vec<(String, Vec<Part>)>, String> {
    let mut out = Vec::new();
    for (suite, judge) in JUDGES {
        let path = dir.join(format!("{suite}.json"));
        let text =
            std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let value = serde_json::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))?;
        let parts = judge(&value).into_iter().map(|(name, outcome)| Part {
            name: format!("{suite}/{name}"),
            outcome,
        });
        out.push(((*suite).to_owned(), parts.collect()));
    }
    let mut folders: Vec<PathBuf> = entries(dir)?;
    folders.retain(|f| f.is_dir());
    for folder in folders {
        let area = folder.file_name().unwrap_or_default().to_string_lossy();
        let mut waiting: Vec<(String, Vec<Part>)> = Vec::new();
        for file in entries(&folder)? {
            let stem = file.file_stem().unwrap_or_default().to_string_lossy();
            let full = format!("{area}/{stem}");
            let json = file.extension().is_some_and(|e| e == "json");
            if !json || JUDGES.iter().any(|(suite, _)| *suite == full) {
                continue;
            }
            let need = NEEDS.iter().find(|(prefix, _)| full.starts_with(prefix));
            let why = need.map_or("needs a judge", |(_, why)| why);
            let part = |name: String| Part {
                name,
                outcome: Err(why.to_owned()),
            };
            let ids = ids(&file)?;
            if ids.is_empty() {
                // A file that is a case: they are one suite together.
                match waiting.iter_mut().find(|(suite, _)| *suite == area) {
                    Some((_, parts)) => parts.push(part(full)),
                    None => waiting.push((area.to_string(), vec![part(full)])),
                }
            } else {
                let parts = ids.iter().map(|id| part(format!("{full}/{id}")));
                waiting.push((full.clone(), parts.collect()));
            }
        }
        out.extend(waiting);
    }
    Ok(out)
}

/// The ids of a file's `cases`, or their numbers.
fn ids(file: &Path) -> Result<Vec<String>, String> {
    let text = std::fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
    let value: Value =
        serde_json::from_str(&text).map_err(|e| format!("{}: {e}", file.display()))?;
    let cases = value.get("cases").and_then(Value::as_array);
    let name = |(i, case): (usize, &Value)| {
        let id = case.get("id").and_then(Value::as_str);
        id.map_or_else(|| i.to_string(), str::to_owned)
    };
    Ok(cases.into_iter().flatten().enumerate().map(name).collect())
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>, String> {
    let read = std::fs::read_dir(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    let mut paths: Vec<PathBuf> = read.flatten().map(|e| e.path()).collect();
    paths.sort();
    Ok(paths)
}
