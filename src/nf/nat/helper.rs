//! FTP and TFTP through NAT: the address in a command becomes the one the other side can reach.
//!
//! Kernel: nf_nat_ftp.c, nf_nat_tftp.c, nf_nat_helper.c. Commands are found and read by conntrack's helpers;
//! this changes them and the expectation. Invariant: lengths and checksums of a changed packet are right,
//! and what its length changed by is recorded for the sequence numbers that follow.

use super::manip::put;
use crate::base::{Rng, limits};
use crate::nf::ct::{Conntrack, CtStatus, Dir, EventBits, ExpectNat, Expectation};
use crate::wire::{ConnId, Frame, IpHeader, checksum, ip, proto};
use core::ops::Range;
use std::net::IpAddr;

/// How an FTP command or answer says an address (kernel: `enum nf_ct_ftp_type`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FtpKind {
    /// `PORT 10,0,0,1,4,1` (RFC 959).
    Port,
    /// `227 Entering Passive Mode (10,0,0,1,4,1)`
    Pasv,
    /// `EPRT |1|10.0.0.1|1025|` (RFC 2428).
    Eprt,
    /// `229 Entering Extended Passive Mode (|||1025|)`
    Epsv,
}

impl FtpKind {
    /// Kernel: `nf_nat_ftp_fmt_cmd`.
    fn say(self, ip: IpAddr, port: u16) -> String {
        match (self, ip) {
            (FtpKind::Epsv, _) => format!("|||{port}|"),
            (FtpKind::Eprt, IpAddr::V4(ip)) => format!("|1|{ip}|{port}|"),
            (FtpKind::Eprt, IpAddr::V6(ip)) => {
                let groups = ip.segments().map(|g| format!("{g:04x}")); // printk's %pI6
                format!("|2|{}|{port}|", groups.join(":"))
            }
            (FtpKind::Port | FtpKind::Pasv, ip) => {
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
}

/// Why an expectation is not added (kernel: what `nf_ct_expect_related` returns).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// Another one clashes with it (EBUSY): another port may do.
    Busy,
    /// There are too many, or it is another helper's (EMFILE, EALREADY).
    Full,
}

/// Adds an expectation.
pub type Expect<'a> = dyn FnMut(&mut Conntrack, Expectation) -> Result<(), Refused> + 'a;

/// An FTP packet of a translated connection announces `exp` with the words at `at` of its payload: they are
/// changed and the expectation is added. False: the packet is dropped (kernel: `nf_nat_ftp`).
pub fn ftp(
    ct: &mut Conntrack,
    f: &mut Frame,
    (id, dir): (ConnId, Dir),
    (kind, at): (FtpKind, Range<usize>),
    mut exp: Expectation,
    (rng, expect): (&mut Rng, &mut Expect<'_>),
) -> bool {
    let Some(conn) = ct.get(id) else {
        return false;
    };
    let ip = conn.tuple(dir.other()).dst;
    exp.nat = Some(ExpectNat {
        dir: dir.other(),
        addr: exp.tuple.dst,
        port: exp.tuple.dport,
    });
    // Whether the longest words would fit is known before the expectation is there.
    let longest = kind.say(ip, u16::MAX).len();
    if mangled(f, &at, &vec![0; longest]).is_none() {
        return false;
    }
    let Some(port) = find_port(ct, &mut exp, rng, expect) else {
        return false;
    };
    let words = kind.say(ip, port);
    let by = words.len() as i32 - at.len() as i32;
    let Some((seq, packet)) = mangled(f, &at, words.as_bytes()) else {
        return false;
    };
    f.replace_l3(&packet);
    if let Some(conn) = ct.get_mut(id).filter(|_| by != 0) {
        conn.status.set(CtStatus::SEQ_ADJUST);
        conn.seqadj[dir.index()].record(seq, by);
        conn.events.set(EventBits::SEQADJ);
    }
    true
}

/// A TFTP request of a translated connection: the answer comes from a new port to where the request came
/// from. False: the packet is dropped (kernel: `help` of nf_nat_tftp.c).
pub fn tftp(ct: &mut Conntrack, id: ConnId, mut exp: Expectation, expect: &mut Expect<'_>) -> bool {
    let Some(conn) = ct.get(id) else {
        return false;
    };
    exp.nat = Some(ExpectNat {
        dir: Dir::Reply,
        addr: exp.tuple.dst,
        port: conn.tuple(Dir::Original).sport,
    });
    expect(ct, exp).is_ok()
}

/// Adds the expectation at its own port or, if that one is expected already, at a higher one (kernel:
/// `nf_nat_exp_find_port`).
fn find_port(
    ct: &mut Conntrack,
    exp: &mut Expectation,
    rng: &mut Rng,
    expect: &mut Expect<'_>,
) -> Option<u16> {
    let min = exp.tuple.dport;
    let range = u32::from(u16::MAX - min);
    for _ in 0..=range.min(limits::NAT_ATTEMPTS_MAX) {
        match expect(ct, exp.clone()) {
            Ok(()) => return Some(exp.tuple.dport).filter(|p| *p != 0),
            Err(Refused::Busy) => {}
            Err(Refused::Full) => return None,
        }
        exp.tuple.dport = min.wrapping_add(rng.below(u64::from(range)) as u16);
    }
    None
}

/// The packet with bytes of its TCP payload replaced, and its sequence number; `None` if they are not there
/// or it would be too long (kernel: `__nf_nat_mangle_tcp_packet`).
fn mangled(f: &Frame, at: &Range<usize>, with: &[u8]) -> Option<(u32, Vec<u8>)> {
    let h = IpHeader::parse_lax(f.l3()).ok()?;
    let mut p = f.l3().get(..h.total_len)?.to_vec();
    let tcp = p.get(h.header_len..)?;
    let seq = u32::from_be_bytes(*tcp.get(4..)?.first_chunk()?);
    let data = h.header_len + usize::from(tcp.get(12)? >> 4) * 4;
    let at = data.checked_add(at.start)?..data.checked_add(at.end)?;
    p.get(at.clone())?;
    p.splice(at, with.iter().copied());
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
