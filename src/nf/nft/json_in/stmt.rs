//! Statements of `nft -j` as the text that says the same.
//!
//! Invariant: one that is not known is an error that names it.

use super::expr::{each, expr};
use super::*;

pub(super) fn statement(s: &Json) -> Text {
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

pub(super) fn comparison(v: &Json) -> Text {
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

pub(super) fn stateful(kind: &str, v: &Json) -> Text {
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

pub(super) fn log(v: &Json) -> String {
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

pub(super) fn nat(kind: &str, v: &Json) -> Text {
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

pub(super) fn set_op(kind: &str, v: &Json) -> Text {
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
