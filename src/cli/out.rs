//! Writing for people: findings, colours, durations.

use crate::base::{Finding, Severity, Span};
use anstyle::{AnsiColor, Color, Style};
use core::fmt;
use std::io::Write;

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

/// A finding that stops a command, on its way to `main` as an error.
#[derive(Debug)]
pub struct Stop(pub Finding);

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Stop {}

/// What stops a command: where (a file or an argument as typed, or nothing), what is wrong, what to do.
pub fn stop(place: &str, message: impl Into<String>, help: impl Into<String>) -> anyhow::Error {
    anyhow::Error::new(Stop(Finding::error(Span::new(place, 0, 0), message, help)))
}

/// Prints findings to standard error; says whether one of them stops the command.
pub fn findings(all: &[Finding], quiet: bool) -> bool {
    let stops = all.iter().any(Finding::is_error);
    let shown: Vec<&Finding> = all.iter().filter(|f| f.is_error() || !quiet).collect();
    // A closed standard error is no reason to stop.
    let mut e = anstream::stderr();
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
        let _ = writeln!(
            e,
            "{BOLD}{place}{RESET}{style}{}:{RESET} {}",
            f.severity, f.message
        );
        if !f.help.is_empty() {
            let _ = writeln!(e, "  {DIM}help: {}{RESET}", f.help);
        }
    }
    if shown.len() > SHOWN {
        let _ = writeln!(e, "{DIM}... and {} more{RESET}", shown.len() - SHOWN);
    }
    stops
}
