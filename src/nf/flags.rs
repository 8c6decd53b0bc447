//! Sets of named bits, printed as comma lists in the order the tools print them.
//!
//! Holds the names and nothing of their meaning in a packet. Invariant: only named bits are ever set.

use super::field::Value;
use super::table::Family;

macro_rules! flags {
    ($($(#[$meta:meta])* $name:ident { $($flag:ident = $text:literal),+ }
        also { $($alias:literal => $set:expr),* })+) => { $(
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
        pub struct $name(pub u32);

        #[allow(non_upper_case_globals, missing_docs, reason = "the flags' own names")]
        impl $name {
            flags!(@bits 0u32; $($flag)+);
            const NAMES: &'static [(&'static str, u32)] = &[$(($text, Self::$flag.0)),+];
            const ALIASES: &'static [(&'static str, u32)] = &[$(($alias, $set)),*];

            /// Whether all of `other` are in it.
            pub fn has(self, other: Self) -> bool {
                self.0 & other.0 == other.0
            }

            /// Reads a comma list; letter case does not matter.
            pub fn parse(text: &str) -> Result<Self, String> {
                let mut set = 0;
                for word in text.split(',') {
                    let mut all = Self::NAMES.iter().chain(Self::ALIASES);
                    match all.find(|(n, _)| n.eq_ignore_ascii_case(word)) {
                        Some((_, bit)) => set |= bit,
                        None => {
                            let names: Vec<&str> = Self::NAMES.iter().map(|n| n.0).collect();
                            return Err(format!("a list of {}", names.join(", ")));
                        }
                    }
                }
                Ok($name(set))
            }

            /// Appends the comma list.
            pub fn list(self, out: &mut String) {
                let names = Self::NAMES.iter().filter(|(_, b)| *b != 0 && self.0 & b == *b);
                let names: Vec<&str> = names.map(|n| n.0).collect();
                let zero = Self::NAMES.iter().chain(Self::ALIASES).find(|n| n.1 == 0);
                out.push_str(&match (names.is_empty(), zero) {
                    (true, Some((none, _))) => (*none).to_owned(),
                    _ => names.join(","),
                });
            }
        }

        impl Value for $name {
            fn read(_: &str, words: &[&str], _: Family) -> Result<Self, String> {
                Self::parse(words.first().copied().unwrap_or_default())
            }
            fn text(&self, out: &mut String) {
                self.list(out);
            }
        }
    )+ };
    (@bits $n:expr; $flag:ident $($rest:ident)*) => {
        pub const $flag: Self = Self(1 << $n);
        flags!(@bits $n + 1; $($rest)*);
    };
    (@bits $n:expr;) => {};
}

flags! {
    /// States of `-m conntrack --ctstate` and `-m state`, in libxt_conntrack's printing order.
    CtStates { INVALID = "INVALID", NEW = "NEW", RELATED = "RELATED", ESTABLISHED = "ESTABLISHED",
        UNTRACKED = "UNTRACKED", SNAT = "SNAT", DNAT = "DNAT" } also {}
    /// `--ctstatus` (uapi nf_conntrack_common.h, ip_conntrack_status).
    CtStatus { EXPECTED = "EXPECTED", SEEN_REPLY = "SEEN_REPLY", ASSURED = "ASSURED",
        CONFIRMED = "CONFIRMED" }
        also { "NONE" => 0 }
    /// Address types of `-m addrtype` (uapi xt_addrtype.h).
    AddrTypes { UNSPEC = "UNSPEC", UNICAST = "UNICAST", LOCAL = "LOCAL", BROADCAST = "BROADCAST",
        ANYCAST = "ANYCAST", MULTICAST = "MULTICAST", BLACKHOLE = "BLACKHOLE", UNREACHABLE = "UNREACHABLE",
        PROHIBIT = "PROHIBIT", THROW = "THROW", NAT = "NAT", XRESOLVE = "XRESOLVE" } also {}
    /// TCP flags in header order: bit 0 is FIN.
    TcpFlagSet { FIN = "FIN", SYN = "SYN", RST = "RST", PSH = "PSH", ACK = "ACK", URG = "URG" }
        also { "NONE" => 0, "ALL" => 0x3f }
    /// What a hashlimit bucket is keyed by.
    HashMode { SRCIP = "srcip", SRCPORT = "srcport", DSTIP = "dstip", DSTPORT = "dstport" } also {}
    /// Days, bit 0 is Monday.
    Weekdays { MON = "Mon", TUE = "Tue", WED = "Wed", THU = "Thu", FRI = "Fri", SAT = "Sat", SUN = "Sun" }
        also { "1" => 1, "2" => 2, "3" => 4, "4" => 8, "5" => 16, "6" => 32, "7" => 64,
            "Mo" => 1, "Tu" => 2, "We" => 4, "Th" => 8, "Fr" => 16, "Sa" => 32, "Su" => 64 }
    /// Events of `CT --ctevents`.
    CtEvents { NEW = "new", RELATED = "related", DESTROY = "destroy", REPLY = "reply", ASSURED = "assured",
        PROTOINFO = "protoinfo", HELPER = "helper", MARK = "mark", NATSEQINFO = "natseqinfo",
        SECMARK = "secmark" } also {}
}
