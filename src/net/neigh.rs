//! The neighbour table: ARP and neighbour discovery share it (kernel: `net/core/neighbour.c`).
//!
//! Holds states, queues and deadlines; who is asked and how is the walk's business.
//! Invariant: an entry's queue is non-empty only while it is incomplete.

use crate::base::{DevId, Instant, Origin, limits};
use crate::wire::{Frame, MacAddr};
use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

/// `net.ipv4.neigh.<dev>.*` and `net.ipv6.neigh.<dev>.*` (kernel: `struct neigh_parms`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NeighParms {
    /// Time between solicitations.
    pub retrans: Duration,
    /// How long an entry counts as reachable; the kernel draws 0.5 to 1.5 times it, podpath takes it as
    /// it is.
    pub reachable: Duration,
    /// From the first use of a stale entry to the first probe.
    pub delay_first_probe: Duration,
    /// Solicitations by unicast while probing.
    pub ucast_solicit: u8,
    /// Solicitations by broadcast or group.
    pub mcast_solicit: u8,
    /// Bytes that may wait, in the kernel's true sizes.
    pub unres_bytes: usize,
    /// A second answer within this time does not override the first (ARP).
    pub locktime: Duration,
    /// Longest delay of a proxied answer.
    pub proxy_delay: Duration,
}

impl NeighParms {
    /// Kernel defaults (`arp_tbl`, `nd_tbl`).
    pub fn new(v4: bool) -> Self {
        NeighParms {
            retrans: Duration::from_secs(1),
            reachable: Duration::from_secs(30),
            delay_first_probe: Duration::from_secs(5),
            ucast_solicit: 3,
            mcast_solicit: 3,
            unres_bytes: limits::NEIGH_QUEUE_BYTES,
            locktime: Duration::from_secs(u64::from(v4)),
            proxy_delay: Duration::from_millis(800),
        }
    }

    /// Sets one by its sysctl name; false for a name that is not modelled.
    pub fn set(&mut self, key: &str, v: u64) -> bool {
        // Ticks that user space sees are hundredths of a second (USER_HZ).
        let (ms, ticks, s) = (
            Duration::from_millis(v),
            Duration::from_millis(v * 10),
            Duration::from_secs(v),
        );
        let count = u8::try_from(v).unwrap_or(u8::MAX);
        match key {
            "retrans_time_ms" => self.retrans = ms,
            "retrans_time" => self.retrans = ticks,
            "base_reachable_time_ms" => self.reachable = ms,
            "base_reachable_time" => self.reachable = s,
            "delay_first_probe_time" => self.delay_first_probe = s,
            "ucast_solicit" => self.ucast_solicit = count,
            "mcast_solicit" => self.mcast_solicit = count,
            "unres_qlen_bytes" => self.unres_bytes = usize::try_from(v).unwrap_or(usize::MAX),
            // In full frames: SKB_TRUESIZE(ETH_FRAME_LEN) = 1514 + 256 + 320.
            "unres_qlen" => {
                self.unres_bytes = usize::try_from(v)
                    .unwrap_or(usize::MAX)
                    .saturating_mul(2090)
            }
            "locktime" => self.locktime = ticks,
            "proxy_delay" => self.proxy_delay = ticks,
            _ => return false,
        }
        true
    }
}

/// Default of `net.ipv4.neigh.default.gc_thresh3`.
pub const GC_THRESH3: usize = 1024;

/// State of an entry (kernel: `NUD_*`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum NudState {
    /// Being asked for.
    Incomplete,
    /// Confirmed lately.
    Reachable,
    /// Known, not confirmed lately.
    Stale,
    /// Stale and in use; a probe is due.
    Delay,
    /// Being probed by unicast.
    Probe,
    /// Asked in vain.
    Failed,
    /// Set by an operator or controller; never asked, never ages.
    Permanent,
    /// Needs no resolution (loopback, group, point to point).
    Noarp,
}

