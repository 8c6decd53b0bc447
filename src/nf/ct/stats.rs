//! Counters of the table (kernel: `struct ip_conntrack_stat`).
//!
//! Invariant: they only grow.

/// What `conntrack -S` shows, over all CPUs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs, reason = "the tool's own names")]
pub struct CtStats {
    pub found: u64,
    pub invalid: u64,
    pub ignore: u64,
    pub insert: u64,
    pub insert_failed: u64,
    pub drop: u64,
    pub early_drop: u64,
    pub error: u64,
    pub search_restart: u64,
    pub clash_resolve: u64,
    pub chaintoolong: u64,
    pub expect_new: u64,
    pub expect_create: u64,
    pub expect_delete: u64,
}
