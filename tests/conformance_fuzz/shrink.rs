//! Makes a round that differs smaller while it still does: fewer frames, fewer rules, no sets.
//!
//! Each try is played anew by the kernel, so what is left is a true recording.

use super::round::Round;

/// Most tries for one difference.
const TRIES: usize = 300;

/// Shrinks `round`; `differs` plays a candidate and says whether it still does.
pub fn shrink(round: Round, differs: &mut dyn FnMut(&mut Round) -> bool) -> Round {
    let mut s = Shrinker {
        best: round,
        tries: 0,
        differs,
    };
    loop {
        let before = s.tries;
        let frames = s.frames();
        let rules = s.rules();
        let rules = s.nft() || rules;
        let sets = s.settings();
        if !(frames || rules || sets) || s.tries >= TRIES || s.tries == before {
            return s.best;
        }
    }
}

struct Shrinker<'f> {
    best: Round,
    tries: usize,
    differs: &'f mut dyn FnMut(&mut Round) -> bool,
}

impl Shrinker<'_> {
    fn attempt(&mut self, mut candidate: Round) -> bool {
        self.tries += 1;
        if self.tries > TRIES || !(self.differs)(&mut candidate) {
            return false;
        }
        self.best = candidate;
        true
    }

    fn frames(&mut self) -> bool {
        let mut any = false;
        let mut size = (self.best.sent.len() / 2).max(1);
        loop {
            // From the end: the last frames hang on the first ones.
            let mut at = self.best.sent.len();
            while at > 0 && self.best.sent.len() > 1 {
                at = at.saturating_sub(size);
                let mut c = self.best.clone();
                let end = (at + size).min(c.sent.len());
                c.sent.drain(at..end);
                any |= !c.sent.is_empty() && self.attempt(c);
            }
            if size == 1 {
                return any;
            }
            size /= 2;
        }
    }

    /// Lines of the native rules, from the end: what is asked stands before who asks.
    fn nft(&mut self) -> bool {
        let mut any = false;
        if !self.best.nft.is_empty() && !self.best.rules.is_empty() {
            let mut c = self.best.clone();
            c.nft.clear();
            any |= self.attempt(c);
        }
        let lines: Vec<String> = self.best.nft.lines().map(str::to_owned).collect();
        for l in lines.iter().rev() {
            let mut c = self.best.clone();
            c.nft = without(&c.nft, l);
            any |= !c.nft.is_empty() && self.attempt(c);
        }
        any
    }

    fn rules(&mut self) -> bool {
        let mut any = false;
        // Whole tables first.
        let tables: Vec<String> = self
            .best
            .rules
            .split_inclusive("COMMIT\n")
            .map(str::to_owned)
            .collect();
        for t in tables.iter().filter(|_| tables.len() > 1) {
            let mut c = self.best.clone();
            c.rules = c.rules.replacen(t.as_str(), "", 1);
            any |= !(c.rules.is_empty() && c.nft.is_empty()) && self.attempt(c);
        }
        let lines: Vec<String> = self.best.rules.lines().map(str::to_owned).collect();
        for l in lines
            .iter()
            .rev()
            .filter(|l| l.starts_with("-A") || l.starts_with(":U"))
        {
            let mut c = self.best.clone();
            c.rules = without(&c.rules, l);
            any |= self.attempt(c);
        }
        any
    }

    fn settings(&mut self) -> bool {
        let mut any = false;
        if !self.best.sets.is_empty() {
            let mut c = self.best.clone();
            c.sets.clear();
            any |= self.attempt(c);
        }
        for i in (0..self.best.sysctl.len()).rev() {
            let mut c = self.best.clone();
            c.sysctl.remove(i);
            any |= self.attempt(c);
        }
        any
    }
}

/// The text without the last line equal to `line`.
fn without(text: &str, line: &str) -> String {
    let mut lines: Vec<&str> = text.lines().collect();
    if let Some(i) = lines.iter().rposition(|l| *l == line) {
        lines.remove(i);
    }
    lines.iter().map(|l| format!("{l}\n")).collect()
}
