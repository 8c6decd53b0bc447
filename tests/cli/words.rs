//! Help, version, colours, completions, manual pages.

use crate::start::{Folder, command, podpath, vxlan};
use std::process::{Command, Stdio};

const COMMANDS: [&str; 8] = [
    "run",
    "trace",
    "show",
    "replay",
    "proxy",
    "topo",
    "completions",
    "man",
];

#[test]
fn help() {
    let top = podpath(&["--help"]).exits(0).out;
    for name in COMMANDS {
        assert!(
            top.lines().any(|l| l.starts_with(&format!("  {name} "))),
            "{name} in\n{top}"
        );
    }
    insta::assert_snapshot!("help", top);
    assert_eq!(podpath(&["help"]).exits(0).out, top);
}

#[test]
fn help_of_each_command() {
    for name in COMMANDS {
        let said = podpath(&[name, "-h"]).exits(0).out;
        assert!(said.lines().all(|l| l.chars().count() <= 100), "{said}");
        insta::assert_snapshot!(format!("help-{name}"), said);
    }
    let said = podpath(&["proxy", "compare", "-h"]).exits(0).out;
    assert!(said.lines().all(|l| l.chars().count() <= 100), "{said}");
    insta::assert_snapshot!("help-proxy-compare", said);
}

#[test]
fn version() {
    let said = podpath(&["--version"]).exits(0).out;
    assert_eq!(said, format!("podpath {}\n", env!("CARGO_PKG_VERSION")));
    assert_eq!(podpath(&["-V"]).exits(0).out, said);
}

#[test]
fn colours() {
    let t = vxlan();
    let coloured = |args: &[&str], env: &[(&str, &str)]| {
        let o = command(args)
            .envs(env.iter().copied())
            .output()
            .expect("podpath");
        (o.stdout.contains(&0x1b), o.stderr.contains(&0x1b))
    };
    let trace = ["trace", "a1", "b1", "-t", &t];
    let with = |more: &'static str| [&trace[..], &[more]].concat();
    assert_eq!(
        coloured(&trace, &[]),
        (false, false),
        "no terminal, no colour"
    );
    assert_eq!(coloured(&with("--color=always"), &[]), (true, false));
    assert_eq!(coloured(&with("--color=never"), &[]), (false, false));
    // no-color.org: a flag on the command line is above NO_COLOR, NO_COLOR above CLICOLOR_FORCE.
    assert_eq!(
        coloured(&with("--color=always"), &[("NO_COLOR", "1")]),
        (true, false)
    );
    assert_eq!(
        coloured(&trace, &[("NO_COLOR", "1"), ("CLICOLOR_FORCE", "1")]),
        (false, false)
    );
    assert_eq!(
        coloured(&with("--color=never"), &[("CLICOLOR_FORCE", "1")]),
        (false, false)
    );
    assert_eq!(
        coloured(&["run", "nope", "--color=always"], &[]),
        (false, true)
    );
    assert_eq!(
        coloured(&["run", "nope", "--color=never"], &[]),
        (false, false)
    );
    // Colour is all that differs.
    let plain = podpath(&trace).out;
    let painted = podpath(&with("--color=always")).out;
    assert_eq!(without_escapes(&painted), plain);
    let json = [&with("--color=always")[..], &["-o", "json"]].concat();
    assert_eq!(
        coloured(&json, &[]),
        (false, false),
        "JSON is never coloured"
    );
}

/// Takes out `ESC [ ... m`.
fn without_escapes(s: &str) -> String {
    let mut parts = s.split("\x1b[");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for p in parts {
        out += p.split_once('m').map_or("", |(_, rest)| rest);
    }
    out
}

#[test]
fn completions() {
    for shell in ["bash", "zsh", "fish"] {
        let script = podpath(&["completions", shell]).exits(0).out;
        for word in COMMANDS.iter().chain(&["seed", "topology"]) {
            assert!(script.contains(word), "{word} in the {shell} script");
        }
        let folder = Folder::new();
        folder.file("script", &script);
        let read = Command::new(shell)
            .arg("-n")
            .arg(folder.path().join("script"))
            .stdin(Stdio::null())
            .output();
        match read {
            Ok(o) => assert!(
                o.status.success(),
                "{shell} -n: {}",
                String::from_utf8_lossy(&o.stderr)
            ),
            Err(_) => {
                eprintln!(
                    "\n*** SKIPPED: {shell} not installed: its completion script was not read ***\n"
                );
            }
        }
    }
}

#[test]
fn manual_pages() {
    let page = podpath(&["man"]).exits(0).out;
    assert!(
        page.starts_with(".ie ") || page.starts_with(".TH "),
        "{page}"
    );
    assert!(page.contains(".TH podpath 1"), "{page}");
    let folder = Folder::new();
    folder.podpath(&["man", "-d", "pages"]).exits(0);
    let read = |n: String| std::fs::read_to_string(folder.path().join("pages").join(n));
    assert_eq!(read("podpath.1".into()).ok(), Some(page));
    for name in COMMANDS {
        let page = read(format!("podpath-{name}.1")).expect("a page");
        assert!(page.contains(".SH NAME"), "{page}");
    }
}
