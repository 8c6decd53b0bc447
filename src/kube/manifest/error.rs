//! Why a node did not fit its type, with the node.
//!
//! serde builds errors without knowing places; the innermost deserializer call that sees one adds node
//! and path.

use core::fmt::{self, Display};

use serde::de;

use super::suggest::closest;
use super::tree::NodeId;

/// An error of [`super::de::De`]. Boxed: results are moved far more often than they fail.
#[derive(Debug)]
pub(super) struct Error(pub(super) Box<Mismatch>);

/// What was expected and found, and where.
#[derive(Debug, Default)]
pub(super) struct Mismatch {
    /// The node at fault, once known.
    pub at: Option<NodeId>,
    /// Its path, once known.
    pub path: String,
    /// "expected ..., found ...".
    pub message: String,
    /// What to do.
    pub help: String,
    /// A required field is not there: says nothing new when that field itself was refused before.
    pub missing: bool,
}

impl Error {
    pub(super) fn new(message: impl Into<String>, help: impl Into<String>) -> Self {
        let (message, help) = (message.into(), help.into());
        Error(Box::new(Mismatch {
            message,
            help,
            ..Mismatch::default()
        }))
    }

    /// Adds the place, unless a deeper call already did.
    pub(super) fn at(mut self, id: NodeId, path: impl FnOnce() -> String) -> Self {
        if self.0.at.is_none() {
            self.0.at = Some(id);
            self.0.path = path();
        }
        self
    }
}

impl Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for Error {}

impl de::Error for Error {
    fn custom<T: Display>(message: T) -> Self {
        Error::new(message.to_string(), "")
    }

    fn invalid_type(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Error::new(
            format!("expected {expected}, found {}", describe(&found)),
            "",
        )
    }

    fn invalid_value(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Error::invalid_type(found, expected)
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let message = format!("expected one of {}, found \"{variant}\"", list(expected));
        Error::new(message, did_you_mean(variant, expected))
    }

    fn missing_field(field: &'static str) -> Self {
        let mut error = Error::new(
            format!("the required field `{field}` is missing"),
            format!("add `{field}:`"),
        );
        error.0.missing = true;
        error
    }
}

fn describe(found: &de::Unexpected<'_>) -> String {
    match found {
        de::Unexpected::Str(text) => format!("the string \"{}\"", super::tree::shorten(text)),
        de::Unexpected::Signed(value) => format!("the integer {value}"),
        de::Unexpected::Unsigned(value) => format!("the integer {value}"),
        de::Unexpected::Float(value) => format!("the number {value}"),
        de::Unexpected::Bool(value) => format!("the boolean {value}"),
        de::Unexpected::Unit | de::Unexpected::Option => "null".into(),
        de::Unexpected::Seq => "a list".into(),
        de::Unexpected::Map => "an object".into(),
        other => other.to_string(),
    }
}

/// `a`, `b` or `c`.
fn list(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => quoted.concat(),
    }
}

/// "did you mean `x`?", or nothing.
pub(super) fn did_you_mean(written: &str, known: &[&str]) -> String {
    closest(written, known.iter().copied())
        .map_or_else(String::new, |name| format!("did you mean `{name}`?"))
}
