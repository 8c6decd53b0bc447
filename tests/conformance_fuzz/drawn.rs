//! Ports and echo ids that the kernel drew for connections that never came to be.
//!
//! What NAT drew is told by the event of a new connection. If the first packet is dropped behind the
//! translation there is none, and yet a copy of the packet may be out already, with the number on it. Where
//! rules make copies and draw, numbers that nobody told are left out of the comparison, checksum and all if it
//! was right, also where a copied error quotes the packet whole; the rest of the frame is compared.

use super::packet::{ICMP, ICMP6, Ip, TCP, UDP, checksum, pseudo};
use super::round::Round;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// The numbers that are known.
pub struct Drawn(BTreeSet<u16>);

impl Drawn {
    /// Of a round in which there may be others.
    pub fn of(r: &Round) -> Option<Drawn> {
        if !(r.copies() && r.rules.lines().chain(r.nft.lines()).any(draws)) {
            return None;
        }
        let mut known = BTreeSet::new();
        for s in &r.sent {
            // A process's packet has no link header.
            let head = if s.at == super::round::LOCAL { 0 } else { 14 };
            if let Some(l) = s.data.get(head..).and_then(Layout::of) {
                let number = |at: &usize| {
                    let b = s.data.get(head + at..)?.first_chunk()?;
                    Some(u16::from_be_bytes(*b))
                };
                known.extend(l.numbers.iter().filter_map(number));
            }
        }
        for e in &r.kernel.events {
            let words = e.split_whitespace().filter_map(|w| w.split_once('='));
            known.extend(words.filter_map(|(_, n)| n.parse::<u16>().ok()));
        }
        Some(Drawn(known))
    }

    /// Puts unknown numbers of a frame to zero.
    pub fn hide(&self, frame: &mut [u8]) {
        let Some(p) = frame.get_mut(14..) else { return };
        let quoted = quoted(p).unwrap_or(0);
        let Some(p) = p.get_mut(quoted..) else { return };
        let Some(l) = Layout::of(p).filter(|l| l.fits(p)) else {
            return;
        };
        let mut hidden = false;
        for at in l.numbers {
            if let Some(b) = p.get_mut(at..).and_then(|b| b.first_chunk_mut::<2>())
                && !self.0.contains(&u16::from_be_bytes(*b))
            {
                *b = [0; 2];
                hidden = true;
            }
        }
        if hidden {
            p[l.sum..l.sum + 2].fill(0);
        }
    }
}

/// Whether a rule has the kernel draw a number: when told to, and a source's port out of a range
/// (`nf_nat_l4proto_unique_tuple`: of a destination's range it takes the first).
fn draws(rule: &str) -> bool {
    let source = ["SNAT", "MASQUERADE", "snat", "masquerade"];
    let ranged = || {
        rule.split_whitespace().any(|w| {
            let ports = w.rsplit(':').next().unwrap_or(w);
            let ends = ports.split_once('-');
            ends.is_some_and(|(a, b)| a.parse::<u16>().is_ok() && b.parse::<u16>().is_ok())
        })
    };
    rule.contains("random") || source.iter().any(|s| rule.contains(s)) && ranged()
}

/// Where the packet begins that an ICMP error quotes.
fn quoted(p: &[u8]) -> Option<usize> {
    let (at, error) = match p.first()? >> 4 {
        4 if *p.get(9)? == ICMP => {
            let at = usize::from(p[0] & 15) * 4;
            (at, matches!(p.get(at)?, 3 | 11 | 12))
        }
        6 if *p.get(6)? == ICMP6 => (40, *p.get(40)? < 128),
        _ => return None,
    };
    error.then_some(at + 8)
}

/// Where a packet has its numbers and its checksum, from the IP header on.
struct Layout {
    ip: Ip,
    l4: usize,
    end: usize,
    numbers: Vec<usize>,
    sum: usize,
}

impl Layout {
    /// Of a packet that is no fragment and has no extension headers.
    fn of(p: &[u8]) -> Option<Layout> {
        let word = |at: usize| Some(u16::from_be_bytes(*p.get(at..)?.first_chunk()?));
        let (src, dst, proto, l4, end): (IpAddr, IpAddr, u8, usize, usize) = match p.first()? >> 4 {
            4 if word(6)? & 0x3fff == 0 => (
                (*p.get(12..)?.first_chunk::<4>()?).into(),
                (*p.get(16..)?.first_chunk::<4>()?).into(),
                *p.get(9)?,
                usize::from(p[0] & 15) * 4,
                word(2)?.into(),
            ),
            6 => (
                (*p.get(8..)?.first_chunk::<16>()?).into(),
                (*p.get(24..)?.first_chunk::<16>()?).into(),
                *p.get(6)?,
                40,
                40 + usize::from(word(4)?),
            ),
            _ => return None,
        };
        let echo = matches!((proto, p.get(l4)?), (ICMP, 0 | 8) | (ICMP6, 128 | 129));
        let (numbers, sum) = match proto {
            ICMP | ICMP6 if echo => (vec![l4 + 4], l4 + 2),
            TCP => (vec![l4, l4 + 2], l4 + 16),
            UDP => (vec![l4, l4 + 2], l4 + 6),
            _ => return None,
        };
        let ip = Ip::new(src, dst, proto);
        (l4..=p.len()).contains(&end).then_some(Layout {
            ip,
            l4,
            end,
            numbers,
            sum,
        })
    }

    /// Whether the checksum is right.
    fn fits(&self, p: &[u8]) -> bool {
        let l4 = &p[self.l4..self.end];
        let sum = match self.ip.proto {
            ICMP => checksum(l4),
            _ => pseudo(&self.ip, l4),
        };
        sum == 0 && self.sum + 2 <= self.end
    }
}
