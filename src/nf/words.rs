//! A line cut into words as iptables-restore cuts it, and a word quoted as iptables-save quotes it.
//!
//! Only double quotes quote, a backslash escapes only inside them, and a closing quote ends the word
//! (iptables: xshared.c `add_param_to_argv`, xtables.c `xtables_save_string`). Invariant:
//! `split(quote(s)) == [s]`.

/// One word and where it began.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Word {
    /// Its text, quotes taken off.
    pub text: String,
    /// 0-based byte offset in the line.
    pub at: usize,
    /// Offset after its last byte, quotes included.
    pub end: usize,
}

/// Cuts `line` from byte `from` on; the error is the offset of a quote that is never closed.
pub(super) fn split(line: &str, from: usize) -> Result<Vec<Word>, usize> {
    let (mut words, mut word, mut start) = (Vec::new(), String::new(), None);
    let (mut open, mut escaped) = (None, false);
    for (i, c) in line.char_indices().skip_while(|(i, _)| *i < from) {
        match (open, c) {
            (Some(_), _) if escaped => {
                word.push(c);
                escaped = false;
            }
            (Some(_), '\\') => escaped = true,
            (Some(_), '"') => {
                open = None;
                let (text, at) = (core::mem::take(&mut word), start.take().unwrap_or(i));
                let end = i + 1;
                words.push(Word { text, at, end });
            }
            (None, '"') => {
                open = Some(i);
                start.get_or_insert(i);
            }
            (None, ' ' | '\t') => {
                if let Some(at) = start.take() {
                    let text = core::mem::take(&mut word);
                    words.push(Word { text, at, end: i });
                }
            }
            _ => {
                start.get_or_insert(i);
                word.push(c);
            }
        }
    }
    if let Some(at) = open {
        return Err(at);
    }
    if let Some(at) = start {
        let end = line.len();
        words.push(Word {
            text: word,
            at,
            end,
        });
    }
    Ok(words)
}

/// Appends `s`, in quotes if iptables-save would.
pub(super) fn quote(s: &str, out: &mut String) {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    if !s.is_empty() && s.bytes().all(plain) {
        out.push_str(s);
    } else {
        always_quote(s, out);
    }
}

/// Appends `s` in quotes.
pub(super) fn always_quote(s: &str, out: &mut String) {
    out.push('"');
    for c in s.chars() {
        if matches!(c, '"' | '\\' | '\'') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(line: &str) -> Vec<String> {
        split(line, 0)
            .unwrap()
            .into_iter()
            .map(|w| w.text)
            .collect()
    }

    #[test]
    fn quotes_are_restores_own() {
        assert_eq!(
            texts(r#"-A  X --comment "a \"b\" c""#),
            ["-A", "X", "--comment", "a \"b\" c"]
        );
        assert_eq!(texts(r#"a"b c"d "" e\f"#), ["ab c", "d", "", "e\\f"]);
        assert_eq!(split("a \"b", 0), Err(2));
    }

    #[test]
    fn a_quoted_word_is_read_back() {
        for s in ["", "a b", "it's", "\\", "ü\"", "plain_-9"] {
            let mut out = String::new();
            quote(s, &mut out);
            assert_eq!(texts(&out), [s], "{out}");
        }
    }
}
