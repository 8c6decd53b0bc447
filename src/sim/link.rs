//! What a cable does to frames: delay, loss, blocking. One direction each.

use crate::base::{NodeId, Rng};
use crate::path::DropReason;
use crate::wire::{ETH_P_IP, ETH_P_IPV6, Frame, IpHeader};
use core::time::Duration;

/// Traffic that the fabric drops: a security group, a firewall between machines.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Block {
    /// IP protocol number.
    pub proto: u8,
    /// Destination port of UDP and TCP.
    pub port: Option<u16>,
    /// Only from this node.
    pub from: Option<NodeId>,
    /// Only to this node.
    pub to: Option<NodeId>,
}

impl Block {
    /// Whether the block stops `f` on its way out of `from`. The far end is judged by `to_addrs`.
    fn stops(&self, f: &Frame, from: NodeId) -> bool {
        if !matches!(f.ethertype(), ETH_P_IP | ETH_P_IPV6) || self.from.is_some_and(|n| n != from) {
            return false;
        }
        let Ok(h) = IpHeader::parse_lax(f.l3()) else {
            return false;
        };
        let port = h.ports(f.l3()).map(|p| p.1);
        h.proto == self.proto && (self.port.is_none() || self.port == port)
    }
}

/// Properties of a cable out of one of its ends.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Link {
    /// Time on the way.
    pub latency: Duration,
    /// Frames lost, per million.
    pub loss_ppm: u32,
    /// Largest IP packet it carries silently; larger ones vanish. `None`: no limit of its own.
    pub mtu: Option<u32>,
    /// What the fabric drops.
    pub blocked: Vec<Block>,
}

impl Link {
    /// Why a frame does not arrive, if it does not.
    pub(crate) fn fate(
        &self,
        f: &Frame,
        from: NodeId,
        to: NodeId,
        rng: &mut Rng,
    ) -> Option<DropReason> {
        if self
            .blocked
            .iter()
            .any(|b| b.to.is_none_or(|n| n == to) && b.stops(f, from))
        {
            return Some(DropReason::LinkBlocked);
        }
        if self.mtu.is_some_and(|m| f.l3().len() > m as usize) {
            return Some(DropReason::PeerMtu);
        }
        (self.loss_ppm > 0 && rng.below(1_000_000) < u64::from(self.loss_ppm))
            .then_some(DropReason::LinkLoss)
    }
}
