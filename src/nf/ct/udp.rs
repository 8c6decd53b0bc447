//! UDP, UDP-Lite, GRE and what has no tracker (nf_conntrack_proto_udp.c, _gre.c, _generic.c).
//!
//! Invariant: none of them kills a connection; a malformed packet leaves it as it was.

use super::conn::{Conn, CtStatus, tick};
use super::event::EventBits;
use super::more::{ProtoState, Tracker};
use super::packet::Packet;
use super::sysctl::{CtSysctl, secs};
use super::track::{Env, Seen};
use super::tuple::{Dir, UDPLITE};
use crate::base::Instant;
use crate::nf::Counters;
use crate::wire::proto;
use core::time::Duration;

/// After this long, traffic both ways counts as a stream (kernel: `nf_conntrack_udp_packet`).
const STREAM_AFTER: Duration = Duration::from_secs(2);

/// Kernel: `udp_error`, `udplite_error`.
fn malformed(p: &Packet<'_>, env: &Env<'_>) -> bool {
    let [_, _, _, _, l0, l1, c0, c1, ..] = *p.l4 else {
        return true;
    };
    let len = usize::from(u16::from_be_bytes([l0, l1]));
    if p.proto == UDPLITE {
        // Coverage 0 is all of it; checksum 0 is not allowed.
        let bad = len != 0 && !(8..=p.l4.len()).contains(&len);
        let covered = if len == 0 { p.l4.len() } else { len };
        return bad || (c0, c1) == (0, 0) || p.bad_lite_checksum(covered, env);
    }
    if !(8..=p.l4.len()).contains(&len) {
        return true;
    }
    (c0, c1) != (0, 0) && p.bad_checksum(env.hook, env.sysctl.checksum)
}

fn assure(conn: &mut Conn) {
    // An entry that only lets one clashing packet through never becomes assured.
    if !conn.status.any(CtStatus::NAT_CLASH) && conn.mark_status(CtStatus::ASSURED) {
        conn.events.set(EventBits::ASSURED);
    }
}

/// Kernel: `nf_conntrack_udp_packet`, `nf_conntrack_udplite_packet`.
pub(super) fn udp(conn: &mut Conn, dir: Dir, p: &Packet<'_>, env: &Env<'_>) -> Seen {
    if malformed(p, env) {
        return Seen::Invalid;
    }
    if !conn.is_confirmed() {
        conn.set_stream(env.now + STREAM_AFTER);
    }
    let stream = is_stream(conn, p.proto, env.now);
    env.refresh(conn, dir, p, life(stream, env.sysctl));
    if stream {
        assure(conn);
    }
    Seen::Accept
}

/// Whether a packet at `now` finds traffic both ways.
fn is_stream(conn: &Conn, proto: u8, now: Instant) -> bool {
    let replied = conn.status.any(CtStatus::SEEN_REPLY);
    // A connection read from a dump has no such moment: it is older than any.
    let since = match conn.proto() {
        ProtoState::Udp(t) if proto != UDPLITE => Some(t),
        _ => None,
    };
    replied && since.is_none_or(|t| tick(now) > t)
}

fn life(stream: bool, sysctl: &CtSysctl) -> Duration {
    match stream {
        true => secs(sysctl.udp_timeout_stream),
        false => secs(sysctl.udp_timeout),
    }
}

/// Whether every further packet of a direction does the same to a connection but for the life it gives:
/// of UDP, and of what has no tracker, such as a tunnel's own packets.
pub(super) fn is_steady(conn: &Conn) -> bool {
    match conn.proto() {
        ProtoState::Udp(_) => true,
        ProtoState::Generic => conn.tuple(Dir::Original).proto == proto::IPIP,
        _ => false,
    }
}

/// Packets of a settled connection that were carried without asking the table, the last of them at `last`.
/// Whether that assured the connection, so that rules may judge it anew.
pub(super) fn carried(
    conn: &mut Conn,
    dir: Dir,
    n: Counters,
    last: Instant,
    sysctl: &CtSysctl,
) -> bool {
    if matches!(conn.proto(), ProtoState::Tcp(_)) {
        // Each segment was followed as it came.
        conn.account(dir, n);
        return false;
    }
    let tracked = matches!(conn.proto(), ProtoState::Udp(_));
    let stream = tracked && is_stream(conn, conn.tuple(dir).proto, last);
    let life = match tracked {
        true => life(stream, sysctl),
        false => secs(sysctl.generic_timeout),
    };
    // Both directions are written back, in whichever order: the younger packet decides.
    if tick(last) + conn.timeout() >= conn.expires() {
        conn.refresh(last, life);
    }
    conn.account(dir, n);
    let assured = conn.status.any(CtStatus::ASSURED);
    if stream {
        assure(conn);
    }
    assured != conn.status.any(CtStatus::ASSURED)
}

/// Kernel: `nf_conntrack_gre_packet`.
pub(super) fn gre(conn: &mut Conn, dir: Dir, p: &Packet<'_>, env: &Env<'_>) -> Seen {
    let now = (
        secs(env.sysctl.gre_timeout),
        secs(env.sysctl.gre_timeout_stream),
    );
    if !conn.is_confirmed() {
        conn.set_tracker(Tracker::Gre(now.0, now.1));
    }
    let (short, long) = match conn.proto() {
        ProtoState::Gre(a, b) => (a, b),
        _ => now,
    };
    if conn.status.any(CtStatus::SEEN_REPLY) {
        env.refresh(conn, dir, p, long);
        assure(conn);
    } else {
        env.refresh(conn, dir, p, short);
    }
    Seen::Accept
}

/// Kernel: `generic_packet`.
pub(super) fn generic(conn: &mut Conn, dir: Dir, p: &Packet<'_>, env: &Env<'_>) -> Seen {
    env.refresh(conn, dir, p, secs(env.sysctl.generic_timeout));
    Seen::Accept
}
