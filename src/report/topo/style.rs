//! The colours, once for light and once for dark pages, and the style sheet made of them.
//!
//! No CSS variables: renderers without a browser do not know them.

use core::fmt::Write as _;

/// A class with its fill, stroke, and both again for dark pages; `-` for none.
type Rule = (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    &'static str,
);

const RULES: &[Rule] = &[
    ("page", "#fcfdff", "-", "#0f141b", "-"),
    ("ink", "#1b2430", "-", "#e8edf4", "-"),
    ("dim", "#5a687a", "-", "#9aa8ba", "-"),
    ("node", "#f3f6fb", "#c3cedc", "#171f2a", "#354357"),
    ("pod", "#ffffff", "#d3dce7", "#202a37", "#3a475a"),
    ("hostpod", "#f8f9fb", "#b3bfcd", "#1b2430", "#4d5c70"),
    ("more", "none", "#c3cedc", "none", "#45546a"),
    ("bridge", "#dff4ee", "#74bfae", "#11322c", "#2f7d6c"),
    ("bridgeink", "#0e5a4d", "-", "#96e4d1", "-"),
    ("tunnel", "#eeeafd", "#a492e6", "#272046", "#705bc6"),
    ("tunnelink", "#45309c", "-", "#cdc2ff", "-"),
    ("uplink", "#e3eefc", "#7fabe5", "#142a48", "#3f73b8"),
    ("uplinkink", "#174a8b", "-", "#aed0ff", "-"),
    ("other", "#eef1f5", "#b6c1ce", "#222b38", "#4b5a6e"),
    ("otherink", "#3c4858", "-", "#c2ccd9", "-"),
    ("switch", "#e4eaf2", "#94a3b5", "#232d3b", "#526378"),
    ("host", "#f1f5f0", "#9fb59f", "#1a2620", "#4d6b58"),
    ("bad", "#fdeaec", "#d4303f", "#3d161b", "#f2616d"),
    ("badink", "#b01c2b", "-", "#ff9aa2", "-"),
    ("warn", "#fff4da", "#dd9a1f", "#3a2a0c", "#d99a2b"),
    ("warnink", "#8a5300", "-", "#ffcf7a", "-"),
    ("wire", "none", "#94a3b5", "none", "#5f7087"),
    ("veth", "none", "#a9b8c9", "none", "#4f5f75"),
    ("overlay", "none", "#8b74e0", "none", "#8d79e6"),
    ("overlaybad", "none", "#dd9a1f", "none", "#d99a2b"),
    ("pill", "#fcfdff", "#a492e6", "#0f141b", "#705bc6"),
    ("halo", "none", "#fcfdff", "none", "#0f141b"),
    ("fwd", "none", "#1d5fe0", "none", "#5b9bff"),
    ("fwdfill", "#1d5fe0", "-", "#5b9bff", "-"),
    ("rep", "none", "#c0269e", "none", "#f07bd6"),
    ("repfill", "#c0269e", "-", "#f07bd6", "-"),
    ("num", "#ffffff", "-", "#0f141b", "-"),
    ("cross", "none", "#d4303f", "none", "#ff6b77"),
];

/// What does not depend on the page's colour.
const SHAPES: &str = "\
text{font-family:system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif;font-size:12px}\
.b{font-weight:600}.m{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace}\
.t10{font-size:10px}.t11{font-size:11px}.t13{font-size:13px}.t15{font-size:15px}.t20{font-size:20px}\
.wire{stroke-width:2}.veth{stroke-width:1.5}.hostpod,.more{stroke-dasharray:3 3}\
.overlay,.overlaybad{stroke-width:1.8;stroke-dasharray:7 5;stroke-linecap:round}\
.halo{stroke-width:6;stroke-linejoin:round}.fwd,.rep{stroke-width:2.6;stroke-linejoin:round}\
.cross{stroke-width:4;stroke-linecap:round}.c{text-anchor:middle}.e{text-anchor:end}";

/// The style sheet.
pub(super) fn sheet() -> String {
    let mut light = String::from(SHAPES);
    let mut dark = String::new();
    for (class, fill, stroke, dark_fill, dark_stroke) in RULES {
        rule(&mut light, class, fill, stroke);
        rule(&mut dark, class, dark_fill, dark_stroke);
    }
    format!("{light}@media (prefers-color-scheme:dark){{{dark}}}")
}

fn rule(out: &mut String, class: &str, fill: &str, stroke: &str) {
    let _ = write!(out, ".{class}{{fill:{fill}");
    if stroke != "-" {
        let _ = write!(out, ";stroke:{stroke}");
    }
    out.push('}');
}
