//! Selectors as typed on a command line: `app=web,tier in (a,b),!legacy`, as kubectl takes them.
//!
//! apimachinery `pkg/labels/selector.go` (Parse): `=`, `==`, `!=`, `in`, `notin`, a key alone, `!key`. A
//! comparison by number (`<`, `>`) is refused. Invariant: what [`Selector`] prints, but for `{}`, reads back.

use core::str::FromStr;

use super::{Op, Requirement, Selector};

impl FromStr for Selector {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut requirements = Vec::new();
        for part in parts(text)? {
            requirements.push(requirement(part.trim())?);
        }
        if requirements.is_empty() {
            return Err("expected labels such as app=web,tier in (a,b),!legacy".into());
        }
        requirements.sort();
        requirements.dedup();
        Ok(Selector { requirements })
    }
}

/// The text between commas that are in no parentheses.
fn parts(text: &str) -> Result<Vec<&str>, String> {
    let (mut out, mut start, mut depth) = (Vec::new(), 0, 0_u32);
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' if depth == 0 => return Err(format!("\")\" without \"(\" in \"{text}\"")),
            ')' => depth -= 1,
            ',' if depth == 0 => {
                out.push(text.get(start..at).unwrap_or_default());
                start = at + 1;
            }
            _ => {}
        }
    }
    if depth > 0 {
        return Err(format!("\"(\" without \")\" in \"{text}\""));
    }
    out.push(text.get(start..).unwrap_or_default());
    Ok(out)
}

fn requirement(part: &str) -> Result<Requirement, String> {
    let made = |key: &str, op| {
        let key = key.trim();
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
        match !key.is_empty() && key.chars().all(good) {
            true => Ok(Requirement {
                key: key.to_owned(),
                op,
            }),
            false => Err(format!("expected a label in \"{part}\", found \"{key}\"")),
        }
    };
    if let Some(key) = part.strip_prefix('!') {
        return made(key, Op::DoesNotExist);
    }
    if let Some(head) = part.strip_suffix(')')
        && let Some((head, values)) = head.split_once('(')
    {
        let mut values: Vec<String> = values.split(',').map(|v| v.trim().to_owned()).collect();
        values.sort();
        values.dedup();
        let words: Vec<&str> = head.split_whitespace().collect();
        return match words.as_slice() {
            [key, "in"] => made(key, Op::In(values)),
            [key, "notin"] => made(key, Op::NotIn(values)),
            _ => Err(format!(
                "expected KEY in (...) or KEY notin (...), found \"{part}\""
            )),
        };
    }
    for (sign, equal) in [("!=", false), ("==", true), ("=", true)] {
        if let Some((key, value)) = part.split_once(sign) {
            let value = value.trim();
            if value.contains(['=', '!', '<', '>', ' ']) {
                return Err(format!(
                    "expected one value in \"{part}\", found \"{value}\""
                ));
            }
            let values = vec![value.to_owned()];
            return made(
                key,
                if equal {
                    Op::In(values)
                } else {
                    Op::NotIn(values)
                },
            );
        }
    }
    made(part, Op::Exists)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_as_kubectl_reads() {
        for text in [
            "app=web",
            "app!=web",
            "tier in (a,b)",
            "tier notin (a,b)",
            "app",
            "!app",
            "a.b/c=d,e in (f,g),!h",
        ] {
            let read: Selector = text.parse().expect(text);
            assert_eq!(read.to_string(), text);
        }
        let spaced: Selector = " b in ( y , x ) , a == 1 ".parse().expect("spaces");
        assert_eq!(spaced.to_string(), "a=1,b in (x,y)");
        for wrong in [
            "",
            "a=b=c",
            "a in (b",
            "a)",
            "=x",
            "a in b (c)",
            "a > 1",
            "a,,b",
        ] {
            assert!(wrong.parse::<Selector>().is_err(), "{wrong}");
        }
    }
}
