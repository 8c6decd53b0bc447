//! Ports and echo ids that the kernel drew for connections that never came to be.
//!
//! What NAT drew is told by the event of a new connection. If the first packet is dropped behind the
//! translation there is none, and yet a copy of the packet may be out already, with the number on it. Where
//! rules make copies and draw, numbers that nobody told are left out of the comparison, checksum and all if it
//! was right; the rest of the frame is compared.

use super::packet::{ICMP, ICMP6, Ip, TCP, UDP, checksum, pseudo};
use super::round::Round;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// The numbers that are known.
pub struct Drawn(BTreeSet<u16>);

impl Drawn {
    /// Of a round in which there may be others.
    pub fn of(r: &Round) -> Option<Drawn> {
        let draws = r.rules.contains("random") || r.nft.contains("random");
        if !(r.copies() && draws) {
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
