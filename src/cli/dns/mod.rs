//! `podpath dns`: [`ask`] looks up from a pod; `serve` puts the responder behind real sockets, so that dig
//! and dnsperf can judge it.
//!
//! Here the Corefile and what it names are read, and the objects made; [`serve`] has the sockets. What is
//! answered is decided in `kube::dns` alone.

mod ask;
mod serve;
mod upstream;

use crate::base::{Finding, Span, limits};
use crate::cli::args::{DnsArgs, DnsCommand, DnsServeArgs, Global};
use crate::cli::{Exit, load, out};
use crate::kube::controllers::{self, Facts};
use crate::kube::dns::{Corefile, Environment, Objects, Responder, Surroundings, Version};
use crate::kube::store::Store;
use std::fs;
use std::path::Path;

/// Runs the subcommand.
pub fn run(g: &Global, a: &DnsArgs) -> anyhow::Result<Exit> {
    match &a.command {
        Some(DnsCommand::Serve(s)) => serve(g, s),
        None => ask::run(g, a),
    }
}

fn serve(g: &Global, a: &DnsServeArgs) -> anyhow::Result<Exit> {
    let named = g.dir.is_some() || !g.files.is_empty();
    let (store, findings) = match named || a.corefile.is_none() {
        true => Store::load(&load::inputs(g, None)?),
        false => (Store::default(), Vec::new()),
    };
    if out::findings(&findings, g.quiet) {
        return Ok(Exit::Failed);
    }
    let version = Version::of(&a.coredns).ok_or_else(|| {
        out::stop(
            "--coredns",
            format!("`{}` is no version of CoreDNS", a.coredns),
            "write 1.13.2 or 1.14.0",
        )
    })?;
    let (name, text) = corefile(a.corefile.as_deref(), &store)?;
    let around = surroundings(&text);
    let resolv = around
        .files
        .get("/etc/resolv.conf")
        .map_or("", String::as_str);
    let search = resolv
        .lines()
        .filter_map(|l| l.strip_prefix("search "))
        .next_back();
    let environment = Environment {
        search: search
            .unwrap_or("")
            .split_whitespace()
            .map(str::to_owned)
            .collect(),
        around,
        addresses: match a.address.as_slice() {
            [] => vec![a.listen.ip()],
            list => list.to_vec(),
        },
        version,
        unix: std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |d| u32::try_from(d.as_secs()).unwrap_or(0)),
        seed: g.seed,
    };
    let (parsed, mut findings) = Corefile::parse(&name, &text, &environment.around);
    let (mut responder, more) = Responder::new(&parsed, &environment);
    findings.extend(more);
    if out::findings(&findings, g.quiet) {
        return Ok(Exit::Failed);
    }
    let (desired, found) = controllers::run(&store, &Facts::of_store(&store, g.seed), None);
    let errors: Vec<Finding> = found.into_iter().filter(Finding::is_error).collect();
    out::findings(&errors, g.quiet);
    let objects = Objects::new(
        &desired.services,
        &desired.endpoint_slices,
        &store.namespaces,
        &store.pods,
    );
    responder.learn(crate::base::Instant::ZERO, &objects);
    // A Corefile is for port 53; the port listened on here stands for the one it has.
    let ports = responder.ports();
    let port = match ports.first() {
        Some(_) if ports.contains(&a.listen.port()) => a.listen.port(),
        Some(first) => *first,
        None => 53,
    };
    serve::run(a.listen, port, responder, a.duration)
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
