//! TCP connections (nf_conntrack_proto_tcp.c): states, what is let through unjudged, resets.
//!
//! Window checks are in `window`, the transitions in `table`. Invariant: a packet that is called
//! invalid changes no state; it may shorten the life of a connection that is being closed.

mod header;
mod table;
mod window;

pub use table::TcpState;

use super::conn::{Conn, CtStatus};
use super::event::EventBits;
use super::more::Tracker;
use super::packet::Packet;
use super::sysctl::CtSysctl;
use super::track::{Env, Seen};
use super::tuple::Dir;
use crate::base::Instant;
use core::time::Duration;
use header::{Header, before};
use table::{Kind, Next};
use window::InWindow;

/// What is known of one side (kernel: `struct ip_ct_tcp_state`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Side {
    /// Highest sequence number sent, plus length.
    pub end: u32,
    /// Highest sequence number the other side allows.
    pub max_end: u32,
    /// Largest window it advertised.
    pub max_win: u32,
    /// Highest acknowledgement it sent.
    pub max_ack: u32,
    /// Window scale.
    pub scale: u8,
    /// `IP_CT_TCP_FLAG_*`
    pub flags: u8,
}

/// `IP_CT_TCP_FLAG_*` (uapi nf_conntrack_tcp.h).
#[allow(missing_docs, reason = "the kernel's own names")]
pub mod flag {
    pub const WINDOW_SCALE: u8 = 0x01;
    pub const SACK_PERM: u8 = 0x02;
    pub const CLOSE_INIT: u8 = 0x04;
    pub const BE_LIBERAL: u8 = 0x08;
    pub const DATA_UNACKNOWLEDGED: u8 = 0x10;
    pub const MAXACK_SET: u8 = 0x20;
    /// Of the last packet let through: its answer may be a challenge ACK.
    pub const EXP_CHALLENGE_ACK: u8 = 0x40;
    /// Of the last packet let through: both sides sent a SYN.
    pub const SIMULTANEOUS_OPEN: u8 = 0x80;
}

/// The last packet that was followed (kernel: the `last_*` of `struct ip_ct_tcp`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Last {
    dir: Option<Dir>,
    kind: Kind,
    seq: u32,
    ack: u32,
    end: u32,
    win: u16,
    scale: u8,
    flags: u8,
}

/// A TCP connection (kernel: `struct ip_ct_tcp`).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tcp {
    /// State.
    pub state: TcpState,
    /// The two sides, the client first.
    pub sides: [Side; 2],
    last: Last,
    /// A kernel's counter ends at 255, as does the sysctl that it is compared with.
    retrans: u16,
}

impl Tcp {
    /// A connection in `state` of which no packet was seen: as `conntrack -I` makes it and a dump
    /// tells it. Any window is taken, as for a connection picked up midway.
    pub fn in_state(state: TcpState) -> Tcp {
        let side = Side {
            flags: flag::BE_LIBERAL | flag::SACK_PERM,
            ..Side::default()
        };
        Tcp {
            state,
            sides: [side; 2],
            ..Tcp::default()
        }
    }

    /// Kernel: `tcp_can_early_drop`.
    pub fn is_closing(&self) -> bool {
        matches!(
            self.state,
            TcpState::FinWait
                | TcpState::LastAck
                | TcpState::TimeWait
                | TcpState::Close
                | TcpState::CloseWait
        )
    }

    /// What is known when the first packet is seen; `None` if none is made from it (kernel: `tcp_new`).
    fn first(h: &Header<'_>, loose: bool) -> Option<Tcp> {
        let mut t = Tcp::default();
        let client = &mut t.sides[0];
        client.end = h.end();
        client.max_win = u32::from(h.window).max(1);
        match table::next(Dir::Original, h.kind(), TcpState::None) {
            Next::To(TcpState::SynSent) => {
                client.max_end = client.end;
                h.syn_options(client);
            }
            Next::To(_) if loose => {
                client.max_end = client.end.wrapping_add(client.max_win);
                for side in &mut t.sides {
                    side.flags = flag::SACK_PERM | flag::BE_LIBERAL;
                }
            }
            _ => return None,
        }
        Some(t)
    }

