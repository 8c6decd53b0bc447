//! `nft -j` JSON in: every object becomes the command that says the same, and is read as text is.
//!
//! So JSON and text cannot mean different things (libnftables-json(5)). Invariant: an object that
//! is not understood is
//! a finding that names it, and the others load.

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

fn statement(s: &Json) -> Text {
    if let Some(v) = s.as_str() {
        return Ok(v.to_owned());
    }
    let (kind, v) = s
        .as_object()
        .and_then(|o| o.iter().next())
        .ok_or("expected a statement")?;
    let e = |key: &str| expr(v.get(key).unwrap_or(&Json::Null), 0);
    match kind.as_str() {
        "accept" | "drop" | "continue" | "return" | "notrack" => Ok(kind.clone()),
        "jump" | "goto" => Ok(format!(
            "{kind} {}",
            quote(v.get("target").and_then(Json::as_str).ok_or("no target")?)
        )),
        "match" => comparison(v),
        "vmap" => Ok(format!("{} vmap {}", e("key")?, e("data")?)),
        "mangle" => Ok(format!("{} set {}", e("key")?, e("value")?)),
        "counter" | "quota" | "limit" | "ct helper" | "ct timeout" | "ct expectation"
        | "synproxy" => stateful(kind, v),
        "ct count" => {
            let over = if v.get("inv") == Some(&Json::Bool(true)) {
                "over "
            } else {
                ""
            };
            Ok(format!(
                "ct count {over}{}",
                v.get("val").and_then(Json::as_u64).ok_or("no val")?
            ))
        }
        "log" => Ok(log(v)),
        "reject" => Ok(
            match (v.get("type").and_then(Json::as_str), v.get("expr")) {
                (None, _) => "reject".to_owned(),
                (Some("tcp reset"), _) => "reject with tcp reset".to_owned(),
                (Some(t), code) => {
                    format!("reject with {t} {}", words(code.unwrap_or(&Json::Null)))
                }
            },
        ),
        "dnat" | "snat" | "masquerade" | "redirect" | "tproxy" => nat(kind, v),
        "dup" => Ok(format!(
            "dup to {}",
            match v.get("addr") {
                Some(a) =>
                    expr(a, 0)?
                        + &v.get("dev").map_or(Ok(String::new()), |d| expr(d, 0)
                            .map(|d| format!(" device {d}")))?,
                None => e("dev")?,
            }
        )),
        "fwd" => Ok(match v.get("addr") {
            Some(a) => format!(
                "fwd {} to {} device {}",
                words(&v["family"]),
                expr(a, 0)?,
                e("dev")?
            ),
            None => format!("fwd to {}", e("dev")?),
        }),
        "queue" => Ok(format!(
            "queue {}to {}",
            v.get("flags")
                .map_or(String::new(), |f| format!("flags {} ", words(f))),
            v.get("num").map_or(Ok("0".to_owned()), |n| expr(n, 0))?
        )),
        "set" | "map" | "meter" => set_op(kind, v),
        "flow" => Ok(format!(
            "flow add {}",
            words(v.get("flowtable").unwrap_or(&Json::Null))
        )),
        "reset" => Ok(format!("reset {}", expr(v, 0)?)),
        _ => Err(format!("expected a statement that is known, not `{kind}`")),
    }
}

fn comparison(v: &Json) -> Text {
    let left = v.get("left").unwrap_or(&Json::Null);
    let right = match v.get("right").unwrap_or(&Json::Null) {
        // Flags that are all to be set, against flags that are masked.
        Json::Array(flags) if left.get("&").is_some() => {
            format!("({})", each(flags, 0)?.join(" | "))
        }
        other => expr(other, 0)?,
    };
    let op = match v.get("op").and_then(Json::as_str).unwrap_or("in") {
        "in" => "",
        // nft says `==` of memberships too, where its text has nothing.
        "==" if v.get("right").is_some_and(|r| {
            r.get("set").is_some() || r.as_str().is_some_and(|s| s.starts_with('@'))
        }) =>
        {
            ""
        }
        op => op,
    };
    let left = expr(left, 0)?;
    let exists = matches!(right.as_str(), "exists" | "missing");
    Ok(format!(
        "{left} {} {right}",
        if exists && op == "==" { "" } else { op }
    ))
}

