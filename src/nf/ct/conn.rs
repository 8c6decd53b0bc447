//! One connection.
//!
//! Invariant: `tuples[0]` is as the first packet came in, `tuples[1]` as replies come in, translated
//! or not; once `CONFIRMED` is set only the table changes the tuples.

use super::event::EventBits;
use super::sctp::Sctp;
use super::seqadj::SeqAdj;
use super::tcp::Tcp;
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
    pub const OFFLOAD: u32 = 1 << 14;
    pub const HW_OFFLOAD: u32 = 1 << 15;
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

impl Zones {
    /// The same zone both ways.
    pub fn both(zone: u16) -> Zones {
        Zones {
            orig: zone,
            reply: zone,
        }
    }

    /// The zone of a direction (kernel: `nf_ct_zone_id`).
    pub fn of(self, dir: Dir) -> u16 {
        match dir {
            Dir::Original => self.orig,
            Dir::Reply => self.reply,
        }
    }
}

/// What the protocol's tracker remembers (kernel: `union nf_conntrack_proto`).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum ProtoState {
    /// No state: ICMP and protocols without a tracker.
    #[default]
    Generic,
    /// TCP.
    Tcp(Tcp),
    /// UDP: from when on traffic both ways counts as a stream.
    Udp(Instant),
    /// SCTP.
    Sctp(Sctp),
    /// GRE: life without and with a reply, fixed when the connection began.
    Gre(Duration, Duration),
}

/// A connection (kernel: `struct nf_conn`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Conn {
    /// Tuples by direction.
    pub tuples: [CtTuple; 2],
    /// Zones.
    pub zones: Zones,
    /// Status bits.
    pub status: CtStatus,
    /// Life from the last packet on; what a new connection gets when it is confirmed.
    pub timeout: Duration,
    /// When it dies; meaningless before it is confirmed.
    pub expires: Instant,
    /// Connection mark.
    pub mark: u32,
    /// Labels, bit N is label N (kernel: `nf_conn_labels`).
    pub labels: u128,
    /// Protocol state.
    pub proto: ProtoState,
    /// Packets and bytes by direction; counted only if `nf_conntrack_acct` was on when it began.
    pub acct: Option<[Counters; 2]>,
    /// When it was confirmed, if `nf_conntrack_timestamp` was on when it began.
    pub started: Option<Instant>,
    /// Helper by name (`ftp`, `tftp`).
    pub helper: Option<&'static str>,
    /// The connection that expected this one.
    pub master: Option<ConnId>,
    /// The device MASQUERADE took its address from (kernel: `nat->masq_index`).
    pub masq_dev: Option<DevId>,
    /// Shifts of TCP sequence numbers by direction; used with `SEQ_ADJUST` only.
    pub seqadj: [SeqAdj; 2],
    /// What NAT is to do with an expected connection.
    pub expectation: Option<super::expect::ExpectNat>,
    /// Events that are told (`-j CT --ctevents`); `None` for all.
    pub event_mask: Option<u32>,
    /// Events not yet told (kernel: `struct nf_conntrack_ecache`).
    pub events: EventBits,
    /// What the ftp helper remembers.
    pub(super) ftp: super::helper::Ftp,
    /// Compiled paths of its packets by direction, 0 for none: they end with it.
    pub paths: [u32; 2],
    /// Packets that wait somewhere and will come back to it; see [`super::Conntrack::hold`].
    pub(super) held: u32,
}

impl Conn {
    /// A connection as its first packet makes it (kernel: `__nf_conntrack_alloc`).
    pub fn new(orig: CtTuple, reply: CtTuple, zones: Zones) -> Conn {
        Conn {
            tuples: [orig, reply],
            zones,
            status: CtStatus::default(),
            timeout: Duration::ZERO,
            expires: Instant::ZERO,
            mark: 0,
            labels: 0,
            proto: ProtoState::Generic,
            acct: None,
            started: None,
            helper: None,
            master: None,
            masq_dev: None,
            seqadj: [SeqAdj::default(); 2],
            expectation: None,
            event_mask: None,
            events: EventBits::default(),
            ftp: super::helper::Ftp::default(),
            paths: [0; 2],
            held: 0,
        }
    }

    /// The tuple of a direction.
    pub fn tuple(&self, dir: Dir) -> &CtTuple {
        &self.tuples[dir.index()]
    }

    /// Whether it is in the table.
    pub fn is_confirmed(&self) -> bool {
        self.status.any(CtStatus::CONFIRMED)
    }

    /// Whether it was taken out of the table (kernel: `nf_ct_is_dying`).
    pub fn is_dying(&self) -> bool {
        self.status.any(CtStatus::DYING)
    }

    /// Whether it treats every further packet of a direction alike but for the life that it gains: once it
    /// is in the table, and no helper reads along.
    pub fn is_settled(&self) -> bool {
        let plain = self.helper.is_none() && self.master.is_none() && !self.is_dying();
        let fixed = CtStatus::FIXED_TIMEOUT | CtStatus::SEQ_ADJUST | CtStatus::NAT_CLASH;
        self.is_confirmed() && plain && !self.status.any(fixed) && super::udp::is_steady(self)
    }

    /// Whether its time is over (kernel: `nf_ct_is_expired`).
    pub fn is_expired(&self, now: Instant) -> bool {
        self.is_confirmed() && self.expires <= tick(now)
    }

    /// Life left (kernel: `nf_ct_expires`).
    pub fn remaining(&self, now: Instant) -> Duration {
        self.expires.since(tick(now))
    }

    /// Gives it `life` from now on, unless its timeout is fixed (kernel: `__nf_ct_refresh_acct`).
    pub fn refresh(&mut self, now: Instant, life: Duration) {
        if !self.status.any(CtStatus::FIXED_TIMEOUT) {
            self.timeout = life;
            self.expires = tick(now) + life;
        }
    }

    /// Counts a packet of `len` bytes from the IP header on (kernel: `nf_ct_acct_update`).
    pub(super) fn account(&mut self, dir: Dir, len: usize) {
        if let Some(acct) = &mut self.acct {
            let c = &mut acct[dir.index()];
            c.packets = c.packets.saturating_add(1);
            c.bytes = c.bytes.saturating_add(len as u64);
        }
    }

    /// Sets a status bit and says whether it was clear.
    pub(super) fn mark_status(&mut self, bit: u32) -> bool {
        let was = self.status.any(bit);
        self.status.set(bit);
        !was
    }
}

/// Length of a jiffy: CONFIG_HZ=250.
const JIFFY_NANOS: u64 = 4_000_000;

/// Timeouts count in jiffies (kernel: `nfct_time_stamp`): the last tick at or before `now`.
pub(super) fn tick(now: Instant) -> Instant {
    Instant::from_nanos(now.as_nanos() / JIFFY_NANOS * JIFFY_NANOS)
}
