//! Policy rules (`ip rule`) and the flow they are asked about.
//!
//! Knows no tables. Invariant: a rule without conditions matches every flow of its family.

use crate::base::{DevId, Origin};
use crate::net::addr::Scope;
use ipnetwork::IpNetwork;
use std::net::IpAddr;

/// What a policy rule does when it matches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RuleAction {
    /// Look up this table.
    Table(u32),
    /// `blackhole`
    Blackhole,
    /// `unreachable`
    Unreachable,
    /// `prohibit`
    Prohibit,
    /// Go on at this priority.
    Goto(u32),
    /// Nothing.
    Nop,
}

/// An `ip rule`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PolicyRule {
    /// Priority; lower first.
    pub priority: u32,
    /// Invert the whole match (`not`).
    pub not: bool,
    /// Source prefix.
    pub from: Option<IpNetwork>,
    /// Destination prefix.
    pub to: Option<IpNetwork>,
    /// Input device name (`lo` for what this host sends itself).
    pub iif: Option<String>,
    /// Output device name.
    pub oif: Option<String>,
    /// Mark and mask.
    pub fwmark: Option<(u32, u32)>,
    /// TOS.
    pub tos: u8,
    /// IP protocol.
    pub ipproto: Option<u8>,
    /// Source ports, first and last.
    pub sport: Option<(u16, u16)>,
    /// Destination ports, first and last.
    pub dport: Option<(u16, u16)>,
    /// What to do.
    pub action: RuleAction,
    /// Refuse results whose prefix is this long or shorter.
    pub suppress_prefixlength: Option<u8>,
    /// Where it came from.
    pub origin: Origin,
}

impl PolicyRule {
    /// `from all lookup TABLE` at `priority`.
    pub fn lookup(priority: u32, table: u32, origin: Origin) -> Self {
        PolicyRule {
            priority,
            not: false,
            from: None,
            to: None,
            iif: None,
            oif: None,
            fwmark: None,
            tos: 0,
            ipproto: None,
            sport: None,
            dport: None,
            action: RuleAction::Table(table),
            suppress_prefixlength: None,
            origin,
        }
    }

    pub(super) fn matches(&self, f: &Flow<'_>) -> bool {
        let m = self
            .from
            .is_none_or(|n| f.src.map_or(n.prefix() == 0, |s| n.contains(s)))
            && self.to.is_none_or(|n| n.contains(f.dst))
            && self.iif.as_deref().is_none_or(|i| f.iif_name == i)
            && self.oif.as_deref().is_none_or(|o| f.oif_name == Some(o))
            && self
                .fwmark
                .is_none_or(|(v, mask)| f.mark & mask == v & mask)
            && (self.tos == 0 || self.tos == f.tos & 0x1c)
            && self.ipproto.is_none_or(|p| f.l4.proto == p)
            && in_range(self.sport, f.l4.ports.map(|p| p.0))
            && in_range(self.dport, f.l4.ports.map(|p| p.1));
        m != self.not
    }
}

/// Whether a port is in a range; without a port only an absent range fits.
fn in_range(range: Option<(u16, u16)>, port: Option<u16>) -> bool {
    range.is_none_or(|(lo, hi)| port.is_some_and(|p| (lo..=hi).contains(&p)))
}

/// What a lookup knows of the layer above.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FlowL4 {
    /// IP protocol, 0 when unknown.
    pub proto: u8,
    /// Source and destination port; none for fragments, even first ones.
    pub ports: Option<(u16, u16)>,
}

impl FlowL4 {
    /// From a packet (kernel: `fib4_rules_early_flow_dissect`).
    pub fn of(h: &crate::wire::IpHeader, packet: &[u8]) -> Self {
        FlowL4 {
            proto: h.proto,
            ports: if h.is_fragment() {
                None
            } else {
                h.ports(packet)
            },
        }
    }
}

/// How next hops of a multipath route are hashed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Multipath {
    /// `net.ipv4.fib_multipath_hash_policy`: 0 addresses, 1 addresses, protocol and ports.
    pub policy: i32,
    /// `net.ipv4.fib_multipath_hash_seed`; 0 is the kernel's own random one, which nobody can know.
    pub seed: u32,
}

/// What a lookup is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Flow<'a> {
    /// Source, where known.
    pub src: Option<IpAddr>,
    /// Destination.
    pub dst: IpAddr,
    /// Input device's name; `lo` for locally made packets.
    pub iif_name: &'a str,
    /// Required output device.
    pub oif: Option<DevId>,
    /// Required output device's name.
    pub oif_name: Option<&'a str>,
    /// Firewall mark.
    pub mark: u32,
    /// TOS.
    pub tos: u8,
    /// Protocol and ports.
    pub l4: FlowL4,
    /// How multipath routes hash.
    pub multipath: Multipath,
    /// Smallest scope the route must have (source validation asks for less than universe).
    pub scope: Scope,
}
