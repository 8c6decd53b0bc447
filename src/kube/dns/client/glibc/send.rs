//! One name's queries to the servers: `__res_context_send`, `send_dg` and `send_vc` of glibc 2.36's
//! `resolv/res_send.c`, turned inside out: where they wait, this returns.
//!
//! Variables keep their names there where that helps to compare: `resplen` is the length of `first`,
//! `*resplen2` that of `second`, `recvresp1` and `recvresp2` are `got`. Known oddities are kept: in
//! single-request mode a refusal of the first query is followed by a wait for an answer to the second, which
//! was never sent (glibc bug 30081, fixed in 2.38); a TCP connection has no timeout but the kernel's.
//! Invariant: at most `attempts` rounds over the servers.

use super::Io;
use crate::base::Instant;
use crate::endpoint::Errno;
use crate::kube::dns::client::conf::NAMESERVERS_MAX;
use crate::kube::dns::client::message::{Head, answers_question};
use crate::kube::dns::client::{Action, Event, Sock};
use core::time::Duration;
use std::net::SocketAddr;

/// Port of DNS.
const PORT: u16 = 53;

/// How sending ended.
#[derive(Debug)]
pub(super) enum Done {
    /// There is an answer, or two in the order in which they came.
    Answered {
        /// What stands in the first buffer; `None`: nothing that can be used.
        first: Option<Vec<u8>>,
        /// What stands in the second.
        second: Option<Vec<u8>>,
    },
    /// There is none.
    Failed {
        /// errno is ECONNREFUSED.
        refused: bool,
        /// The response code left in the first buffer, 0 when nothing came.
        rcode: u16,
    },
}

/// What became of one server.
enum Try {
    /// It is not over.
    Waits,
    /// `send_dg` or `send_vc` returned 0.
    Next,
    /// TC: the same server by TCP.
    Circuit,
    /// It returned an answer.
    Done,
}

/// The state of `__res_context_send`.
#[derive(Clone, Debug)]
pub(super) struct Send {
    queries: Vec<Vec<u8>>,
    attempt: u32,
    shift: usize,
    offset: usize,
    /// Open UDP sockets by server (EXT(statp).nssocks).
    open: [Option<Sock>; NAMESERVERS_MAX],
    circuit: Option<Sock>,
    /// `v_circuit`.
    virtual_circuit: bool,
    connreset: bool,
    gotsomewhere: bool,
    saved_gotsomewhere: bool,
    terrno: Option<Errno>,
    deadline: Option<Instant>,
    got: [bool; 2],
    second_sent: bool,
    first: Option<Vec<u8>>,
    second: Option<Vec<u8>>,
    /// What the header in the first buffer says.
    rcode: u16,
}

impl Send {
    /// Nothing is sent yet.
    pub(super) fn new(queries: Vec<Vec<u8>>, offset: usize, use_vc: bool) -> Self {
        Send {
            queries,
            attempt: 0,
            shift: 0,
            offset,
            open: [None; NAMESERVERS_MAX],
            circuit: None,
            virtual_circuit: use_vc,
            connreset: false,
            gotsomewhere: false,
            saved_gotsomewhere: false,
            terrno: None,
            deadline: None,
            got: [false; 2],
            second_sent: false,
            first: None,
            second: None,
            rcode: 0,
        }
    }

