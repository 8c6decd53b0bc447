//! Expressions of `nft -j` as the text that says the same.
//!
//! Invariant: nesting is bounded by `NFT_DEPTH_MAX`.

use super::*;

/// The elements of a set, in braces.
pub(super) fn set_of(j: &Json, depth: usize) -> Text {
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

/// An expression's text.
pub(super) fn expr(j: &Json, depth: usize) -> Text {
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
            if super::super::types::Type::ClassId.read(s, false).is_ok() || s.starts_with("0x") =>
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

pub(super) fn each(a: &[Json], depth: usize) -> Result<Vec<String>, String> {
    a.iter().map(|e| expr(e, depth + 1)).collect()
}

pub(super) fn object_expr(kind: &str, v: &Json, depth: usize) -> Text {
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
pub(super) fn opt(v: &Json, key: &str) -> String {
    match v.get(key) {
        Some(n) if n.as_u64() != Some(0) || key == "seed" => format!(" {key} {}", words(n)),
        _ => String::new(),
    }
}

pub(super) fn elem(v: &Json, depth: usize) -> Text {
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
pub(super) fn operation(op: &str, v: &Json, depth: usize) -> Text {
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
