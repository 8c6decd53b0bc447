//! What goes wrong with a connection: timeouts, ICMP errors, a narrower path, a refusing kernel.
//!
//! The half of [`Conn`] that decides when to send again and when to give up; the other half moves segments.
//! Invariant: a client hears of its end exactly once.

use super::super::errno::{Errno, Meaning};
use super::super::event::Out;
use super::super::icmp::{IcmpError, IcmpSeen};
use super::{Conn, Role};
use crate::base::Instant;
use smoltcp::socket::tcp::State;
use smoltcp::wire::{TcpControl, TcpRepr, TcpSeqNumber};

impl Conn {
    /// Ends the connection without a packet, with the client's error if there is a client.
    pub(super) fn die(
        &mut self,
        now: Instant,
        errno: Option<Errno>,
        icmp: Option<IcmpSeen>,
        out: &mut Out,
    ) {
        if let Role::Client(c) = &self.role {
            match errno {
                Some(errno) => out.failed(c.id, now, errno, icmp),
                None => out.deadline(c.id, now),
            }
        }
        self.role = Role::Orphan;
        self.dead = true;
    }

    /// Does what is due at `now`: the client's deadline, a retransmission, an orphan's end.
    pub(in crate::endpoint) fn fire(&mut self, now: Instant, out: &mut Out) {
        self.machine.advance(now);
        if let Role::Client(c) = &self.role
            && c.deadline <= now
        {
            return self.give_up(now, out);
        }
        if self.linger.is_some_and(|t| t <= now) {
            self.dead = true;
            return;
        }
        if self.timer.is_none_or(|t| t > now) {
            return;
        }
        self.timer = None;
        if self.sender.retransmits >= self.retries_max() {
            let errno = self.soft_error.unwrap_or(Errno::TimedOut); // `tcp_write_err`
            return self.die(now, Some(errno), None, out);
        }
        self.sender.retransmits += 1;
        self.sender.backoff += 1;
        self.fired = now;
        use State::{SynReceived, SynSent};
        if !matches!(self.machine.state(), SynSent | SynReceived) && self.sender.flight() > 0 {
            self.sender.timed_out();
            self.show_window();
        }
        self.machine.expire();
        self.step(now, out);
    }

    /// Kernel: `tcp_write_timeout`.
    fn retries_max(&self) -> u32 {
        match (self.machine.state(), &self.role) {
            (State::SynSent, _) => self.sysctl.syn_retries + self.sysctl.syn_linear_timeouts,
            (State::SynReceived, _) => self.sysctl.synack_retries,
            (_, Role::Orphan) => self.sysctl.orphan_retries,
            (_, Role::Client(_) | Role::Server(_)) => self.sysctl.retries2,
        }
    }

    /// The client's own deadline: it closes its socket. In SYN-SENT nothing goes out.
    fn give_up(&mut self, now: Instant, out: &mut Out) {
        if self.machine.state() == State::SynSent {
            return self.die(now, None, None, out);
        }
        if let Role::Client(c) = &self.role {
            out.deadline(c.id, now);
        }
        self.machine.socket().close();
        self.role = Role::Orphan;
        self.step(now, out);
    }

    /// The window smoltcp is to see now. With nothing but a FIN in flight it must differ each time: smoltcp
    /// takes three equal ones for a loss, finds no data to repeat and stops its timer for good.
    pub(super) fn show(&mut self) -> u16 {
        let mut window = self.sender.presented();
        if window == self.shown && window > 1 && self.machine.socket().send_queue() == 0 {
            window -= 1;
        }
        self.shown = window;
        window
    }