    /// When [`Send::timeout`] is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.deadline
    }

    /// Begins with the first server.
    pub(super) fn start(&mut self, now: Instant, io: &mut Io<'_>) -> Option<Done> {
        if io.conf.attempts == 0 {
            return Some(self.exhausted(io));
        }
        self.server(now, io);
        None
    }

    fn two(&self) -> bool {
        self.queries.len() == 2
    }

    fn ns(&self, io: &Io<'_>) -> usize {
        (self.shift + self.offset) % io.conf.nameservers.len().max(1)
    }

    fn address(&self, io: &Io<'_>) -> Option<SocketAddr> {
        let ip = io.conf.nameservers.get(self.ns(io))?;
        Some(SocketAddr::new(*ip, PORT))
    }

    /// One server, by TCP or UDP.
    fn server(&mut self, now: Instant, io: &mut Io<'_>) {
        if self.virtual_circuit {
            self.connreset = false;
            self.connect(io);
        } else {
            self.saved_gotsomewhere = self.gotsomewhere;
            self.first = None;
            self.datagrams(now, io);
        }
    }

    /// `send_vc` up to its first read. At most one attempt per server.
    fn connect(&mut self, io: &mut Io<'_>) {
        self.attempt = io.conf.attempts;
        self.deadline = None;
        self.got = [false, !self.two()];
        (self.first, self.second) = (None, None);
        let Some(server) = self.address(io) else {
            return;
        };
        let sock = io.new_socket();
        self.circuit = Some(sock);
        let messages = self.queries.clone();
        io.out.push(Action::Tcp {
            sock,
            server,
            messages,
        });
    }

    /// `send_dg` from `retry_reopen` to its first wait.
    fn datagrams(&mut self, now: Instant, io: &mut Io<'_>) {
        let ns = self.ns(io);
        // (retrans << ns), shared out among the servers from the second on, at least a second.
        let mut seconds = u64::from(io.conf.timeout) << ns;
        if ns > 0 {
            seconds /= io.conf.nameservers.len().max(1) as u64;
        }
        self.deadline = Some(now + Duration::from_secs(seconds.max(1)));
        self.got = [false, !self.two()];
        self.second_sent = false;
        self.second = None;
        self.write(0, io);
        if self.two() && !single(io) {
            self.write(1, io);
        }
    }

    /// Sends a query from the server's socket, which is opened where it is not.
    fn write(&mut self, which: usize, io: &mut Io<'_>) {
        let ns = self.ns(io);
        let Some(to) = self.address(io) else { return };
        let sock = match self.open.get(ns).copied().flatten() {
            Some(sock) => sock,
            None => {
                let sock = io.new_socket();
                let server = Some(to);
                io.out.push(Action::Udp { sock, server });
                sock
            }
        };
        if let Some(slot) = self.open.get_mut(ns) {
            *slot = Some(sock);
        }
        self.second_sent |= which == 1;
        let message = self.queries.get(which).cloned().unwrap_or_default();
        io.out.push(Action::Send { sock, to, message });
    }

    /// `__res_iclose`: all sockets.
    fn close(&mut self, io: &mut Io<'_>) {
        let udp = self.open.iter_mut().filter_map(Option::take);
        let all: Vec<Sock> = udp.chain(self.circuit.take()).collect();
        io.out
            .extend(all.into_iter().map(|sock| Action::Close { sock }));
    }

    /// `close_and_return_error`.
    fn close_and_fail(&mut self, io: &mut Io<'_>) -> Try {
        self.close(io);
        (self.first, self.second) = (None, None);
        Try::Next
    }

    /// The server's time is over (`n == 0` in `send_dg`).
    pub(super) fn timeout(&mut self, now: Instant, io: &mut Io<'_>) -> Option<Done> {
        let half = self.first.is_some() && (self.got[0] || (self.two() && self.got[1]));
        if half && !single(io) {
            // Servers and firewalls that cannot do with two requests at a time: one after the other now.
            io.conf.single_request = true;
            self.gotsomewhere = self.saved_gotsomewhere;
            self.datagrams(now, io);
            return None;
        }
        if half && !io.conf.single_request_reopen {
            io.conf.single_request_reopen = true;
            self.gotsomewhere = self.saved_gotsomewhere;
            self.close(io);
            self.datagrams(now, io);
            return None;
        }
        self.second = None;
        if half {
            return self.after(now, Try::Done, io);
        }
        self.gotsomewhere = true;
        self.first = None;
        self.after(now, Try::Next, io)
    }

    /// Something happened on a socket.
    pub(super) fn event(
        &mut self,
        now: Instant,
        event: Event<'_>,
        io: &mut Io<'_>,
    ) -> Option<Done> {
        let udp = match self.virtual_circuit {
            true => None,
            false => self.open.get(self.ns(io)).copied().flatten(),
        };
        let tcp = self.circuit;
        let end = match event {
            Event::Datagram { sock, message, .. } if Some(sock) == udp => {
                self.datagram(message, io)
            }
            Event::Failed { sock, .. } if Some(sock) == udp => self.close_and_fail(io),
            Event::Message { sock, message } if Some(sock) == tcp => self.message(message, io),
            Event::Failed { sock, errno } if Some(sock) == tcp => {
                self.terrno = Some(errno);
                self.close(io);
                if errno == Errno::ConnReset && !self.connreset {
                    self.connreset = true;
                    self.connect(io);
                    return None;
                }
                self.close_and_fail(io)
            }
            Event::Closed { sock } if Some(sock) == tcp => {
                self.terrno = None;
                self.close_and_fail(io)
            }
            _ => return None,
        };
        self.after(now, end, io)
    }

    /// A datagram from the server that is asked.
    fn datagram(&mut self, m: &[u8], io: &mut Io<'_>) -> Try {
        self.gotsomewhere = true;
        let Some(head) = Head::of(m) else {
            return self.close_and_fail(io); // EMSGSIZE
        };
        let Some(which) = self.which(m, &head, true) else {
            return Try::Waits;
        };
        let into_first = !(self.got[0] | self.got[1]) || !self.two();
        if into_first {
            self.rcode = head.rcode();
        }
        let lame = head.rcode() == 0 && head.counts[1] == 0 && head.counts[3] == 0;
        let lame = lame && !head.aa() && !head.ra();
        if matches!(head.rcode(), 2 | 4 | 5) || lame {
            return self.unusable(which, io);
        }
        match into_first {
            true => self.first = Some(m.to_vec()),
            false => self.second = Some(m.to_vec()),
        }
        if head.tc() {
            self.close(io);
            return Try::Circuit;
        }
        self.got[which] = true;
        if !(self.got[0] && self.got[1]) {
            if single(io) && !self.second_sent {
                if io.conf.single_request_reopen {
                    self.close(io);
                }
                self.write(1, io);
            }
            return Try::Waits;
        }
        Try::Done
    }

    /// The label `next_ns` in `send_dg`: SERVFAIL, NOTIMP, REFUSED, or a referral that leads nowhere.
    fn unusable(&mut self, which: usize, io: &mut Io<'_>) -> Try {
        if self.got[0] || (self.two() && self.got[1]) {
            self.second = None;
            return Try::Done;
        }
        if self.two() {
            self.first = None;
            self.got[which] = true;
            return Try::Waits;
        }
        self.close_and_fail(io)
    }

    /// A whole message on the connection.
    fn message(&mut self, m: &[u8], io: &mut Io<'_>) -> Try {
        let Some(head) = Head::of(m) else {
            self.terrno = Some(Errno::MsgSize);
            return self.close_and_fail(io);
        };
        let Some(which) = self.which(m, &head, false) else {
            return Try::Waits;
        };
        if !(self.got[0] | self.got[1]) || !self.two() {
            self.rcode = head.rcode();
            self.first = Some(m.to_vec());
        } else {
            self.second = Some(m.to_vec());
        }
        self.got[which] = true;
        match self.got[0] && self.got[1] {
            true => Try::Done,
            false => Try::Waits,
        }
    }

    /// Which query a reply belongs to; with `question` it must repeat that one's question.
    fn which(&self, m: &[u8], head: &Head, question: bool) -> Option<usize> {
        let fits = |q: &Vec<u8>| {
            Head::of(q).is_some_and(|h| h.id == head.id) && (!question || answers_question(q, m))
        };
        let open = |i: &usize| !self.got.get(*i).copied().unwrap_or(true);
        (0..self.queries.len()).find(|i| open(i) && self.queries.get(*i).is_some_and(fits))
    }

    /// What `__res_context_send` does after a server.
    fn after(&mut self, now: Instant, end: Try, io: &mut Io<'_>) -> Option<Done> {
        match end {
            Try::Waits => None,
            Try::Circuit => {
                self.virtual_circuit = true;
                self.server(now, io);
                None
            }
            Try::Done if self.first.is_some() || self.second.is_some() => {
                self.close(io);
                let (first, second) = (self.first.take(), self.second.take());
                Some(Done::Answered { first, second })
            }
            Try::Done | Try::Next => {
                self.shift += 1;
                if self.shift >= io.conf.nameservers.len() {
                    self.shift = 0;
                    self.attempt += 1;
                    if self.attempt >= io.conf.attempts {
                        return Some(self.exhausted(io));
                    }
                }
                self.server(now, io);
                None
            }
        }
    }

    fn exhausted(&mut self, io: &mut Io<'_>) -> Done {
        self.close(io);
        self.deadline = None;
        let refused = match self.virtual_circuit {
            true => self.terrno == Some(Errno::ConnRefused),
            false => !self.gotsomewhere,
        };
        Done::Failed {
            refused,
            rcode: self.rcode,
        }
    }
}

/// One request at a time.
fn single(io: &Io<'_>) -> bool {
    io.conf.single_request || io.conf.single_request_reopen
}
