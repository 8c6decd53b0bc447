//! The rules of the architecture test, as data and as functions from files to breaches.
//!
//! A breach reads `file:line: rule`. Nothing here reads files: the tests hand them in, true ones and bad examples.

use crate::source::{self, NamedPath, Source};

/// Top-level modules and their layers. A module may import its own layer and those below.
const LAYERS: &[(&str, u8)] = &[
    ("base", 0),
    ("wire", 1),
    ("net", 2),
    ("nf", 2),
    ("ipvs", 2),
    ("path", 3),
    ("fast", 3),
    ("sim", 4),
    ("endpoint", 4),
    ("kube", 4),
    ("lab", 5),
    ("cluster", 5),
    ("import", 5),
    ("replay", 5),
    ("diagnose", 5),
    ("report", 6),
    ("cli", 6),
    ("main", 6),
];

/// What begins with this path may be named only in these modules (and what is below them).
const CONFINED: &[(&str, &[&str], &str)] = &[
    ("k8s_openapi", &["kube"], "the API's types stay in kube"),
    ("clap", &["cli"], "the command line is cli's"),
    ("clap_complete", &["cli"], "the command line is cli's"),
    ("clap_mangen", &["cli"], "the command line is cli's"),
    (
        "crossbeam",
        &["cli", "fast"],
        "threads and channels are the shell's and the batch code's",
    ),
    ("anyhow", &["cli", "main"], "the core has typed errors"),
    ("anstream", &["report", "cli"], "terminals are the edge's"),
    (
        "comfy_table",
        &["report", "cli"],
        "terminals are the edge's",
    ),
    ("indicatif", &["report", "cli"], "terminals are the edge's"),
    (
        "smoltcp",
        &["wire", "endpoint"],
        "smoltcp gives header views and sockets, not paths (ADR 0003)",
    ),
    (
        "std::time",
        &["cli"],
        "time is virtual: base::Instant, core::time::Duration",
    ),
    ("std::fs", &["cli"], "files are opened by cli and handed in"),
    ("std::thread", &["cli"], "threads are the shell's"),
    (
        "std::env",
        &["cli"],
        "the environment is read by cli and handed in",
    ),
    (
        "std::process",
        &["cli", "main"],
        "processes and exit codes are cli's",
    ),
    ("std::os", &["cli"], "the system is cli's"),
    (
        "std::io",
        &["replay", "report", "cli"],
        "the core is sans-IO; readers and writers are handed in",
    ),
    ("std::io::stdin", &["cli"], "standard streams are cli's"),
    ("std::io::stdout", &["cli"], "standard streams are cli's"),
    ("std::io::stderr", &["cli"], "standard streams are cli's"),
    ("std::net::TcpStream", &["cli"], "sockets are cli's"),
    ("std::net::TcpListener", &["cli"], "sockets are cli's"),
    ("std::net::UdpSocket", &["cli"], "sockets are cli's"),
    (
        "std::net::ToSocketAddrs",
        &["cli"],
        "it asks the machine's resolver",
    ),
    ("std::net::*", &["cli"], "a glob hides sockets"),
    ("std::io::*", &["cli"], "a glob hides the standard streams"),
    ("std::*", &[], "a glob hides what is used"),
    (
        "std::collections::HashMap",
        &[],
        "its order changes from run to run: BTreeMap, IndexMap or hashbrown",
    ),
    (
        "std::collections::HashSet",
        &[],
        "its order changes from run to run: BTreeSet, IndexSet or hashbrown",
    ),
    (
        "std::collections::hash_map",
        &[],
        "its order changes from run to run",
    ),
    (
        "std::collections::hash_set",
        &[],
        "its order changes from run to run",
    ),
    ("std::collections::*", &[], "a glob hides HashMap"),
    (
        "std::hash::RandomState",
        &[],
        "its seed changes from run to run",
    ),
];

/// Macros that write to the standard streams, confined to `cli` and `main`.
const PRINTING: &[&str] = &["print", "println", "eprint", "eprintln", "dbg"];

/// The one module that may say `unsafe` (what has no safe spelling).
const UNSAFE_LEAF: &str = "src/base/cpu.rs";

