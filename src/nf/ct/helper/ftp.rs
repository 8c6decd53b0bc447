//! FTP (RFC 959, RFC 2428): PORT, EPRT, and the answers 227 and 229 announce data connections
//! (kernel: nf_conntrack_ftp.c).
//!
//! Invariant: only a line that begins right behind a newline that was seen is looked at.

use super::Announcement;
use crate::base::Instant;
use crate::nf::ct::packet::Packet;
use crate::nf::ct::track::dir_of;
use crate::nf::ct::{Conntrack, CtDrop, Dir, Expectation};
use crate::wire::{ConnId, CtInfo};
use std::net::{IpAddr, Ipv4Addr};

/// Which words announce (kernel: `enum nf_ct_ftp_type`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FtpCommand {
    /// `PORT h1,h2,h3,h4,p1,p2`
    Port,
    /// `227 ... h1,h2,h3,h4,p1,p2`
    Pasv,
    /// `EPRT |1|10.0.0.1|port|`
    Eprt,
    /// `229 ... (|||port|)`
    Epsv,
}

/// Where lines begin: the sequence numbers behind the last newlines (kernel: `struct
/// nf_ct_ftp_master`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Ftp {
    lines: [[Option<u32>; 2]; 2],
}

impl Ftp {
    fn begins_line(&self, dir: Dir, seq: u32) -> bool {
        self.lines[dir.index()].contains(&Some(seq))
    }

    /// Kernel: `update_nl_seq`.
    fn note(&mut self, dir: Dir, seq: u32) {
        let known = &mut self.lines[dir.index()];
        if known.contains(&Some(seq)) {
            return;
        }
        match known {
            [slot @ None, _] | [Some(_), slot @ None] => *slot = Some(seq),
            [Some(a), Some(b)] => {
                let older = if (a.wrapping_sub(*b) as i32) < 0 {
                    a
                } else {
                    b
                };
                *older = seq;
            }
        }
    }
}

/// What was found in a line.
struct Found {
    command: FtpCommand,
    addr: IpAddr,
    port: u16,
    /// Place and length of the text in the payload.
    text: (usize, usize),
}

/// A search's outcome.
enum Search {
    Nothing,
    /// It begins like an announcement and ends too early or goes on wrongly.
    Partial,
    Found(Found),
}

/// What a packet of an ftp connection announces; a partial announcement is dropped, so that it comes
/// again whole (kernel: `help`).
pub(super) fn look(
    ct: &mut Conntrack,
    id: ConnId,
    info: CtInfo,
    p: &Packet<'_>,
    expires: Instant,
) -> Result<Option<Announcement>, CtDrop> {
    if !matches!(info, CtInfo::Established | CtInfo::EstablishedReply) {
        return Ok(None);
    }
    let header = p.l4.get(12).map_or(0, |b| usize::from(b >> 4) * 4);
    let (Some(data), Some(seq)) = (p.l4.get(header..), p.l4.get(4..8)) else {
        return Ok(None);
    };
    if header < 20 || data.is_empty() {
        return Ok(None);
    }
    let seq = u32::from_be_bytes([seq[0], seq[1], seq[2], seq[3]]);
    let dir = dir_of(info);
    let Some(conn) = ct.get_mut(id) else {
        return Ok(None);
    };
    let (own, peer) = (conn.tuple(dir), conn.tuple(dir.other()));
    let search = if conn.ftp_mut().begins_line(dir, seq) {
        search(data, dir, own.src)
    } else {
        Search::Nothing
    };
    if matches!(search, Search::Partial) {
        return Err(CtDrop::PartialFtp);
    }
    if data.last() == Some(&b'\n') {
        conn.ftp_mut()
            .note(dir, seq.wrapping_add(data.len() as u32));
    }
    let Search::Found(found) = search else {
        return Ok(None);
    };
    // Another address than the sender's own would let it open holes to others (`loose` is off).
    if found.addr != own.src {
        return Ok(None);
    }
    let mut tuple = peer;
    tuple.sport = 0;
    tuple.dport = found.port;
    let before = p.len - data.len();
    Ok(Some(Announcement {
        expectation: Expectation {
            tuple,
            from_source: true,
            zones: conn.zones(),
            master: id,
            helper: None,
            nat: None,
            expires,
        },
        text: Some((before + found.text.0, found.text.1)),
        command: Some(found.command),
    }))
}

/// Kernel: the table `search` and `find_pattern`.
fn search(data: &[u8], dir: Dir, own: IpAddr) -> Search {
    let patterns: [(&[u8], Option<u8>, FtpCommand); 2] = match dir {
        Dir::Original => [
            (b"PORT", Some(b' '), FtpCommand::Port),
            (b"EPRT", Some(b' '), FtpCommand::Eprt),
        ],
        Dir::Reply => [
            (b"227 ", None, FtpCommand::Pasv),
            (b"229 ", Some(b'('), FtpCommand::Epsv),
        ],
    };
    for (pattern, skip, command) in patterns {
        match find(data, pattern, skip, command, own) {
            Search::Nothing => {}
            other => return other,
        }
    }
    Search::Nothing
}

