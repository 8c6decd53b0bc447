//! SCTP's states (kernel: `sctp_states` of ip_vs_proto_sctp.c; RFC 9260 section 4).
//!
//! Only the first chunk counts, and an ABORT behind a COOKIE. Invariant: rows have fourteen states, in the
//! kernel's order.

use super::Way;

pub(in super::super) const ESTABLISHED: u8 = 8;
pub(in super::super) const CLOSED: u8 = 13;

/// Name and seconds; 61 is the largest RTO and one more.
const STATES: [(&str, u32); 14] = [
    ("NONE", 2),
    ("INIT1", 4),
    ("INIT", 61),
    ("C-SENT", 61),
    ("C-REPLIED", 61),
    ("C-WAIT", 61),
    ("COOKIE", 61),
    ("C-ECHOED", 61),
    ("ESTABLISHED", 900),
    ("S-SENT", 61),
    ("S-RECEIVED", 61),
    ("S-ACK-SENT", 61),
    ("REJECTED", 4),
    ("CLOSED", 61),
];

/// By event: data, INIT, INIT ACK, COOKIE ECHO, COOKIE ACK, SHUTDOWN, its ACK, its COMPLETE, ERROR, ABORT.
type Table = [[u8; 14]; 10];

const IN: Table = [
    [8, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13],
    [1, 2, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 2, 2],
    [5, 5, 5, 3, 4, 6, 6, 7, 8, 9, 10, 11, 12, 13],
    [4, 2, 2, 4, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13],
    [8, 1, 2, 3, 4, 5, 6, 8, 8, 9, 10, 11, 12, 13],
    [10, 1, 2, 3, 4, 5, 6, 7, 10, 9, 10, 11, 12, 13],
    [13, 2, 2, 3, 4, 5, 6, 7, 8, 13, 10, 13, 12, 13],
    [13, 13, 13, 3, 4, 5, 6, 7, 8, 9, 10, 13, 12, 13],
    [13, 1, 2, 3, 4, 5, 6, 13, 8, 9, 10, 11, 12, 13],
    [13, 13, 13, 13, 13, 12, 13, 13, 13, 13, 13, 13, 13, 13],
];
const OUT: Table = [
    [8, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13],
    [5, 5, 5, 5, 5, 5, 5, 5, 8, 5, 5, 5, 5, 5],
    [3, 3, 3, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13],
    [7, 7, 7, 7, 7, 7, 7, 7, 8, 9, 10, 11, 12, 13],
    [8, 8, 8, 8, 8, 8, 8, 8, 8, 9, 10, 11, 12, 13],
    [9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 10, 11, 12, 13],
    [11, 11, 11, 11, 11, 5, 6, 7, 8, 11, 11, 11, 12, 13],
    [13, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13],
    [13, 13, 13, 13, 13, 5, 6, 7, 8, 9, 10, 11, 12, 13],
    [13, 12, 13, 13, 13, 13, 13, 13, 13, 13, 13, 13, 13, 13],
];
const IN_ONLY: Table = [
    [8, 1, 2, 3, 4, 8, 6, 7, 8, 9, 10, 11, 12, 13],
    [1, 2, 2, 2, 2, 2, 6, 7, 8, 9, 10, 11, 2, 2],
    [7, 7, 7, 7, 7, 7, 6, 7, 8, 9, 10, 11, 12, 13],
    [8, 8, 8, 8, 8, 8, 6, 7, 8, 9, 10, 11, 12, 13],
    [8, 1, 2, 8, 8, 5, 8, 8, 8, 9, 10, 11, 12, 13],
    [10, 1, 2, 3, 4, 5, 6, 7, 10, 9, 10, 11, 12, 13],
    [13, 2, 2, 3, 4, 5, 6, 7, 13, 13, 10, 13, 12, 13],
    [13, 13, 13, 13, 13, 5, 6, 7, 8, 9, 13, 13, 12, 13],
    [13, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13],
    [13, 13, 13, 13, 13, 12, 13, 13, 13, 13, 13, 13, 13, 13],
];

pub(super) fn name(state: u8) -> &'static str {
    STATES.get(usize::from(state)).map_or("ERR!", |s| s.0)
}

pub(super) fn timeout(state: u8) -> u32 {
    STATES.get(usize::from(state)).map_or(2, |s| s.1)
}

/// The event a chunk type is; unknown ones are data.
fn event(chunk: u8) -> usize {
    match chunk {
        1 => 1,
        2 => 2,
        6 => 9,
        7 => 5,
        8 => 6,
        9 => 8,
        10 => 3,
        11 => 4,
        14 => 7,
        _ => 0,
    }
}

/// `set_sctp_state`; `None`: there is no chunk.
pub(super) fn next(state: u8, way: Way, l4: &[u8]) -> Option<u8> {
    let [mut chunk, _, a, b] = l4.get(12..)?.first_chunk::<4>().copied()?;
    if matches!(chunk, 10 | 11) {
        let len = usize::from(u16::from_be_bytes([a, b]));
        let behind = l4.get(12 + len.next_multiple_of(4)..);
        if len >= 4 && behind.is_some_and(|c| c.len() >= 4 && c.first() == Some(&6)) {
            chunk = 6;
        }
    }
    let table = match way {
        Way::In => &IN,
        Way::Out => &OUT,
        Way::InOnly => &IN_ONLY,
    };
    table.get(event(chunk))?.get(usize::from(state)).copied()
}