const FILE_LINES: usize = 600;
const FUNCTION_LINES: usize = 100;
const LINE_CHARS: usize = 110;
/// Tests carry addresses and commands as they are printed.
const TEST_LINE_CHARS: usize = 120;

/// Files that may be longer, up to this many lines, and why.
const LONG_FILES: &[(&str, usize, &str)] = &[(
    "tests/lab.rs",
    640,
    "what Linux was measured to do, one case each; to be split by protocol",
)];

/// A file by its path in the package.
pub struct File {
    /// Slashes, from the package's root.
    pub path: String,
    text: String,
    source: Source,
}

impl File {
    /// Scans `text`.
    pub fn new(path: impl Into<String>, text: impl Into<String>) -> Self {
        let text = text.into();
        File {
            path: path.into(),
            source: Source::new(&text),
            text,
        }
    }

    /// `["net", "fib"]` for `src/net/fib.rs`; nothing for `src/lib.rs` and for what is not under `src`.
    fn module(&self) -> Vec<&str> {
        let Some(inner) = self
            .path
            .strip_prefix("src/")
            .and_then(|p| p.strip_suffix(".rs"))
        else {
            return Vec::new();
        };
        let mut parts: Vec<&str> = inner.split('/').collect();
        if matches!(parts.last(), Some(&"mod" | &"lib")) {
            parts.pop();
        }
        parts
    }

    fn top(&self) -> &str {
        self.module().first().copied().unwrap_or("")
    }

    fn breach(&self, line: usize, rule: impl std::fmt::Display) -> String {
        format!("{}:{line}: {rule}", self.path)
    }
}

fn layer(module: &str) -> Option<u8> {
    LAYERS.iter().find(|l| l.0 == module).map(|l| l.1)
}

/// The files of modules that exist only under `#[cfg(test)]`.
fn test_only(files: &[File]) -> Vec<String> {
    let mut out = Vec::new();
    for f in files {
        let home = f
            .path
            .strip_suffix("/mod.rs")
            .or_else(|| f.path.strip_suffix(".rs"));
        for m in &f.source.test_modules {
            out.push(format!("{}/{m}", home.unwrap_or("src")));
        }
    }
    out
}

/// Every path the shipped code names, from its root: `super` and `self` resolved against the file's module, a name
/// that a `use` of this file made by what it stands for. Our own begin with `crate`.
fn named(f: &File) -> Vec<NamedPath> {
    let mut all = source::paths(&f.source.shipped);
    for p in &mut all {
        p.segments = absolute(f, &p.segments);
    }
    let uses: Vec<NamedPath> = all
        .iter()
        .filter(|p| p.imported_as.is_some())
        .cloned()
        .collect();
    for p in all.iter_mut().filter(|p| p.imported_as.is_none()) {
        let made = uses
            .iter()
            .find(|u| u.imported_as.as_ref() == p.segments.first());
        if let Some(u) = made {
            p.segments.splice(..1, u.segments.iter().cloned());
        }
    }
    all
}

fn absolute(f: &File, segments: &[String]) -> Vec<String> {
    let ups = segments.iter().take_while(|s| *s == "super").count();
    if ups == 0 && segments.first().is_none_or(|s| s != "self") {
        return segments.to_vec();
    }
    let module = f.module();
    let kept = module.len().saturating_sub(ups);
    let ours = std::iter::once("crate").chain(module[..kept].iter().copied());
    let rest = segments.iter().skip(ups.max(1)).cloned();
    ours.map(str::to_owned).chain(rest).collect()
}

/// A lower layer never names a higher one, and nothing is named past the layers.
fn directions(f: &File, out: &mut Vec<String>) {
    let top = f.top();
    if top.is_empty() {
        return; // lib.rs names every module
    }
    let Some(own) = layer(top) else {
        out.push(f.breach(
            1,
            format!("module `{top}` has no layer: give it one in tests/architecture.rs"),
        ));
        return;
    };
    for p in named(f) {
        let full = &p.segments;
        if full[0] != "crate" && !(full[0] == "podpath" && own == 6) {
            continue;
        }
        let Some(target) = full.get(1) else { continue };
        match layer(target) {
            None => out.push(f.breach(
                p.line,
                format!(
                    "`{}` is in no layer: name what you use by its module",
                    full.join("::")
                ),
            )),
            Some(l) if l > own => out.push(f.breach(
                p.line,
                format!(
                    "L{own} {top} must not import L{l} {target} (`{}`)",
                    full.join("::")
                ),
            )),
            Some(_) => {}
        }
    }
}

