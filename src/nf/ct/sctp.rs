//! SCTP associations (nf_conntrack_proto_sctp.c): states by chunk, verification tags.
//!
//! Invariant: a packet with a wrong tag or an impossible chunk is invalid; chunks before it have
//! counted.

use super::conn::{Conn, CtStatus};
use super::event::EventBits;
use super::more::Tracker;
use super::packet::Packet;
use super::track::{Env, Seen};
use super::tuple::Dir;
use crate::nf::Hook;

/// States (uapi nf_conntrack_sctp.h `enum sctp_conntrack`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
#[allow(missing_docs, reason = "the kernel's own names")]
pub enum SctpState {
    #[default]
    None,
    Closed,
    CookieWait,
    CookieEchoed,
    Established,
    ShutdownSent,
    ShutdownRecd,
    ShutdownAckSent,
    HeartbeatSent,
}

impl SctpState {
    /// All, in the kernel's order.
    pub const ALL: [SctpState; 9] = [
        SctpState::None,
        SctpState::Closed,
        SctpState::CookieWait,
        SctpState::CookieEchoed,
        SctpState::Established,
        SctpState::ShutdownSent,
        SctpState::ShutdownRecd,
        SctpState::ShutdownAckSent,
        SctpState::HeartbeatSent,
    ];

    /// As `conntrack -L` prints it.
    pub fn name(self) -> &'static str {
        match self {
            SctpState::None => "NONE",
            SctpState::Closed => "CLOSED",
            SctpState::CookieWait => "COOKIE_WAIT",
            SctpState::CookieEchoed => "COOKIE_ECHOED",
            SctpState::Established => "ESTABLISHED",
            SctpState::ShutdownSent => "SHUTDOWN_SENT",
            SctpState::ShutdownRecd => "SHUTDOWN_RECD",
            SctpState::ShutdownAckSent => "SHUTDOWN_ACK_SENT",
            SctpState::HeartbeatSent => "HEARTBEAT_SENT",
        }
    }

    /// The state of that name.
    pub fn of_name(name: &str) -> Option<SctpState> {
        SctpState::ALL.into_iter().find(|s| s.name() == name)
    }
}

/// An association (kernel: `struct ip_ct_sctp`).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Sctp {
    /// State.
    pub state: SctpState,
    /// Verification tags by direction.
    pub vtag: [u32; 2],
    /// Whether a side has sent INIT.
    init: [bool; 2],
    /// A heartbeat with a wrong tag went this way.
    failed: Option<Dir>,
}

/// Chunk types (RFC 9260 section 3.2).
mod chunk {
    pub const DATA: u8 = 0;
    pub const INIT: u8 = 1;
    pub const INIT_ACK: u8 = 2;
    pub const HEARTBEAT: u8 = 4;
    pub const HEARTBEAT_ACK: u8 = 5;
    pub const ABORT: u8 = 6;
    pub const SHUTDOWN: u8 = 7;
    pub const SHUTDOWN_ACK: u8 = 8;
    pub const ERROR: u8 = 9;
    pub const COOKIE_ECHO: u8 = 10;
    pub const COOKIE_ACK: u8 = 11;
    pub const SHUTDOWN_COMPLETE: u8 = 14;
}

const IV: Option<SctpState> = None;
const CL: Option<SctpState> = Some(SctpState::Closed);
const CW: Option<SctpState> = Some(SctpState::CookieWait);
const CE: Option<SctpState> = Some(SctpState::CookieEchoed);
const ES: Option<SctpState> = Some(SctpState::Established);
const SS: Option<SctpState> = Some(SctpState::ShutdownSent);
const SR: Option<SctpState> = Some(SctpState::ShutdownRecd);
const SA: Option<SctpState> = Some(SctpState::ShutdownAckSent);
const HS: Option<SctpState> = Some(SctpState::HeartbeatSent);

type Row = (u8, [Option<SctpState>; 9]);

/// Kernel: `sctp_conntracks`. Columns are the old states in their order.
#[rustfmt::skip]
const CLIENT: [Row; 11] = [
    (chunk::INIT,              [CL, CL, CW, CE, ES, CL, CL, SA, CW]),
    (chunk::INIT_ACK,          [CL, CL, CW, CE, ES, SS, SR, SA, CL]),
    (chunk::ABORT,             [CL, CL, CL, CL, CL, CL, CL, CL, CL]),
    (chunk::SHUTDOWN,          [CL, CL, CW, CE, SS, SS, SR, SA, CL]),
    (chunk::SHUTDOWN_ACK,      [SA, CL, CW, CE, ES, SA, SA, SA, SA]),
    (chunk::ERROR,             [CL, CL, CW, CE, ES, SS, SR, SA, CL]),
    (chunk::COOKIE_ECHO,       [CL, CL, CE, CE, ES, SS, SR, SA, CL]),
    (chunk::COOKIE_ACK,        [CL, CL, CW, ES, ES, SS, SR, SA, CL]),
    (chunk::SHUTDOWN_COMPLETE, [CL, CL, CW, CE, ES, SS, SR, CL, CL]),
    (chunk::HEARTBEAT,         [HS, CL, CW, CE, ES, SS, SR, SA, HS]),
    (chunk::HEARTBEAT_ACK,     [CL, CL, CW, CE, ES, SS, SR, SA, HS]),
];