impl NudState {
    /// `ip neigh`'s word.
    pub fn name(self) -> &'static str {
        match self {
            NudState::Incomplete => "INCOMPLETE",
            NudState::Reachable => "REACHABLE",
            NudState::Stale => "STALE",
            NudState::Delay => "DELAY",
            NudState::Probe => "PROBE",
            NudState::Failed => "FAILED",
            NudState::Permanent => "PERMANENT",
            NudState::Noarp => "NOARP",
        }
    }

    /// Whether the link address may be used (kernel: `NUD_VALID`).
    pub fn is_valid(self) -> bool {
        !matches!(self, NudState::Incomplete | NudState::Failed)
    }
}

/// Memory an skb of `len` bytes is charged for: its data with headroom and `skb_shared_info` (320) in the
/// small-head cache (576) or the next slab size, and `struct sk_buff` (256). Checked against arp-queue.
pub fn truesize(len: usize) -> usize {
    match len + 32 + 320 {
        n if n <= 576 => 576 + 256,
        n => n.next_power_of_two() + 256,
    }
}

/// One neighbour.
#[derive(Clone, Debug)]
pub struct Neigh {
    /// Its state.
    pub state: NudState,
    /// Its link address, meaningful while the state is valid.
    pub lladdr: MacAddr,
    /// Solicitations sent in the present state.
    pub probes: u8,
    /// When the state ends, if it does by itself.
    pub timer: Option<Instant>,
    /// Last change of state or address.
    pub updated: Instant,
    /// Last time a packet was sent to it.
    pub used: Instant,
    /// Last time it was confirmed to be reachable, by an answer or by the progress of a TCP connection.
    pub confirmed: Option<Instant>,
    /// Packets waiting for the address, oldest first.
    pub queue: VecDeque<Frame>,
    /// Bytes in `queue`.
    pub queued_bytes: usize,
    /// Its link header was made ready by a first packet (kernel: `neigh->hh.hh_len`).
    pub header_cached: bool,
    /// The neighbour is a router (IPv6).
    pub router: bool,
    /// Where it came from.
    pub origin: Origin,
}

impl Neigh {
    fn new(state: NudState, lladdr: MacAddr, now: Instant, origin: Origin) -> Self {
        Neigh {
            state,
            lladdr,
            probes: 0,
            timer: None,
            updated: now,
            used: now,
            confirmed: None,
            queue: VecDeque::new(),
            queued_bytes: 0,
            header_cached: false,
            router: false,
            origin,
        }
    }

    /// Queues a packet; the oldest are given back when the queue is full (kernel: `__neigh_event_send`).
    ///
    /// `max` is `unres_qlen_bytes`, counted in the kernel's true sizes.
    pub fn enqueue(&mut self, f: Frame, max: usize) -> Vec<Frame> {
        let mut dropped = Vec::new();
        while self.queued_bytes + truesize(f.len()) > max {
            let Some(old) = self.queue.pop_front() else {
                break;
            };
            self.queued_bytes -= truesize(old.len());
            dropped.push(old);
        }
        self.queued_bytes += truesize(f.len());
        self.queue.push_back(f);
        dropped
    }

    /// Takes all waiting packets.
    pub fn take_queue(&mut self) -> VecDeque<Frame> {
        self.queued_bytes = 0;
        std::mem::take(&mut self.queue)
    }
}

/// All neighbours of a namespace, and the addresses it answers for on others' behalf.
#[derive(Clone, Debug, Default)]
pub struct NeighTable {
    entries: BTreeMap<(DevId, IpAddr), Neigh>,
    proxies: BTreeMap<(DevId, IpAddr), Origin>,
    timers: std::collections::BTreeSet<(Instant, DevId, IpAddr)>,
}

impl NeighTable {
    /// One entry.
    pub fn get(&self, dev: DevId, ip: IpAddr) -> Option<&Neigh> {
        self.entries.get(&(dev, ip))
    }

    pub(crate) fn get_mut(&mut self, dev: DevId, ip: IpAddr) -> Option<&mut Neigh> {
        self.entries.get_mut(&(dev, ip))
    }

    /// All entries by device and address.
    pub fn iter(&self) -> impl Iterator<Item = (DevId, IpAddr, &Neigh)> {
        self.entries.iter().map(|((d, a), n)| (*d, *a, n))
    }

