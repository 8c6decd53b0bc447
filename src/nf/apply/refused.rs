//! Why a command was not carried out, in the tool's words.
//!
//! The texts and exit statuses are those of iptables 1.8.9 (nft-shared, `nft_strerror`, libiptc
//! `TC_STRERROR`, xshared `xtables_error`), read off the tool.

use super::Tool;
use crate::base::{Finding, Span};
use crate::nf::netfilter::Backend;

/// A refusal: what goes to standard error, the exit status and where the mistake is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refused {
    /// Exit status: 1 for "not there" and its kin, 2 for usage, 3 for a table, 4 for the kernel's no (nft).
    pub status: u8,
    /// Standard error.
    pub stderr: String,
    /// The same for the user of podpath, with its place.
    pub finding: Finding,
}

impl Refused {
    /// With `span` as the place of the whole command, in which the reason names an offset.
    pub(super) fn new(tool: Tool, (at, reason): (usize, Reason), span: Span) -> Self {
        let (status, stderr) = reason.text(tool, tool.name());
        let span = match span.line {
            0 => span,
            _ => Span {
                column: (span.column.max(1)).saturating_add(u32::try_from(at).unwrap_or(0)),
                ..span
            },
        };
        let finding = Finding::error(
            span,
            format!("{}: {}", tool.name(), reason.sentence(tool)),
            reason.help(),
        );
        Refused {
            status,
            stderr,
            finding,
        }
    }
}

impl From<Refused> for Finding {
    fn from(r: Refused) -> Self {
        r.finding
    }
}

/// What the kernel has against a change of the rules.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum No {
    /// A rule or extension that must not stand in this table or below this hook.
    Invalid,
    /// A jump that leads back, or deeper than the nft back end may go.
    Loop,
    /// A jump to a built-in chain.
    Builtin,
    /// A chain that a rule jumps to cannot go.
    Referenced,
    /// A chain with rules cannot go.
    NotEmpty,
}

/// Why.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Reason {
    Usage(String),
    BadArgument(String),
    NoTarget(String),
    NoTable(String),
    NoChain,
    BadRule,
    ChainExists,
    DeletionTooBig,
    InsertionTooBig,
    ReplacementTooBig,
    CounterTooBig,
    BadBuiltin,
    BadPolicy,
    FileExists,
    /// The step's name (nft), the object it was done to, what is wrong.
    Kernel(&'static str, String, No),
    /// Of a restore input.
    CommitExpected,
    /// Of a restore input: a line outside of a table.
    Outside,
}

impl Reason {
    /// One sentence, without the tool's name.
    pub(super) fn sentence(&self, tool: Tool) -> String {
        let nft = tool.backend == Backend::Nft;
        let fixed = match self {
            Reason::Usage(t) => return t.trim().to_owned(),
            Reason::BadArgument(w) => return format!("Bad argument `{w}'"),
            Reason::NoTarget(c) if nft => return format!("Chain '{c}' does not exist"),
            Reason::NoTarget(c) => {
                return format!("Couldn't load target `{c}':No such file or directory");
            }
            Reason::NoTable(t) if nft => return format!("table '{t}' does not exist"),
            Reason::NoTable(t) => {
                return format!(
                    "can't initialize iptables table `{t}': Table does not exist (do you need to insmod?)"
                );
            }
            Reason::Kernel(step, what, no) if nft => {
                return format!("{step} failed ({}): {what}", errno(*no));
            }
            Reason::Kernel(_, _, No::Invalid | No::Builtin) => {
                "Invalid argument. Run `dmesg' for more information."
            }
            Reason::Kernel(_, _, No::Loop) => "Too many levels of symbolic links.",
            Reason::Kernel(_, _, No::Referenced) => "Too many links.",
            Reason::Kernel(_, _, No::NotEmpty) => "Directory not empty.",
            Reason::NoChain => "No chain/target/match by that name.",
            Reason::BadRule => "Bad rule (does a matching rule exist in that chain?).",
            Reason::ChainExists => "Chain already exists.",
            Reason::DeletionTooBig => "Index of deletion too big.",
            Reason::InsertionTooBig => "Index of insertion too big.",
            Reason::ReplacementTooBig => "Index of replacement too big.",
            Reason::CounterTooBig => "Index of counter too big.",
            Reason::BadBuiltin => "Bad built-in chain name.",
            Reason::BadPolicy => "Bad policy name. Run `dmesg' for more information.",
            Reason::FileExists => "File exists.",
            Reason::CommitExpected => "COMMIT expected before the end of the input",
            Reason::Outside => "expected `*table` before its chains and rules",
        };
        fixed.to_owned()
    }

