//! Window tracking (kernel: `tcp_in_window`; Guido van Rooij, "Real Stateful TCP Packet Filtering in
//! IP Filter").
//!
//! Invariant: a segment that is not in window changes neither side, except that data beyond the
//! window which the receiver may still take counts as sent.

use super::header::{Header, after, before};
use super::table::{Kind, TcpState};
use super::{Side, Tcp, flag};
use crate::nf::ct::Dir;

/// What window tracking says of a segment (kernel: `enum nf_ct_tcp_action`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum InWindow {
    /// Follow it.
    Yes,
    /// Let it pass, follow nothing.
    Ignore,
    /// It is not part of the connection.
    Invalid,
}

/// How far behind an acknowledgement may be at least (kernel: `MAXACKWINCONST`).
const MAX_ACK_WINDOW: u32 = 66_000;

impl Side {
    /// Kernel: `MAXACKWINDOW`.
    fn ack_window(&self) -> u32 {
        self.max_win.max(MAX_ACK_WINDOW)
    }

    /// Begins anew with a SYN of this side (kernel: `tcp_init_sender`).
    fn start(&mut self, peer: &mut Side, h: &Header<'_>, dir: Dir) {
        self.end = h.end();
        self.max_end = h.end();
        self.max_win = u32::from(h.window).max(1);
        h.syn_options(self);
        // Both sides must offer scaling (RFC 7323 section 2.2).
        if dir == Dir::Reply && self.flags & peer.flags & flag::WINDOW_SCALE == 0 {
            self.scale = 0;
            peer.scale = 0;
        }
    }

    /// Begins in the middle of a connection whose history is lost.
    fn pick_up(&mut self, peer: &mut Side, h: &Header<'_>, sack: u32) {
        self.end = h.end();
        self.max_win = (u32::from(h.window) << self.scale).max(1);
        self.max_end = self.end.wrapping_add(self.max_win);
        if peer.max_win == 0 {
            peer.end = sack;
            peer.max_end = sack;
        } else if sack == peer.end.wrapping_add(1) {
            // The answer to a keepalive.
            peer.end = peer.end.wrapping_add(1);
        }
    }
}

/// A segment's numbers after what the header's flags say of them.
#[derive(Clone, Copy)]
struct Numbers {
    seq: u32,
    end: u32,
    ack: u32,
    sack: u32,
}

impl Tcp {
    /// Judges a segment and follows it if it is in window.
    pub(super) fn in_window(&mut self, dir: Dir, h: &Header<'_>, liberal: bool) -> InWindow {
        let mut sender = self.sides[dir.index()];
        let mut receiver = self.sides[dir.other().index()];
        let said = self.judge(&mut sender, &mut receiver, dir, h, liberal);
        self.sides[dir.index()] = sender;
        self.sides[dir.other().index()] = receiver;
        said
    }

    fn judge(
        &mut self,
        sender: &mut Side,
        receiver: &mut Side,
        dir: Dir,
        h: &Header<'_>,
        liberal: bool,
    ) -> InWindow {
        let sack = if receiver.flags & flag::SACK_PERM != 0 {
            h.sack()
        } else {
            h.ack
        };
        let opening = matches!(self.state, TcpState::SynSent | TcpState::SynRecv);
        if sender.max_win == 0 {
            if h.syn {
                sender.start(receiver, h, dir);
                if !h.has_ack {
                    return InWindow::Yes;
                }
            } else {
                sender.pick_up(receiver, h, sack);
            }
        } else if h.syn && after(h.end(), sender.end) && opening {
            // A connection may begin again with higher numbers (RFC 9293 section 3.4.1).
            sender.start(receiver, h, dir);
            if dir == Dir::Reply && !h.has_ack {
                return InWindow::Yes;
            }
        }
        let n = self.numbers(sender, receiver, h, sack);
        match place(sender, receiver, n) {
            Ok(()) => {
                follow(sender, receiver, h, n);
                self.count_repeats(dir, h, n);
                InWindow::Yes
            }
            Err(_) if liberal || sender.flags & flag::BE_LIBERAL != 0 => InWindow::Yes,
            Err(said) => said,
        }
    }

