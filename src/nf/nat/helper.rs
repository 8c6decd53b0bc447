//! FTP and TFTP through NAT: the address in a command becomes the one the other side can reach.
//!
//! Kernel: nf_nat_ftp.c, nf_nat_tftp.c, nf_nat_helper.c, and the part of `nf_confirm` that comes before
//! confirming. Announcements are found and read by conntrack's helpers; this changes them, packet and
//! expectation. Invariant: lengths and checksums of a changed packet are right, and what its length changed
//! by is recorded for the sequence numbers that follow.

use super::manip::put;
use super::setup::NoNat;
use crate::base::{Rng, limits};
use crate::net::{DeviceKind, NetNs};
use crate::nf::ct::{
    Announcement, Conntrack, CtStatus, Dir, EventBits, ExpectNat, Expectation, FtpCommand, Helped,
    seqadj,
};
use crate::nf::eval::{At, Cx};
use crate::wire::{CtInfo, CtRef, Frame, IpHeader, checksum, ip, proto};
use core::ops::Range;
use std::net::IpAddr;

/// What happens to a tracked packet right before its connection is confirmed: the helper looks into it, NAT
/// translates what it announces, sequence numbers are shifted (kernel: `nf_confirm`).
pub fn run(
    ct: &mut Conntrack,
    ns: &NetNs,
    f: &mut Frame,
    at: &At,
    cx: &mut Cx<'_>,
) -> Result<Helped, NoNat> {
    let CtRef::Conn { id, info } = f.ct else {
        return Ok(Helped::Accept);
    };
    // Whether numbers are shifted is decided before this packet can be the first that is changed.
    let shifted = ct
        .get(id)
        .is_some_and(|c| c.status.any(CtStatus::SEQ_ADJUST));
    let dir = if info.is_reply() {
        Dir::Reply
    } else {
        Dir::Original
    };
    match ct.helper(ns, f, at, cx) {
        Helped::Accept => {}
        Helped::Nat(a) => announce(ct, ns, f, (dir, *a), cx.rng).ok_or(NoNat::Announcement)?,
        drop => return Ok(drop),
    }
    let lo = at.input.and_then(|d| ns.dev(d));
    let looped = lo.is_some_and(|d| matches!(d.kind, DeviceKind::Loopback));
    if shifted && !looped && info != CtInfo::RelatedReply {
        shift(ct, f, dir).ok_or(NoNat::Header)?;
    }
    Ok(Helped::Accept)
}

/// Shifts a segment's sequence numbers.
fn shift(ct: &Conntrack, f: &mut Frame, dir: Dir) -> Option<()> {
    let CtRef::Conn { id, .. } = f.ct else {
        return Some(());
    };
    let shifts = ct.get(id)?.seqadj();
    let h = IpHeader::parse_lax(f.l3()).ok()?;
    let end = h.total_len.min(f.l3().len());
    seqadj::adjust(f.l3_mut().get_mut(h.header_len..end)?, &shifts, dir)
}

/// How a command says an address (kernel: `nf_nat_ftp_fmt_cmd`).
fn say(command: FtpCommand, ip: IpAddr, port: u16) -> String {
    match (command, ip) {
        (FtpCommand::Epsv, _) => format!("|||{port}|"),
        (FtpCommand::Eprt, IpAddr::V4(ip)) => format!("|1|{ip}|{port}|"),
        (FtpCommand::Eprt, IpAddr::V6(ip)) => {
            let groups = ip.segments().map(|g| format!("{g:04x}")); // printk's %pI6
            format!("|2|{}|{port}|", groups.join(":"))
        }
        (FtpCommand::Port | FtpCommand::Pasv, ip) => {
            let [a, b, c, d] = match ip {
                IpAddr::V4(ip) => ip.octets(),
                // They know no IPv6; the kernel prints the address's first four bytes.
                IpAddr::V6(ip) => {
                    let [a, b, c, d, ..] = ip.octets();
                    [a, b, c, d]
                }
            };
            let [high, low] = port.to_be_bytes();
            format!("{a},{b},{c},{d},{high},{low}")
        }
    }
}