fn stateful(kind: &str, v: &Json) -> Text {
    let set = if kind.starts_with("ct ") {
        "set"
    } else {
        "name"
    };
    let number = |key: &str| v.get(key).and_then(Json::as_u64);
    Ok(match (kind, v) {
        (_, Json::String(n)) => format!("{kind} {set} {}", quote(n)),
        (_, Json::Object(o)) if o.contains_key("map") => format!("{kind} {set} {}", expr(v, 0)?),
        ("counter", _) => {
            format!(
                "counter packets {} bytes {}",
                number("packets").unwrap_or(0),
                number("bytes").unwrap_or(0)
            )
        }
        ("limit", Json::Object(o)) => format!("limit {}", limit(o)?),
        ("quota", _) => {
            let over = if v.get("inv") == Some(&Json::Bool(true)) {
                "over "
            } else {
                ""
            };
            let unit = |key: &str| {
                v.get(key)
                    .and_then(Json::as_str)
                    .unwrap_or("bytes")
                    .to_owned()
            };
            let used = number("used").map_or(String::new(), |n| {
                format!(" used {n} {}", unit("used_unit"))
            });
            format!(
                "quota {over}{} {}{used}",
                number("val").ok_or("no val")?,
                unit("val_unit")
            )
        }
        ("synproxy", _) => {
            let mut text = "synproxy".to_owned();
            for key in ["mss", "wscale"] {
                text += &number(key).map_or(String::new(), |n| format!(" {key} {n}"));
            }
            text + " "
                + &v.get("flags")
                    .map(words)
                    .unwrap_or_default()
                    .replace(',', " ")
        }
        _ => return Err(format!("expected what {kind} says")),
    })
}

fn log(v: &Json) -> String {
    let mut text = "log".to_owned();
    for (key, quoted) in [
        ("prefix", true),
        ("group", false),
        ("snaplen", false),
        ("queue-threshold", false),
        ("level", false),
    ] {
        if let Some(j) = v.get(key) {
            let word = j.as_str().map_or_else(
                || j.to_string(),
                |s| if quoted { quote(s) } else { s.to_owned() },
            );
            let _ = write!(text, " {key} {word}");
        }
    }
    match v.get("flags") {
        Some(Json::Array(a)) => a
            .iter()
            .for_each(|f| text += &format!(" flags {}", words(f))),
        Some(f) => text += &format!(" flags {}", words(f)),
        None => {}
    }
    text
}

fn nat(kind: &str, v: &Json) -> Text {
    let mut text = kind.to_owned();
    let has = |key: &str| v.get(key).is_some();
    if let Some(f) = v.get("family").and_then(Json::as_str) {
        let _ = write!(text, " {f}");
    }
    let prefix = v
        .get("type_flags")
        .is_some_and(|t| words(t).contains("prefix"));
    if prefix {
        text.push_str(" prefix");
    }
    if has("addr") || has("port") {
        text.push_str(" to ");
    }
    if let Some(a) = v.get("addr") {
        let addr = expr(a, 0)?;
        let v6 = |s: &str| s.contains(':') && !s.contains('{');
        text += &match (a, has("port")) {
            (Json::String(s), true) if v6(s) => format!("[{s}]"),
            (Json::Object(o), true) if o.contains_key("range") && v6(&addr) => {
                format!("[{}]", addr.replace('-', "]-["))
            }
            _ => addr,
        };
    }
    if let Some(p) = v.get("port") {
        let _ = write!(text, ":{}", expr(p, 0)?);
    }
    let flags = v.get("flags").map(words).unwrap_or_default();
    let flags: Vec<_> = flags
        .split(',')
        .filter(|f| !matches!(*f, "netmap" | ""))
        .collect();
    Ok(format!("{text} {}", flags.join(",")))
}

