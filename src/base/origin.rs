//! Where a rule, route, address or device came from: shown beside every step of a trace.

use core::fmt;
use std::sync::Arc;

/// The source of one piece of state. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Origin {
    /// The kernel itself made it (a connected route, a learned neighbour).
    #[default]
    Kernel,
    /// A line of a manifest.
    Manifest {
        /// The file as the user named it, `-` for standard input.
        file: Arc<str>,
        /// 1-based line.
        line: u32,
        /// 1-based column.
        column: u32,
    },
    /// A line of a node dump.
    Dump {
        /// The dump file.
        file: Arc<str>,
        /// 1-based line.
        line: u32,
    },
    /// A controller (CNI plugin, IPAM, kube-proxy...) generated it.
    Controller {
        /// Who: `flannel`, `bridge`, `host-local`...
        name: &'static str,
        /// From what: the object and, where known, its file and line.
        from: Arc<str>,
    },
    /// A step of a scenario or a fault set by the user.
    Scenario(Arc<str>),
}

impl Origin {
    /// A controller's product, made from `from`.
    pub fn controller(name: &'static str, from: impl Into<Arc<str>>) -> Self {
        Origin::Controller {
            name,
            from: from.into(),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Kernel => f.write_str("kernel"),
            Origin::Manifest { file, line, column } => write!(f, "{file}:{line}:{column}"),
            Origin::Dump { file, line } => write!(f, "{file}:{line}"),
            Origin::Controller { name, from } if from.is_empty() => f.write_str(name),
            Origin::Controller { name, from } => write!(f, "{name} from {from}"),
            Origin::Scenario(s) => f.write_str(s),
        }
    }
}