fn find(data: &[u8], pattern: &[u8], skip: Option<u8>, command: FtpCommand, own: IpAddr) -> Search {
    let n = pattern.len().min(data.len());
    if !data[..n].eq_ignore_ascii_case(&pattern[..n]) {
        return Search::Nothing;
    }
    if data.len() <= pattern.len() {
        return Search::Partial;
    }
    let mut at = pattern.len();
    if let Some(skip) = skip {
        // The last byte is not looked at: something must follow.
        let rest = &data[at..data.len() - 1];
        match rest.iter().position(|b| *b == skip) {
            Some(found) => at += found + 1,
            None => return Search::Partial,
        }
    }
    if command == FtpCommand::Pasv {
        match data[at..].iter().position(u8::is_ascii_digit) {
            Some(found) => at += found,
            None => return Search::Partial,
        }
    }
    let rest = &data[at..];
    let read = match command {
        FtpCommand::Port => read_port(rest, Some(b'\r')),
        FtpCommand::Pasv => read_port(rest, None),
        FtpCommand::Eprt => read_eprt(rest, own.is_ipv4()),
        FtpCommand::Epsv => read_epsv(rest).map(|(port, len)| (own, port, len)),
    };
    match read {
        Some((addr, port, len)) => Search::Found(Found {
            command,
            addr,
            port,
            text: (at, len),
        }),
        None => Search::Partial,
    }
}

/// `N` numbers with `sep` between them, up to `end` (or anything else without one), and the length
/// of their text (kernel: `try_number`).
fn numbers<const N: usize>(data: &[u8], sep: u8, end: Option<u8>) -> Option<([u32; N], usize)> {
    let mut out = [0u32; N];
    let mut at = 0;
    for (len, b) in data.iter().enumerate() {
        if b.is_ascii_digit() {
            let n = out.get_mut(at)?;
            *n = n.wrapping_mul(10).wrapping_add(u32::from(b - b'0'));
        } else if *b == sep {
            at += 1;
            out.get(at)?;
        } else {
            let ended = at == N - 1 && end.is_none_or(|e| e == *b);
            return ended.then_some((out, len));
        }
    }
    None
}

fn v4(n: [u32; 4]) -> IpAddr {
    let bits = (n[0] << 24) | (n[1] << 16) | (n[2] << 8) | n[3];
    IpAddr::V4(Ipv4Addr::from_bits(bits))
}

/// Kernel: `try_rfc959`.
fn read_port(data: &[u8], end: Option<u8>) -> Option<(IpAddr, u16, usize)> {
    let (n, len) = numbers::<6>(data, b',', end)?;
    let port = ((n[4] << 8) | n[5]) as u16;
    Some((v4([n[0], n[1], n[2], n[3]]), port, len))
}

fn delimiter(b: u8) -> Option<u8> {
    (b.is_ascii_graphic() && !b.is_ascii_digit()).then_some(b)
}

/// Kernel: `try_eprt`.
fn read_eprt(data: &[u8], is_v4: bool) -> Option<(IpAddr, u16, usize)> {
    let [first, family, third, rest @ ..] = data else {
        return None;
    };
    let delim = delimiter(*first).filter(|d| d == third)?;
    if *family != if is_v4 { b'1' } else { b'2' } {
        return None;
    }
    let (addr, len) = if is_v4 {
        let (n, len) = numbers::<4>(rest, b'.', Some(delim))?;
        (v4(n), len)
    } else {
        let len = rest.iter().position(|b| *b == delim)?;
        let text = core::str::from_utf8(&rest[..len]).ok()?;
        (IpAddr::V6(text.parse().ok()?), len)
    };
    let (port, end) = port_at(data, 3 + len + 1, delim)?;
    Some((addr, port, end))
}

/// Kernel: `try_epsv_response`.
fn read_epsv(data: &[u8]) -> Option<(u16, usize)> {
    let [a, b, c, _, ..] = data else {
        return None;
    };
    let delim = delimiter(*a).filter(|d| d == b && d == c)?;
    port_at(data, 3, delim)
}

/// A port that ends with the delimiter, and the offset behind that (kernel: `get_port`).
fn port_at(data: &[u8], start: usize, delim: u8) -> Option<(u16, usize)> {
    let mut port = 0u16;
    for (at, b) in data.iter().enumerate().skip(start) {
        match *b {
            b if b == delim => return (port != 0).then_some((port, at + 1)),
            b'0'..=b'9' => port = port.wrapping_mul(10).wrapping_add(u16::from(b - b'0')),
            _ => return None,
        }
    }
    None
}
