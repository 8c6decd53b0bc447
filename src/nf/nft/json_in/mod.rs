//! `nft -j` JSON in: every object becomes the command that says the same, and is read as text is.
//!
//! So JSON and text cannot mean different things (libnftables-json(5)). Invariant: an object that
//! is not understood is
//! a finding that names it, and the others load.

mod expr;
mod stmt;

use expr::{expr, set_of};
use stmt::statement;

use core::fmt::Write as _;

use serde_json::{Map, Value as Json};

use super::json_place::{self, Placed};
use super::model::Ruleset;
use super::script::Script;
use crate::base::limits::NFT_DEPTH_MAX;
use crate::base::{Finding, Span};

type Text = Result<String, String>;

impl Ruleset {
    /// Reads what `nft -j list ruleset` prints.
    pub fn parse_json(file: &str, text: &str) -> (Ruleset, Vec<Finding>) {
        let mut set = Ruleset::default();
        let mut findings = Vec::new();
        let placed = json_place::objects(file, text);
        match serde_json::from_str::<Json>(text) {
            Err(e) => {
                let n = |v: usize| u32::try_from(v).unwrap_or(u32::MAX);
                let span = Span::new(file, n(e.line()), n(e.column()));
                let line = text.lines().nth(e.line().saturating_sub(1));
                let near: String = line.unwrap_or_default().chars().take(48).collect();
                let help = "the objects that are whole are read";
                findings.push(Finding::error(
                    span,
                    format!("expected JSON: {e}: `{near}`"),
                    help,
                ));
            }
            Ok(json) if json.get("nftables").is_none_or(|l| !l.is_array()) => {
                let text = "expected an object with the list `nftables`";
                let help = "use what `nft -j list ruleset` prints";
                let finding = Finding::error(Span::new(file, 1, 1), text, help);
                return (set, vec![finding]);
            }
            Ok(_) => {}
        }
        let (mut script, mut places) = (String::new(), Vec::new());
        let mut lines = 0;
        for (i, o) in placed.iter().enumerate() {
            // One that is cut short has been told as what ends the JSON.
            let Ok(json) = o.read() else { continue };
            match command(&json) {
                Ok(text) => {
                    places.push((lines + 1, i));
                    script.push_str(&text);
                    script.push('\n');
                    lines += text.matches('\n').count() + 1;
                }
                Err(e) => findings.push(at(&placed, i, &e)),
            }
        }
        let (script, wrong) = Script::parse(file, &script, &set);
        let place = |line: u32| {
            let n = places
                .partition_point(|p| p.0 <= line as usize)
                .saturating_sub(1);
            places.get(n).map_or(0, |p| p.1)
        };
        findings.extend(
            wrong
                .iter()
                .map(|f| at(&placed, place(f.span.line), &f.message)),
        );
        for c in script.commands {
            let line = c.span.line;
            if let Err(e) = set.command(c, true) {
                findings.push(at(&placed, place(line), &e));
            }
        }
        set.tables
            .values_mut()
            .flat_map(|t| t.chains.values_mut())
            .flat_map(|c| &mut c.rules)
            .for_each(|r| r.line = 0);
        (set, findings)
    }
}

