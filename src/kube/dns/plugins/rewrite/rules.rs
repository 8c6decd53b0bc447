//! The words of `rewrite` rules: `plugin/rewrite/name.go`, `ttl.go`, `rcode.go`, `type.go`, `class.go`.

use hickory_proto::rr::{DNSClass, RecordType};

use super::super::super::config::Reader;
use super::super::super::corefile::{Line, Word};
use super::super::log;
use super::super::template::pattern;
use super::{Change, Match, Response};

/// What a rule does.
#[derive(Clone, Debug)]
pub(super) enum What {
    Name {
        from: Match,
        to: String,
        /// Answers are mapped back by themselves.
        auto: bool,
        answers: Vec<Response>,
    },
    Type(RecordType, RecordType),
    Class(DNSClass, DNSClass),
    /// For names that fit, something is done to the reply.
    Response(Match, Response),
    Always(Response),
    Edns,
}

/// One rule.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub stop: bool,
    pub what: What,
}

/// Reads one rule; what is wrong is reported at its word.
pub(super) fn read(line: &Line, words: &[Word], reader: &mut Reader<'_>) -> Option<Rule> {
    let (stop, words) = match words
        .first()
        .map(|w| w.text.to_ascii_lowercase())
        .as_deref()
    {
        Some("continue") => (false, words.get(1..)?),
        Some("stop") => (true, words.get(1..)?),
        _ => (true, words),
    };
    let Some((field, args)) = words.split_first() else {
        reader.error(
            &line.name,
            "rewrite needs a field",
            "write rewrite name FROM TO",
        );
        return None;
    };
    let what = match field.text.to_ascii_lowercase().as_str() {
        "name" => name(field, args, reader),
        "type" => match args {
            [from, to] => kind(from, reader)
                .zip(kind(to, reader))
                .map(|(f, t)| What::Type(f, t)),
            _ => wrong(field, "type takes two record types", reader),
        },
        "class" => match args {
            [from, to] => class(from, reader)
                .zip(class(to, reader))
                .map(|(f, t)| What::Class(f, t)),
            _ => wrong(field, "class takes two classes", reader),
        },
        "ttl" => {
            let (from, rest) = matched(field, args, 1, reader)?;
            let (least, most) = ttl(rest.first()?, reader)?;
            Some(What::Response(from, Response::Ttl(least, most)))
        }
        "rcode" => {
            let (from, rest) = matched(field, args, 2, reader)?;
            let mut codes = rest.iter().map(|word| {
                let number = word.text.parse::<u16>().ok().map(Into::into);
                number.or_else(|| log::rcode(&word.text))
            });
            match (codes.next().flatten(), codes.next().flatten()) {
                (Some(old), Some(new)) => Some(What::Response(from, Response::Rcode(old, new))),
                _ => wrong(field, "rcode takes two response codes", reader),
            }
        }
        "cname" => {
            let (from, rest) = matched(field, args, 1, reader)?;
            let to = match from {
                Match::Exact(_) => absolute(&rest.first()?.text),
                _ => rest.first()?.text.to_ascii_lowercase(),
            };
            Some(What::Always(Response::Cname(from, to)))
        }
        "edns0" => {
            reader.warning(
                field,
                "EDNS options are not carried: the rule only adds an OPT record",
                "",
            );
            Some(What::Edns)
        }
        _ => wrong(field, "rewrite has no such field", reader),
    };
    Some(Rule { stop, what: what? })
}

fn wrong(at: &Word, message: &str, reader: &mut Reader<'_>) -> Option<What> {
    reader.error(at, message, "fields: name type class ttl rcode cname edns0");
    None
}

/// `plugin.Name.Normalize`: lower case and a final dot.
fn absolute(text: &str) -> String {
    let mut out = text.to_ascii_lowercase();
    if !out.ends_with('.') {
        out.push('.');
    }
    out
}

fn name(field: &Word, args: &[Word], reader: &mut Reader<'_>) -> Option<What> {
    let (how, from, to, rest) = match args {
        [from, to] => ("exact".to_owned(), from, to, &[][..]),
        [how, from, to, rest @ ..] => (how.text.to_ascii_lowercase(), from, to, rest),
        _ => {
            return wrong(
                field,
                "name takes [exact|prefix|suffix|substring|regex] FROM TO",
                reader,
            );
        }
    };
    let text = absolute(&from.text);
    let (from, auto) = match how.as_str() {
        "exact" => (Match::Exact(text), true),
        "prefix" => (Match::Prefix(text), false),
        "suffix" => (Match::Suffix(text), false),
        "substring" => (Match::Substring(text), false),
        "regex" => (Match::Regex(pattern(from, reader)?), false),
        _ => {
            return wrong(
                field,
                "name matches exact, prefix, suffix, substring or regex",
                reader,
            );
        }
    };
    let (asked, answers) = answers(rest, reader)?;
    Some(What::Name {
        from,
        to: absolute(&to.text),
        auto: auto || asked,
        answers,
    })
}

