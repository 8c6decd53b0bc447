//! A command line as people write it, cut into words as a shell cuts it.
//!
//! Quotes and backslashes are a shell's (POSIX.1-2017 section 2.2); nothing is expanded. Invariant: a line
//! that needs a shell for more than quotes and an input after `<<` is an error, not a guess.

use crate::nf::words::Word;

/// What a word became, or the offset at which the line cannot be understood and what was expected.
pub(in crate::nf) type Cut<T> = Result<T, (usize, &'static str)>;

/// A command and the input it is given by `<<END` or `<<<`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::nf) struct Shell {
    pub words: Vec<Word>,
    /// Its standard input and at which line of the command it begins, from 0.
    pub input: Option<(String, u32)>,
}

/// Cuts a command line, which may have the lines of a here-document below it.
pub(in crate::nf) fn cut(text: &str) -> Cut<Shell> {
    let (first, below) = text.split_once('\n').unwrap_or((text, ""));
    let Some((command, marker)) = unquoted(first, "<<") else {
        // Without a here-document, line ends in quotes belong to a word.
        return Ok(Shell {
            words: words(text)?,
            input: None,
        });
    };
    let at = command.len();
    if let Some(string) = marker.strip_prefix('<') {
        let all = text.get(at + 3..).unwrap_or(string);
        let one = words(all).map_err(|(i, e)| (at + 3 + i, e))?;
        return match one.as_slice() {
            [one] => Ok(Shell {
                words: words(command)?,
                input: Some((format!("{}\n", one.text), 0)),
            }),
            _ => Err((at, "one word after `<<<`")),
        };
    }
    let dash = marker.starts_with('-');
    let end = words(marker.trim_start_matches('-')).map_err(|(i, e)| (at + 2 + i, e))?;
    let [end] = end.as_slice() else {
        return Err((at, "one word after `<<`"));
    };
    let strip = |l: &'_ str| match dash {
        true => l.trim_start_matches('\t').to_owned(),
        false => l.to_owned(),
    };
    let mut input = String::new();
    for line in below.lines().map(strip) {
        // A block of YAML may have taken the last line end.
        if line == end.text {
            break;
        }
        input.push_str(&line);
        input.push('\n');
    }
    Ok(Shell {
        words: words(command)?,
        input: Some((input, 1)),
    })
}

/// Splits at `mark` where it stands outside of quotes.
fn unquoted<'a>(line: &'a str, mark: &str) -> Option<(&'a str, &'a str)> {
    let mut quote = None;
    for (i, c) in line.char_indices() {
        match quote {
            Some(q) if c == q => quote = None,
            Some(_) => {}
            None if c == '\'' || c == '"' => quote = Some(c),
            None if line.get(i..).is_some_and(|r| r.starts_with(mark)) => {
                return Some((line.get(..i)?, line.get(i + mark.len()..)?));
            }
            None => {}
        }
    }
    None
}

/// The words of one simple command.
pub(super) fn words(line: &str) -> Cut<Vec<Word>> {
    let (mut out, mut word, mut start) = (Vec::new(), String::new(), None);
    let mut quote: Option<(usize, char)> = None;
    let mut chars = line.char_indices();
    while let Some((i, c)) = chars.next() {
        match (quote, c) {
            (Some((_, q)), _) if c == q => quote = None,
            (Some((_, '"')), '\\') => match chars.next() {
                Some((_, n @ ('"' | '\\' | '$' | '`'))) => word.push(n),
                Some((_, '\n')) => {}
                Some((_, n)) => word.extend(['\\', n]),
                None => {}
            },
            (Some((_, '"')), '$' | '`') => return Err((i, "no expansion: write the value itself")),
            (Some(_), _) => word.push(c),
            (None, '\'' | '"') => {
                start.get_or_insert(i);
                quote = Some((i, c));
            }
            (None, '\\') => {
                start.get_or_insert(i);
                word.extend(chars.next().map(|(_, n)| n).filter(|n| *n != '\n'));
            }
            (None, '|' | '&' | ';' | '<' | '>' | '$' | '`' | '(' | ')') => {
                return Err((i, "one simple command"));
            }
            (None, _) if c.is_whitespace() => {
                if let Some(at) = start.take() {
                    let text = core::mem::take(&mut word);
                    out.push(Word { text, at, end: i });
                }
            }
            (None, _) => {
                start.get_or_insert(i);
                word.push(c);
            }
        }
    }
    if let Some((at, _)) = quote {
        return Err((at, "a closing quote"));
    }
    if let Some(at) = start {
        let end = line.len();
        out.push(Word {
            text: word,
            at,
            end,
        });
    }
    Ok(out)
}
