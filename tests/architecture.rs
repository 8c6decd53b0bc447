//! The architecture test: who may import whom, who may touch the outside world, and how long things may be.
//!
//! Reads every file under `src` (sizes: under `tests` and `fuzz` too) and fails with `file:line: rule` for each
//! breach. The rules are in `architecture/rules.rs`; reading Rust is `architecture/source.rs`.
//! Imports of test modules are free. The layers are those of docs/ARCHITECTURE.md.

#![allow(missing_docs, reason = "a test binary")]

#[path = "architecture/rules.rs"]
mod rules;
#[path = "architecture/source.rs"]
mod source;

use rules::{File, imports, sizes};
use std::path::{Path, PathBuf};

/// Every `.rs` file below a folder of the package.
fn read(folder: &str) -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut todo, mut found) = (vec![root.join(folder)], Vec::<PathBuf>::new());
    while let Some(dir) = todo.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() && !path.ends_with("fuzz/target") {
                todo.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    let name = |p: &Path| {
        p.strip_prefix(root)
            .unwrap_or(p)
            .to_string_lossy()
            .replace('\\', "/")
    };
    let text =
        |p: &Path| std::fs::read_to_string(p).unwrap_or_else(|e| panic!("{}: {e}", p.display()));
    found.iter().map(|p| File::new(name(p), text(p))).collect()
}

fn expect_none(breaches: &[String]) {
    assert!(
        breaches.is_empty(),
        "{} breaches\n{}",
        breaches.len(),
        breaches.join("\n")
    );
}

#[test]
fn imports_go_down_and_the_outside_stays_in_the_shell() {
    let files = read("src");
    assert!(files.len() > 10, "src was not found");
    expect_none(&imports(&files));
}

#[test]
fn files_functions_and_lines_are_short_and_files_say_what_they_are() {
    let mut out = Vec::new();
    for f in ["src", "tests", "fuzz", "benches"]
        .iter()
        .flat_map(|d| read(d))
    {
        sizes(&f, &mut out);
    }
    expect_none(&out);
}

/// One file each: its path, its text, and words of the breach it must give.
const BREACHES: &[(&str, &str, &str)] = &[
    (
        "src/net/a.rs",
        "use crate::sim::World;",
        "1: L2 net must not import L4 sim",
    ),
    (
        "src/net/a.rs",
        "use crate::{base::Rng, path::{NoTrace, Walker}};",
        "L3 path (`crate::path::NoTrace`)",
    ),
    (
        "src/net/a/b.rs",
        "fn f() { super::super::super::kube::g() }",
        "must not import L4 kube",
    ),
    (
        "src/wire/mod.rs",
        "\n\npub(crate) fn f() -> crate::net::DevId {}",
        "3: L1 wire must not import L2 net",
    ),
    ("src/net/a.rs", "use crate::World;", "is in no layer"),
    ("src/misc/mod.rs", "", "module `misc` has no layer"),
    (
        "src/path/a.rs",
        "use std::{fmt, fs::File};",
        "`std::fs` only in cli",
    ),
    (
        "src/path/a.rs",
        "let t = std::time::Instant::now();",
        "`std::time` only in cli",
    ),
    (
        "src/sim/a.rs",
        "use std::io::Read;",
        "`std::io` only in replay, report, cli",
    ),
    (
        "src/replay/a.rs",
        "let i = std::io::stdin();",
        "`std::io::stdin` only in cli",
    ),
    (
        "src/replay/a.rs",
        "use std::io::{self, Write}; fn f() { io::stdout() }",
        "`std::io::stdout` only in cli",
    ),
    (
        "src/report/a.rs",
        "use std::io as x; fn f() { x::stderr() }",
        "`std::io::stderr` only in cli",
    ),
    (
        "src/net/a.rs",
        "use crate as c; fn f() { c::sim::World::new(1) }",
        "must not import L4 sim",
    ),
    (
        "src/net/a.rs",
        "use std::{collections::*, fmt};",
        "a glob hides HashMap",
    ),
    (
        "src/net/a.rs",
        "use std::{collections::{self}, fmt}; fn f() { collections::HashMap::new() }",
        "HashMap` nowhere",
    ),
    (
        "src/net/a.rs",
        "use std::net::{IpAddr, UdpSocket};",
        "`std::net::UdpSocket` only in cli",
    ),
    (
        "src/kube/a.rs",
        "use std::collections::{BTreeMap, HashMap};",
        "HashMap` nowhere",
    ),
    (
        "src/net/a.rs",
        "use std::collections::*;",
        "a glob hides HashMap",
    ),
    (
        "src/cluster/a.rs",
        "use k8s_openapi::api::core::v1::Pod;",
        "`k8s_openapi` only in kube",
    ),
    ("src/report/a.rs", "use clap::Parser;", "`clap` only in cli"),
    ("src/kube/a.rs", "use anyhow;", "`anyhow` only in cli, main"),
    (
        "src/path/a.rs",
        "use smoltcp::wire::Ipv4Packet;",
        "`smoltcp` only in wire, endpoint",
    ),
    (
        "src/kube/names.rs",
        "use hickory_proto::op::Message;",
        "only in DNS code",
    ),
    (
        "src/net/a.rs",
        "fn f() { println!() }",
        "`println!` only in cli",
    ),
    (
        "src/fast/a.rs",
        "unsafe { f() }",
        "`unsafe` only in src/base/cpu.rs",
    ),
];