#[rustfmt::skip]
const SERVER: [Row; 11] = [
    (chunk::INIT,              [IV, CL, CW, CE, ES, SS, SR, SA, IV]),
    (chunk::INIT_ACK,          [IV, CW, CW, CE, ES, SS, SR, SA, IV]),
    (chunk::ABORT,             [IV, CL, CL, CL, CL, CL, CL, CL, IV]),
    (chunk::SHUTDOWN,          [IV, CL, CW, CE, SR, SS, SR, SA, IV]),
    (chunk::SHUTDOWN_ACK,      [IV, CL, CW, CE, ES, SA, SA, SA, IV]),
    (chunk::ERROR,             [IV, CL, CW, CL, ES, SS, SR, SA, IV]),
    (chunk::COOKIE_ECHO,       [IV, CL, CE, CE, ES, SS, SR, SA, IV]),
    (chunk::COOKIE_ACK,        [IV, CL, CW, ES, ES, SS, SR, SA, IV]),
    (chunk::SHUTDOWN_COMPLETE, [IV, CL, CW, CE, ES, SS, SR, CL, IV]),
    (chunk::HEARTBEAT,         [IV, CL, CW, CE, ES, SS, SR, SA, HS]),
    (chunk::HEARTBEAT_ACK,     [IV, CL, CW, CE, ES, SS, SR, SA, ES]),
];

/// Kernel: `sctp_new_state`. Chunks that the table does not name change nothing.
fn next(dir: Dir, old: SctpState, typ: u8) -> Option<SctpState> {
    let rows = match dir {
        Dir::Original => &CLIENT,
        Dir::Reply => &SERVER,
    };
    match rows.iter().find(|(t, _)| *t == typ) {
        Some((_, row)) => row.get(old as usize).copied().flatten(),
        None => Some(old),
    }
}

/// One chunk: type, flags, body.
type Chunk<'a> = (u8, u8, &'a [u8]);

/// The chunks, if their order is legal (kernel: `do_basic_checks`).
fn chunks<'a>(l4: &'a [u8]) -> Option<Vec<Chunk<'a>>> {
    let mut out = Vec::new();
    let mut at = 12;
    let mut alone = false;
    while let Some([typ, flags, l0, l1, body @ ..]) = l4.get(at..) {
        let len = usize::from(u16::from_be_bytes([*l0, *l1]));
        alone |= matches!(
            *typ,
            chunk::INIT | chunk::INIT_ACK | chunk::SHUTDOWN_COMPLETE
        );
        let first = alone || matches!(*typ, chunk::COOKIE_ACK | chunk::COOKIE_ECHO);
        if first && !out.is_empty() || len == 0 {
            return None;
        }
        out.push((*typ, *flags, body));
        at += len.next_multiple_of(4);
    }
    (!out.is_empty()).then_some(out)
}

/// The tag an INIT or INIT ACK hands out, if the whole fixed part is there.
fn init_tag(body: &[u8]) -> Option<u32> {
    body.get(..16)?;
    body.first_chunk().map(|b| u32::from_be_bytes(*b))
}

