//! TCP's states (kernel: `tcp_states`, `tcp_states_dos` of ip_vs_proto_tcp.c).
//!
//! Sequence numbers are not looked at. Invariant: rows have eleven states, in the kernel's order.

use super::Way;

pub(in super::super) const ESTABLISHED: u8 = 1;
pub(in super::super) const FIN_WAIT: u8 = 4;
pub(in super::super) const TIME_WAIT: u8 = 5;
pub(in super::super) const CLOSE: u8 = 6;

/// Name, seconds, active.
const STATES: [(&str, u32, bool); 11] = [
    ("NONE", 2, false),
    ("ESTABLISHED", 900, true),
    ("SYN_SENT", 120, true),
    ("SYN_RECV", 60, true),
    ("FIN_WAIT", 120, false),
    ("TIME_WAIT", 120, false),
    ("CLOSE", 10, false),
    ("CLOSE_WAIT", 60, false),
    ("LAST_ACK", 30, false),
    ("LISTEN", 120, false),
    ("SYNACK", 120, true),
];

type Row = [u8; 11];
/// SYN, FIN, ACK, RST.
type Table = [Row; 4];

const IN: Table = [
    [3, 1, 1, 3, 3, 3, 3, 3, 3, 3, 3],
    [6, 7, 2, 5, 5, 5, 6, 7, 8, 9, 5],
    [1, 1, 2, 1, 4, 5, 6, 7, 6, 9, 1],
    [6, 6, 6, 3, 6, 6, 6, 6, 8, 9, 3],
];
const OUT: Table = [
    [2, 1, 2, 3, 2, 2, 2, 2, 2, 9, 3],
    [5, 4, 2, 5, 4, 5, 6, 5, 8, 9, 5],
    [1, 1, 2, 1, 4, 5, 6, 7, 8, 1, 1],
    [6, 6, 2, 6, 6, 5, 6, 6, 6, 6, 6],
];
const IN_ONLY: Table = [
    [3, 1, 1, 3, 3, 3, 3, 3, 3, 3, 3],
    [6, 4, 2, 5, 4, 5, 6, 7, 8, 9, 5],
    [1, 1, 2, 1, 4, 5, 6, 7, 6, 9, 1],
    [6, 6, 6, 3, 6, 6, 6, 6, 8, 9, 6],
];
/// `secure_tcp`: a connection is believed only when the server has answered.
const DOS_IN: Table = [
    [3, 1, 1, 3, 3, 3, 3, 3, 3, 3, 10],
    [6, 7, 2, 5, 5, 5, 6, 7, 8, 9, 10],
    [1, 1, 2, 3, 4, 5, 6, 7, 6, 9, 10],
    [6, 6, 6, 3, 6, 6, 6, 6, 8, 9, 6],
];
const DOS_OUT: Table = [
    [2, 1, 2, 10, 2, 2, 2, 2, 2, 9, 10],
    [5, 4, 2, 5, 4, 5, 6, 5, 8, 9, 5],
    [1, 1, 2, 1, 4, 5, 6, 7, 8, 1, 1],
    [6, 6, 2, 6, 6, 5, 6, 6, 6, 6, 6],
];
const DOS_IN_ONLY: Table = [
    [10, 1, 1, 3, 10, 10, 10, 10, 10, 10, 10],
    [6, 4, 2, 5, 4, 5, 6, 7, 8, 9, 5],
    [1, 1, 2, 1, 4, 5, 6, 7, 6, 9, 1],
    [6, 6, 6, 3, 6, 6, 6, 6, 8, 9, 6],
];

pub(super) fn name(state: u8) -> &'static str {
    STATES.get(usize::from(state)).map_or("ERR!", |s| s.0)
}

pub(super) fn timeout(state: u8) -> u32 {
    STATES.get(usize::from(state)).map_or(2, |s| s.1)
}

pub(super) fn is_active(state: u8) -> bool {
    STATES.get(usize::from(state)).is_some_and(|s| s.2)
}

/// `set_tcp_state`: a segment without any of the four flags closes.
pub(super) fn next(state: u8, way: Way, flags: u8, secure: bool) -> Option<u8> {
    let row = match flags {
        f if f & 0x04 != 0 => 3,
        f if f & 0x02 != 0 => 0,
        f if f & 0x01 != 0 => 1,
        f if f & 0x10 != 0 => 2,
        _ => return Some(CLOSE),
    };
    let table = match (way, secure) {
        (Way::In, false) => &IN,
        (Way::Out, false) => &OUT,
        (Way::InOnly, false) => &IN_ONLY,
        (Way::In, true) => &DOS_IN,
        (Way::Out, true) => &DOS_OUT,
        (Way::InOnly, true) => &DOS_IN_ONLY,
    };
    let row: &Row = table.get::<usize>(row)?;
    row.get(usize::from(state)).copied()
}
