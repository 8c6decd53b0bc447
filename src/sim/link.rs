//! What a cable does to frames: delay, loss, blocking. One direction each.

use crate::base::Rng;
use crate::path::DropReason;
use crate::wire::{ETH_P_IP, ETH_P_IPV6, Frame, IpHeader};
use core::time::Duration;
use ipnetwork::IpNetwork;

/// Traffic that the fabric drops: a security group, a firewall between machines. All that is given must match
/// the outer packet.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Block {
    /// IP protocol number.
    pub proto: Option<u8>,
    /// Destination port of TCP, UDP and SCTP.
    pub port: Option<u16>,
    /// Senders; any when empty.
    pub from: Vec<IpNetwork>,
    /// Receivers; any when empty.
    pub to: Vec<IpNetwork>,
}

impl Block {
    /// Whether the block stops a frame. ARP is no IP traffic and passes.
    pub fn stops(&self, f: &Frame) -> bool {
        if !matches!(f.ethertype(), ETH_P_IP | ETH_P_IPV6) {
            return false;
        }
        let Ok(h) = IpHeader::parse_lax(f.l3()) else {
            return false;
        };
        let inside =
            |nets: &[IpNetwork], ip| nets.is_empty() || nets.iter().any(|n| n.contains(ip));
        self.proto.is_none_or(|p| p == h.proto)
            && (self.port.is_none() || self.port == h.ports(f.l3()).map(|p| p.1))
            && inside(&self.from, h.src)
            && inside(&self.to, h.dst)
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
    /// Whether it takes every frame across at once that is not too long.
    pub(crate) fn is_plain(&self) -> bool {
        self.latency.is_zero() && self.loss_ppm == 0 && self.blocked.is_empty()
    }

    /// Why a frame does not arrive, if it does not.
    pub(crate) fn fate(&self, f: &Frame, rng: &mut Rng) -> Option<DropReason> {
        if self.blocked.iter().any(|b| b.stops(f)) {
            return Some(DropReason::LinkBlocked);
        }
        if self.mtu.is_some_and(|m| f.l3().len() > m as usize) {
            return Some(DropReason::PeerMtu);
        }
        (self.loss_ppm > 0 && rng.below(1_000_000) < u64::from(self.loss_ppm))
            .then_some(DropReason::LinkLoss)
    }
}
