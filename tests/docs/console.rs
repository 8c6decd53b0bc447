//! Console blocks of Markdown: commands and the output shown below them, run and compared.
//!
//! `$ podpath ...` and pipelines that begin so run under `sh` with the built binary first in PATH. A line `...` in
//! the shown output stands for any lines, none too. A command that ends otherwise than with 0 says so in a comment:
//! `$ podpath trace a b  # exit 1`. A command with nothing shown below it has only its exit code checked.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Commands run so far: tests run side by side and each needs files of its own.
static RUNS: AtomicU32 = AtomicU32::new(0);
/// Longest time a command may take in the debug profile.
const TIME_MAX: Duration = Duration::from_secs(120);

/// One command of a console block.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    /// 1-based line in the document.
    pub line: usize,
    /// What stands behind `$ `.
    pub command: String,
    /// The exit code that is promised.
    pub exit: i32,
    /// The lines shown below.
    pub shown: Vec<String>,
}

/// Every command in the ```console blocks of a document.
pub fn steps(markdown: &str) -> Vec<Step> {
    let (mut out, mut inside) = (Vec::<Step>::new(), false);
    for (i, line) in markdown.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            inside = !inside && line.trim() == "```console";
        } else if inside && let Some(typed) = line.strip_prefix("$ ") {
            let (command, exit) = match typed.rsplit_once("# exit ") {
                Some((c, n)) => (c, n.trim().parse().unwrap_or(-1)),
                None => (typed, 0),
            };
            let command = command.trim().to_owned();
            out.push(Step {
                line: i + 1,
                command,
                exit,
                shown: Vec::new(),
            });
        } else if inside && let Some(step) = out.last_mut() {
            step.shown.push(line.trim_end().to_owned());
        }
    }
    for step in &mut out {
        while step.shown.last().is_some_and(String::is_empty) {
            step.shown.pop();
        }
    }
    out
}

/// Whether `got` is what was shown, `...` standing for any lines.
pub fn matches(shown: &[String], got: &[&str]) -> bool {
    match shown.split_first() {
        None => got.is_empty(),
        Some((first, rest)) if first.trim() == "..." => {
            (0..=got.len()).any(|n| matches(rest, &got[n..]))
        }
        Some((first, rest)) => {
            got.first().is_some_and(|g| g.trim_end() == first) && matches(rest, &got[1..])
        }
    }
}

/// Runs a step in `folder` with `binary` as `podpath`; says what differs.
pub fn run(step: &Step, binary: &Path, folder: &Path) -> Result<(), String> {
    let (code, out) = execute(&step.command, binary, folder)?;
    if code != Some(step.exit) {
        return Err(format!("exit code {code:?}, promised {}\n{out}", step.exit));
    }
    let got: Vec<&str> = out.trim_end().lines().collect();
    if step.shown.is_empty() || matches(&step.shown, &got) {
        return Ok(());
    }
    Err(format!(
        "shown:\n{}\ngot:\n{}",
        step.shown.join("\n"),
        got.join("\n")
    ))
}

/// The exit code (none after a signal), and what a terminal would show: standard output, then standard error.
fn execute(command: &str, binary: &Path, folder: &Path) -> Result<(Option<i32>, String), String> {
    let bin = binary.parent().unwrap_or(folder).to_path_buf();
    let old = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(std::iter::once(bin).chain(std::env::split_paths(&old)));
    let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
    // Files, not pipes: a full pipe would stop the command while we wait for its end.
    let n = RUNS.fetch_add(1, Ordering::Relaxed);
    let files = ["out", "err"].map(|f| tmp.join(format!("docs-{}-{n}-{f}", std::process::id())));
    let open = |i: usize| std::fs::File::create(&files[i]).map_err(|e| e.to_string());
    let mut child = Command::new("sh")
        .args(["-c", command])
        .current_dir(folder)
        .env("PATH", path.map_err(|e| e.to_string())?)
        .env("NO_COLOR", "1")
        .env("COLUMNS", "100")
        .stdin(Stdio::null())
        .stdout(open(0)?)
        .stderr(open(1)?)
        .spawn()
        .map_err(|e| format!("sh: {e}"))?;
    let begun = Instant::now();
    let status = loop {
        match child.try_wait().map_err(|e| e.to_string())? {
            Some(status) => break status,
            None if begun.elapsed() > TIME_MAX => {
                let _ = (child.kill(), child.wait());
                return Err(format!("not done after {TIME_MAX:?}"));
            }
            None => std::thread::sleep(Duration::from_millis(10)),
        }
    };
    let [out, err] = files.map(|f| {
        let bytes = std::fs::read(&f).unwrap_or_default();
        let _ = std::fs::remove_file(&f);
        String::from_utf8_lossy(&bytes).into_owned()
    });
    Ok((status.code(), out + &err))
}
