//! A cluster as a drawing: Graphviz dot, or an SVG that stands alone.
//!
//! Reads the built cluster, not manifests: what is drawn is what the CNI laid. Invariant: same cluster, same
//! bytes; every text from outside is escaped.

mod dot;
mod model;
mod svg;

use crate::path::Event;

pub use dot::dot;
pub use svg::svg;

/// How to draw.
#[derive(Clone, Copy, Default)]
pub struct Options<'a> {
    /// One exchange's events: its way is drawn over the cluster.
    pub path: Option<&'a [Event]>,
}
