//! Paths of fields as kubectl's jsonpath writes them: `spec.containers[0].name`.
//!
//! Keys with dots or slashes are quoted: `metadata.annotations["podpath.dev/listen"]`. A path under
//! construction is a chain of stack frames, so that walking without errors allocates nothing.

use core::fmt;

/// One step of a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Segment<'a> {
    /// A field of an object.
    Key(&'a str),
    /// An item of a list.
    Index(usize),
}

/// A step and, through it, all steps before it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Path<'p> {
    /// The steps before.
    pub parent: Option<&'p Path<'p>>,
    /// The last step.
    pub segment: Segment<'p>,
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            write!(f, "{parent}")?;
        }
        match self.segment {
            Segment::Index(index) => write!(f, "[{index}]"),
            Segment::Key(key) if key.contains(['.', '/', '[', ' ']) || key.is_empty() => {
                write!(f, "[\"{}\"]", key.escape_debug())
            }
            Segment::Key(key) if self.parent.is_some() => write!(f, ".{key}"),
            Segment::Key(key) => f.write_str(key),
        }
    }
}

/// The steps of a written path. What cannot be read ends it.
pub(super) fn segments(path: &str) -> impl Iterator<Item = Segment<'_>> {
    let mut rest = path;
    core::iter::from_fn(move || {
        if let Some(quoted) = rest.strip_prefix("[\"") {
            let (key, after) = quoted.split_once("\"]")?;
            rest = after;
            return Some(Segment::Key(key));
        }
        if let Some(bracket) = rest.strip_prefix('[') {
            let (index, after) = bracket.split_once(']')?;
            rest = after;
            return index.parse().ok().map(Segment::Index);
        }
        let bare = rest.strip_prefix('.').unwrap_or(rest);
        let end = bare.find(['.', '[']).unwrap_or(bare.len());
        let (key, after) = bare.split_at_checked(end)?;
        rest = after;
        (!key.is_empty()).then_some(Segment::Key(key))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes() {
        let read: Vec<_> = segments("spec.a[3][\"x.y/z\"].b").collect();
        let expected = ["spec", "a", "3", "x.y/z", "b"].map(|s| match s.parse() {
            Ok(index) => Segment::Index(index),
            Err(_) => Segment::Key(s),
        });
        assert_eq!(read, expected);
        let spec = Path {
            parent: None,
            segment: Segment::Key("spec"),
        };
        let item = Path {
            parent: Some(&spec),
            segment: Segment::Index(2),
        };
        let key = Path {
            parent: Some(&item),
            segment: Segment::Key("a/b"),
        };
        assert_eq!(key.to_string(), "spec[2][\"a/b\"]");
        assert_eq!(
            segments("").count() + segments("[").count() + segments("[x]").count(),
            0
        );
    }
}
