//! L6: what people and programs read: state in native syntax, traces as text and JSON.
//!
//! Pure: values in, text out. Knows neither terminals (colours are ANSI styles in the text, stripped at
//! the edge) nor files. Invariant: same input, same bytes.

pub mod fork;
pub mod proxy_compare;
pub mod show;
pub mod topo;
pub mod trace;
