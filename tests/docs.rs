//! The documents say what is: paths exist, every module is in the task table, console blocks do what they show.
//!
//! Checked are README.md, CHANGELOG.md and everything under docs/. What a console block may say is in
//! `docs/console.rs`.

#![allow(missing_docs, reason = "a test binary")]

#[path = "docs/console.rs"]
mod console;

use std::path::{Path, PathBuf};

/// In the task table: the path comes with work that has begun; the mark goes when the path is there.
const ARRIVING: &str = "(arriving)";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A document by its path in the package; empty where there is none.
fn text(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_default()
}

/// Every Markdown file of the package's front page and docs/, by path.
fn documents() -> Vec<String> {
    let (mut todo, mut found) = (vec![root().join("docs")], Vec::<PathBuf>::new());
    while let Some(dir) = todo.pop() {
        for path in std::fs::read_dir(&dir)
            .into_iter()
            .flatten()
            .flatten()
            .map(|e| e.path())
        {
            if path.is_dir() {
                todo.push(path);
            } else if path.extension().is_some_and(|e| e == "md") {
                found.push(path);
            }
        }
    }
    found.extend(
        ["README.md", "CHANGELOG.md"]
            .map(|f| root().join(f))
            .into_iter()
            .filter(|p| p.exists()),
    );
    found.sort();
    let name = |p: PathBuf| {
        p.strip_prefix(root())
            .map(|p| p.to_string_lossy().into_owned())
    };
    found.into_iter().filter_map(|p| name(p).ok()).collect()
}

/// The words in backquotes of a line, with what follows each up to the next.
fn quoted(line: &str) -> Vec<(&str, &str)> {
    let parts: Vec<&str> = line.split('`').collect();
    parts[1..].chunks_exact(2).map(|c| (c[0], c[1])).collect()
}

/// Whether a word in backquotes means a file or folder of the package.
fn is_path(word: &str) -> bool {
    const TOPS: &[&str] = &[
        "src/",
        "tests/",
        "docs/",
        "fuzz/",
        "pcaps/",
        "topologies/",
        "benches/",
        ".ci/",
    ];
    TOPS.iter().any(|t| word.starts_with(t)) && !word.contains(['<', '*', ' ', '{'])
}

/// What is wrong with the paths a document names.
fn bad_paths(markdown: &str, exists: &dyn Fn(&str) -> bool) -> Vec<String> {
    let mut out = Vec::new();
    for (i, line) in markdown.lines().enumerate() {
        for (word, after) in quoted(line).into_iter().filter(|q| is_path(q.0)) {
            match (exists(word), after.trim_start().starts_with(ARRIVING)) {
                (false, false) => out.push(format!("{}: `{word}` does not exist", i + 1)),
                (true, true) => out.push(format!(
                    "{}: `{word}` has arrived: take {ARRIVING} off",
                    i + 1
                )),
                _ => {}
            }
        }
    }
    out
}

/// Targets of `[text](target)` that lead inside the package.
fn links(markdown: &str) -> Vec<&str> {
    let targets = markdown
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next());
    let inside = targets.filter(|t| !t.contains("://") && !t.starts_with('#') && !t.is_empty());
    inside.map(|t| t.split('#').next().unwrap_or(t)).collect()
}

