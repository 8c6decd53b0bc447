//! A cluster as a picture: Graphviz dot and a self-contained SVG.
//!
//! [`dot`] writes a graph for Graphviz; [`svg`] lays the cluster out itself and needs no tool, script
//! or font to be seen, on light and dark pages. Both draw the same model of the cluster: a box per
//! node with its pods, bridge, tunnels and uplink, the underlay below, trouble in red and amber, and
//! one trace's way over it. Neither moves frames nor judges more than device states and MTUs.
//! Invariant: same input, same bytes.

mod check;
mod dot;
mod layout;
mod model;
mod paint;
mod route;
mod style;
mod svg;
pub(in crate::report) mod text;
mod tunnels;
mod way;

use crate::cluster::Cluster;
use crate::path::Event;

/// How to draw.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options<'a> {
    /// The events of one exchange ([`crate::lab::Lab::trace`]): its way there and back is drawn and numbered.
    pub path: Option<&'a [Event]>,
}

/// The cluster for Graphviz: `dot -Tsvg`.
pub fn dot(c: &Cluster, o: &Options<'_>) -> String {
    dot::write(&model::Picture::of(c, o))
}

/// The cluster as an SVG document.
pub fn svg(c: &Cluster, o: &Options<'_>) -> String {
    svg::write(&model::Picture::of(c, o))
}

/// The SVG in a page of its own.
pub fn html(c: &Cluster, o: &Options<'_>) -> String {
    let p = model::Picture::of(c, o);
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{}</title>\
         <meta name=\"color-scheme\" content=\"light dark\">\
         <style>body{{margin:0}}svg{{display:block;margin:0 auto;max-width:100%;height:auto}}</style></head>\n\
         <body>\n{}</body></html>\n",
        text::escape(&p.title),
        svg::write(&p)
    )
}