    /// Shows smoltcp a changed window by a segment the peer never sent.
    fn show_window(&mut self) {
        if self.sender.presented() == self.shown {
            return; // it would count as a duplicate acknowledgement
        }
        let window_len = self.show();
        let t = &self.tuple;
        let r = TcpRepr {
            src_port: t.dport,
            dst_port: t.sport,
            control: TcpControl::None,
            seq_number: TcpSeqNumber(self.rcv_nxt as i32),
            ack_number: Some(TcpSeqNumber(self.sender.una as i32)),
            window_len,
            window_scale: None,
            max_seg_size: None,
            sack_permitted: false,
            sack_ranges: [None, None, None],
            timestamp: None,
            payload: &[],
        };
        self.machine.ingress(self.packet_in(&r));
        self.machine.discard(); // an answer to it would answer nobody
    }

    /// Takes an ICMP error that quotes a segment of ours (`tcp_v4_err`, `tcp_v6_err`).
    pub(in crate::endpoint) fn icmp(&mut self, now: Instant, e: &IcmpError, out: &mut Out) {
        if !self.sender.covers(e.seq) {
            return; // OutOfWindowIcmps
        }
        let (errno, fatal) = match e.meaning {
            Meaning::Error { errno, fatal } => (errno, fatal),
            Meaning::PathMtu(mtu) => return self.narrow(now, mtu, out),
            Meaning::Ignored => return,
        };
        match self.machine.state() {
            State::SynSent => self.die(now, Some(errno), Some(e.seen), out),
            State::SynReceived => {
                let abort = match self.tuple.src.is_ipv4() {
                    true => e.seen.typ != 3 || e.seen.code < 2,
                    false => fatal,
                };
                self.dead |= abort; // `tcp_req_err`
            }
            _ => {
                self.soft_error = Some(errno);
                let v4 = self.tuple.src.is_ipv4();
                let unreachable = match (e.seen.typ, e.seen.code) {
                    (3, 0 | 1) => v4,
                    (1, 0) => !v4,
                    _ => false,
                };
                if unreachable && e.seq == self.sender.una && self.sender.backoff > 0 {
                    // RFC 6069 (`tcp_ld_RTO_revert`): the path is down, not congested.
                    self.sender.backoff -= 1;
                    let at = self.wheel.fires(self.fired, self.timeout());
                    self.timer = self.timer.map(|t| at.min(t).max(now));
                }
            }
        }
    }

    /// A smaller path MTU: new segments fit it, and what is in flight is sent again at once
    /// (`tcp_v4_mtu_reduced`, `tcp_simple_retransmit`).
    fn narrow(&mut self, now: Instant, mtu: u32, out: &mut Out) {
        let mtu = match self.tuple.src.is_ipv4() {
            true => mtu.max(552) as usize, // ip_rt_min_pmtu
            false if mtu < 1280 => return,
            false => mtu as usize,
        };
        if mtu >= self.path_mtu {
            return;
        }
        self.path_mtu = mtu;
        self.machine.advance(now);
        self.machine.set_mtu(mtu);
        self.set_mss();
        self.soft_error = Some(Errno::MsgSize);
        use State::{SynReceived, SynSent};
        if matches!(self.machine.state(), SynSent | SynReceived) || self.sender.flight() == 0 {
            return;
        }
        self.timer = None;
        self.fired = now;
        self.machine.expire();
        self.step(now, out);
    }

    /// The kernel model refused a packet of ours. Fatal only to the first SYN, where connect(2) returns
    /// it; EPERM from netfilter never is, nor EINVAL of a route that OUTPUT's translation asked for anew
    /// (`tcp_connect` ignores all but a refused route; connect(2) itself asked before).
    pub(in crate::endpoint) fn local_error(&mut self, now: Instant, errno: Errno, out: &mut Out) {
        let first_syn = self.machine.state() == State::SynSent && self.sender.retransmits == 0;
        match errno {
            Errno::NetUnreach | Errno::HostUnreach | Errno::Access if first_syn => {
                self.die(now, Some(errno), None, out);
            }
            Errno::Perm | Errno::Again | Errno::Invalid => {}
            _ => self.soft_error = Some(errno),
        }
    }
}
