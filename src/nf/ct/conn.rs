//! One connection, small: there may be millions.
//!
//! What few connections have lies in a box of its own (`more`); lives and moments are kept in the units that
//! they come in, whole seconds and ticks, so that nothing is lost. Invariant: the original tuple is as the
//! first packet came in, the reply tuple as replies come in, translated or not; once `CONFIRMED` is set only
//! the table changes the tuples.

use super::event::EventBits;
use super::more::{More, ProtoState, Tracker};
use super::sctp::Sctp;
use super::tcp::Tcp;
use super::tuple::{CtTuple, Dir};
use super::tuples::Tuples;
use crate::base::{DevId, Instant};
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

/// A connection (kernel: `struct nf_conn`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Conn {
    tuples: Tuples,
    /// What most UDP connections do not have.
    pub(super) more: Option<Box<More>>,
    /// Compiled paths of its packets by direction, 0 for none: they end with it.
    pub paths: [u32; 2],
    /// Status bits.
    pub status: CtStatus,
    /// Connection mark.
    pub mark: u32,
    /// Life from the last packet on, in seconds.
    life: u32,
    /// ifindex of the device MASQUERADE took its address from, 0 for none.
    masq: u32,
    expires: Tick,
    /// UDP: from when on traffic both ways counts as a stream.
    stream: Tick,
    /// Events not yet told (kernel: `struct nf_conntrack_ecache`).
    pub events: EventBits,
}

impl Conn {
    /// A connection as its first packet makes it (kernel: `__nf_conntrack_alloc`).
    pub fn new(orig: CtTuple, reply: CtTuple, zones: Zones) -> Conn {
        Conn {
            tuples: Tuples::new(orig, reply),
            more: (zones != Zones::default()).then(|| Box::new(More::in_zones(zones))),
            paths: [0; 2],
            status: CtStatus::default(),
            mark: 0,
            life: 0,
            masq: 0,
            expires: Tick::of(Instant::ZERO),
            stream: Tick::NONE,
            events: EventBits::default(),
        }
    }

    /// The tuple of a direction.
    pub fn tuple(&self, dir: Dir) -> CtTuple {
        self.tuples.get(dir)
    }

    /// Both tuples, the original first.
    pub fn tuples(&self) -> [CtTuple; 2] {
        [Dir::Original, Dir::Reply].map(|dir| self.tuples.get(dir))
    }

    /// Another reply tuple: for the table alone.
    pub(super) fn set_reply(&mut self, reply: CtTuple) {
        self.tuples = Tuples::new(self.tuple(Dir::Original), reply);
    }