/// Third parties, the system and unordered maps only where they belong.
fn confinement(f: &File, out: &mut Vec<String>) {
    let top = f.top();
    for p in named(f) {
        let full = p.segments.join("::");
        let within =
            |c: &str| full == c || full.strip_prefix(c).is_some_and(|r| r.starts_with("::"));
        for (what, homes, why) in CONFINED {
            if within(what) && !homes.contains(&top) {
                out.push(f.breach(p.line, format!("`{what}` {}: {why}", only_in(homes))));
            }
        }
        if within("hickory_proto") && !f.module().iter().any(|m| m.starts_with("dns")) {
            out.push(f.breach(p.line, "`hickory_proto` only in DNS code"));
        }
    }
    for name in PRINTING.iter().filter(|_| !matches!(top, "cli" | "main")) {
        for line in source::macro_calls(&f.source.shipped, name) {
            out.push(f.breach(
                line,
                format!("`{name}!` only in cli: the core returns, it does not print"),
            ));
        }
    }
    if f.path != UNSAFE_LEAF {
        for line in source::lines_with(&f.source.code, "unsafe") {
            out.push(f.breach(line, format!("`unsafe` only in {UNSAFE_LEAF}")));
        }
    }
}

fn only_in(homes: &[&str]) -> String {
    if homes.is_empty() {
        "nowhere".to_owned()
    } else {
        format!("only in {}", homes.join(", "))
    }
}

/// Files, functions and lines that fit a head, and a header that says what a file is.
pub fn sizes(f: &File, out: &mut Vec<String>) {
    let lines = f.text.lines().count();
    let listed = LONG_FILES.iter().find(|l| l.0 == f.path);
    let most = listed.map_or(FILE_LINES, |l| l.1);
    if lines > most {
        out.push(f.breach(
            most,
            format!("{lines} lines, {most} at most: split it by purpose"),
        ));
    }
    if let Some((_, _, why)) = listed.filter(|_| lines <= FILE_LINES) {
        out.push(f.breach(1, format!("no longer long: take it off LONG_FILES ({why})")));
    }
    let header = f
        .text
        .lines()
        .find(|l| !l.starts_with("#!") && !l.is_empty());
    if !header.is_some_and(|l| l.starts_with("//!")) {
        out.push(f.breach(
            1,
            "no `//!` header: what it does, what it does not, its invariant",
        ));
    }
    for g in source::functions(&f.source.code) {
        if g.lines > FUNCTION_LINES {
            let rule = format!("fn {}: {} lines, {FUNCTION_LINES} at most", g.name, g.lines);
            out.push(f.breach(g.line, rule));
        }
    }
    let most = if f.path.starts_with("src/") {
        LINE_CHARS
    } else {
        TEST_LINE_CHARS
    };
    for (n, (line, code)) in f.text.lines().zip(f.source.code.lines()).enumerate() {
        let chars = line.chars().count();
        // Commands and their output stand in literals as they are printed; breaking them helps nobody.
        let comment = line.trim_start().starts_with("//");
        let literal = !comment && (line.contains('"') || code.trim().is_empty());
        if chars > most && !literal {
            out.push(f.breach(n + 1, format!("{chars} characters, {most} at most")));
        }
    }
}

/// Every breach of the import rules.
pub fn imports(files: &[File]) -> Vec<String> {
    let tests = test_only(files);
    let is_test = |f: &File| {
        let bare = f.path.trim_end_matches(".rs");
        tests.iter().any(|t| {
            bare == t
                || bare
                    .strip_prefix(t.as_str())
                    .is_some_and(|r| r.starts_with('/'))
        })
    };
    let mut out = Vec::new();
    for f in files
        .iter()
        .filter(|f| f.path.starts_with("src/") && !is_test(f))
    {
        directions(f, &mut out);
        confinement(f, &mut out);
    }
    out
}
