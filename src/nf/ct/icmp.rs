//! ICMP and ICMPv6: queries with their answers, errors that belong to other connections
//! (nf_conntrack_proto_icmp.c, nf_conntrack_proto_icmpv6.c).
//!
//! Invariant: an error never makes an entry and never changes one.

use super::Conntrack;
use super::conn::{Conn, Zones};
use super::packet::Packet;
use super::sysctl::secs;
use super::track::{Env, Seen};
use super::tuple::Dir;
use super::tuples::Key;
use crate::nf::Family;
use crate::wire::{ConnId, CtInfo, proto};

/// What a look at an ICMP message before the lookup says.
pub(super) enum Early {
    /// Look it up like any packet.
    Lookup,
    /// No connection is made for it, and none is needed: neighbour discovery, listener reports.
    Untracked,
    /// It is an error about this connection.
    Related(ConnId, CtInfo),
    /// Wrong, or about nothing we know.
    Error,
}

/// The highest ICMP type that is known at all (kernel: `NR_ICMP_TYPES`).
const ICMP_TYPES_MAX: u8 = 18;

/// Kernel: `nf_conntrack_handle_icmp`, `nf_conntrack_icmpv4_error`, `nf_conntrack_icmpv6_error`.
pub(super) fn early(
    ct: &mut Conntrack,
    p: &Packet<'_>,
    family: Family,
    zones: Zones,
    env: &Env<'_>,
) -> Early {
    let v4 = family == Family::V4;
    if v4 != (p.proto == proto::ICMP) {
        return Early::Lookup;
    }
    if p.l4.len() < 8 || p.bad_checksum(env.hook, env.sysctl.checksum) {
        return Early::Error;
    }
    let error = match (v4, p.l4[0]) {
        (true, t) if t > ICMP_TYPES_MAX => return Early::Error,
        (true, t) => matches!(t, 3 | 4 | 5 | 11 | 12),
        // Kernel: `noct_valid_new`.
        (false, 130..=136 | 143) => return Early::Untracked,
        (false, t) => t < 128,
    };
    if !error {
        return Early::Lookup;
    }
    match about(ct, p, zones) {
        Some((id, Dir::Reply)) => Early::Related(id, CtInfo::RelatedReply),
        Some((id, _)) => Early::Related(id, CtInfo::Related),
        None => Early::Error,
    }
}

/// The connection an error is about: the one that the quoted packet's answer belongs to. The error
/// must go to where that answer goes (kernel: `nf_conntrack_inet_error`).
fn about(ct: &mut Conntrack, p: &Packet<'_>, zones: Zones) -> Option<(ConnId, Dir)> {
    let quoted = Packet::parse(p.l4.get(8..)?)?;
    if quoted.h.is_v4() != p.h.is_v4() {
        return None;
    }
    let answer = quoted.tuple()?.invert()?;
    let (id, dir) = ct.lookup(&Key::new(answer), zones)?;
    let to = ct.get(id)?.tuple(dir).dst;
    (to == p.h.dst).then_some((id, dir))
}

/// Kernel: `nf_conntrack_icmp_packet`, `nf_conntrack_icmpv6_packet`.
pub(super) fn packet(conn: &mut Conn, dir: Dir, p: &Packet<'_>, env: &Env<'_>) -> Seen {
    let v4 = p.h.is_v4();
    if v4 != (p.proto == proto::ICMP) {
        return Seen::Invalid;
    }
    let (typ, _) = conn.tuple(Dir::Original).icmp();
    let begins = if v4 {
        matches!(typ, 8 | 13 | 15 | 17)
    } else {
        matches!(typ, 128 | 139)
    };
    if !conn.is_confirmed() && !begins {
        return Seen::Invalid;
    }
    let life = if v4 {
        env.sysctl.icmp_timeout
    } else {
        env.sysctl.icmpv6_timeout
    };
    env.refresh(conn, dir, p, secs(life));
    Seen::Accept
}