    /// Remembers a packet that is let through unjudged.
    fn note_ignored(&mut self, dir: Dir, h: &Header<'_>) {
        let (kind, old) = (h.kind(), self.state);
        let last = &mut self.last;
        last.kind = kind;
        last.dir = Some(dir);
        last.seq = h.seq;
        last.end = h.end();
        last.win = h.window;
        if kind == Kind::Syn && dir == Dir::Original {
            let mut seen = Side::default();
            h.syn_options(&mut seen);
            last.flags = seen.flags & (flag::WINDOW_SCALE | flag::SACK_PERM);
            last.scale = seen.scale;
            if old == TcpState::LastAck {
                last.flags |= flag::EXP_CHALLENGE_ACK;
            }
        }
        if old == TcpState::SynSent && kind == Kind::Ack && dir == Dir::Reply {
            last.ack = h.ack;
        }
    }

    /// A SYN+ACK answers a SYN that was let through: both ends agree, so we follow them.
    fn resync(&mut self, dir: Dir) {
        self.last.flags &= !flag::EXP_CHALLENGE_ACK;
        let last = self.last;
        let side = &mut self.sides[dir.other().index()];
        side.end = last.end;
        side.max_end = last.end;
        side.max_win = u32::from(last.win).max(1);
        side.scale = last.scale;
        side.flags = last.flags;
        // Kernel: `nf_ct_tcp_state_reset`.
        let own = &mut self.sides[dir.index()];
        *own = Side {
            flags: own.flags & flag::BE_LIBERAL,
            ..Side::default()
        };
    }

    /// A packet was in window.
    fn followed(&mut self, dir: Dir, kind: Kind) {
        self.last.kind = kind;
        self.last.dir = Some(dir);
    }

    /// Kernel: the end of `nf_conntrack_tcp_packet`.
    fn life(&self, new: TcpState, kind: Kind, s: &CtSysctl) -> Duration {
        let retrans = super::sysctl::secs(s.tcp_timeout_max_retrans);
        let unack = super::sysctl::secs(s.tcp_timeout_unacknowledged);
        let full = s.tcp_timeout(new);
        let waiting = (self.sides[0].flags | self.sides[1].flags) & flag::DATA_UNACKNOWLEDGED != 0;
        if i64::from(self.retrans) >= i64::from(s.tcp_max_retrans) && full > retrans {
            retrans
        } else if kind == Kind::Rst {
            s.tcp_timeout(TcpState::Close)
        } else if waiting && full > unack {
            unack
        } else if self.last.win == 0 && full > retrans {
            retrans
        } else {
            full
        }
    }
}

/// What the state machine says before windows are looked at.
enum Step {
    /// Look at the windows, then go from the one to the other.
    Check(TcpState, TcpState),
    /// In window whatever the numbers say.
    Skip(TcpState, TcpState),
    /// Done.
    Done(Seen),
}

/// What a segment in the middle of an established connection changes: its windows, and its life.
#[derive(Clone, Debug)]
pub struct TcpStep {
    windows: Tcp,
    life: Duration,
}

/// Whether segments with ACK alone, or with PSH, move nothing but windows and life.
pub(super) fn is_steady(conn: &Conn) -> bool {
    let open = conn.tcp().is_some_and(|t| t.state == TcpState::Established);
    open && conn.status.any(CtStatus::SEEN_REPLY) && conn.status.any(CtStatus::ASSURED)
}

/// The step of a segment with ACK and at most PSH, as [`packet`] would take it; `None` where it would do
/// anything else.
pub(super) fn step_of(conn: &Conn, dir: Dir, segment: &[u8], sysctl: &CtSysctl) -> Option<TcpStep> {
    if !conn.is_settled() || !is_steady(conn) {
        return None;
    }
    let h = Header::read(segment).filter(|h| h.kind() == Kind::Ack)?;
    let mut windows = conn.tcp()?.clone();
    match windows.in_window(dir, &h, sysctl.tcp_be_liberal != 0) {
        InWindow::Yes => windows.followed(dir, Kind::Ack),
        InWindow::Ignore | InWindow::Invalid => return None,
    }
    let life = windows.life(TcpState::Established, Kind::Ack, sysctl);
    Some(TcpStep { windows, life })
}