#[test]
fn paths_and_links_lead_somewhere() {
    let mut wrong = Vec::new();
    for doc in documents() {
        let all = text(&doc);
        let exists = |p: &str| root().join(p.split(':').next().unwrap_or(p)).exists();
        wrong.extend(
            bad_paths(&all, &exists)
                .into_iter()
                .map(|w| format!("{doc}:{w}")),
        );
        let home = root()
            .join(&doc)
            .parent()
            .map(Path::to_path_buf)
            .unwrap_or_default();
        for link in links(&all).into_iter().filter(|l| !home.join(l).exists()) {
            wrong.push(format!("{doc}: the link to {link} leads nowhere"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn the_task_table_names_every_module() {
    let architecture = text("docs/ARCHITECTURE.md");
    let (_, table) = architecture
        .split_once("## Task")
        .expect("docs/ARCHITECTURE.md has a section `Task -> file`");
    let named: Vec<&str> = table.lines().flat_map(quoted).map(|q| q.0).collect();
    assert!(
        named.iter().filter(|p| is_path(p)).count() > 20,
        "the task table is gone"
    );
    let mut missing = Vec::new();
    for entry in std::fs::read_dir(root().join("src"))
        .expect("src")
        .flatten()
    {
        let name = entry.file_name().to_string_lossy().into_owned();
        let module = format!("src/{}", name.trim_end_matches(".rs"));
        let begins = |p: &&str| {
            p.strip_prefix(&module)
                .is_some_and(|r| r.is_empty() || r.starts_with(['/', '.']))
        };
        if !named.iter().any(begins) {
            missing.push(module);
        }
    }
    assert!(
        missing.is_empty(),
        "no row of docs/ARCHITECTURE.md names {missing:?}"
    );
}

/// Every layer of the architecture test is in the table of layers, and the other way round.
#[test]
fn the_layers_are_those_of_the_architecture_test() {
    let rules = text("tests/architecture/rules.rs");
    let (_, list) = rules.split_once("const LAYERS").expect("LAYERS");
    let list = list.split_once("];").expect("its end").0;
    let architecture = text("docs/ARCHITECTURE.md");
    for row in list.lines().filter_map(|l| l.trim().strip_prefix("(\"")) {
        let (module, rest) = row.split_once("\", ").expect("(name, layer)");
        let layer = rest.trim_end_matches("),");
        let in_table = architecture
            .lines()
            .filter(|l| l.starts_with(&format!("| L{layer} ")))
            .any(|l| quoted(l).iter().any(|q| q.0 == module));
        assert!(
            module == "main" || in_table,
            "`{module}` is not in row L{layer} of docs/ARCHITECTURE.md"
        );
    }
}

#[test]
fn console_blocks_do_what_they_show() {
    let makefile = text("Makefile");
    let mut wrong = Vec::new();
    for doc in documents() {
        for step in console::steps(&text(&doc)) {
            let place = format!("{doc}:{}: $ {}", step.line, step.command);
            let word = step.command.split_whitespace().next().unwrap_or("");
            if word == "podpath" {
                let binary = Path::new(env!("CARGO_BIN_EXE_podpath"));
                if let Err(e) = console::run(&step, binary, root()) {
                    wrong.push(format!("{place}\n{e}"));
                }
                continue;
            }
            eprintln!("*** SKIPPED, not a podpath command: {place} ***");
            let verb = step
                .command
                .strip_prefix("make ")
                .and_then(|c| c.split_whitespace().next());
            if verb.is_some_and(|v| !makefile.lines().any(|l| l.starts_with(&format!("{v}:")))) {
                wrong.push(format!("{place}\nthe Makefile has no such verb"));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n\n"));
}

#[test]
fn console_blocks_are_read() {
    let doc = "x\n```console\n$ podpath a\none\n\n...\n$ podpath b # exit 2\n```\n$ not inside\n```sh\n$ nor here\n```\n";
    let steps = console::steps(doc);
    assert_eq!(steps.len(), 2);
    assert_eq!(
        (steps[0].line, steps[0].shown.as_slice()),
        (3, &["one", "", "..."].map(String::from)[..])
    );
    assert_eq!((steps[1].command.as_str(), steps[1].exit), ("podpath b", 2));
    assert!(console::steps("").is_empty());
}

#[test]
fn output_is_compared() {
    let shown = |s: &str| s.lines().map(String::from).collect::<Vec<_>>();
    assert!(console::matches(&shown("a\n...\nd"), &["a", "b", "c", "d"]));
    assert!(console::matches(&shown("a\n..."), &["a"]));
    assert!(!console::matches(&shown("a\n...\nd"), &["a", "b", "c"]));
    assert!(!console::matches(&shown("a"), &["a", "b"]));
    assert!(!console::matches(&shown("a\nb"), &["a"]));
}

/// A command's output and exit code are held against what was shown, with a shell built-in in podpath's place.
#[test]
fn commands_are_run_and_judged() {
    let one = |markdown: &str| {
        let step = console::steps(&format!("```console\n{markdown}\n```")).remove(0);
        console::run(&step, Path::new("/bin/true"), root())
    };
    assert_eq!(one("$ printf 'a\\nb\\n'\na\nb"), Ok(()));
    assert_eq!(one("$ exit 3 # exit 3"), Ok(()));
    assert!(one("$ printf a\nb").is_err_and(|e| e.contains("shown:\nb\ngot:\na")));
    assert!(one("$ exit 3").is_err_and(|e| e.contains("exit code Some(3), promised 0")));
}

#[test]
fn paths_are_judged() {
    let exists = |p: &str| p == "src/base/mod.rs";
    let doc = "`src/base/mod.rs`, `src/no.rs`, `src/new.rs` (arriving)\n`docs/codes/PP<n>.md` `ip link`\n`src/base/mod.rs` (arriving)";
    let wrong = bad_paths(doc, &exists);
    assert_eq!(
        wrong,
        [
            "1: `src/no.rs` does not exist",
            "3: `src/base/mod.rs` has arrived: take (arriving) off"
        ]
    );
    assert_eq!(
        links("[a](b.md) [c](https://x.y) [d](#e) [f](g.md#h)"),
        ["b.md", "g.md"]
    );
}
