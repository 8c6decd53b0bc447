//! What one packet's walk touched in a namespace's netfilter, for whoever compiles the walk.
//!
//! Kept only while somebody asked for it ([`super::Netfilter::record`]). Invariant: a rule that may answer
//! two packets of one flow differently, or that remembers packets, is named in `varies`.

use super::compound::TcpFlags;
use super::eval::RuleRef;
use super::flags::TcpFlagSet;
use super::ipset::Sets;
use super::netfilter::Backend;
use super::target::Target;
use super::{Family, Match, TableName};
use crate::base::Instant;

/// A rule's or policy's counters in a loaded rule set.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CounterAt {
    /// IPv4 or IPv6.
    pub family: Family,
    /// Which rule set.
    pub backend: Backend,
    /// The table.
    pub table: TableName,
    /// Number of the counter in the table.
    pub id: u32,
}

/// What counts packets, or notes when the last one came, and says nothing else of them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum CountAt {
    /// Of an iptables rule.
    Table(CounterAt),
    /// A statement of a native rule, by its number in the loaded rule set.
    Native(u32),
    /// A native counter with a name: its table and its place there.
    Object(u16, u16),
    /// Of a set's element: the element's number among those that were counted at, and which of its own.
    Element(u32, u8),
}

/// What was touched.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// What counted one packet, and the length that it had there.
    pub counters: Vec<(CountAt, usize)>,
    /// The first rule whose answer is not the flow's alone.
    pub varies: Option<RuleRef>,
    /// When the first of the sets' elements goes that were found.
    pub until: Option<Instant>,
}

impl Record {
    /// Empties it; its room stays.
    pub fn clear(&mut self) {
        self.counters.clear();
        self.varies = None;
        self.until = None;
    }

    /// The answer holds until then.
    pub fn until(&mut self, end: Instant) {
        self.until = Some(self.until.map_or(end, |t| t.min(end)));
    }
}

/// Whether flags are those that the key of a segment tells: all but PSH.
fn judged(f: &TcpFlags) -> bool {
    f.mask.0 & TcpFlagSet::PSH.0 == 0
}

/// Whether a match gives every packet of a flow the same answer, and remembers none of them. The flow is its
/// addresses, protocol, ports, TCP flags, TOS and devices, its connection, and the state of the
/// configuration.
pub(super) fn steady(m: &Match, sets: &Sets) -> bool {
    match m {
        Match::Source(_) | Match::Destination(_) | Match::Protocol(_) | Match::Fragment(_) => true,
        Match::InInterface(_) | Match::OutInterface(_) => true,
        Match::Tcp(t) => t.option.is_none() && t.flags.as_ref().is_none_or(|f| judged(&f.value)),
        Match::Udp(_) | Match::Multiport(_) | Match::AddrType(_) | Match::Comment(_) => true,
        Match::Conntrack(c) => c.expire.is_none(),
        Match::State(_) | Match::Mark(_) | Match::Connmark(_) => true,
        Match::Set(s) => s.set.as_ref().is_some_and(|s| sets.is_plain(&s.value)),
        Match::Physdev(_) | Match::Mac(_) | Match::IpRange(_) | Match::Rpfilter(_) => true,
        Match::Tos(_) | Match::Dscp(_) | Match::Pkttype(_) | Match::Helper(_) => true,
        _ => false,
    }
}

/// The same of a target.
pub(super) fn steady_target(t: &Target) -> bool {
    matches!(
        t,
        Target::Mark(_)
            | Target::Connmark(_)
            | Target::Ct(_)
            | Target::Notrack(_)
            | Target::Dnat(_)
            | Target::Snat(_)
            | Target::Masquerade(_)
            | Target::Redirect(_)
            | Target::Netmap(_)
    )
}