/// Takes a step; its packet is counted by whoever carried it.
pub(super) fn take_step(conn: &mut Conn, step: TcpStep, now: Instant) {
    if let Some(t) = conn.tcp_mut() {
        *t = step.windows;
    }
    conn.refresh(now, step.life);
}

/// Kernel: `nf_conntrack_tcp_packet`.
pub(super) fn packet(conn: &mut Conn, dir: Dir, p: &Packet<'_>, env: &Env<'_>) -> Seen {
    let Some(h) = Header::checked(p, env) else {
        return Seen::Invalid;
    };
    if !conn.is_confirmed() {
        let Some(t) = Tcp::first(&h, env.sysctl.tcp_loose != 0) else {
            return Seen::Invalid;
        };
        conn.set_tracker(Tracker::Tcp(t));
    }
    let status = conn.status;
    let shifted = conn.seqadj()[dir.other().index()].offset(h.ack.wrapping_sub(1));
    let Some(t) = conn.tcp_mut() else {
        return Seen::Invalid;
    };
    let (old, new) = match step(t, status, dir, &h, env) {
        Step::Done(seen) => return seen,
        Step::Skip(old, new) => (old, new),
        Step::Check(old, new) => {
            match t.in_window(dir, &h.unshifted(shifted), env.sysctl.tcp_be_liberal != 0) {
                InWindow::Yes => (old, new),
                InWindow::Ignore => return Seen::Accept,
                InWindow::Invalid => {
                    invalid(conn, dir, h.kind(), env);
                    return Seen::Invalid;
                }
            }
        }
    };
    t.followed(dir, h.kind());
    t.state = new;
    if old != new && new == TcpState::FinWait {
        t.sides[dir.index()].flags |= flag::CLOSE_INIT;
    }
    let life = t.life(new, h.kind(), env.sysctl);
    if old != new {
        conn.events.set(EventBits::PROTOINFO);
    }
    settle(conn, dir, &h, (old, new), life, p, env)
}

/// A packet in window: assurance and life.
fn settle(
    conn: &mut Conn,
    dir: Dir,
    h: &Header<'_>,
    (old, new): (TcpState, TcpState),
    mut life: Duration,
    p: &Packet<'_>,
    env: &Env<'_>,
) -> Seen {
    if !conn.status.any(CtStatus::SEEN_REPLY) {
        if h.rst {
            conn.account(dir, p.counted());
            return Seen::AcceptAndKill;
        }
        // A client that tries and tries does not keep a dead mapping alive.
        if h.kind() == Kind::Syn && old == TcpState::SynSent {
            return Seen::Accept;
        }
        let unack = super::sysctl::secs(env.sysctl.tcp_timeout_unacknowledged);
        if new == TcpState::Established && life > unack {
            life = unack;
        }
    } else if !conn.status.any(CtStatus::ASSURED)
        && matches!(old, TcpState::SynRecv | TcpState::Established)
        && new == TcpState::Established
    {
        conn.status.set(CtStatus::ASSURED);
        conn.events.set(EventBits::ASSURED);
    }
    env.refresh(conn, dir, p, life);
    Seen::Accept
}

/// The transition, and the cases the table cannot tell.
fn step(t: &mut Tcp, status: CtStatus, dir: Dir, h: &Header<'_>, env: &Env<'_>) -> Step {
    let (kind, old) = (h.kind(), t.state);
    let new = match table::next(dir, kind, old) {
        Next::Invalid => return Step::Done(Seen::Invalid),
        Next::Ignore => return ignored(t, dir, h),
        Next::To(s) => s,
    };
    match new {
        TcpState::SynSent if matches!(old, TcpState::TimeWait | TcpState::Close) => {
            let closed = (t.sides[0].flags | t.sides[1].flags) & flag::CLOSE_INIT != 0;
            let reset = t.last.dir == Some(dir) && t.last.kind == Kind::Rst;
            if closed || reset {
                return Step::Done(Seen::Reopen);
            }
            return ignored(t, dir, h);
        }
        TcpState::TimeWait => {
            let challenge = old == TcpState::LastAck
                && kind == Kind::Ack
                && t.last.dir != Some(dir)
                && t.last.kind == Kind::Syn
                && t.last.flags & flag::EXP_CHALLENGE_ACK != 0;
            if challenge {
                t.last.flags &= !flag::EXP_CHALLENGE_ACK;
                return Step::Done(Seen::Accept);
            }
        }
        TcpState::SynSent2 => t.last.flags |= flag::SIMULTANEOUS_OPEN,
        TcpState::SynRecv
            if dir == Dir::Reply
                && kind == Kind::Ack
                && t.last.flags & flag::SIMULTANEOUS_OPEN != 0 =>
        {
            return Step::Check(old, TcpState::Established);
        }
        TcpState::Close if kind == Kind::Rst => return reset(t, status, dir, h, env),
        _ => {}
    }
    Step::Check(old, new)
}