    fn numbers(&self, sender: &Side, receiver: &Side, h: &Header<'_>, sack: u32) -> Numbers {
        let mut n = Numbers {
            seq: h.seq,
            end: h.end(),
            ack: h.ack,
            sack,
        };
        if !h.has_ack || h.rst && h.ack == 0 {
            n.ack = receiver.end;
            n.sack = receiver.end;
        }
        // A reset that answers a SYN.
        if h.rst && h.seq == 0 && self.state == TcpState::SynSent {
            n.seq = sender.end;
            n.end = sender.end;
        }
        n
    }

    /// Counts how often the same acknowledgement came.
    fn count_repeats(&mut self, dir: Dir, h: &Header<'_>, n: Numbers) {
        if h.kind() != Kind::Ack {
            return;
        }
        let last = &mut self.last;
        let same = last.dir == Some(dir)
            && (last.seq, last.ack, last.end, last.win) == (n.seq, n.ack, n.end, h.window);
        if same {
            self.retrans = self.retrans.saturating_add(1);
            return;
        }
        last.dir = Some(dir);
        last.seq = n.seq;
        last.ack = n.ack;
        last.end = n.end;
        last.win = h.window;
        self.retrans = 0;
    }
}

/// The four bounds.
fn place(sender: &mut Side, receiver: &Side, n: Numbers) -> Result<(), InWindow> {
    let low = sender.end.wrapping_sub(receiver.max_win).wrapping_sub(1);
    let in_receive_window = receiver.max_win == 0 || after(n.end, low);
    let ack_low = receiver
        .end
        .wrapping_sub(sender.ack_window())
        .wrapping_sub(1);
    let ack_not_ahead = before(n.sack, receiver.end.wrapping_add(1));
    if !before(n.seq, sender.max_end.wrapping_add(1)) {
        let overshot = n.end.wrapping_sub(sender.max_end).wrapping_add(1);
        let taken = in_receive_window && after(n.sack, ack_low) && ack_not_ahead;
        if taken && overshot <= receiver.max_win {
            // The receiver may acknowledge it: remember that it was sent.
            sender.end = n.end;
            sender.flags |= flag::DATA_UNACKNOWLEDGED;
            return Err(InWindow::Ignore);
        }
        return Err(InWindow::Invalid);
    }
    if !ack_not_ahead {
        return Err(InWindow::Invalid);
    }
    if !in_receive_window || !after(n.sack, ack_low) {
        return Err(InWindow::Ignore);
    }
    Ok(())
}

/// Takes a segment's numbers over.
fn follow(sender: &mut Side, receiver: &mut Side, h: &Header<'_>, n: Numbers) {
    let win = if h.syn {
        u32::from(h.window)
    } else {
        u32::from(h.window) << sender.scale.min(16)
    };
    let reach = win.wrapping_add(n.sack.wrapping_sub(n.ack));
    sender.max_win = sender.max_win.max(reach);
    if after(n.end, sender.end) {
        sender.end = n.end;
        sender.flags |= flag::DATA_UNACKNOWLEDGED;
    }
    if h.has_ack && (sender.flags & flag::MAXACK_SET == 0 || after(n.ack, sender.max_ack)) {
        sender.max_ack = n.ack;
        sender.flags |= flag::MAXACK_SET;
    }
    if receiver.max_win != 0 && after(n.end, sender.max_end) {
        receiver.max_win = receiver
            .max_win
            .wrapping_add(n.end.wrapping_sub(sender.max_end));
    }
    let edge = n.sack.wrapping_add(win);
    if after(edge, receiver.max_end.wrapping_sub(1)) {
        receiver.max_end = edge.wrapping_add(u32::from(win == 0));
    }
    if n.ack == receiver.end {
        receiver.flags &= !flag::DATA_UNACKNOWLEDGED;
    }
}
