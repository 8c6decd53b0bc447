//! What the API server says of a wrong field: its path, its class and the reason, in the server's own
//! words.
//!
//! apimachinery `pkg/util/validation/field/errors.go` (Error.ErrorBody),
//! `pkg/util/validation/validation.go` (IsValidPortNum, IsValidPortName, IsQualifiedName,
//! IsValidLabelValue, IsValidCIDR). One list of problems serves both doors: the store's check when a file
//! is read, and [`super::Policies`] when objects come from elsewhere.

use core::fmt::Display;

use ipnetwork::IpNetwork;

use crate::kube::service::lenient;

/// A refused or suspicious field.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// Where: `spec.ingress[0].from[1]`.
    pub path: String,
    /// What the API server answers, without the path: `Required value: must specify a peer`.
    pub message: String,
    /// What to do; may be empty.
    pub help: String,
    /// Whether the API server refuses the object.
    pub refused: bool,
}

/// Problems in the making.
#[derive(Debug, Default)]
pub(super) struct Problems(pub(super) Vec<Problem>);

impl Problems {
    fn push(&mut self, path: &str, message: String) {
        self.0.push(Problem {
            path: path.to_owned(),
            message,
            help: String::new(),
            refused: true,
        });
    }

    /// Says what to do about the last problem.
    pub(super) fn help(&mut self, help: impl Into<String>) {
        if let Some(last) = self.0.last_mut() {
            last.help = help.into();
        }
    }

    /// `Invalid value`; strings are quoted (field.Invalid).
    pub(super) fn invalid(&mut self, path: &str, value: impl Display, why: &str) {
        self.push(path, format!("Invalid value: {value}: {why}"));
    }

    /// As [`Problems::invalid`] of a string.
    pub(super) fn invalid_text(&mut self, path: &str, value: &str, why: &str) {
        self.invalid(path, format_args!("{value:?}"), why);
    }

    /// `Required value` (field.Required).
    pub(super) fn required(&mut self, path: &str, why: &str) {
        let sep = if why.is_empty() { "" } else { ": " };
        self.push(path, format!("Required value{sep}{why}"));
    }

    /// `Forbidden` (field.Forbidden).
    pub(super) fn forbidden(&mut self, path: &str, why: &str) {
        self.push(path, format!("Forbidden: {why}"));
    }

    /// `Unsupported value` (field.NotSupported).
    pub(super) fn not_supported(&mut self, path: &str, value: &str, known: &[&str]) {
        let quoted: Vec<String> = known.iter().map(|word| format!("{word:?}")).collect();
        let known = quoted.join(", ");
        self.push(
            path,
            format!("Unsupported value: {value:?}: supported values: {known}"),
        );
    }

    /// `Too many` (field.TooMany).
    pub(super) fn too_many(&mut self, path: &str, count: usize, max: usize) {
        self.push(
            path,
            format!("Too many: {count}: must have at most {max} items"),
        );
    }

    /// `Too long` (field.TooLong).
    pub(super) fn push_too_long(&mut self, path: &str, max: usize) {
        self.push(path, format!("Too long: may not be more than {max} bytes"));
    }

    /// The object is taken, but something in it is suspicious.
    pub(super) fn warn(&mut self, path: &str, message: impl Into<String>, help: &str) {
        self.0.push(Problem {
            path: path.to_owned(),
            message: message.into(),
            help: help.to_owned(),
            refused: false,
        });
    }

    /// A port number (IsValidPortNum).
    pub(super) fn port(&mut self, path: &str, port: i32) {
        if !(1..=65_535).contains(&port) {
            self.invalid(path, port, "must be between 1 and 65535, inclusive");
        }
    }

    /// A port name (IsValidPortName), one problem for each thing wrong with it.
    pub(super) fn port_name(&mut self, path: &str, name: &str) {
        if name.len() > 15 {
            self.invalid_text(path, name, "must be no more than 15 characters");
        }
        let good = |b: u8| b.is_ascii_digit() || b.is_ascii_lowercase() || b == b'-';
        if name.is_empty() || !name.bytes().all(good) {
            let why = "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)";
            self.invalid_text(path, name, why);
        }
        if !name.bytes().any(|b| b.is_ascii_lowercase()) {
            self.invalid_text(path, name, "must contain at least one letter (a-z)");
        }
        if name.contains("--") {
            self.invalid_text(path, name, "must not contain consecutive hyphens");
        }
        if name.starts_with('-') || name.ends_with('-') {
            self.invalid_text(path, name, "must not begin or end with a hyphen");
        }
    }

    /// A CIDR as old objects may hold it; host bits are masked and told.
    pub(super) fn cidr(&mut self, path: &str, text: &str) -> Option<IpNetwork> {
        let Some(network) = lenient::cidr(text) else {
            let why = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
            self.invalid_text(path, text, why);
            return None;
        };
        let address = text.split('/').next().and_then(lenient::ip);
        if address.is_some_and(|ip| ip != network.ip()) {
            let message = format!("{text} has bits set behind its prefix; read as {network}");
            self.warn(path, message, &format!("write {network}"));
        }
        Some(network)
    }

    /// A label's key (IsQualifiedName).
    pub(super) fn label_key(&mut self, path: &str, key: &str) {
        let (prefix, name) = match key.split_once('/') {
            Some((prefix, name)) => (Some(prefix), name),
            None => (None, key),
        };
        if name.contains('/') {
            let why = "a qualified name must consist of alphanumeric characters, '-', '_' or '.', and must \
                start and end with an alphanumeric character with an optional DNS subdomain prefix and '/'";
            self.invalid_text(path, key, why);
            return;
        }
        if prefix == Some("") {
            self.invalid_text(path, key, "prefix part must be non-empty");
        } else if prefix.is_some_and(|p| crate::kube::store::NameRule::Subdomain.check(p).is_err())
        {
            let why = "prefix part a lowercase RFC 1123 subdomain must consist of lower case alphanumeric \
                characters, '-' or '.', and must start and end with an alphanumeric character";
            self.invalid_text(path, key, why);
        }
        if name.is_empty() {
            self.invalid_text(path, key, "name part must be non-empty");
        } else if name.len() > 63 {
            self.invalid_text(path, key, "name part must be no more than 63 characters");
        }
        if !is_label_word(name) {
            let why = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start \
                and end with an alphanumeric character";
            self.invalid_text(path, key, why);
        }
    }

    /// A label's value (IsValidLabelValue).
    pub(super) fn label_value(&mut self, path: &str, value: &str) {
        if value.len() > 63 {
            self.invalid_text(path, value, "must be no more than 63 characters");
        }
        if !value.is_empty() && !is_label_word(value) {
            let why = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' \
                or '.', and must start and end with an alphanumeric character";
            self.invalid_text(path, value, why);
        }
    }
}

/// `([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]` (qualifiedNameFmt).
fn is_label_word(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let ends = [text.bytes().next(), text.bytes().last()];
    text.bytes().all(inner)
        && ends.iter().flatten().all(u8::is_ascii_alphanumeric)
        && !text.is_empty()
}
