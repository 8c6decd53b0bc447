//! TFTP (RFC 1350): a request is answered from another port (kernel: nf_conntrack_tftp.c).
//!
//! Invariant: only read and write requests announce anything.

use super::Announcement;
use crate::base::Instant;
use crate::nf::ct::packet::Packet;
use crate::nf::ct::{Conntrack, Dir, Expectation};
use crate::wire::ConnId;

/// Opcodes of read and write requests.
const REQUESTS: [u16; 2] = [1, 2];

/// What a packet of a tftp connection announces.
pub(super) fn look(
    ct: &Conntrack,
    id: ConnId,
    p: &Packet<'_>,
    expires: Instant,
) -> Option<Announcement> {
    let opcode = p.l4.get(8..10)?;
    if !REQUESTS.contains(&u16::from_be_bytes([opcode[0], opcode[1]])) {
        return None;
    }
    let conn = ct.get(id)?;
    let mut tuple = conn.tuple(Dir::Reply);
    tuple.sport = 0;
    Some(Announcement {
        expectation: Expectation {
            tuple,
            from_source: true,
            zones: conn.zones(),
            master: id,
            helper: None,
            nat: None,
            expires,
        },
        text: None,
        command: None,
    })
}
