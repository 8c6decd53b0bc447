//! What an importer or a check has to say: always with a place, what was expected and what to do.
//!
//! Importers return `(T, Vec<Finding>)`: they keep going and lose nothing.

use core::fmt;
use std::sync::Arc;

/// A place in an input: file, 1-based line and column. Line 0 means the file as a whole.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Span {
    /// The file as the user named it; `-` for standard input.
    pub file: Arc<str>,
    /// 1-based line, 0 for the whole file.
    pub line: u32,
    /// 1-based column, 0 when unknown.
    pub column: u32,
}

impl Span {
    /// A place in a file.
    pub fn new(file: impl Into<Arc<str>>, line: u32, column: u32) -> Self {
        Span {
            file: file.into(),
            line,
            column,
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.line, self.column) {
            (0, _) => write!(f, "{}", self.file),
            (l, 0) => write!(f, "{}:{l}", self.file),
            (l, c) => write!(f, "{}:{l}:{c}", self.file),
        }
    }
}

/// How bad a finding is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Severity {
    /// Said for completeness (an unknown kind was kept).
    Note,
    /// The input was used, but something in it was not (an unknown field).
    Warning,
    /// This piece of the input could not be used; the command ends with exit code 2.
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Error => "error",
        })
    }
}

/// One thing found in an input.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// Where.
    pub span: Span,
    /// One sentence: what is wrong and what was expected.
    pub message: String,
    /// One sentence: what to do; empty when the message says it.
    pub help: String,
}

impl Finding {
    /// An error at `span`.
    pub fn error(span: Span, message: impl Into<String>, help: impl Into<String>) -> Self {
        Finding {
            severity: Severity::Error,
            span,
            message: message.into(),
            help: help.into(),
        }
    }

    /// A warning at `span`.
    pub fn warning(span: Span, message: impl Into<String>, help: impl Into<String>) -> Self {
        Finding {
            severity: Severity::Warning,
            span,
            message: message.into(),
            help: help.into(),
        }
    }

    /// A note at `span`.
    pub fn note(span: Span, message: impl Into<String>) -> Self {
        Finding {
            severity: Severity::Note,
            span,
            message: message.into(),
            help: String::new(),
        }
    }

    /// Whether this stops the command.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl fmt::Display for Finding {
    /// `file:line:column: severity: message` and the help on a line of its own, as compilers print it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.span, self.severity, self.message)?;
        if !self.help.is_empty() {
            write!(f, "\n  help: {}", self.help)?;
        }
        Ok(())
    }
}
