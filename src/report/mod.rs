//! L6: what people and programs read: state in native syntax, traces as text and JSON.
//!
//! Pure: values in, text out. Knows neither terminals (colours are ANSI styles in the text, stripped at
//! the edge) nor files. Invariant: same input, same bytes.

pub mod chart;
pub mod dns;
pub mod fork;
pub mod policy;
pub mod policy_lint;
pub mod proxy_compare;
pub mod reach;
pub mod show;
pub mod topo;
pub mod trace;

use core::time::Duration;

/// A duration of virtual time in three significant digits.
pub fn time(d: Duration) -> String {
    let s = d.as_secs_f64();
    match s {
        0.0 => "0 s".into(),
        s if s < 1e-3 => format!("{:.0} us", s * 1e6),
        s if s < 1.0 => format!("{:.2} ms", s * 1e3),
        s => format!("{s:.2} s"),
    }
}
