//! What a trace tells of maps: the element a packet's key found.
//!
//! Text only; kube-proxy's comments name the Service.

use super::super::elements::{Data, Element, Part};
use super::super::print_expr;
use super::super::types::{Type, Value};
use core::fmt::Write as _;

/// `10.96.0.1 . tcp . 80 : goto service-...`
pub(super) fn found(parts: &[Part], types: &[Type], e: &Element) -> String {
    let mut out = String::new();
    for (i, (p, t)) in parts.iter().zip(types).enumerate() {
        if i > 0 {
            out.push_str(" . ");
        }
        if let Part::Value(v) = p {
            t.show(v, &mut out);
        }
    }
    match &e.data {
        Some(Data::Verdict(v)) => {
            out.push_str(" : ");
            print_expr::verdict(v, &mut out);
        }
        Some(Data::Object(name)) => {
            out.push_str(" : ");
            out.push_str(name);
        }
        Some(Data::Values(values)) => {
            for (i, p) in values.iter().enumerate() {
                out.push_str(if i == 0 { " : " } else { " . " });
                if let Part::Value(v) | Part::Range(v, _) | Part::Prefix(v, _) = p {
                    value(v, types, &mut out);
                }
            }
        }
        None => {}
    }
    if let Some(comment) = &e.comment {
        let _ = write!(out, " ({comment})");
    }
    out
}

/// A value of data whose type only its set knows: large numbers are addresses.
fn value(v: &Value, key: &[Type], out: &mut String) {
    let v6 = key.contains(&Type::Ipv6);
    let t = match v.num() {
        Some(n) if n > u128::from(u32::MAX) || v6 && n > 0xffff => Type::Ipv6,
        Some(n) if n > 0xffff => Type::Ipv4,
        _ => Type::Integer(32),
    };
    t.show(v, out);
}
