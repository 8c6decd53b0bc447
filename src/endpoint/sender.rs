//! The sender's books of one TCP connection: what is in flight, how much may be, and when to send again.
//!
//! smoltcp keeps its own, but shows none of it; this follows the wire. The congestion window is Linux's
//! initial ten segments (`TCP_INIT_CWND`), Reno above it (RFC 5681); smoltcp obeys it because it is shown
//! as the peer's window ([`Sender::presented`]).
//! Invariant: `una <= nxt` in sequence space.

use super::timer::Rto;
use crate::base::{Instant, limits};

/// Sequence state and windows. Sequence numbers wrap.
#[derive(Debug, Default)]
pub(super) struct Sender {
    /// Oldest unacknowledged sequence number.
    pub una: u32,
    /// Next new sequence number.
    pub nxt: u32,
    /// Retransmission timeout.
    pub rto: Rto,
    /// Doublings of the timeout.
    pub backoff: u32,
    /// Timeouts in a row.
    pub retransmits: u32,
    /// The peer's window in bytes.
    pub window: usize,
    cwnd: usize,
    ssthresh: usize,
    mss: usize,
    timed: Option<(u32, Instant)>,
    /// While set, what was in flight at a loss is being repaired, up to here.
    recover: Option<u32>,
    started: bool,
}

impl Sender {
    /// Sets the segment size; the first time also the initial window.
    pub(super) fn set_mss(&mut self, mss: usize) {
        self.mss = mss.max(1);
        if self.cwnd == 0 {
            self.cwnd = self.cap(10 * self.mss);
            self.ssthresh = usize::MAX;
        }
    }

    fn cap(&self, cwnd: usize) -> usize {
        cwnd.max(self.mss).min(limits::ENDPOINT_BUFFER)
    }

    /// The window to show smoltcp: the peer's, but no more than the congestion window.
    pub(super) fn presented(&self) -> u16 {
        let shown = match self.cwnd {
            0 => self.window,
            cwnd => self.window.min(cwnd),
        };
        u16::try_from(shown).unwrap_or(u16::MAX)
    }

    /// Bytes (and SYN, FIN) in flight.
    pub(super) fn flight(&self) -> u32 {
        self.nxt.wrapping_sub(self.una)
    }

    /// Whether a quoted sequence number is one of ours in flight (`tcp_v4_err`: between una and nxt).
    pub(super) fn covers(&self, seq: u32) -> bool {
        self.started && seq.wrapping_sub(self.una) <= self.flight()
    }

    /// Takes note of a segment sent: `len` counts SYN and FIN. True when it is a retransmission.
    pub(super) fn sent(&mut self, now: Instant, seq: u32, len: u32) -> bool {
        if !self.started {
            (self.una, self.nxt, self.started) = (seq, seq, true);
        }
        let end = seq.wrapping_add(len);
        if (end.wrapping_sub(self.nxt) as i32) > 0 {
            self.nxt = end;
            self.timed = self.timed.or(Some((end, now)));
            return false;
        }
        if len > 0 {
            self.timed = None; // Karn: an acknowledgement would be ambiguous
        }
        len > 0
    }

    /// Takes note of an acknowledgement; true when it acknowledges something new.
    pub(super) fn acked(&mut self, now: Instant, ack: u32, handshake: bool) -> bool {
        let n = ack.wrapping_sub(self.una);
        if !self.started || n > self.flight() {
            return false;
        }
        if n == 0 {
            if self.flight() == 0 {
                self.retransmits = 0; // a peer that answers window probes is alive (`tcp_ack_probe`)
            }
            return false;
        }
        self.una = ack;
        if self
            .recover
            .is_some_and(|r| (ack.wrapping_sub(r) as i32) >= 0)
        {
            self.recover = None;
        }
        (self.backoff, self.retransmits) = (0, 0);
        if let Some((end, at)) = self.timed
            && (ack.wrapping_sub(end) as i32) >= 0
        {
            self.rto.sample(now.since(at));
            self.timed = None;
        }
        if !handshake {
            let grown = if self.cwnd < self.ssthresh {
                n as usize
            } else {
                self.mss * (n as usize) / self.cwnd.max(1)
            };
            self.cwnd = self.cap(self.cwnd + grown);
        }
        true
    }

    /// A timeout: back to one segment (RFC 5681 section 3.1).
    pub(super) fn timed_out(&mut self) {
        if self.recover.is_none() {
            self.ssthresh = (self.flight() as usize / 2).max(2 * self.mss);
        }
        self.cwnd = self.mss;
        self.recover = Some(self.nxt);
    }

    /// A retransmission outside any repair is a fast one: half the window (RFC 5681 section 3.2, without
    /// its inflation).
    pub(super) fn repeated(&mut self) {
        if self.recover.is_some() {
            return;
        }
        self.recover = Some(self.nxt);
        self.ssthresh = (self.flight() as usize / 2).max(2 * self.mss);
        self.cwnd = self.cap(self.ssthresh);
    }
}
