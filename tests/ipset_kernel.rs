//! ipset commands and lookups against the real kernel: opt-in, as root, in a namespace of its own.
//!
//! `PODPATH_KERNEL=1 cargo test --test ipset_kernel`; `PODPATH_SEED` and `PODPATH_ROUNDS` choose other draws. Set types
//! that the kernel at hand lacks are left out, and said.

#![allow(missing_docs, reason = "a test binary")]

#[path = "ipset_kernel/draw.rs"]
mod draw;
#[path = "ipset_kernel/packets.rs"]
mod packets;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Command, Stdio};

use podpath::base::{Instant, Rng};
use podpath::nf::ipset::{Answer, Sets};

/// A network namespace that is removed when dropped.
pub struct Ns(String);

impl Ns {
    pub fn new(what: &str) -> Ns {
        let name = format!("podpath-ipset-{what}-{}", std::process::id());
        let made = Command::new("ip").args(["netns", "add", &name]).status();
        assert!(
            made.is_ok_and(|s| s.success()),
            "ip netns add {name}: not root?"
        );
        Ns(name)
    }

    /// Runs a bash script inside; its standard output.
    pub fn bash(&self, script: &str) -> String {
        let mut child = Command::new("ip")
            .args(["netns", "exec", &self.0, "bash", "-s"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("bash in a namespace");
        let mut stdin = child.stdin.take().expect("a pipe");
        let text = script.to_owned();
        let writer = std::thread::spawn(move || stdin.write_all(text.as_bytes()));
        let out = child.wait_with_output().expect("its output");
        writer
            .join()
            .expect("the writer")
            .expect("the script is read");
        String::from_utf8(out.stdout).expect("text")
    }
}

impl Drop for Ns {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

pub fn wanted() -> bool {
    let on = std::env::var_os("PODPATH_KERNEL").is_some_and(|v| !v.is_empty());
    if !on {
        println!("NOT RUN: set PODPATH_KERNEL=1 (as root) to compare with this machine's kernel");
    }
    on
}

pub fn number(name: &str, default: u64) -> u64 {
    let value = std::env::var(name).ok().and_then(|v| v.parse().ok());
    value.unwrap_or(default)
}

/// Words of a line as bash splits it (quotes around comments only).
pub fn words(line: &str) -> Vec<String> {
    let mut out = Vec::new();
    for (i, part) in line.split('"').enumerate() {
        match i % 2 {
            0 => out.extend(part.split_whitespace().map(str::to_owned)),
            _ => out.push(part.to_owned()),
        }
    }
    out
}

/// What both sides print, without what is random (initval), grown (hashsize) or counted down (timeouts of elements).
pub fn normal(save: &str) -> BTreeSet<String> {
    let dropped = |w: &[&str]| -> Vec<String> {
        let mut out: Vec<String> = Vec::new();
        let mut at = 0;
        while at < w.len() {
            let skip = match w[at] {
                "initval" | "bucketsize" | "hashsize" | "forceadd" => true,
                "timeout" => w[0] == "add" && w.get(at + 1) != Some(&"0"),
                _ => false,
            };
            if w[at] == "bitmask" && w.get(at + 1).is_some_and(|v| v.contains('/')) {
                // ipset 7.17 prints a prefix length after it that it has not initialised.
                let mask = w[at + 1].split('/').next().unwrap_or_default();
                out.extend(["bitmask".to_owned(), mask.to_owned()]);
                at += 2;
            } else if skip {
                at += if w[at] == "forceadd" { 1 } else { 2 };
            } else {
                out.push(w[at].to_owned());
                at += 1;
            }
        }
        out
    };
    let line = |l: &str| dropped(&l.split(' ').collect::<Vec<_>>()).join(" ");
    save.lines().map(line).collect()
}

/// Runs the lines on both sides; the differences.
pub fn compare(ns: &Ns, lines: &[String]) -> (Sets, Vec<String>) {
    let mut script = String::new();
    for line in lines {
        script.push_str(&format!("ipset {line} >/dev/null 2>&1; echo $?\n"));
    }
    script.push_str("echo ---; ipset save\n");
    let out = ns.bash(&script);
    let (codes, save) = out.split_once("---\n").expect("codes and a save");
    let mut sets = Sets::new();
    let mut wrong = Vec::new();
    let now = Instant::from_secs(1_000);
    for (line, code) in lines.iter().zip(codes.lines()) {
        let words = words(line);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let ours = sets.command(&words, now);
        let ok = ours
            .as_ref()
            .is_ok_and(|r| r.answer != Answer::InSet(false));
        if ok != (code == "0") {
            wrong.push(format!("kernel {code}, here {ours:?}: {line}"));
        }
    }
    let (theirs, ours) = (normal(save), normal(&sets.save(now)));
    wrong.extend(
        theirs
            .difference(&ours)
            .map(|l| format!("only in the kernel: {l}")),
    );
    wrong.extend(ours.difference(&theirs).map(|l| format!("only here: {l}")));
    // A range added to a set with a mask leaves elements that ipset cannot restore itself: not compared.
    let masked = save.contains(" netmask ") || save.contains(" bitmask ");
    if wrong.is_empty() && !masked {
        let (again, findings) = Sets::parse("save", save, now);
        assert_eq!(findings, [], "what ipset saved is read without findings");
        let printed = again.save(now);
        if printed != save {
            wrong.push(format!("not the identity:\n{save}\n{printed}"));
        }
    }
    (sets, wrong)
}

#[test]
fn commands_do_what_they_do_in_the_kernel() {
    if !wanted() {
        return;
    }
    let (seed, rounds) = (number("PODPATH_SEED", 1), number("PODPATH_ROUNDS", 60));
    println!("seed {seed}, {rounds} rounds");
    let mut failed: Vec<String> = Vec::new();
    for round in 0..rounds {
        let ns = Ns::new(&format!("c{round}"));
        let mut rng = Rng::new(seed.wrapping_add(round));
        let lines = draw::script(&mut rng);
        let (_, wrong) = compare(&ns, &lines);
        if !wrong.is_empty() {
            if failed.is_empty() {
                println!("{}", lines.join("\n"));
            }
            let made = lines.iter().take(4).cloned().collect::<Vec<_>>().join("; ");
            failed.push(format!(
                "seed {} {made}\n  {}",
                seed + round,
                wrong.join("\n  ")
            ));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
