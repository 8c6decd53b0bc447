//! The runner's command line: `[--pinned|--all|--pin] [--list] [--kind K]... [-v] [NAME]...`.
//!
//! A NAME is a substring of `kind/name` or a glob with `*` and `?` over the whole of it (or of the name
//! alone). Options of the standard test harness that `cargo test` users pass are accepted and ignored.

use super::recordings::Kind;

/// What to do.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Args {
    /// Every recording and not only the pinned ones.
    pub all: bool,
    /// Write the names that pass to passing.txt, beside those that are there and still pass.
    pub pin: bool,
    /// Print names only.
    pub list: bool,
    /// Differing layers and traces, too.
    pub verbose: bool,
    /// Kinds; empty means all.
    pub kinds: Vec<Kind>,
    /// Names; empty means all.
    pub names: Vec<String>,
}

impl Args {
    /// Reads the arguments (without the program's name).
    pub fn parse(args: impl Iterator<Item = String>) -> Result<Args, String> {
        let mut out = Args::default();
        let mut args = args.peekable();
        while let Some(a) = args.next() {
            match a.as_str() {
                "--all" => out.all = true,
                "--pinned" => out.all = false,
                "--pin" => (out.all, out.pin) = (true, true),
                "--list" => out.list = true,
                "-v" | "--verbose" => out.verbose = true,
                "--kind" => out.kinds.push(kind(args.next().as_deref())?),
                "--test-threads" | "--format" | "--color" | "--skip" => drop(args.next()),
                "--nocapture" | "--no-capture" | "--show-output" | "--exact" | "-q" | "--quiet" => {
                }
                _ => match a.strip_prefix("--kind=") {
                    Some(k) => out.kinds.push(kind(Some(k))?),
                    None if a.starts_with('-') => {
                        return Err(format!(
                            "unknown option {a}; known: --all --pinned --pin --list --kind K -v NAME..."
                        ));
                    }
                    None => out.names.push(a),
                },
            }
        }
        Ok(out)
    }

    /// Whether a recording is asked for.
    pub fn selects(&self, kind: Kind, label: &str) -> bool {
        let short = label.split_once('/').map_or(label, |(_, n)| n);
        let named = |n: &String| {
            let pattern: Vec<char> = n.chars().collect();
            let glob = |s: &str| matches(&pattern, &s.chars().collect::<Vec<_>>());
            if n.contains(['*', '?']) {
                glob(label) || glob(short)
            } else {
                label.contains(n.as_str())
            }
        };
        (self.kinds.is_empty() || self.kinds.contains(&kind))
            && (self.names.is_empty() || self.names.iter().any(named))
    }
}

fn kind(name: Option<&str>) -> Result<Kind, String> {
    let found = Kind::ALL.into_iter().find(|k| Some(k.dir()) == name);
    found.ok_or_else(|| {
        format!(
            "--kind {}: one of captures, cni, ipvs",
            name.unwrap_or("(nothing)")
        )
    })
}

/// A glob of `*` and `?`, the whole string. Iterative: the last `*` is the only place to go back to.
fn matches(pattern: &[char], text: &[char]) -> bool {
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(c) if *c == '?' || *c == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((sp, st)) => {
                    star = Some((sp, st + 1));
                    p = sp + 1;
                    t = st + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p.min(pattern.len())..].iter().all(|c| *c == '*')
}
