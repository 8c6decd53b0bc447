//! The result of one recording, and its line in the output.

use super::compare::{Difference, Tally};

/// What came of one recording.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Things compared: frames of a capture, results and states of a CNI recording.
    pub tally: Tally,
    /// What is counted: `frames`, or what else a kind of recording has.
    pub unit: &'static str,
    /// Other things compared: how many of what.
    pub tables: Vec<(usize, &'static str)>,
    /// What podpath lacks for this recording, each one a failure of its own.
    pub lacks: Vec<String>,
    /// Differences in words, for recordings that are no frames.
    pub differences: Vec<String>,
    /// Remarks that do not decide.
    pub notes: Vec<String>,
    /// The differing frame's way through podpath, for `-v`.
    pub trace: Vec<String>,
}

impl Verdict {
    /// A recording that could not be played.
    pub fn cannot(reason: impl Into<String>) -> Self {
        Verdict {
            lacks: vec![reason.into()],
            unit: "frames",
            ..Verdict::default()
        }
    }

    /// Whether it counts as passed.
    pub fn passed(&self) -> bool {
        self.lacks.is_empty()
            && self.differences.is_empty()
            && self.tally.compared > 0
            && self.tally.compared == self.tally.equal
    }

    /// Its line, and with `verbose` the differing layers, notes and the trace below it.
    pub fn render(&self, label: &str, verbose: bool) -> String {
        let word = if self.passed() { "ok  " } else { "FAIL" };
        let mut s = format!(
            "{word} {label}  {} compared {} equal {}",
            self.unit, self.tally.compared, self.tally.equal
        );
        for (count, what) in self.tables.iter().filter(|(n, _)| *n > 0) {
            s += &format!(", {what} {count}");
        }
        if !self.lacks.is_empty() {
            s += &format!("  {}", self.lacks.join("; "));
        }
        if let Some(d) = &self.tally.first {
            s += &difference(d, verbose);
        }
        let shown = if verbose { self.differences.len() } else { 1 };
        for (i, d) in self.differences.iter().take(shown).enumerate() {
            s += if i == 0 {
                "  first difference "
            } else {
                "\n       "
            };
            s += d;
        }
        if verbose {
            for line in self
                .notes
                .iter()
                .map(|n| format!("note: {n}"))
                .chain(self.trace.iter().cloned())
            {
                s += &format!("\n       {line}");
            }
        }
        s
    }
}

/// On the recording's line in short; with `verbose` below it, side by side.
fn difference(d: &Difference, verbose: bool) -> String {
    let line = |l: &Option<String>| l.clone().unwrap_or_else(|| "(no such frame)".to_owned());
    let (theirs, ours) = (line(&d.recorded), line(&d.emulated));
    let at = format!("  first difference {} #{}", d.interface, d.index);
    if !verbose {
        return format!("{at}: recorded {theirs} | emulated {ours}");
    }
    let mut s = format!("{at}\n       recorded {theirs}\n       emulated {ours}");
    for l in &d.layers {
        s += &format!("\n       {l}");
    }
    s
}
