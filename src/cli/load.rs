//! Files, folders and standard input become a store, a cluster and a scenario in motion.

use crate::base::{Finding, Span, limits};
use crate::cli::args::Global;
use crate::cli::out;
use crate::cluster::{Cluster, Scenario};
use crate::kube::manifest::Input;
use crate::kube::store::Store;
use anyhow::Context;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Everything that `-f`, `-t` and a topology argument name.
pub fn inputs(g: &Global, topology: Option<&Path>) -> anyhow::Result<Vec<Input>> {
    let mut paths: Vec<PathBuf> = topology.map(Path::to_path_buf).into_iter().collect();
    paths.extend(g.dir.clone());
    paths.extend(g.files.iter().cloned());
    if paths.is_empty() {
        return Err(out::stop(
            "",
            "no manifests are named",
            "name a topology folder (-t DIR) or files (-f FILE|DIR|-)",
        ));
    }
    let mut out = Vec::new();
    for p in &paths {
        if p.as_os_str() == "-" {
            let mut bytes = Vec::new();
            std::io::stdin()
                .lock()
                .take(limits::INPUT_BYTES_MAX)
                .read_to_end(&mut bytes)
                .context("standard input")?;
            out.push(input("-", &bytes)?);
            continue;
        }
        let meta = fs::metadata(p).map_err(|e| unreadable(p, &e, MANIFESTS))?;
        if meta.is_dir() {
            let files = folder(p)?;
            if files.is_empty() {
                return Err(out::stop(
                    &p.display().to_string(),
                    "no .yaml, .yml or .json file in this folder",
                    "folders below it are not looked into: name the one that holds the manifests",
                ));
            }
            for f in files {
                out.push(file(&f)?);
            }
        } else {
            out.push(file(p)?);
        }
    }
    Ok(out)
}

/// The manifests of a folder in order of name, as kubectl reads them (not below it).
fn folder(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let wrong = |e| unreadable(dir, &e, MANIFESTS);
    for e in fs::read_dir(dir).map_err(wrong)? {
        let p = e.map_err(wrong)?.path();
        let ext = p.extension().and_then(|x| x.to_str());
        if matches!(ext, Some("yaml" | "yml" | "json")) && p.is_file() {
            files.push(p);
        }
    }
    files.sort();
    Ok(files)
}

fn file(p: &Path) -> anyhow::Result<Input> {
    let size = fs::metadata(p).map(|m| m.len()).unwrap_or(0);
    if size > limits::INPUT_BYTES_MAX {
        return Err(out::stop(
            &p.display().to_string(),
            format!("{size} bytes; at most {} are read", limits::INPUT_BYTES_MAX),
            "split it into several files",
        ));
    }
    let bytes = fs::read(p).map_err(|e| unreadable(p, &e, MANIFESTS))?;
    input(&p.display().to_string(), &bytes)
}

fn input(name: &str, bytes: &[u8]) -> anyhow::Result<Input> {
    Input::from_bytes(name, bytes).map_err(|f| out::Stop(f).into())
}

const MANIFESTS: &str = "a manifest (YAML or JSON) or a folder of them";

/// A file that cannot be read: what was expected there.
pub fn unreadable(p: &Path, e: &std::io::Error, expected: &str) -> anyhow::Error {
    use std::io::ErrorKind::{NotFound, PermissionDenied};
    let (message, help) = match e.kind() {
        NotFound => ("there is no such file or folder".into(), "check the path"),
        PermissionDenied => (
            "reading it is not permitted".into(),
            "look at its and its folder's permissions",
        ),
        _ => (format!("it could not be read: {e}"), ""),
    };
    out::stop(
        &p.display().to_string(),
        format!("{message}; expected {expected}"),
        help,
    )
}

/// A scenario in motion, or `None` when the manifests' findings (already printed) stop the command.
pub fn scenario(g: &Global, inputs: &[Input]) -> Option<Scenario> {
    let (store, mut findings) = Store::load(inputs);
    if out::findings(&findings, g.quiet) {
        return None;
    }
    if store.nodes.is_empty() {
        let files: Vec<&str> = inputs.iter().map(|i| &*i.name).take(3).collect();
        let found = Finding::error(
            Span::new(files.join(", "), 0, 0),
            "no Node in the manifests; expected the nodes and pods of a cluster",
            "kubectl get nodes,pods,configmaps -A -o yaml writes them",
        );
        out::findings(&[found], g.quiet);
        return None;
    }
    let (cluster, built) = Cluster::build(store, g.seed);
    let (s, started) = Scenario::start(cluster);
    findings = built;
    findings.extend(started);
    (!out::findings(&findings, g.quiet)).then_some(s)
}