/// Packets that may be right though we cannot tell: the endpoints' answer will.
fn ignored(t: &mut Tcp, dir: Dir, h: &Header<'_>) -> Step {
    let answers = h.kind() == Kind::SynAck
        && t.last.kind == Kind::Syn
        && t.last.dir != Some(dir)
        && h.ack == t.last.end;
    if answers {
        t.resync(dir);
        return Step::Check(TcpState::SynSent, TcpState::SynRecv);
    }
    t.note_ignored(dir, h);
    Step::Done(Seen::Accept)
}

/// Whether a reset closes the connection: only an exact one does once it is established (RFC 5961
/// section 3); any other leaves the state to a challenge ACK.
fn reset(t: &mut Tcp, status: CtStatus, dir: Dir, h: &Header<'_>, env: &Env<'_>) -> Step {
    let old = t.state;
    if t.is_closing() {
        return Step::Skip(old, TcpState::Close);
    }
    let mut new = TcpState::Close;
    let peer = t.sides[dir.other().index()];
    if peer.flags & flag::MAXACK_SET != 0 && t.last.kind != Kind::Syn {
        let established = old == TcpState::Established && status.any(CtStatus::ASSURED);
        if h.seq == 0 && !established {
            return Step::Check(old, new);
        }
        if before(h.seq, peer.max_ack) && env.sysctl.tcp_ignore_invalid_rst == 0 {
            return Step::Done(Seen::Invalid);
        }
        let train = t.last.kind == Kind::Ack && t.last.dir == Some(dir) && h.seq == t.last.end;
        if !established || h.seq == peer.max_ack || train {
            return Step::Check(old, new);
        }
        new = old;
    }
    let answers = status.any(CtStatus::SEEN_REPLY) && t.last.kind == Kind::Syn
        || !status.any(CtStatus::ASSURED) && t.last.kind == Kind::Ack;
    if answers && t.last.dir != Some(dir) && h.ack == t.last.end {
        return Step::Skip(old, new);
    }
    // It answers a challenge ACK that was let through.
    let challenged = old == TcpState::SynSent
        && t.last.kind == Kind::Ack
        && t.last.dir == Some(Dir::Reply)
        && h.seq == t.last.ack;
    if challenged {
        return Step::Skip(old, new);
    }
    Step::Check(old, new)
}

/// FIN or RST out of window in both directions: the ends have closed, we have lost track. The entry
/// shall not stay for days (kernel: `nf_tcp_handle_invalid`).
fn invalid(conn: &mut Conn, dir: Dir, kind: Kind, env: &Env<'_>) {
    let fixed = conn.status.any(CtStatus::FIXED_TIMEOUT);
    if !conn.status.any(CtStatus::ASSURED) || fixed || !matches!(kind, Kind::Rst | Kind::Fin) {
        return;
    }
    let left = conn.remaining(env.now);
    let Some(t) = conn.tcp_mut() else {
        return;
    };
    if t.last.dir != Some(dir) && matches!(t.last.kind, Kind::Fin | Kind::Rst) {
        let unack = super::sysctl::secs(env.sysctl.tcp_timeout_unacknowledged);
        if left >= Duration::from_secs(120) && left > unack {
            conn.refresh(env.now, unack);
        }
    } else {
        t.last.kind = kind;
        t.last.dir = Some(dir);
    }
}
