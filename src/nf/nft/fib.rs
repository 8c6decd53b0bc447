//! `fib`: a lookup in the routing tables as an expression, and its words.
//!
//! Looks nothing up. Invariant: the words are nft's, in the order in which it prints them.

/// A FIB lookup: what goes in and what comes out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Fib {
    /// The source address is looked up.
    pub saddr: bool,
    /// The destination address is looked up.
    pub daddr: bool,
    /// The mark is part of the lookup.
    pub mark: bool,
    /// The input device must be the route's.
    pub iif: bool,
    /// The output device must be the route's.
    pub oif: bool,
    /// What comes out.
    pub result: FibResult,
    /// Whether only presence is asked (`exists`, `missing`).
    pub exists: bool,
}

impl Fib {
    /// The words of what goes in, in the order in which nft prints them.
    pub fn words(&self) -> Vec<&'static str> {
        let flags = [
            (self.saddr, "saddr"),
            (self.daddr, "daddr"),
            (self.mark, "mark"),
            (self.iif, "iif"),
            (self.oif, "oif"),
        ];
        flags.into_iter().filter(|f| f.0).map(|f| f.1).collect()
    }
}

/// What a FIB lookup gives.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum FibResult {
    /// `oif`
    Oif,
    /// `oifname`
    OifName,
    /// `type`
    #[default]
    Type,
}

impl FibResult {
    /// nft's word.
    pub fn word(self) -> &'static str {
        match self {
            FibResult::Oif => "oif",
            FibResult::OifName => "oifname",
            FibResult::Type => "type",
        }
    }
}
