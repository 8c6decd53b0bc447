//! One connection.
//!
//! Invariant: `tuples[0]` is as the first packet came in, `tuples[1]` as replies come in, translated
//! or not; once `CONFIRMED` is set only the table changes the tuples.

use super::tuple::{CtTuple, Dir};
use crate::base::{DevId, Instant};
use crate::nf::Counters;
use crate::wire::ConnId;
use core::time::Duration;

/// Status bits (uapi nf_conntrack_common.h `enum ip_conntrack_status`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CtStatus(pub u32);

#[allow(missing_docs, reason = "the kernel's own names, IPS_ left out")]
impl CtStatus {
    pub const EXPECTED: u32 = 1;
    pub const SEEN_REPLY: u32 = 1 << 1;
    pub const ASSURED: u32 = 1 << 2;
    pub const CONFIRMED: u32 = 1 << 3;
    pub const SRC_NAT: u32 = 1 << 4;
    pub const DST_NAT: u32 = 1 << 5;
    pub const SEQ_ADJUST: u32 = 1 << 6;
    pub const SRC_NAT_DONE: u32 = 1 << 7;
    pub const DST_NAT_DONE: u32 = 1 << 8;
    pub const DYING: u32 = 1 << 9;
    pub const FIXED_TIMEOUT: u32 = 1 << 10;
    pub const NAT_CLASH: u32 = 1 << 12;
    pub const HELPER: u32 = 1 << 13;
    pub const NAT_DONE_MASK: u32 = Self::SRC_NAT_DONE | Self::DST_NAT_DONE;
    pub const NAT_MASK: u32 = Self::SRC_NAT | Self::DST_NAT;

    /// Whether any of `bits` is set.
    pub fn any(self, bits: u32) -> bool {
        self.0 & bits != 0
    }

    /// Sets bits.
    pub fn set(&mut self, bits: u32) {
        self.0 |= bits;
    }

    /// Clears bits.
    pub fn clear(&mut self, bits: u32) {
        self.0 &= !bits;
    }
}

/// Zones of the two directions; 0 is the default zone (kernel: `struct nf_conntrack_zone`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Zones {
    /// Zone in which the original tuple is looked up.
    pub orig: u16,
    /// Zone in which the reply tuple is looked up.
    pub reply: u16,
}

/// What the protocol's tracker remembers.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum ProtoState {
    /// No state: ICMP and protocols without a tracker.
    #[default]
    Generic,
}

/// A connection (kernel: `struct nf_conn`).
#[derive(Clone, Debug)]
pub struct Conn {
    /// Tuples by direction.
    pub tuples: [CtTuple; 2],
    /// Zones.
    pub zones: Zones,
    /// Status bits.
    pub status: CtStatus,
    /// Life left from the last packet on; what a new connection gets when it is confirmed.
    pub timeout: Duration,
    /// When it dies; meaningless before it is confirmed.
    pub expires: Instant,
    /// Connection mark.
    pub mark: u32,
    /// Labels, bit N is label N (kernel: `nf_conn_labels`).
    pub labels: u128,
    /// Protocol state.
    pub proto: ProtoState,
    /// Packets and bytes by direction (`nf_conntrack_acct`).
    pub acct: [Counters; 2],
    /// Helper by name (`ftp`, `tftp`).
    pub helper: Option<&'static str>,
    /// The connection that expected this one.
    pub master: Option<ConnId>,
    /// The device MASQUERADE took its address from (kernel: `nat->masq_index`).
    pub masq_dev: Option<DevId>,
}

impl Conn {
    /// The tuple of a direction.
    pub fn tuple(&self, dir: Dir) -> &CtTuple {
        &self.tuples[dir.index()]
    }
}