fn set_op(kind: &str, v: &Json) -> Text {
    let get = |key: &str| v.get(key).unwrap_or(&Json::Null);
    let mut inner = expr(get(if kind == "meter" { "key" } else { "elem" }), 0)?;
    let list: Vec<_> = match get("stmt") {
        Json::Array(a) => a.iter().collect(),
        Json::Null => Vec::new(),
        one => vec![one],
    };
    for s in list {
        let text = if s.get("counter").is_some() {
            "counter".to_owned()
        } else {
            statement(s)?
        };
        let _ = write!(inner, " {text}");
    }
    if let Some(d) = v.get("data") {
        let _ = write!(inner, " : {}", expr(d, 0)?);
    }
    if kind == "meter" {
        return Ok(format!(
            "meter {} size {} {{ {inner} }}",
            quote(&words(get("name"))),
            get("size")
        ));
    }
    let set = words(get(if kind == "map" && v.get("map").is_some() {
        "map"
    } else {
        "set"
    }));
    Ok(format!(
        "{} @{} {{ {inner} }}",
        words(get("op")),
        quote(set.trim_start_matches('@'))
    ))
}

/// The elements of a set, in braces.
fn set_of(j: &Json, depth: usize) -> Text {
    let mut list = Vec::new();
    for e in j
        .as_array()
        .map_or_else(|| core::slice::from_ref(j), |a| a.as_slice())
    {
        list.push(match e.as_array().map(Vec::as_slice) {
            Some([key, data]) => {
                let data = match data {
                    Json::Object(o) if o.keys().any(|k| VERDICTS.contains(&k.as_str())) => {
                        statement(data)?
                    }
                    d => expr(d, depth + 1)?,
                };
                format!("{} : {data}", expr(key, depth + 1)?)
            }
            _ => expr(e, depth + 1)?,
        });
    }
    Ok(format!("{{ {} }}", list.join(", ")))
}

const VERDICTS: [&str; 6] = ["accept", "drop", "continue", "return", "jump", "goto"];

/// An expression's text.
fn expr(j: &Json, depth: usize) -> Text {
    if depth > NFT_DEPTH_MAX {
        return Err("expected fewer expressions inside one another".into());
    }
    match j {
        Json::String(s) if s == "*" => Ok(s.clone()),
        Json::String(s) if s.starts_with('@') => {
            Ok(format!("@{}", quote(s.trim_start_matches('@'))))
        }
        Json::String(s) if s.bytes().all(|b| b.is_ascii_digit()) && !s.is_empty() => Ok(s.clone()),
        Json::String(s)
            if super::types::Type::ClassId.read(s, false).is_ok() || s.starts_with("0x") =>
        {
            Ok(s.clone())
        }
        Json::String(s) => Ok(quote(s)),
        Json::Number(n) => Ok(n.to_string()),
        Json::Bool(b) => Ok(if *b { "exists" } else { "missing" }.to_owned()),
        Json::Array(a) => Ok(each(a, depth)?.join(",")),
        Json::Object(o) => match o.iter().next() {
            Some((kind, v)) => object_expr(kind, v, depth),
            None => Err("expected an expression".into()),
        },
        Json::Null => Err("expected an expression".into()),
    }
}

fn each(a: &[Json], depth: usize) -> Result<Vec<String>, String> {
    a.iter().map(|e| expr(e, depth + 1)).collect()
}

