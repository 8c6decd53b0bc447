//! The options after an element: `timeout 5 comment "x" nomatch` ...
//!
//! libipset's `add` argument tables. Does not check them against the set (see `store::check_ext`).
//! Invariant: words
//! that are not known are kept together, as they stood.

use std::sync::Arc;

use super::addr;
use super::element::{ExtIn, SkbInfo};
use super::header::{TIMEOUT_MAX, bare, quoted};
use super::kind::{Kind, Method};
use super::member::Place;
use super::wrong::Wrong;

/// IPSET_MAX_COMMENT_SIZE.
const COMMENT_MAX: usize = 255;

/// What stood after an element.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Options {
    pub(super) ext: ExtIn,
    pub(super) place: Option<Place>,
    /// Places of words that are not known.
    pub(super) unknown: Vec<usize>,
}

const NAMES: &[(&str, usize)] = &[
    ("timeout", 1),
    ("packets", 1),
    ("bytes", 1),
    ("comment", 1),
    ("skbmark", 1),
    ("skbprio", 1),
    ("skbqueue", 1),
    ("nomatch", 0),
    ("wildcard", 0),
    ("before", 1),
    ("after", 1),
];

/// Reads them; `base` is the first one's place in the command.
pub(super) fn read(kind: Kind, words: &[&str], base: usize) -> Result<Options, Wrong> {
    let mut out = Options::default();
    let mut at = 0;
    let mut kept: Vec<String> = Vec::new();
    let mut seen: Vec<&str> = Vec::new();
    while let Some(word) = words.get(at) {
        let place = base + at;
        at += 1;
        let Some((name, values)) = NAMES.iter().find(|n| n.0 == bare(word)) else {
            out.unknown.push(place);
            let is_name = |w: &&&str| NAMES.iter().any(|n| n.0 == bare(w));
            let rest = words.get(at..).unwrap_or_default();
            let more = rest.iter().take_while(|w| !is_name(w)).count();
            let all = words.get(at - 1..at + more).unwrap_or_default();
            kept.extend(all.iter().map(|w| quoted(w)));
            at += more;
            continue;
        };
        let value = match (values, words.get(at)) {
            (0, _) => "",
            (_, Some(value)) => value,
            (_, None) => return Err(Wrong::expected(place, format!("a value after `{name}`"))),
        };
        at += values;
        if *values > 0 && seen.contains(name) {
            return Err(Wrong::expected(place, format!("`{name}` once")));
        }
        seen.push(name);
        let allowed = match *name {
            "nomatch" => kind.has_nomatch(),
            "wildcard" => kind == Kind::HashNetIface,
            "before" | "after" => kind.method() == Method::List,
            _ => true,
        };
        if !allowed {
            let what = format!("an option of {}; it has no `{name}`", kind.name());
            return Err(Wrong::expected(place, what));
        }
        one(&mut out, name, value).map_err(|what| Wrong::expected(place + values, what))?;
    }
    if !kept.is_empty() {
        out.ext.unknown = Some(kept.join(" ").into());
    }
    Ok(out)
}

fn one(out: &mut Options, name: &str, value: &str) -> Result<(), String> {
    let ext = &mut out.ext;
    match name {
        "timeout" => {
            let n = addr::uint(value).and_then(|n| u32::try_from(n).ok());
            let n = n.filter(|n| *n <= TIMEOUT_MAX);
            ext.timeout = Some(n.ok_or_else(|| format!("seconds from 0 to {TIMEOUT_MAX}"))?);
        }
        "packets" => ext.packets = Some(addr::uint(value).ok_or("a number of packets")?),
        "bytes" => ext.bytes = Some(addr::uint(value).ok_or("a number of bytes")?),
        "comment" => {
            if value.len() > COMMENT_MAX || value.contains('"') {
                return Err(format!(
                    "a comment of up to {COMMENT_MAX} bytes without `\"`"
                ));
            }
            ext.comment = Some(value.into());
        }
        "skbmark" => (ext.skb.mark, ext.skb.mask) = skbmark(value)?,
        "skbprio" => ext.skb.prio = skbprio(value)?,
        "skbqueue" => {
            let n = addr::uint(value).and_then(|n| u16::try_from(n).ok());
            ext.skb = SkbInfo {
                queue: n.ok_or("a queue from 0 to 65535")?,
                ..ext.skb
            };
        }
        "nomatch" => ext.nomatch = true,
        "wildcard" => ext.wildcard = true,
        "before" => out.place = Some(Place::Before(Arc::from(value))),
        _ => out.place = Some(Place::After(Arc::from(value))),
    }
    Ok(())
}

fn hex(text: &str, digits: usize) -> Option<u32> {
    let ok =
        !text.is_empty() && text.len() <= digits && text.chars().all(|c| c.is_ascii_hexdigit());
    ok.then(|| u32::from_str_radix(text, 16).ok()).flatten()
}

/// `0xMARK` or `0xMARK/0xMASK` (libipset parse.c `ipset_parse_skbmark`).
fn skbmark(text: &str) -> Result<(u32, u32), String> {
    let one = |t: &str| hex(t.strip_prefix("0x")?, 8);
    let read = match text.split_once('/') {
        Some((mark, mask)) => one(mark).zip(one(mask)),
        None => one(text).map(|m| (m, u32::MAX)),
    };
    read.ok_or_else(|| "a mark 0xMARK or 0xMARK/0xMASK".to_owned())
}

/// `MAJOR:MINOR`, hexadecimal (`ipset_parse_skbprio`).
fn skbprio(text: &str) -> Result<u32, String> {
    let read = text
        .split_once(':')
        .and_then(|(a, b)| hex(a, 4).zip(hex(b, 4)));
    let (major, minor) = read.ok_or_else(|| "a class MAJOR:MINOR, hexadecimal".to_owned())?;
    Ok(major << 16 | minor)
}
