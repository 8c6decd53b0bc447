//! Files, folders and standard input become a store, a cluster and a scenario in motion.

use crate::base::limits;
use crate::cli::args::Global;
use crate::cli::out;
use crate::cluster::{Cluster, Scenario};
use crate::kube::manifest::Input;
use crate::kube::store::Store;
use anyhow::{Context, bail};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Everything that `-f`, `-t` and a topology argument name.
pub fn inputs(g: &Global, topology: Option<&Path>) -> anyhow::Result<Vec<Input>> {
    let mut paths: Vec<PathBuf> = topology.map(Path::to_path_buf).into_iter().collect();
    paths.extend(g.dir.clone());
    paths.extend(g.files.iter().cloned());
    if paths.is_empty() {
        bail!("no manifests: name a topology folder (-t DIR) or files (-f FILE|DIR|-)");
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
        let meta = fs::metadata(p).with_context(|| format!("{}", p.display()))?;
        if meta.is_dir() {
            let files = folder(p)?;
            if files.is_empty() {
                bail!(
                    "{}: no .yaml, .yml or .json file in this folder",
                    p.display()
                );
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
    for e in fs::read_dir(dir).with_context(|| format!("{}", dir.display()))? {
        let p = e.with_context(|| format!("{}", dir.display()))?.path();
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
        bail!(
            "{}: {size} bytes; at most {} are read",
            p.display(),
            limits::INPUT_BYTES_MAX
        );
    }
    let bytes = fs::read(p).with_context(|| format!("{}", p.display()))?;
    input(&p.display().to_string(), &bytes)
}

fn input(name: &str, bytes: &[u8]) -> anyhow::Result<Input> {
    Input::from_bytes(name, bytes).map_err(|f| anyhow::anyhow!("{f}"))
}

/// A scenario in motion, or `None` when the manifests' findings (already printed) stop the command.
pub fn scenario(g: &Global, inputs: &[Input]) -> Option<Scenario> {
    let (store, mut findings) = Store::load(inputs);
    if out::findings(&findings, g.quiet) {
        return None;
    }
    let (cluster, built) = Cluster::build(store, g.seed);
    let (s, started) = Scenario::start(cluster);
    findings = built;
    findings.extend(started);
    (!out::findings(&findings, g.quiet)).then_some(s)
}