/// Kernel: `sctp_new`.
fn first(chunks: &[Chunk<'_>], vtag: u32) -> Option<Sctp> {
    let mut s = Sctp::default();
    for (typ, _, body) in chunks {
        next(Dir::Original, SctpState::None, *typ).filter(|n| *n != SctpState::None)?;
        match *typ {
            chunk::INIT => {
                (vtag == 0).then_some(())?;
                s.vtag[1] = init_tag(body)?;
            }
            chunk::HEARTBEAT | chunk::HEARTBEAT_ACK => s.vtag[0] = vtag,
            _ => s.vtag[1] = vtag,
        }
    }
    Some(s)
}

/// CRC32c as SCTP uses it (RFC 9260 appendix A), over the packet with its checksum field zero.
fn crc32c(l4: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for (i, b) in l4.iter().enumerate() {
        let b = if (8..12).contains(&i) { 0 } else { *b };
        crc ^= u32::from(b);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82F6_3B78 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

/// Kernel: `nf_conntrack_sctp_packet`.
pub(super) fn packet(conn: &mut Conn, dir: Dir, p: &Packet<'_>, env: &Env<'_>) -> Seen {
    let [_, _, _, _, v0, v1, v2, v3, s0, s1, s2, s3, ..] = *p.l4 else {
        return Seen::Invalid;
    };
    let vtag = u32::from_be_bytes([v0, v1, v2, v3]);
    let checked = env.sysctl.checksum != 0 && env.hook == Hook::Prerouting;
    if checked && u32::from_le_bytes([s0, s1, s2, s3]) != crc32c(p.l4) {
        return Seen::Invalid;
    }
    let Some(chunks) = chunks(p.l4) else {
        return Seen::Invalid;
    };
    let has = |types: &[u8]| chunks.iter().any(|(t, ..)| types.contains(t));
    if !conn.is_confirmed() {
        // Out of the blue (RFC 9260 section 8.4).
        let strange = [chunk::ABORT, chunk::SHUTDOWN_COMPLETE, chunk::COOKIE_ACK];
        let Some(s) = first(&chunks, vtag).filter(|_| !has(&strange)) else {
            return Seen::Invalid;
        };
        conn.set_tracker(Tracker::Sctp(s));
    }
    let confirmed = conn.is_confirmed();
    let Some(s) = conn.sctp_mut() else {
        return Seen::Invalid;
    };
    // Chunks with rules of their own for the tag (RFC 9260 section 8.5.1).
    let own_rule = [
        chunk::INIT,
        chunk::SHUTDOWN_COMPLETE,
        chunk::COOKIE_ECHO,
        chunk::ABORT,
        chunk::SHUTDOWN_ACK,
        chunk::HEARTBEAT,
        chunk::HEARTBEAT_ACK,
    ];
    if !has(&own_rule) && vtag != s.vtag[dir.index()] {
        return Seen::Invalid;
    }
    let data = has(&[chunk::DATA]);
    let mut quiet = false;
    let mut new = SctpState::None;
    for c in &chunks {
        let Some(s) = conn.sctp_mut() else {
            return Seen::Invalid;
        };
        let before = s.state;
        match s.follow(dir, vtag, *c, data, confirmed, &mut quiet) {
            Ok(Some(state)) => new = state,
            Ok(None) => continue,
            Err(()) => return Seen::Invalid,
        }
        if before != new {
            conn.events.set(EventBits::PROTOINFO);
            if new == SctpState::Established && !conn.status.any(CtStatus::ASSURED) {
                conn.status.set(CtStatus::ASSURED);
                conn.events.set(EventBits::ASSURED);
            }
        }
    }
    if !quiet {
        env.refresh(conn, dir, p, env.sysctl.sctp_timeout(new));
    }
    Seen::Accept
}

impl Sctp {
    /// One chunk: the state after it, `None` if it was passed over, an error if it is wrong.
    fn follow(
        &mut self,
        dir: Dir,
        vtag: u32,
        (typ, flags, body): Chunk<'_>,
        data: bool,
        confirmed: bool,
        quiet: &mut bool,
    ) -> Result<Option<SctpState>, ()> {
        let (own, peer) = (dir.index(), dir.other().index());
        let good = match typ {
            chunk::INIT => vtag == 0,
            // The T bit: the tag is the peer's.
            chunk::ABORT | chunk::SHUTDOWN_COMPLETE if flags & 1 != 0 => vtag == self.vtag[peer],
            chunk::ABORT | chunk::SHUTDOWN_COMPLETE | chunk::COOKIE_ECHO => vtag == self.vtag[own],
            chunk::HEARTBEAT | chunk::HEARTBEAT_ACK => {
                if !self.heartbeat(dir, vtag, typ, data || *quiet)? {
                    *quiet = true;
                    return Ok(None);
                }
                true
            }
            _ => true,
        };
        let new = next(dir, self.state, typ).filter(|_| good).ok_or(())?;
        match typ {
            chunk::INIT => {
                let tag = init_tag(body).ok_or(())?;
                if self.init[own] && self.init[peer] {
                    self.init[peer] = false;
                }
                self.init[own] = true;
                self.vtag[peer] = tag;
                // A client that tries and tries does not keep a dead mapping alive.
                *quiet |= confirmed && new == SctpState::Closed && self.state == new;
            }
            chunk::INIT_ACK => {
                let tag = init_tag(body).ok_or(())?;
                let known = self.vtag[peer];
                let stale = !self.init[peer] && known != 0 && known != tag;
                let collision = self.init[own] && self.init[peer] && known != tag;
                if stale || collision {
                    return Err(());
                }
                self.vtag[peer] = tag;
            }
            _ => {}
        }
        self.state = new;
        Ok(Some(new))
    }

    /// A heartbeat's tag: true if the chunk counts, false if it is passed over.
    fn heartbeat(&mut self, dir: Dir, vtag: u32, typ: u8, strict: bool) -> Result<bool, ()> {
        let (own, peer) = (dir.index(), dir.other().index());
        if self.vtag[own] == 0 {
            self.vtag[own] = vtag;
        } else if vtag == self.vtag[own] {
            self.failed = None;
        } else if strict {
            return Err(());
        } else if typ == chunk::HEARTBEAT {
            self.failed = Some(dir);
            return Ok(false);
        } else {
            if self.failed != Some(dir.other()) {
                return Err(());
            }
            self.failed = None;
            self.vtag[own] = vtag;
            self.vtag[peer] = 0;
        }
        Ok(true)
    }

    /// An association in `state` of which no packet was seen, as a dump tells it.
    pub fn in_state(state: SctpState) -> Sctp {
        Sctp {
            state,
            ..Sctp::default()
        }
    }
}
