//! Writing for people: findings, colours, durations.

use crate::base::{Finding, Severity};
use anstyle::{AnsiColor, Color, Style};
use core::time::Duration;

const fn fg(c: AnsiColor) -> Style {
    Style::new().fg_color(Some(Color::Ansi(c)))
}

/// Bad.
pub const RED: Style = fg(AnsiColor::Red).bold();
/// Good.
pub const GREEN: Style = fg(AnsiColor::Green);
/// Doubtful.
pub const YELLOW: Style = fg(AnsiColor::Yellow);
/// Headings.
pub const BOLD: Style = Style::new().bold();
/// Asides.
pub const DIM: Style = Style::new().dimmed();
/// The end of a style.
pub const RESET: anstyle::Reset = anstyle::Reset;

/// Findings kept on screen; the rest is counted.
const SHOWN: usize = 50;

/// Prints findings to standard error; says whether one of them stops the command.
pub fn findings(all: &[Finding], quiet: bool) -> bool {
    let stops = all.iter().any(Finding::is_error);
    let shown: Vec<&Finding> = all.iter().filter(|f| f.is_error() || !quiet).collect();
    for f in shown.iter().take(SHOWN) {
        let style = match f.severity {
            Severity::Error => RED,
            Severity::Warning => YELLOW,
            Severity::Note => DIM,
        };
        let place = f.span.to_string();
        let place = if place.is_empty() {
            String::new()
        } else {
            format!("{place}: ")
        };
        anstream::eprintln!(
            "{BOLD}{place}{RESET}{style}{}:{RESET} {}",
            f.severity,
            f.message
        );
        if !f.help.is_empty() {
            anstream::eprintln!("  {DIM}help: {}{RESET}", f.help);
        }
    }
    if shown.len() > SHOWN {
        anstream::eprintln!("{DIM}... and {} more{RESET}", shown.len() - SHOWN);
    }
    stops
}

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
