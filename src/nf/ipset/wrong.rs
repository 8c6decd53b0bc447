//! Why a command was not carried out: a word that cannot be read, or the kernel's refusal.
//!
//! Invariant: every variant of [`Refused`] is one error of the kernel's (include/uapi/linux/netfilter/ipset/
//! ip_set.h `enum ipset_errno`), except [`Refused::TooMany`] and [`Refused::Unknown`], which are podpath's.

use thiserror::Error;

/// A command that was not carried out.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("{message}")]
pub struct Wrong {
    /// Which of the command's words, from 0.
    pub word: usize,
    /// Where in that word, in bytes.
    pub at: usize,
    /// What was expected, or why the kernel refuses.
    pub message: String,
}

impl Wrong {
    /// Word `word` is not what stands there: "expected ...".
    pub(super) fn expected(word: usize, what: impl core::fmt::Display) -> Self {
        Wrong {
            word,
            at: 0,
            message: format!("expected {what}"),
        }
    }

    /// The kernel refuses.
    pub(super) fn refused(word: usize, why: Refused) -> Self {
        Wrong {
            word,
            at: 0,
            message: why.to_string(),
        }
    }
}

/// Why the kernel refuses, in the words that ipset uses (libipset errcode.c).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum Refused {
    /// ENOENT.
    #[error("there is no set of this name")]
    NoSuchSet,
    /// IPSET_ERR_EXIST_SETNAME2 and EEXIST of create.
    #[error("a set of this name exists already")]
    SetExists,
    /// IPSET_ERR_BUSY.
    #[error("the set cannot be destroyed: a list:set or a rule refers to it")]
    Busy,
    /// IPSET_ERR_REFERENCED.
    #[error("the set cannot be renamed: a list:set or a rule refers to it")]
    Referenced,
    /// IPSET_ERR_TYPE_MISMATCH.
    #[error("the sets cannot be swapped: their types do not match")]
    TypeMismatch,
    /// IPSET_ERR_EXIST of add.
    #[error("the element is in the set already")]
    Exists,
    /// IPSET_ERR_EXIST of del.
    #[error("the element is not in the set")]
    Missing,
    /// IPSET_ERR_HASH_FULL.
    #[error("the set is full (maxelem)")]
    Full,
    /// IPSET_ERR_HASH_ELEM.
    #[error("an element of zero cannot be stored in a hash")]
    Null,
    /// IPSET_ERR_INVALID_CIDR.
    #[error("the prefix length is not allowed here")]
    Prefix,
    /// IPSET_ERR_HASH_RANGE.
    #[error("a range of all addresses cannot be stored")]
    WholeRange,
    /// IPSET_ERR_BITMAP_RANGE.
    #[error("the element is outside the set's range")]
    Range,
    /// IPSET_ERR_BITMAP_RANGE_SIZE.
    #[error("the range has more than 65536 elements")]
    RangeSize,
    /// IPSET_ERR_TIMEOUT.
    #[error("the set was created without `timeout`")]
    NoTimeout,
    /// IPSET_ERR_COUNTER.
    #[error("the set was created without `counters`")]
    NoCounters,
    /// IPSET_ERR_COMMENT.
    #[error("the set was created without `comment`")]
    NoComment,
    /// IPSET_ERR_SKBINFO.
    #[error("the set was created without `skbinfo`")]
    NoSkbinfo,
    /// IPSET_ERR_NAME.
    #[error("the set that is to be a member does not exist")]
    NoMember,
    /// IPSET_ERR_LOOP.
    #[error("a list:set cannot be a member of a list:set")]
    Loop,
    /// IPSET_ERR_NAMEREF, IPSET_ERR_REF_EXIST.
    #[error("the set named by `before` or `after` is not a member there")]
    Neighbour,
    /// The packet has not what the set's type wants, or too few directions were given.
    #[error("the packet has not what the set's type wants")]
    NotInPacket,
    /// A cap of podpath's (base::limits).
    #[error("more elements than podpath holds")]
    TooMany,
    /// The set's type or an option of it is not known to podpath.
    #[error("the set's type is not known to podpath")]
    Unknown,
}
