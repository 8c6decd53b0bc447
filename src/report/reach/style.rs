//! The heat map's colours, once for light and once for dark pages, and the style sheet made of them.
//!
//! No CSS variables: renderers without a browser do not know them. Every mark differs from the others in
//! lightness too, and those of trouble and change have a sign, so that colour is not all there is.

use core::fmt::Write as _;

use super::Mark;

/// A class with its fill on light and on dark pages.
const FILLS: [(&str, &str, &str); 18] = [
    ("page", "#fcfdff", "#0f141b"),
    ("ink", "#1b2430", "#e8edf4"),
    ("dim", "#5a687a", "#9aa8ba"),
    ("band", "#f3f6fb", "#171f2a"),
    ("open", "#23936b", "#37b889"),
    ("partly", "#e7b64a", "#c99726"),
    ("closed", "#dfe5ec", "#27313e"),
    ("still", "#a8d6c3", "#1f5f4a"),
    ("halfstill", "#f3dfb0", "#6b5520"),
    ("opened", "#d4480f", "#ff7a42"),
    ("shut", "#1d5fe0", "#5b9bff"),
    ("both", "#8a3ffc", "#b48bff"),
    ("broken", "#d4303f", "#ff6b77"),
    ("leak", "#c77700", "#ffab3d"),
    ("untried", "#c3cedc", "#3a475a"),
    ("none", "none", "none"),
    ("sign", "#ffffff", "#0f141b"),
    ("hit", "#1b2430", "#ffffff"),
];

const SHAPES: &str = "\
text{font-family:system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif;font-size:12px}\
.b{font-weight:600}.t20{font-size:20px}.t13{font-size:13px}.e{text-anchor:end}.c{text-anchor:middle}\
.cross{opacity:.13;pointer-events:none}.sign{font-weight:700;pointer-events:none}";

/// The class of a mark's rectangles.
pub(super) fn class(mark: Mark, change: bool) -> &'static str {
    match (mark, change) {
        (Mark::Nothing, _) => "none",
        (Mark::Open, true) => "still",
        (Mark::Open, false) => "open",
        (Mark::Partly, true) => "halfstill",
        (Mark::Partly, false) => "partly",
        (Mark::Closed, _) => "closed",
        (Mark::Opened, _) => "opened",
        (Mark::Shut, _) => "shut",
        (Mark::Both, _) => "both",
        (Mark::Broken, _) => "broken",
        (Mark::Leak, _) => "leak",
        (Mark::Untried, _) => "untried",
    }
}

/// Whether a mark's sign is drawn on its rectangle.
pub(super) fn has_sign(mark: Mark) -> bool {
    matches!(
        mark,
        Mark::Opened | Mark::Shut | Mark::Both | Mark::Broken | Mark::Leak
    )
}

/// The style sheet.
pub(super) fn sheet() -> String {
    let (mut light, mut dark) = (String::from(SHAPES), String::new());
    for (class, on_light, on_dark) in FILLS {
        let _ = write!(light, ".{class}{{fill:{on_light}}}");
        let _ = write!(dark, ".{class}{{fill:{on_dark}}}");
    }
    format!("{light}@media (prefers-color-scheme:dark){{{dark}}}")
}