    /// Number of entries of one family that count against `gc_thresh3` (permanent ones do not).
    pub fn counted(&self, v4: bool) -> usize {
        let counts = |n: &Neigh| !matches!(n.state, NudState::Permanent | NudState::Noarp);
        self.entries
            .iter()
            .filter(|((_, a), n)| a.is_ipv4() == v4 && counts(n))
            .count()
    }

    /// Proxy entries (`ip neigh add proxy`).
    pub fn proxies(&self) -> impl Iterator<Item = (DevId, IpAddr)> {
        self.proxies.keys().copied()
    }

    /// Whether `ip` is proxied on `dev`.
    pub fn is_proxied(&self, dev: DevId, ip: IpAddr) -> bool {
        self.proxies.contains_key(&(dev, ip))
    }

    pub(crate) fn add_proxy(&mut self, dev: DevId, ip: IpAddr, origin: Origin) {
        self.proxies.insert((dev, ip), origin);
    }

    pub(crate) fn del_proxy(&mut self, dev: DevId, ip: IpAddr) -> bool {
        self.proxies.remove(&(dev, ip)).is_some()
    }

    /// Adds or replaces an entry outright.
    pub(crate) fn put(
        &mut self,
        dev: DevId,
        ip: IpAddr,
        state: NudState,
        mac: MacAddr,
        now: Instant,
        origin: Origin,
    ) -> &mut Neigh {
        let n = Neigh::new(state, mac, now, origin);
        let e = self.entries.entry((dev, ip)).or_insert_with(|| n.clone());
        let (queue, bytes) = (std::mem::take(&mut e.queue), e.queued_bytes);
        let cached = e.header_cached;
        if let Some(t) = e.timer {
            self.timers.remove(&(t, dev, ip));
        }
        *e = n;
        (e.queue, e.queued_bytes, e.header_cached) = (queue, bytes, cached);
        e
    }

    /// Removes an entry.
    pub(crate) fn remove(&mut self, dev: DevId, ip: IpAddr) -> Option<Neigh> {
        let n = self.entries.remove(&(dev, ip))?;
        if let Some(t) = n.timer {
            self.timers.remove(&(t, dev, ip));
        }
        Some(n)
    }

    /// Forgets what was learned on a device; permanent entries stay (kernel: `neigh_carrier_down`).
    pub(crate) fn flush(&mut self, dev: DevId) {
        self.drop_entries(&|d, _, n| d == dev && n.state != NudState::Permanent);
    }

    /// Forgets everything of a device, proxied addresses too, of one family or both (kernel: `neigh_ifdown`).
    pub(crate) fn forget(&mut self, dev: DevId, v4: Option<bool>) {
        let its = |d: DevId, a: IpAddr| d == dev && v4.is_none_or(|v4| a.is_ipv4() == v4);
        self.drop_entries(&|d, a, _| its(d, a));
        self.proxies.retain(|(d, a), _| !its(*d, *a));
    }

    fn drop_entries(&mut self, gone: &dyn Fn(DevId, IpAddr, &Neigh) -> bool) {
        let timers = &mut self.timers;
        self.entries.retain(|(d, a), n| {
            let drop = gone(*d, *a, n);
            if let Some(t) = n.timer.filter(|_| drop) {
                timers.remove(&(t, *d, *a));
            }
            !drop
        });
    }

    /// Sets when an entry's state ends.
    pub(crate) fn set_timer(&mut self, dev: DevId, ip: IpAddr, at: Option<Instant>) {
        let Some(n) = self.entries.get_mut(&(dev, ip)) else {
            return;
        };
        if let Some(t) = n.timer.take() {
            self.timers.remove(&(t, dev, ip));
        }
        if let Some(t) = at {
            n.timer = Some(t);
            self.timers.insert((t, dev, ip));
        }
    }

    /// When the next state ends.
    pub fn next_timer(&self) -> Option<Instant> {
        self.timers.first().map(|t| t.0)
    }

    /// Takes one entry whose time has come.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<(DevId, IpAddr)> {
        let (t, dev, ip) = *self.timers.first()?;
        if t > now {
            return None;
        }
        self.timers.remove(&(t, dev, ip));
        if let Some(n) = self.entries.get_mut(&(dev, ip)) {
            n.timer = None;
        }
        Some((dev, ip))
    }
}