/// `answer auto`, `answer [name] FROM TO`, `answer value FROM TO`, any number of them.
fn answers(words: &[Word], reader: &mut Reader<'_>) -> Option<(bool, Vec<Response>)> {
    let (mut auto, mut out, mut rest) = (false, Vec::new(), words);
    while let Some((first, after)) = rest.split_first() {
        if first.text != "answer" && rest.len() == words.len() {
            reader.error(
                first,
                "`answer` was expected here",
                "write answer auto, answer name A B, answer value A B",
            );
            return None;
        }
        let body = if first.text == "answer" { after } else { rest };
        rest = match body {
            [word, after @ ..] if word.text == "auto" => {
                auto = true;
                after
            }
            [word, from, to, after @ ..] if matches!(word.text.as_str(), "name" | "value") => {
                let change = Change::Regex(pattern(from, reader)?, absolute(&to.text));
                out.push(if word.text == "name" {
                    Response::Names(change)
                } else {
                    Response::Values(change)
                });
                after
            }
            _ => {
                reader.error(
                    first,
                    "this answer rule is not complete",
                    "write answer auto, or answer name FROM TO",
                );
                return None;
            }
        };
    }
    Some((auto, out))
}

/// `[exact|prefix|suffix|substring|regex] NAME` before `more` further words.
fn matched<'a>(
    field: &Word,
    args: &'a [Word],
    more: usize,
    reader: &mut Reader<'_>,
) -> Option<(Match, &'a [Word])> {
    if args.len() == more + 1 {
        let (first, rest) = args.split_first()?;
        return Some((Match::Exact(absolute(&first.text)), rest));
    }
    let [how, from, rest @ ..] = args else {
        wrong(field, "too few words", reader);
        return None;
    };
    let lower = from.text.to_ascii_lowercase();
    let found = match how.text.to_ascii_lowercase().as_str() {
        "exact" => Match::Exact(absolute(&lower)),
        "prefix" => Match::Prefix(lower),
        "suffix" => Match::Suffix(absolute(&lower)),
        "substring" => Match::Substring(lower),
        "regex" => Match::Regex(pattern(from, reader)?),
        _ => {
            wrong(
                how,
                "exact, prefix, suffix, substring or regex was expected",
                reader,
            );
            return None;
        }
    };
    (rest.len() == more).then_some((found, rest))
}

fn kind(word: &Word, reader: &mut Reader<'_>) -> Option<RecordType> {
    let kind = super::super::super::text::kind(&word.text);
    if kind.is_none() {
        reader.error(word, "this is no record type", "write A, AAAA, ANY ...");
    }
    kind
}

fn class(word: &Word, reader: &mut Reader<'_>) -> Option<DNSClass> {
    match word.text.to_ascii_uppercase().as_str() {
        "IN" => Some(DNSClass::IN),
        "CH" => Some(DNSClass::CH),
        "HS" => Some(DNSClass::HS),
        "ANY" => Some(DNSClass::ANY),
        _ => {
            reader.error(word, "this is no class", "write IN, CH, HS or ANY");
            None
        }
    }
}

/// `N`, `A-B`, `-B` or `A-`.
fn ttl(word: &Word, reader: &mut Reader<'_>) -> Option<(u32, u32)> {
    let read = |text: &str, default: u32| {
        if text.is_empty() {
            Some(default)
        } else {
            text.parse().ok()
        }
    };
    let found = match word.text.split_once('-') {
        None => word.text.parse().ok().map(|n| (n, n)),
        Some((from, to)) => read(from, 0).zip(read(to, u32::MAX >> 1)),
    };
    if found.is_none_or(|(from, to)| from > to) {
        reader.error(word, "this is no TTL", "write 30, 30-60, -60 or 30-");
        return None;
    }
    found
}

/// Only for patterns made here.
#[cfg(test)]
fn regex(text: &str) -> regex_lite::Regex {
    regex_lite::Regex::new(text).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_change_as_in_coredns() {
        let text = |m: Match, name: &str, to: &str| m.rewrite(name, to);
        assert_eq!(
            text(
                Match::Suffix(absolute(".corp.test")),
                "a.corp.test.",
                ".shop."
            )
            .as_deref(),
            Some("a.shop.")
        );
        // The final dot of a normalised prefix keeps it from ever fitting inside a label.
        assert_eq!(
            text(Match::Prefix(absolute("dev-")), "dev-a.test.", "a."),
            None
        );
        let all = Match::Regex(regex(r"(.*)\.(my)\.test"));
        assert_eq!(
            text(all, "cart.my.test.", "{1}.{2}.svc.").as_deref(),
            Some("cart.my.svc.")
        );
        let change = Change::Remap("b.".into(), "a.".into());
        assert_eq!(change.text("x.b.").as_deref(), Some("x.a."));
        assert_eq!(change.text("xb."), None);
    }
}
