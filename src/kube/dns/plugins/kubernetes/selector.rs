//! Label selectors in text: `a=b,c!=d,e in (f,g),h notin (i),j,!k` (apimachinery `labels/selector.go`).

use super::super::super::cluster::Labels;

/// One requirement.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Need {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Has(String),
    HasNot(String),
}

/// All requirements; an empty selector fits everything.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Selector(Vec<Need>);

impl Selector {
    /// Reads a selector; none for what is none.
    pub fn parse(text: &str) -> Option<Selector> {
        let (mut needs, mut depth, mut part) = (Vec::new(), 0_u32, String::new());
        for c in text.chars().chain([',']) {
            match c {
                '(' => depth += 1,
                ')' => depth = depth.checked_sub(1)?,
                ',' if depth == 0 => {
                    needs.push(need(part.trim())?);
                    part.clear();
                    continue;
                }
                _ => {}
            }
            part.push(c);
        }
        (depth == 0).then_some(Selector(needs))
    }

    /// Whether labels fit.
    pub fn fits(&self, labels: &Labels) -> bool {
        self.0.iter().all(|need| match need {
            Need::In(key, values) => labels.get(key).is_some_and(|v| values.contains(v)),
            Need::NotIn(key, values) => labels.get(key).is_none_or(|v| !values.contains(v)),
            Need::Has(key) => labels.contains_key(key),
            Need::HasNot(key) => !labels.contains_key(key),
        })
    }
}

fn word(text: &str) -> Option<String> {
    let text = text.trim();
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    text.chars().all(fits).then(|| text.to_owned())
}

fn key(text: &str) -> Option<String> {
    word(text).filter(|k| !k.is_empty())
}

fn need(text: &str) -> Option<Need> {
    if let Some(rest) = text.strip_prefix('!') {
        return key(rest).map(Need::HasNot);
    }
    if let Some((left, values)) = text.split_once('(') {
        let values = values
            .strip_suffix(')')?
            .split(',')
            .map(word)
            .collect::<Option<Vec<_>>>()?;
        let mut words = left.split_whitespace();
        let (name, how) = (key(words.next()?)?, words.next()?);
        return match (how, words.next()) {
            ("in", None) => Some(Need::In(name, values)),
            ("notin", None) => Some(Need::NotIn(name, values)),
            _ => None,
        };
    }
    if let Some((name, value)) = text.split_once("!=") {
        return Some(Need::NotIn(key(name)?, vec![word(value)?]));
    }
    if let Some((name, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        return Some(Need::In(key(name)?, vec![word(value)?]));
    }
    key(text).map(Need::Has)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors() {
        let labels: Labels = [("app".into(), "web".into()), ("tier".into(), "gold".into())].into();
        let fits = |text: &str| Selector::parse(text).map(|s| s.fits(&labels));
        for (text, expected) in [
            ("app=web", true),
            ("app==web, tier in (gold, silver)", true),
            ("app!=web", false),
            ("other!=x", true),
            ("tier notin (gold)", false),
            ("app", true),
            ("!app", false),
            ("!x,app", true),
        ] {
            assert_eq!(fits(text), Some(expected), "{text}");
        }
        for bad in ["", "a in b", "a in (b", "a=b c", "=", "a of (b)"] {
            assert_eq!(fits(bad), None, "{bad}");
        }
    }
}