    /// Protocol state.
    pub fn proto(&self) -> ProtoState<'_> {
        match self.more.as_deref().map(|m| &m.tracker) {
            Some(Tracker::Tcp(t)) => ProtoState::Tcp(t),
            Some(Tracker::Sctp(s)) => ProtoState::Sctp(s),
            Some(Tracker::Gre(a, b)) => ProtoState::Gre(*a, *b),
            None | Some(Tracker::None) if self.stream == Tick::NONE => ProtoState::Generic,
            None | Some(Tracker::None) => ProtoState::Udp(self.stream.instant()),
        }
    }

    pub(super) fn set_tracker(&mut self, tracker: Tracker) {
        self.stream = Tick::NONE;
        self.more.get_or_insert_default().tracker = tracker;
    }

    /// UDP: traffic both ways counts as a stream from the tick of `from` on.
    pub(super) fn set_stream(&mut self, from: Instant) {
        if let Some(more) = &mut self.more {
            more.tracker = Tracker::None;
        }
        self.stream = Tick::of(from);
    }

    pub(super) fn tcp(&self) -> Option<&Tcp> {
        match &self.more.as_deref()?.tracker {
            Tracker::Tcp(t) => Some(t),
            _ => None,
        }
    }

    pub(super) fn tcp_mut(&mut self) -> Option<&mut Tcp> {
        match &mut self.more.as_deref_mut()?.tracker {
            Tracker::Tcp(t) => Some(t),
            _ => None,
        }
    }

    pub(super) fn sctp_mut(&mut self) -> Option<&mut Sctp> {
        match &mut self.more.as_deref_mut()?.tracker {
            Tracker::Sctp(s) => Some(s),
            _ => None,
        }
    }

    /// Life from the last packet on; what a new connection gets when it is confirmed.
    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.life.into())
    }

    /// When it dies; meaningless before it is confirmed.
    pub fn expires(&self) -> Instant {
        self.expires.instant()
    }

    /// The same in ticks.
    pub(super) fn expires_tick(&self) -> u64 {
        self.expires.count()
    }

    /// The device MASQUERADE took its address from (kernel: `nat->masq_index`).
    pub fn masq_dev(&self) -> Option<DevId> {
        (self.masq != 0).then_some(DevId(self.masq))
    }

    /// Notes that device.
    pub fn set_masq_dev(&mut self, dev: DevId) {
        self.masq = dev.0;
    }

    /// Whether it is in the table.
    pub fn is_confirmed(&self) -> bool {
        self.status.any(CtStatus::CONFIRMED)
    }

    /// Whether it was taken out of the table (kernel: `nf_ct_is_dying`).
    pub fn is_dying(&self) -> bool {
        self.status.any(CtStatus::DYING)
    }

    /// Whether it treats every further packet of a direction alike but for the life that it gains (TCP: every
    /// segment in the middle, but for windows): once it is in the table, and no helper reads along.
    pub fn is_settled(&self) -> bool {
        let plain = self.helper().is_none() && self.master().is_none() && !self.is_dying();
        let fixed = CtStatus::FIXED_TIMEOUT | CtStatus::SEQ_ADJUST | CtStatus::NAT_CLASH;
        self.is_confirmed()
            && plain
            && !self.status.any(fixed)
            && (super::udp::is_steady(self) || super::tcp::is_steady(self))
    }

    /// Whether its time is over (kernel: `nf_ct_is_expired`).
    pub fn is_expired(&self, now: Instant) -> bool {
        self.is_confirmed() && self.expires.count() <= ticks(now)
    }

    /// Life left (kernel: `nf_ct_expires`).
    pub fn remaining(&self, now: Instant) -> Duration {
        self.expires().since(tick(now))
    }

    /// Gives it `life`, whole seconds, from now on, unless its timeout is fixed (kernel:
    /// `__nf_ct_refresh_acct`).
    pub(super) fn refresh(&mut self, now: Instant, life: Duration) {
        if !self.status.any(CtStatus::FIXED_TIMEOUT) {
            self.set_timeout(life);
            self.begin_life(now);
        }
    }

    /// Its life in whole seconds: no timeout that a kernel takes has parts of them.
    pub(super) fn set_timeout(&mut self, life: Duration) {
        debug_assert_eq!(life.subsec_nanos(), 0);
        self.life = u32::try_from(life.as_secs()).unwrap_or(u32::MAX);
    }

    /// Its life begins now.
    pub(super) fn begin_life(&mut self, now: Instant) {
        self.expires = Tick::new(ticks(now) + u64::from(self.life) * TICKS_PER_SECOND);
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
const TICKS_PER_SECOND: u64 = 250;

/// Timeouts count in jiffies (kernel: `nfct_time_stamp`): the last tick at or before `now`.
pub(super) fn tick(now: Instant) -> Instant {
    Instant::from_nanos(ticks(now) * JIFFY_NANOS)
}

/// The same as a number.
pub(super) fn ticks(now: Instant) -> u64 {
    now.as_nanos() / JIFFY_NANOS
}

/// A tick in six bytes: every moment there is (43 bits of ticks), and the longest life after it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Tick([u16; 3]);

impl Tick {
    /// No moment: later than any.
    const NONE: Tick = Tick([u16::MAX; 3]);

    fn new(n: u64) -> Tick {
        Tick([n as u16, (n >> 16) as u16, (n >> 32) as u16])
    }

    fn of(t: Instant) -> Tick {
        Tick::new(ticks(t))
    }

    fn count(self) -> u64 {
        let [low, middle, high] = self.0.map(u64::from);
        low | middle << 16 | high << 32
    }

    fn instant(self) -> Instant {
        Instant::from_nanos(self.count().saturating_mul(JIFFY_NANOS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_lose_nothing() {
        let latest = ticks(Instant::from_nanos(u64::MAX));
        let longest = latest + u64::from(u32::MAX) * TICKS_PER_SECOND;
        for n in [0, 1, 1 << 16, 1 << 32, (1 << 32) - 1, latest, longest] {
            assert_eq!(Tick::new(n).count(), n);
            assert_ne!(Tick::new(n), Tick::NONE);
        }
    }

    #[test]
    fn the_longest_life_a_sysctl_knows_is_kept() {
        let ip = "10.0.0.1".parse().unwrap();
        let t = CtTuple::of(ip, ip, 99, &[]).unwrap();
        let mut c = Conn::new(t, t, Zones::default());
        let (now, life) = (
            Instant::from_nanos(7_999_999),
            Duration::from_secs(i32::MAX as u64),
        );
        c.refresh(now, life);
        assert_eq!((c.timeout(), c.remaining(now)), (life, life));
        assert_eq!(c.expires(), Instant::from_millis(4) + life);
    }
}