fn object_expr(kind: &str, v: &Json, depth: usize) -> Text {
    let word = |key: &str| v.get(key).map(words).unwrap_or_default();
    let has = |key: &str| v.get(key).is_some();
    let sub = |key: &str| expr(v.get(key).unwrap_or(&Json::Null), depth + 1);
    let list = || {
        v.as_array()
            .map(|a| each(a, depth))
            .unwrap_or(Ok(Vec::new()))
    };
    let modulus = || format!("mod {}{}", word("mod"), opt(v, "seed") + &opt(v, "offset"));
    Ok(match kind {
        "prefix" => format!("{}/{}", sub("addr")?, word("len")),
        "range" => list()?.join("-"),
        "concat" => list()?.join(" . "),
        "set" => set_of(v, depth)?,
        "map" => format!("{} map {}", sub("key")?, sub("data")?),
        "elem" => elem(v, depth)?,
        "payload" if has("base") => format!("@{},{},{}", word("base"), word("offset"), word("len")),
        "payload" => format!("{} {}", word("protocol"), word("field")),
        "meta" => format!("meta {}", word("key")),
        "ct" => format!("ct {} {} {}", word("dir"), word("family"), word("key")),
        "fib" => format!(
            "fib {} {}",
            word("flags").replace(',', " . "),
            word("result")
        ),
        "rt" | "ipsec" => {
            let spnum = v.get("spnum").and_then(Json::as_u64).filter(|n| *n > 0);
            let spnum = spnum.map_or(String::new(), |n| format!("spnum {n}"));
            format!(
                "{kind} {} {spnum} {} {}",
                word("dir"),
                word("family"),
                word("key")
            )
        }
        "socket" if has("level") => format!("socket {} level {}", word("key"), word("level")),
        "socket" => format!("socket {}", word("key")),
        "osf" => format!("osf {}{}", opt(v, "ttl"), " ".to_owned() + &word("key")),
        "numgen" => format!("numgen {} {}", word("mode"), modulus()),
        "jhash" => format!("jhash {} {}", sub("expr")?, modulus()),
        "symhash" => format!("symhash {}", modulus()),
        "exthdr" if has("field") => {
            let bare = word("name");
            format!("{bare} {}", word("field"))
        }
        "exthdr" => format!("exthdr {}", word("name")),
        "tcp option"
            if has("base") && (word("offset"), word("len")) == ("0".into(), "8".into()) =>
        {
            format!("tcp option {}", word("base"))
        }
        "tcp option" if has("base") => format!(
            "tcp option @{},{},{}",
            word("base"),
            word("offset"),
            word("len")
        ),
        "tcp option" | "ip option" | "sctp chunk" => {
            format!("{kind} {} {}", word("name"), word("field"))
        }
        "&" | "|" | "^" | "<<" | ">>" => operation(kind, v, depth)?,
        "jump" | "goto" | "accept" | "drop" | "continue" | "return" => {
            return Err(format!("expected an expression, not the verdict {kind}"));
        }
        _ => {
            return Err(format!(
                "expected an expression that is known, not `{kind}`"
            ));
        }
    })
}

/// ` key value`, if it is there and not nothing.
fn opt(v: &Json, key: &str) -> String {
    match v.get(key) {
        Some(n) if n.as_u64() != Some(0) || key == "seed" => format!(" {key} {}", words(n)),
        _ => String::new(),
    }
}

fn elem(v: &Json, depth: usize) -> Text {
    let mut text = expr(v.get("val").unwrap_or(&Json::Null), depth + 1)?;
    for kind in ["counter", "limit", "quota", "ct count"] {
        if let Some(s) = v.get(kind) {
            let mut one = Map::new();
            one.insert(kind.to_owned(), s.clone());
            let _ = write!(text, " {}", statement(&Json::Object(one))?);
        }
    }
    for key in ["timeout", "expires"] {
        if let Some(n) = v.get(key).and_then(Json::as_u64) {
            let _ = write!(text, " {key} {n}s");
        }
    }
    if let Some(c) = v.get("comment").and_then(Json::as_str) {
        let _ = write!(text, " comment {}", quote(c));
    }
    Ok(text)
}

/// Operands; a list of flags is their sum.
fn operation(op: &str, v: &Json, depth: usize) -> Text {
    let mut out = Vec::new();
    for e in v.as_array().into_iter().flatten() {
        out.push(match e {
            Json::Array(flags) => format!("({})", each(flags, depth + 1)?.join(" | ")),
            Json::Object(o)
                if o.keys()
                    .any(|k| matches!(k.as_str(), "&" | "|" | "^" | "<<" | ">>")) =>
            {
                format!("({})", expr(e, depth + 1)?)
            }
            e => expr(e, depth + 1)?,
        });
    }
    if out.len() < 2 {
        Err(format!("expected two operands of `{op}`"))
    } else {
        Ok(out.join(&format!(" {op} ")))
    }
}