    fn help(&self) -> &'static str {
        match self {
            Reason::NoTarget(_) => "create the chain before a rule jumps to it",
            Reason::Kernel(_, _, No::Referenced) => "delete the rules that jump to it first",
            Reason::Kernel(_, _, No::NotEmpty) => "flush the chain first",
            Reason::Kernel(_, _, No::Invalid) => {
                "the extension is not allowed in this table or below this hook"
            }
            _ => "nothing was changed",
        }
    }

    /// Exit status and standard error of the program called `name`.
    pub(super) fn text(&self, tool: Tool, name: &str) -> (u8, String) {
        let kind = match tool.backend {
            Backend::Nft => "nf_tables",
            Backend::Legacy => "legacy",
        };
        let said = self.sentence(tool);
        let try_help = format!("Try `{name} -h' or '{name} --help' for more information.\n");
        let legacy_blank = match self {
            Reason::NoTarget(_) if tool.backend == Backend::Legacy => "\n",
            _ => "",
        };
        match self {
            Reason::Usage(raw) => (2, format!("{name} v1.8.9 ({kind}): {raw}\n{try_help}")),
            Reason::NoTarget(_) => (
                2,
                format!("{name} v1.8.9 ({kind}): {said}\n{legacy_blank}{try_help}"),
            ),
            Reason::BadArgument(_) => (2, format!("{said}\n{try_help}")),
            Reason::NoTable(_) => (
                3,
                format!(
                    "{name} v1.8.9 ({kind}): {said}\nPerhaps iptables or your kernel needs to be upgraded.\n"
                ),
            ),
            Reason::Kernel(..) if tool.backend == Backend::Nft => {
                (4, format!("{name} v1.8.9 ({kind}):  {said}\n"))
            }
            _ => (1, format!("{name}: {said}\n")),
        }
    }

    /// Exit status and standard error of the restore program at a line.
    pub(super) fn restore_text(&self, tool: Tool, line: u32) -> (u8, String) {
        let name = format!("{}-restore", tool.name());
        let nft = tool.backend == Backend::Nft;
        let kind = if nft { "nf_tables" } else { "legacy" };
        let said = self.sentence(tool);
        let raw = match self {
            Reason::Usage(raw) => raw,
            _ => &said,
        };
        let blank = match self {
            Reason::NoTarget(_) if !nft => "\n",
            _ => "",
        };
        match self {
            Reason::CommitExpected => (1, format!("{name}: COMMIT expected at line {line}\n")),
            Reason::Kernel(..) if nft => (
                4,
                format!("{name} v1.8.9 ({kind}): \nline {line}: {said}\n"),
            ),
            Reason::Usage(_) | Reason::NoTarget(_) | Reason::NoTable(_) => (
                2,
                format!(
                    "{name} v1.8.9 ({kind}): {raw}\n{blank}Error occurred at line: {line}\n\
                     Try `{name} -h' or '{name} --help' for more information.\n"
                ),
            ),
            Reason::BadArgument(_) => (
                2,
                format!(
                    "{said}\nError occurred at line: {line}\n\
                     Try `{name} -h' or '{name} --help' for more information.\n"
                ),
            ),
            Reason::Outside => (1, format!("{name}: line {line} failed\n")),
            _ if nft => (1, format!("{name}: line {line} failed: {said}\n")),
            _ => (1, format!("{name}: line {line} failed\n")),
        }
    }
}

/// The kernel's error as nf_tables gives it (`nf_tables_delchain`, `nft_chain_validate`).
fn errno(no: No) -> &'static str {
    match no {
        No::Invalid => "Invalid argument",
        No::Loop => "Too many links",
        No::Builtin => "Operation not supported",
        No::Referenced | No::NotEmpty => "Device or resource busy",
    }
}
