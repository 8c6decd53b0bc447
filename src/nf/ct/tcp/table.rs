//! The transitions of a TCP connection (kernel: `tcp_conntracks`).
//!
//! Invariant: a packet without SYN, FIN, ACK or RST is invalid in every state.

use crate::nf::ct::Dir;

/// States (uapi nf_conntrack_tcp.h `enum tcp_conntrack`), in the kernel's order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
#[allow(missing_docs, reason = "the kernel's own names")]
pub enum TcpState {
    #[default]
    None,
    SynSent,
    SynRecv,
    Established,
    FinWait,
    CloseWait,
    LastAck,
    TimeWait,
    Close,
    SynSent2,
}

impl TcpState {
    /// All, in the kernel's order.
    pub const ALL: [TcpState; 10] = [
        TcpState::None,
        TcpState::SynSent,
        TcpState::SynRecv,
        TcpState::Established,
        TcpState::FinWait,
        TcpState::CloseWait,
        TcpState::LastAck,
        TcpState::TimeWait,
        TcpState::Close,
        TcpState::SynSent2,
    ];

    /// As `conntrack -L` prints it.
    pub fn name(self) -> &'static str {
        match self {
            TcpState::None => "NONE",
            TcpState::SynSent => "SYN_SENT",
            TcpState::SynRecv => "SYN_RECV",
            TcpState::Established => "ESTABLISHED",
            TcpState::FinWait => "FIN_WAIT",
            TcpState::CloseWait => "CLOSE_WAIT",
            TcpState::LastAck => "LAST_ACK",
            TcpState::TimeWait => "TIME_WAIT",
            TcpState::Close => "CLOSE",
            TcpState::SynSent2 => "SYN_SENT2",
        }
    }

    /// The state of that name.
    pub fn of_name(name: &str) -> Option<TcpState> {
        TcpState::ALL.into_iter().find(|s| s.name() == name)
    }
}

/// What a segment is to the table (kernel: `enum tcp_bit_set`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Kind {
    Syn,
    SynAck,
    Fin,
    Ack,
    Rst,
    #[default]
    None,
}

/// What follows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Next {
    /// That state.
    To(TcpState),
    /// The packet belongs to no connection.
    Invalid,
    /// The packet passes, the state stays.
    Ignore,
}

const IV: Next = Next::Invalid;
const IG: Next = Next::Ignore;
const SS: Next = Next::To(TcpState::SynSent);
const SR: Next = Next::To(TcpState::SynRecv);
const ES: Next = Next::To(TcpState::Established);
const FW: Next = Next::To(TcpState::FinWait);
const CW: Next = Next::To(TcpState::CloseWait);
const LA: Next = Next::To(TcpState::LastAck);
const TW: Next = Next::To(TcpState::TimeWait);
const CL: Next = Next::To(TcpState::Close);
const S2: Next = Next::To(TcpState::SynSent2);

/// Columns are the old states in their order: none, SYN_SENT, SYN_RECV, ESTABLISHED, FIN_WAIT,
/// CLOSE_WAIT, LAST_ACK, TIME_WAIT, CLOSE, SYN_SENT2.
#[rustfmt::skip]
const CLIENT: [(Kind, [Next; 10]); 5] = [
    (Kind::Syn,    [SS, SS, IG, IG, IG, IG, IG, SS, SS, S2]),
    (Kind::SynAck, [IV, IV, SR, IV, IV, IV, IV, IV, IV, SR]),
    (Kind::Fin,    [IV, IV, FW, FW, LA, LA, LA, TW, CL, IV]),
    (Kind::Ack,    [ES, IV, ES, ES, CW, CW, TW, TW, CL, IV]),
    (Kind::Rst,    [IV, CL, CL, CL, CL, CL, CL, CL, CL, CL]),
];

#[rustfmt::skip]
const SERVER: [(Kind, [Next; 10]); 5] = [
    (Kind::Syn,    [IV, S2, IV, IV, IV, IV, IV, SS, IV, S2]),
    (Kind::SynAck, [IV, SR, IG, IG, IG, IG, IG, IG, IG, SR]),
    (Kind::Fin,    [IV, IV, FW, FW, LA, LA, LA, TW, CL, IV]),
    (Kind::Ack,    [IV, IG, SR, ES, CW, CW, TW, TW, CL, IG]),
    (Kind::Rst,    [IV, CL, CL, CL, CL, CL, CL, CL, CL, CL]),
];

/// What a segment of `kind` makes of a connection in state `old`.
pub(super) fn next(dir: Dir, kind: Kind, old: TcpState) -> Next {
    let rows = match dir {
        Dir::Original => &CLIENT,
        Dir::Reply => &SERVER,
    };
    rows.iter()
        .find(|(k, _)| *k == kind)
        .and_then(|(_, row)| row.get(old as usize))
        .copied()
        .unwrap_or(IV)
}
