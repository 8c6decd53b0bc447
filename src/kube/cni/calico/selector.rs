//! The part of Calico's selector language that IPPools use: labels of a node or namespace.
//!
//! `all()`, `global()`, `has(k)`, `k == 'v'`, `k != 'v'`, `k in {...}`, `k not in {...}`, `!`, `&&`, `||` and
//! parentheses (libcalico-go lib/selector/parser). Anything else is an error, never a guess.

use std::collections::BTreeMap;

/// Whether the labels match; `Err` says at which byte the selector is not understood.
pub fn matches(selector: &str, labels: &BTreeMap<String, String>) -> Result<bool, usize> {
    if selector.trim().is_empty() {
        return Ok(true);
    }
    let mut p = Parser {
        text: selector,
        at: 0,
        labels,
        depth: 0,
    };
    let v = p.or()?;
    p.space();
    if p.at == selector.len() {
        Ok(v)
    } else {
        Err(p.at)
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    labels: &'a BTreeMap<String, String>,
    depth: u32,
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or("")
    }

    fn space(&mut self) {
        let r = self.rest();
        self.at += r.len() - r.trim_start().len();
    }

    fn eat(&mut self, word: &str) -> bool {
        self.space();
        let hit = self.rest().starts_with(word);
        if hit {
            self.at += word.len();
        }
        hit
    }

    fn or(&mut self) -> Result<bool, usize> {
        let mut v = self.and()?;
        while self.eat("||") {
            v |= self.and()?;
        }
        Ok(v)
    }

    fn and(&mut self) -> Result<bool, usize> {
        let mut v = self.term()?;
        while self.eat("&&") {
            v &= self.term()?;
        }
        Ok(v)
    }

    fn term(&mut self) -> Result<bool, usize> {
        self.depth += 1;
        if self.depth > 64 {
            return Err(self.at);
        }
        let v = self.operand();
        self.depth -= 1;
        v
    }

    fn operand(&mut self) -> Result<bool, usize> {
        if self.eat("!") {
            return self.term().map(|v| !v);
        }
        if self.eat("(") {
            let v = self.or()?;
            return if self.eat(")") { Ok(v) } else { Err(self.at) };
        }
        if self.eat("all()") || self.eat("global()") {
            return Ok(true);
        }
        if self.eat("has(") {
            let k = self.label()?;
            return if self.eat(")") {
                Ok(self.labels.contains_key(k))
            } else {
                Err(self.at)
            };
        }
        let key = self.label()?;
        let value = self.labels.get(key).map(String::as_str);
        if self.eat("==") {
            let want = self.quoted()?;
            return Ok(value == Some(want));
        }
        if self.eat("!=") {
            let want = self.quoted()?;
            return Ok(value != Some(want));
        }
        let negate = self.eat("not");
        if !self.eat("in") || !self.eat("{") {
            return Err(self.at);
        }
        let mut hit = false;
        if !self.eat("}") {
            loop {
                let want = self.quoted()?;
                hit |= value == Some(want);
                if self.eat("}") {
                    break;
                }
                if !self.eat(",") {
                    return Err(self.at);
                }
            }
        }
        Ok(hit != negate)
    }

    fn label(&mut self) -> Result<&'a str, usize> {
        self.space();
        let r = self.rest();
        let ok = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '/' | '-');
        let n = r.find(|c| !ok(c)).unwrap_or(r.len());
        self.at += n;
        r.get(..n).filter(|k| !k.is_empty()).ok_or(self.at)
    }

    fn quoted(&mut self) -> Result<&'a str, usize> {
        self.space();
        let r = self.rest();
        let q = r
            .chars()
            .next()
            .filter(|c| matches!(c, '\'' | '"'))
            .ok_or(self.at)?;
        let body = r.get(1..).unwrap_or("");
        let n = body.find(q).ok_or(self.at)?;
        self.at += n + 2;
        body.get(..n).ok_or(self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selects() {
        let labels = BTreeMap::from([
            ("zone".to_owned(), "a".to_owned()),
            ("k8s.io/x".to_owned(), String::new()),
        ]);
        for (s, want) in [
            ("all()", Ok(true)),
            ("zone == 'a' && !has(foo)", Ok(true)),
            ("zone in {'b', \"c\"} || has(k8s.io/x)", Ok(true)),
            ("zone not in {'a'}", Ok(false)),
            ("!(zone != 'a')", Ok(true)),
            ("zone starts with 'a'", Err(5)),
            ("zone == a", Err(8)),
        ] {
            assert_eq!(matches(s, &labels), want, "{s}");
        }
    }
}
