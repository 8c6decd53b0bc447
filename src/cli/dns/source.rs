//! What `dns serve` answers from: the Corefile with the files and variables it names, and the manifests.
//!
//! Read at the start, and again when a file has changed: the manifests at once, as CoreDNS's watches do, the
//! Corefile when its `reload` plugin looks. What came from standard input is read once.

use crate::base::{Finding, Rng, Span, limits};
use crate::cli::args::{DnsServeArgs, Global};
use crate::cli::{load, out};
use crate::kube::controllers::{self, Facts};
use crate::kube::dns::config::Care;
use crate::kube::dns::{Corefile, Environment, Objects, Surroundings, Version};
use crate::kube::store::Store;
use core::time::Duration;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Where everything is.
pub(in crate::cli) struct Source {
    global: Global,
    args: DnsServeArgs,
}

/// What was there.
pub(super) struct Made {
    pub corefile: Corefile,
    pub environment: Environment,
    pub objects: Objects,
    /// The Corefile's text: what is compared.
    pub text: String,
    /// The files as they were before they were read.
    pub stamp: Stamp,
    /// Errors among them: there is nothing to serve.
    pub findings: Vec<Finding>,
}

/// Files with the time and size they had.
pub(in crate::cli) type Stamp = Vec<(PathBuf, Option<(SystemTime, u64)>)>;

impl Source {
    pub(super) fn new(global: &Global, args: &DnsServeArgs) -> Source {
        Source {
            global: global.clone(),
            args: args.clone(),
        }
    }

    /// Whether it can be read again.
    pub(super) fn lasts(&self) -> bool {
        !self.global.files.iter().any(|f| f.as_os_str() == "-")
    }

    /// Everything as it is now.
    pub(super) fn read(&self) -> anyhow::Result<Made> {
        let (g, a) = (&self.global, &self.args);
        let stamp = self.stamp();
        let named = g.dir.is_some() || !g.files.is_empty();
        let (store, mut findings) = match named || a.corefile.is_none() {
            true => Store::load(&load::inputs(g, None)?),
            false => (Store::default(), Vec::new()),
        };
        let version = Version::of(&a.coredns).ok_or_else(|| {
            out::stop(
                "--coredns",
                format!("`{}` is no version of CoreDNS", a.coredns),
                "write 1.13.2 or 1.14.0",
            )
        })?;
        let (name, text) = corefile(a.corefile.as_deref(), &store)?;
        let environment = self.environment(version, &text);
        let (parsed, found) = Corefile::parse(&name, &text, &environment.around);
        findings.extend(found);
        let (desired, found) = controllers::run(&store, &Facts::of_store(&store, g.seed), None);
        // What controllers object to stops no name server: it is told, and the rest is answered.
        findings.extend(found.into_iter().filter(Finding::is_error).map(|mut f| {
            f.severity = crate::base::Severity::Warning;
            f
        }));
        Ok(Made {
            corefile: parsed,
            environment,
            objects: Objects::new(
                &desired.services,
                &desired.endpoint_slices,
                &store.namespaces,
                &store.pods,
            ),
            text,
            stamp,
            findings,
        })
    }

    fn environment(&self, version: Version, text: &str) -> Environment {
        let around = surroundings(text);
        let resolv = around.files.get("/etc/resolv.conf");
        let lines = resolv.map_or("", String::as_str).lines();
        let search = lines.filter_map(|l| l.strip_prefix("search ")).next_back();
        let words = search.unwrap_or("").split_whitespace();
        Environment {
            search: words.map(str::to_owned).collect(),
            around,
            addresses: match self.args.address.as_slice() {
                [] => vec![self.args.listen.ip()],
                list => list.to_vec(),
            },
            version,
            unix: SystemTime::now()
                .duration_since(SystemTime::UNIX_EPOCH)
                .map_or(0, |d| u32::try_from(d.as_secs()).unwrap_or(0)),
            seed: self.global.seed,
        }
    }

    /// The files of the manifests and the Corefile as they are now.
    pub(super) fn stamp(&self) -> Stamp {
        let named = self.global.dir.iter().chain(&self.global.files);
        let mut paths: Vec<PathBuf> = self.args.corefile.iter().cloned().collect();
        for path in named {
            paths.push(path.clone());
            let below = fs::read_dir(path).into_iter().flatten().flatten();
            paths.extend(below.map(|e| e.path()));
        }
        paths.sort();
        let seen = |p: &PathBuf| {
            let meta = fs::metadata(p).ok()?;
            Some((meta.modified().ok()?, meta.len()))
        };
        paths.into_iter().map(|p| (p.clone(), seen(&p))).collect()
    }
}

/// How often the `reload` plugin looks, if there is one: at least every 2 s, up to half of that later
/// (CoreDNS `plugin/reload/setup.go`).
pub(super) fn reload_every<'a>(
    mut care: impl Iterator<Item = &'a Care>,
    rng: &mut Rng,
) -> Option<Duration> {
    let (every, jitter) = care.find_map(|c| c.reload)?;
    let every = every.max(Duration::from_secs(2));
    let jitter = jitter.clamp(Duration::from_secs(1), every / 2);
    let most = u64::try_from(jitter.as_millis()).unwrap_or(u64::MAX);
    Some(every + Duration::from_millis(rng.below(most.max(1))))
}

/// The Corefile's name and text.
fn corefile(file: Option<&Path>, store: &Store) -> anyhow::Result<(String, String)> {
    if let Some(path) = file {
        let name = path.display().to_string();
        let text =
            fs::read_to_string(path).map_err(|e| load::unreadable(path, &e, "a Corefile"))?;
        return Ok((name, text));
    }
    let map = store.config_map("kube-system", "coredns");
    let text = map.and_then(|m| m.data.as_ref()?.get("Corefile"));
    match (map, text) {
        (Some(map), Some(text)) => Ok((format!("{}: Corefile", map.source.span()), text.clone())),
        _ => Err(anyhow::Error::new(out::Stop(Finding::error(
            Span::default(),
            "no ConfigMap kube-system/coredns with a Corefile in the manifests",
            "name one with --corefile FILE, or load the ConfigMap with -f",
        )))),
    }
}

/// The files and variables that a Corefile names: words that are paths of files, and `{$NAME}`.
fn surroundings(text: &str) -> Surroundings {
    let mut out = Surroundings::default();
    let words = text.split_whitespace().map(|w| w.trim_matches('"'));
    let paths = words
        .filter(|w| w.starts_with('/'))
        .chain(["/etc/resolv.conf", "/etc/hosts"]);
    for path in paths {
        let path = Path::new(path);
        let pattern = path
            .file_name()
            .is_some_and(|n| n.to_string_lossy().contains(['*', '?']));
        let found = match path.parent().filter(|_| pattern) {
            Some(folder) => fs::read_dir(folder)
                .into_iter()
                .flatten()
                .flatten()
                .map(|e| e.path())
                .collect(),
            None => vec![path.to_path_buf()],
        };
        for file in found {
            let small = fs::metadata(&file)
                .is_ok_and(|m| m.is_file() && m.len() <= limits::INPUT_BYTES_MAX);
            if let Some(content) = fs::read_to_string(&file).ok().filter(|_| small) {
                out.files.insert(file.display().to_string(), content);
            }
        }
    }
    for (name, value) in std::env::vars() {
        if text.contains(&format!("{{${name}}}")) || text.contains(&format!("{{%{name}%}}")) {
            out.variables.insert(name, value);
        }
    }
    out
}
