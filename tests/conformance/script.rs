//! The few lines of shell in which scenarios change rules: commands one after the other, and a name found with
//! awk.
//!
//! Understood: `CMD; CMD; ...`, `NAME=$(CMD | awk '/A/ && /B/ {print $NF; exit}')` with patterns that are plain
//! text, and `$NAME` as a word of a later command. Anything else is refused.

/// Runs a script; `run` carries out one command and gives what it prints.
pub fn run(
    script: &str,
    run: &mut dyn FnMut(&str) -> Result<String, String>,
) -> Result<(), String> {
    let mut names: Vec<(String, String)> = Vec::new();
    for part in parts(script) {
        let part = part.trim();
        if let Some((name, rest)) = part.split_once("=$(") {
            let inner = rest
                .strip_suffix(')')
                .ok_or(format!("not understood: {part}"))?;
            let (command, filter) = inner
                .split_once('|')
                .ok_or(format!("not understood: {part}"))?;
            let printed = run(command.trim())?;
            names.push((format!("${name}"), awk(filter.trim(), &printed)?));
            continue;
        }
        let words: Vec<&str> = part
            .split(' ')
            .map(|w| {
                names
                    .iter()
                    .find(|(n, _)| n == w)
                    .map_or(w, |(_, v)| v.as_str())
            })
            .collect();
        if words.iter().any(|w| w.starts_with('$')) {
            return Err(format!("not understood: {part}"));
        }
        run(&words.join(" "))?;
    }
    Ok(())
}

/// The commands, split at semicolons that stand in no quotes and no parentheses.
pub fn parts(script: &str) -> Vec<&str> {
    let (mut out, mut from, mut quoted, mut deep) = (Vec::new(), 0, false, 0);
    for (i, c) in script.char_indices() {
        match c {
            '\'' => quoted = !quoted,
            '(' if !quoted => deep += 1,
            ')' if !quoted => deep -= 1,
            ';' if !quoted && deep == 0 => {
                out.push(&script[from..i]);
                from = i + 1;
            }
            _ => {}
        }
    }
    out.push(&script[from..]);
    out.retain(|p| !p.trim().is_empty());
    out
}

/// The last word of the first line that has all the patterns.
fn awk(filter: &str, text: &str) -> Result<String, String> {
    let bad = || format!("not understood: {filter}");
    let program = filter
        .strip_prefix("awk '")
        .and_then(|f| f.strip_suffix('\''))
        .ok_or_else(bad)?;
    let (patterns, action) = program.split_once('{').ok_or_else(bad)?;
    if action.trim() != "print $NF; exit}" {
        return Err(bad());
    }
    let pattern = |p: &str| -> Option<String> {
        let p = p.trim().strip_prefix('/')?.strip_suffix('/')?;
        Some(p.replace("\\/", "/"))
    };
    let patterns: Option<Vec<String>> = patterns.split("&&").map(pattern).collect();
    let patterns = patterns.ok_or_else(bad)?;
    let hit = text
        .lines()
        .find(|l| patterns.iter().all(|p| l.contains(p)));
    let word = hit.and_then(|l| l.split_whitespace().next_back());
    word.map(str::to_owned)
        .ok_or(format!("{filter}: no such line"))
}
