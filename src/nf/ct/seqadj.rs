//! TCP sequence numbers after a helper's NAT has made a payload longer or shorter.
//!
//! Kernel: nf_conntrack_seqadj.c. One correction point per direction: what lies behind it is shifted by all
//! changes, what lies before it by all but the last. Invariant: a packet's checksum is kept right by what
//! changed.

use super::tuple::Dir;
use crate::wire::checksum;

/// The shift of one direction (kernel: `struct nf_ct_seqadj`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SeqAdj {
    /// Sequence number of the last change, as its sender numbered it.
    pub pos: u32,
    /// Bytes by which numbers up to it are shifted.
    pub before: i32,
    /// Bytes by which later ones are.
    pub after: i32,
}

impl SeqAdj {
    /// The shift of a number as its sender gave it (kernel: `nf_ct_seq_offset`).
    pub fn offset(&self, seq: u32) -> i32 {
        if is_after(seq, self.pos) {
            self.after
        } else {
            self.before
        }
    }

    /// A payload at `seq` became longer by `by`; a retransmission changes nothing more (kernel:
    /// `nf_ct_seqadj_set`).
    pub fn record(&mut self, seq: u32, by: i32) {
        if by != 0 && (self.before == self.after || is_after(seq, self.pos)) {
            self.pos = seq;
            self.before = self.after;
            self.after = self.after.wrapping_add(by);
        }
    }

    /// A number of this direction as the other side acknowledges it, back to how it was sent.
    fn undo(&self, n: u32) -> u32 {
        let by = if is_after(n.wrapping_sub(self.before as u32), self.pos) {
            self.after
        } else {
            self.before
        };
        n.wrapping_sub(by as u32)
    }
}

fn is_after(a: u32, b: u32) -> bool {
    (b.wrapping_sub(a) as i32) < 0
}

/// Shifts sequence number, acknowledgement and SACK blocks of a TCP segment that goes in direction `dir`;
/// `None` if it is cut off or its options are broken: it is dropped (kernel: `nf_ct_seq_adjust`).
pub fn adjust(segment: &mut [u8], shifts: &[SeqAdj; 2], dir: Dir) -> Option<()> {
    let (this, other) = match dir {
        Dir::Original => (&shifts[0], &shifts[1]),
        Dir::Reply => (&shifts[1], &shifts[0]),
    };
    segment.get(..20)?;
    change(segment, 4, |seq| seq.wrapping_add(this.offset(seq) as u32))?;
    change(segment, 8, |ack| other.undo(ack))?;
    let end = usize::from(segment.get(12)? >> 4) * 4;
    sacks(segment, end, other)
}

/// Kernel: `nf_ct_sack_adjust`.
fn sacks(segment: &mut [u8], end: usize, other: &SeqAdj) -> Option<()> {
    segment.get(..end)?;
    let mut at = 20;
    while at < end {
        let (kind, len) = match *segment.get(at)? {
            0 => return Some(()),
            1 => {
                at += 1;
                continue;
            }
            kind => (kind, usize::from(*segment.get(..end)?.get(at + 1)?)),
        };
        if len < 2 || at + len > end {
            return None;
        }
        if kind == 5 && len >= 10 && (len - 2) % 8 == 0 {
            for edge in (at + 2..at + len).step_by(4) {
                change(segment, edge, |n| other.undo(n))?;
            }
        }
        at += len;
    }
    Some(())
}

/// Replaces the number at `at`. An option may begin at an odd place, where the checksum takes the bytes the
/// other way round; the kernel's `inet_proto_csum_replace4` does not mind, and so it stays.
fn change(segment: &mut [u8], at: usize, f: impl FnOnce(u32) -> u32) -> Option<()> {
    let old = *segment.get(at..)?.first_chunk::<4>()?;
    let new = f(u32::from_be_bytes(old)).to_be_bytes();
    segment.get_mut(at..at + 4)?.copy_from_slice(&new);
    let field = segment.get_mut(16..)?.first_chunk_mut::<2>()?;
    let mut check = u16::from_be_bytes(*field);
    for i in [0, 2] {
        let word = |b: &[u8; 4]| u16::from_be_bytes([b[i], b[i + 1]]);
        check = checksum::update(check, word(&old), word(&new));
    }
    *field = check.to_be_bytes();
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A segment of 20 + 12 bytes of header with one SACK block, its checksum over the bytes alone.
    fn segment(seq: u32, ack: u32, block: (u32, u32)) -> Vec<u8> {
        let mut s = vec![0u8; 32];
        s[4..8].copy_from_slice(&seq.to_be_bytes());
        s[8..12].copy_from_slice(&ack.to_be_bytes());
        s[12] = 8 << 4;
        s[20..24].copy_from_slice(&[1, 1, 5, 10]);
        s[24..28].copy_from_slice(&block.0.to_be_bytes());
        s[28..32].copy_from_slice(&block.1.to_be_bytes());
        let c = checksum::of(&s);
        s[16..18].copy_from_slice(&c.to_be_bytes());
        s
    }

    #[test]
    fn both_directions_are_shifted() {
        let mut shifts = [SeqAdj::default(); 2];
        shifts[0].record(1000, 4);
        let mut first = segment(1000, 5, (7, 8));
        adjust(&mut first, &shifts, Dir::Original).unwrap();
        assert_eq!(
            first,
            segment(1000, 5, (7, 8)),
            "the changed segment itself keeps its number"
        );
        let mut next = segment(1020, 5, (7, 8));
        adjust(&mut next, &shifts, Dir::Original).unwrap();
        assert_eq!(next, segment(1024, 5, (7, 8)));
        let mut answer = segment(5, 1024, (1030, 1040));
        adjust(&mut answer, &shifts, Dir::Reply).unwrap();
        assert_eq!(answer, segment(5, 1020, (1026, 1036)));
    }

    #[test]
    fn a_retransmission_is_not_counted_twice() {
        let mut s = SeqAdj::default();
        s.record(1000, 4);
        s.record(1000, 4);
        assert_eq!((s.before, s.after), (0, 4));
        s.record(2000, -1);
        assert_eq!((s.pos, s.before, s.after), (2000, 4, 3));
        assert_eq!((s.offset(2000), s.offset(2001)), (4, 3));
    }

    #[test]
    fn broken_options_are_refused() {
        let shifts = [SeqAdj::default(); 2];
        let good = segment(1, 2, (3, 4));
        for len in 0..20 {
            assert!(adjust(&mut good[..len].to_vec(), &shifts, Dir::Reply).is_none());
        }
        for (at, with) in [(23, 1), (23, 11), (12, 0xf0)] {
            let mut bad = good.clone();
            bad[at] = with;
            assert!(adjust(&mut bad, &shifts, Dir::Reply).is_none());
        }
    }
}
