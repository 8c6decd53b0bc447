//! Names of objects and what the API server allows in them.
//!
//! Rules: apimachinery `pkg/util/validation/validation.go` (IsDNS1123Label, IsDNS1123Subdomain,
//! IsValidPortName), after RFC 1123 section 2.1.

use core::fmt;

/// A namespace and a name; the namespace is empty for kinds of the whole cluster.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Name {
    /// The namespace, or empty.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl Name {
    /// A namespaced name.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Name {
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    /// The name of something that belongs to the whole cluster.
    pub fn global(name: impl Into<String>) -> Self {
        Name::new("", name)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.namespace.as_str() {
            "" => f.write_str(&self.name),
            namespace => write!(f, "{namespace}/{}", self.name),
        }
    }
}

/// Which names a kind may have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NameRule {
    /// A DNS label: at most 63 of `a-z0-9-`, beginning and ending with a letter or digit.
    Label,
    /// A DNS subdomain: labels of any length joined by dots, at most 253 characters.
    Subdomain,
}

impl NameRule {
    /// What is wrong with a name: what was expected of it.
    pub fn check(self, name: &str) -> Result<(), &'static str> {
        let label = |part: &str| {
            let inside = part
                .bytes()
                .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'));
            inside && !part.is_empty() && !part.starts_with('-') && !part.ends_with('-')
        };
        match self {
            NameRule::Label if name.len() <= 63 && label(name) => Ok(()),
            NameRule::Label => {
                Err("at most 63 of a-z, 0-9 and `-`, with a letter or digit at both ends")
            }
            NameRule::Subdomain if name.len() <= 253 && name.split('.').all(label) => Ok(()),
            NameRule::Subdomain => Err(
                "at most 253 of a-z, 0-9, `-` and `.`, each part with a letter or digit at both ends",
            ),
        }
    }
}

/// Whether a container port's name is one (IANA_SVC_NAME: at most 15 of `a-z0-9-`, one letter at
/// least).
pub(crate) fn is_port_name(name: &str) -> bool {
    NameRule::Label.check(name).is_ok()
        && name.len() <= 15
        && name.bytes().any(|b| b.is_ascii_lowercase())
        && !name.contains("--")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_1123() {
        let long = "a".repeat(64);
        for (rule, name, ok) in [
            (NameRule::Label, "web-1", true),
            (NameRule::Label, "1web", true),
            (NameRule::Label, "web.1", false),
            (NameRule::Label, "-web", false),
            (NameRule::Label, "Web", false),
            (NameRule::Label, &long, false),
            (NameRule::Subdomain, &long, true),
            (NameRule::Subdomain, "node1.example.org", true),
            (NameRule::Subdomain, "node1..org", false),
            (NameRule::Subdomain, "a_b", false),
            (NameRule::Subdomain, "", false),
        ] {
            assert_eq!(rule.check(name).is_ok(), ok, "{rule:?} {name}");
        }
        assert!(is_port_name("http-8080") && !is_port_name("8080") && !is_port_name("a--b"));
    }
}