fn at(placed: &[Placed<'_>], index: usize, message: &str) -> Finding {
    let object = placed.get(index);
    let excerpt = object.map_or(String::new(), Placed::excerpt);
    Finding::error(
        object.map_or_else(Span::default, |o| o.span.clone()),
        format!("nftables[{index}]: {message}, in {excerpt}"),
        "the other objects are read",
    )
}

fn command(o: &Json) -> Text {
    let o = o.get("add").unwrap_or(o);
    let (kind, body) = o
        .as_object()
        .and_then(|o| o.iter().next())
        .ok_or("expected an object")?;
    let Some(b) = body.as_object() else {
        return Err(format!("expected `{kind}` to be an object"));
    };
    let family = name(b, "family")?;
    let handle = b
        .get("handle")
        .and_then(Json::as_u64)
        .map_or(String::new(), |h| format!(" # handle {h}\n"));
    match kind.as_str() {
        "metainfo" => Ok(String::new()),
        "table" => {
            let mut text = format!(
                "add table {family} {} {{{handle} ",
                quote(&name(b, "name")?)
            );
            if let Some(f) = b.get("flags") {
                let _ = write!(text, "flags {}; ", words(f));
            }
            text.push_str(&comment(b));
            Ok(text + "}")
        }
        "rule" => rule(b, &family),
        "chain" => chain(b, &family, &handle),
        "set" | "map" => set(kind, b, &family, &handle),
        "element" => {
            let of = format!(
                "{family} {} {}",
                quote(&name(b, "table")?),
                quote(&name(b, "name")?)
            );
            Ok(format!(
                "add element {of} {}",
                set_of(b.get("elem").unwrap_or(&Json::Null), 0)?
            ))
        }
        "flowtable" => flowtable(b, &family, &handle),
        _ => object(kind, b, &family, &handle),
    }
}

fn name(b: &Map<String, Json>, key: &str) -> Text {
    match b.get(key) {
        Some(Json::String(s)) => Ok(s.clone()),
        _ if key == "family" => Ok(String::new()),
        _ => Err(format!("expected `{key}`")),
    }
}

/// A text in quotes; what cannot stand in quotes goes.
fn quote(s: &str) -> String {
    format!("\"{}\"", s.replace(['"', '\n'], " "))
}

fn comment(b: &Map<String, Json>) -> String {
    b.get("comment")
        .and_then(Json::as_str)
        .map_or(String::new(), |c| format!("comment {}; ", quote(c)))
}

/// A word or a list of words, with commas.
fn words(j: &Json) -> String {
    match j {
        Json::Array(a) => a.iter().map(words).collect::<Vec<_>>().join(","),
        Json::String(s) => s.replace(['"', '\n', '{', '}'], " "),
        other => other.to_string(),
    }
}

fn place(b: &Map<String, Json>, family: &str) -> Text {
    Ok(format!(
        "{family} {} {}",
        quote(&name(b, "table")?),
        quote(&name(b, "name")?)
    ))
}

fn rule(b: &Map<String, Json>, family: &str) -> Text {
    let mut text = format!(
        "add rule {family} {} {}",
        quote(&name(b, "table")?),
        quote(&name(b, "chain")?)
    );
    for s in b.get("expr").and_then(Json::as_array).into_iter().flatten() {
        let _ = write!(
            text,
            " {}",
            statement(s).unwrap_or_else(|_| s.to_string().replace('\n', " "))
        );
    }
    if let Some(c) = b.get("comment").and_then(Json::as_str) {
        let _ = write!(text, " comment {}", quote(c));
    }
    if let Some(h) = b.get("handle").and_then(Json::as_u64) {
        let _ = write!(text, " # handle {h}");
    }
    Ok(text)
}

fn devices(b: &Map<String, Json>, key: &str) -> String {
    match b.get(key) {
        None => String::new(),
        Some(Json::Array(a)) => {
            let list: Vec<_> = a.iter().filter_map(Json::as_str).map(quote).collect();
            format!(" devices = {{ {} }}", list.join(", "))
        }
        Some(one) => format!(" device {}", quote(&words(one))),
    }
}

fn chain(b: &Map<String, Json>, family: &str, handle: &str) -> Text {
    let mut text = format!("add chain {} {{{handle} {}", place(b, family)?, comment(b));
    if let Some(kind) = b.get("type").and_then(Json::as_str) {
        let prio = b.get("prio").and_then(Json::as_i64).unwrap_or(0);
        let device = devices(b, "dev");
        let _ = write!(
            text,
            "type {kind} hook {}{device} priority {prio}; ",
            name(b, "hook")?
        );
        if let Some(p) = b.get("policy").and_then(Json::as_str) {
            let _ = write!(text, "policy {p}; ");
        }
    }
    Ok(text + "}")
}

fn types(j: &Json) -> String {
    match j {
        Json::Array(a) => a.iter().map(types).collect::<Vec<_>>().join(" . "),
        Json::Object(_) => expr(j, 0).unwrap_or_else(|_| words(j)),
        other => words(other),
    }
}

fn set(kind: &str, b: &Map<String, Json>, family: &str, handle: &str) -> Text {
    let of = b.get("type").ok_or("expected `type`")?;
    let typed = |j: &Json| {
        if j.get("typeof").is_some() {
            "typeof"
        } else {
            "type"
        }
    };
    let inner = |j: &Json| types(j.get("typeof").unwrap_or(j));
    let mut text = format!(
        "add {kind} {} {{{handle} {} {}",
        place(b, family)?,
        typed(of),
        inner(of)
    );
    if let Some(m) = b.get("map") {
        let _ = write!(text, " : {}", inner(m));
    }
    text.push_str("; ");
    for key in ["flags", "size", "policy"] {
        if let Some(v) = b.get(key) {
            let _ = write!(text, "{key} {}; ", words(v));
        }
    }
    for key in ["timeout", "gc-interval"] {
        if let Some(v) = b.get(key).and_then(Json::as_u64) {
            let _ = write!(text, "{key} {v}s; ");
        }
    }
    if b.get("auto-merge") == Some(&Json::Bool(true)) {
        text.push_str("auto-merge; ");
    }
    for s in b.get("stmt").and_then(Json::as_array).into_iter().flatten() {
        let _ = write!(text, "{}; ", statement(s)?);
    }
    text.push_str(&comment(b));
    if let Some(e) = b.get("elem") {
        let _ = write!(text, "elements = {}; ", set_of(e, 0)?);
    }
    Ok(text + "}")
}

fn flowtable(b: &Map<String, Json>, family: &str, handle: &str) -> Text {
    let prio = b.get("prio").and_then(Json::as_i64).unwrap_or(0);
    let list = match b.get("dev") {
        Some(Json::String(s)) => quote(s),
        Some(Json::Array(a)) => a
            .iter()
            .filter_map(Json::as_str)
            .map(quote)
            .collect::<Vec<_>>()
            .join(", "),
        _ => String::new(),
    };
    let place = place(b, family)?;
    Ok(format!(
        "add flowtable {place} {{{handle} hook ingress priority {prio}; devices = {{ {list} }}; }}"
    ))
}

fn object(kind: &str, b: &Map<String, Json>, family: &str, handle: &str) -> Text {
    let number = |key: &str| b.get(key).and_then(Json::as_u64);
    let word = |key: &str| b.get(key).and_then(Json::as_str);
    let mut text = format!("add {kind} {} {{{handle} {}", place(b, family)?, comment(b));
    let _ = match kind {
        "counter" => {
            write!(
                text,
                "packets {} bytes {};",
                number("packets").unwrap_or(0),
                number("bytes").unwrap_or(0)
            )
        }
        "quota" => {
            let over = if b.get("inv") == Some(&Json::Bool(true)) {
                "over "
            } else {
                ""
            };
            let (n, used) = (number("bytes").unwrap_or(0), number("used").unwrap_or(0));
            write!(text, "{over}{n} bytes used {used} bytes;")
        }
        "limit" => write!(text, "{};", limit(b)?),
        "ct helper" | "ct timeout" | "ct expectation" => {
            if let Some(t) = word("type") {
                let _ = write!(text, "type {} ", quote(t));
            }
            let _ = write!(text, "protocol {}; ", word("protocol").unwrap_or_default());
            for (key, unit) in [("dport", ""), ("timeout", "ms"), ("size", "")] {
                if let Some(n) = number(key) {
                    let _ = write!(text, "{key} {n}{unit}; ");
                }
            }
            if let Some(Json::Object(p)) = b.get("policy") {
                let list: Vec<_> = p.iter().map(|(k, v)| format!("{k} : {v}")).collect();
                let _ = write!(text, "policy = {{ {} }}; ", list.join(", "));
            }
            write!(
                text,
                "{}",
                word("l3proto").map_or(String::new(), |l| format!("l3proto {l}; "))
            )
        }
        "synproxy" => {
            let flags = b
                .get("flags")
                .map(words)
                .unwrap_or_default()
                .replace(',', " ");
            let (mss, wscale) = (number("mss").unwrap_or(0), number("wscale").unwrap_or(0));
            write!(text, "mss {mss}; wscale {wscale}; {flags};")
        }
        "secmark" => write!(text, "{};", quote(word("context").unwrap_or_default())),
        _ => {
            return Err(format!(
                "expected a table, chain, rule, set, map or object, not `{kind}`"
            ));
        }
    };
    Ok(text + " }")
}

fn limit(b: &Map<String, Json>) -> Text {
    let over = if b.get("inv") == Some(&Json::Bool(true)) {
        "over "
    } else {
        ""
    };
    let rate = b
        .get("rate")
        .and_then(Json::as_u64)
        .ok_or("expected `rate`")?;
    let per = name(b, "per")?;
    let mut text = match b
        .get("rate_unit")
        .and_then(Json::as_str)
        .filter(|u| *u != "packets")
    {
        Some(unit) => format!("rate {over}{rate} {unit}/{per}"),
        None => format!("rate {over}{rate}/{per}"),
    };
    let burst = b.get("burst").and_then(Json::as_u64).filter(|n| *n > 0);
    if let Some(n) = burst {
        let unit = b
            .get("burst_unit")
            .and_then(Json::as_str)
            .unwrap_or("packets");
        let _ = write!(text, " burst {n} {unit}");
    }
    Ok(text)
}

const VERDICTS: [&str; 6] = ["accept", "drop", "continue", "return", "jump", "goto"];