/// Translates an announcement and adds its expectation; `None`: the packet is dropped (kernel:
/// `nf_nat_ftp`, `help` of nf_nat_tftp.c).
fn announce(
    ct: &mut Conntrack,
    ns: &NetNs,
    f: &mut Frame,
    (dir, a): (Dir, Announcement),
    rng: &mut Rng,
) -> Option<()> {
    let mut exp = a.expectation;
    let id = exp.master;
    let conn = ct.get(id)?;
    let (Some(command), Some((start, len))) = (a.command, a.text) else {
        // TFTP's answer comes from a new port to where the request came from.
        exp.nat = Some(ExpectNat {
            dir: Dir::Reply,
            addr: exp.tuple.dst,
            port: conn.tuple(Dir::Original).sport,
        });
        return ct.expect(ns, exp).then_some(());
    };
    let at = start..start.checked_add(len)?;
    let ip = conn.tuple(dir.other()).dst;
    exp.nat = Some(ExpectNat {
        dir: dir.other(),
        addr: exp.tuple.dst,
        port: exp.tuple.dport,
    });
    // Whether the longest words would fit is known before the expectation is there.
    let longest = say(command, ip, u16::MAX).len();
    mangled(f, &at, &vec![0; longest])?;
    let words = say(command, ip, find_port(ct, ns, &mut exp, rng)?);
    let by = words.len() as i32 - at.len() as i32;
    let (seq, packet) = mangled(f, &at, words.as_bytes())?;
    f.replace_l3(&packet);
    if let Some(conn) = ct.get_mut(id).filter(|_| by != 0) {
        conn.status.set(CtStatus::SEQ_ADJUST);
        conn.seqadj_mut(dir).record(seq, by);
        conn.events.set(EventBits::SEQADJ);
    }
    Some(())
}

/// Adds the expectation at its own port or, if that one is expected already, at a higher one (kernel:
/// `nf_nat_exp_find_port`).
fn find_port(ct: &mut Conntrack, ns: &NetNs, exp: &mut Expectation, rng: &mut Rng) -> Option<u16> {
    let min = exp.tuple.dport;
    let range = u32::from(u16::MAX - min);
    for _ in 0..=range.min(limits::NAT_ATTEMPTS_MAX) {
        if ct.expect(ns, exp.clone()) {
            return Some(exp.tuple.dport).filter(|p| *p != 0);
        }
        exp.tuple.dport = min.wrapping_add(rng.below(u64::from(range)) as u16);
    }
    None
}

/// The packet with bytes of its TCP payload replaced (`at` counts from the IP header on), and its sequence
/// number; `None` if they are not there or it would be too long (kernel: `__nf_nat_mangle_tcp_packet`).
fn mangled(f: &Frame, at: &Range<usize>, with: &[u8]) -> Option<(u32, Vec<u8>)> {
    let h = IpHeader::parse_lax(f.l3()).ok()?;
    let mut p = f.l3().get(..h.total_len)?.to_vec();
    let tcp = p.get(h.header_len..)?;
    let seq = u32::from_be_bytes(*tcp.get(4..)?.first_chunk()?);
    let data = h.header_len + usize::from(tcp.get(12)? >> 4) * 4;
    p.get(at.clone()).filter(|_| at.start >= data)?;
    p.splice(at.clone(), with.iter().copied());
    let len = u16::try_from(p.len()).ok()?;
    if h.is_v4() {
        put(&mut p, 2, &len.to_be_bytes())?;
        ip::fill_v4_checksum(&mut p);
    } else {
        put(&mut p, 4, &len.checked_sub(40)?.to_be_bytes())?;
    }
    put(&mut p, h.header_len + 16, &[0; 2])?;
    let check = checksum::l4(h.src, h.dst, proto::TCP, p.get(h.header_len..)?);
    put(&mut p, h.header_len + 16, &check.to_be_bytes())?;
    Some((seq, p))
}