#[test]
fn each_rule_catches_its_breach() {
    for &(path, text, want) in BREACHES {
        let got = imports(&[File::new(path, text)]);
        assert!(
            got.iter().any(|g| g.contains(want)),
            "{path}: {text}\nwanted {want}\ngot {got:?}"
        );
    }
}

#[test]
fn what_is_allowed_passes() {
    let cases = [
        (
            "src/sim/a.rs",
            "use crate::{base::{self, Rng}, net as n, path::*};",
        ),
        (
            "src/net/a.rs",
            "//! See `crate::sim`.\n/* std::fs::read */ const S: &str = \"std::fs\";",
        ),
        (
            "src/net/a.rs",
            "const R: &[u8] = br#\"crate::sim::x \"quoted\" \"#; const C: char = '\"';",
        ),
        (
            "src/net/a.rs",
            "fn f<'a>(x: &'a str) {}\n#[cfg(test)]\nmod tests { use crate::sim::World; }",
        ),
        (
            "src/net/a.rs",
            "use std::net::{IpAddr, SocketAddr}; use core::time::Duration; use std::fmt::Write as _;",
        ),
        (
            "src/replay/a.rs",
            "use std::io::{self, ErrorKind, Read, Write};",
        ),
        ("src/kube/dns/a.rs", "use hickory_proto::op::Message;"),
        (
            "src/cli/a.rs",
            "use crate::kube::Store; use std::time::Instant; fn f() { println!() }",
        ),
        ("src/lib.rs", "pub mod base;\npub use crate::sim::World;"),
        (
            "src/main.rs",
            "use podpath::cli; fn main() -> std::process::ExitCode { cli::main() }",
        ),
        ("src/base/cpu.rs", "unsafe { f() }"),
    ];
    for (path, text) in cases {
        expect_none(&imports(&[File::new(path, text)]));
    }
    let pair = [
        File::new("src/net/a/mod.rs", "#[cfg(test)]\nmod tests;\nmod more;"),
        File::new("src/net/a/tests.rs", "use crate::sim::World;"),
    ];
    expect_none(&imports(&pair));
}

#[test]
fn sizes_are_counted() {
    let check = |path: &str, text: String| {
        let mut out = Vec::new();
        sizes(&File::new(path, text), &mut out);
        out.join("\n")
    };
    let body = |n: usize| {
        format!(
            "//! x\nfn long(a: [u8; 2]) {{\n{}}}\n",
            "    a;\n".repeat(n)
        )
    };
    assert_eq!(check("src/net/a.rs", body(98)), "");
    assert!(check("src/net/a.rs", body(99)).contains("a.rs:2: fn long: 101 lines"));
    assert!(check("src/net/a.rs", body(600)).contains("a.rs:600: 603 lines"));
    assert!(check("tests/lab.rs", body(1)).contains("no longer long"));
    assert!(check("src/net/a.rs", "fn f() {}".into()).contains("no `//!` header"));
    assert!(check("src/net/a.rs", format!("//! {}", "x".repeat(107))).contains("111 characters"));
    assert_eq!(
        check("src/net/a.rs", format!("//! {}", "é".repeat(106))),
        ""
    );
    assert_eq!(
        check(
            "src/net/a.rs",
            format!("//! x\nconst A: &str = \"{}\";", "x".repeat(200))
        ),
        ""
    );
}
