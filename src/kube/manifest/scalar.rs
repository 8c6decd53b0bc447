//! What an unquoted YAML scalar means: go-yaml v2's rules, because they are kubectl's.
//!
//! kubectl turns YAML into JSON with sigs.k8s.io/yaml, whose decoder is go-yaml v2
//! (`goyaml.v2/resolve.go`): YAML 1.1 booleans (`y`, `yes`, `on` and their opposites), a leading 0 is
//! octal, `0x`, `0o`, `0b` and `_` are understood, base 60 is not, and a date stays a string
//! (`decode.go`, timestamps into an interface).

use std::borrow::Cow;

use super::tree::Value;

/// Resolves a plain scalar.
pub(super) fn resolve(text: Cow<'_, str>) -> Value<'_> {
    match text.as_bytes().first() {
        None | Some(b'y' | b'Y' | b'n' | b'N' | b't' | b'T' | b'f' | b'F' | b'o' | b'O' | b'~') => {
            word(&text).unwrap_or(Value::Str(text))
        }
        Some(b'0'..=b'9' | b'+' | b'-' | b'.') => number(&text).unwrap_or(Value::Str(text)),
        _ => Value::Str(text),
    }
}

fn word(text: &str) -> Option<Value<'static>> {
    Some(match text {
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            Value::Bool(true)
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            Value::Bool(false)
        }
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        _ => return None,
    })
}

fn number(text: &str) -> Option<Value<'static>> {
    // IP addresses, versions and dates are the common case: leave before any allocation.
    let plausible = |b: &u8| {
        b.is_ascii_hexdigit() || matches!(b, b'+' | b'-' | b'.' | b'_' | b'x' | b'X' | b'o')
    };
    match text {
        ".nan" | ".NaN" | ".NAN" => return Some(Value::Float(f64::NAN)),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => {
            return Some(Value::Float(f64::INFINITY));
        }
        "-.inf" | "-.Inf" | "-.INF" => return Some(Value::Float(f64::NEG_INFINITY)),
        _ if text.as_bytes().iter().all(plausible) => {}
        _ => return None,
    }
    let plain: Cow<'_, str> = if text.contains('_') {
        text.replace('_', "").into()
    } else {
        text.into()
    };
    integer(&plain).or_else(|| float(&plain))
}

/// Go's `strconv.ParseInt(s, 0, 64)`, then `ParseUint`.
fn integer(plain: &str) -> Option<Value<'static>> {
    let (negative, digits) = match plain.as_bytes().first()? {
        b'-' => (true, plain.get(1..)?),
        b'+' => (false, plain.get(1..)?),
        _ => (false, plain),
    };
    let (radix, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, digits.get(2..)?),
        [b'0', b'b' | b'B', ..] => (2, digits.get(2..)?),
        [b'0', b'o' | b'O', ..] => (8, digits.get(2..)?),
        [b'0', _, ..] => (8, digits.get(1..)?),
        _ => (10, digits),
    };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return None;
    }
    let magnitude = i128::from(u64::from_str_radix(digits, radix).ok()?);
    let value = if negative { -magnitude } else { magnitude };
    match i64::try_from(value) {
        Ok(value) => Some(Value::Int(value)),
        Err(_) => u64::try_from(value).ok().map(Value::Uint),
    }
}

/// `^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$`
fn float(plain: &str) -> Option<Value<'static>> {
    let unsigned = plain.strip_prefix(['-', '+']).unwrap_or(plain);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (
            mantissa,
            Some(exponent.strip_prefix(['-', '+']).unwrap_or(exponent)),
        ),
        None => (unsigned, None),
    };
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let shaped = digits(whole) && digits(fraction) && !(whole.is_empty() && fraction.is_empty());
    if !shaped || exponent.is_some_and(|e| e.is_empty() || !digits(e)) {
        return None;
    }
    plain.parse().ok().map(Value::Float)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_go_yaml_v2_resolves() {
        let s = |text| resolve(Cow::Borrowed(text));
        for (text, value) in [
            ("yes", Value::Bool(true)),
            ("y", Value::Bool(true)),
            ("Off", Value::Bool(false)),
            ("n", Value::Bool(false)),
            ("", Value::Null),
            ("~", Value::Null),
            ("0644", Value::Int(420)),
            ("0o17", Value::Int(15)),
            ("0x1F", Value::Int(31)),
            ("-0b101", Value::Int(-5)),
            ("1_000", Value::Int(1000)),
            ("+7", Value::Int(7)),
            ("08", Value::Float(8.0)),
            ("18446744073709551615", Value::Uint(u64::MAX)),
            ("-9223372036854775808", Value::Int(i64::MIN)),
            ("1e3", Value::Float(1000.0)),
            (".5", Value::Float(0.5)),
            ("1.", Value::Float(1.0)),
        ] {
            assert_eq!(s(text), value, "{text}");
        }
        for text in [
            "yES",
            "10.0.0.1",
            "2026-01-01",
            "1:30",
            "100m",
            "0x",
            "-",
            ".",
            "1e",
            "e3",
            "::1",
            "fe80::1",
        ] {
            assert_eq!(s(text), Value::Str(text.into()), "{text}");
        }
    }
}
