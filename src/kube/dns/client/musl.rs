//! musl's stub resolver, 1.2.3 (without TCP) and 1.2.5.
//!
//! Sources: musl `src/network/lookup_name.c` (`name_from_dns_search`, `name_from_dns`) and
//! `src/network/res_msend.c` (`__res_msend_rc`) at both tags; measured in
//! `../shared/vectors/dns/stub-resolver.json`. One unconnected socket per name asks all servers at once and
//! hears of no ICMP error; REFUSED and the like count as silence. The times are musl's: whole milliseconds.
//! Invariant: a name is over after `timeout`, whatever the servers do.

use super::conf::Conf;
use super::message::{self, A, AAAA, Head};
use super::{Action, Answer, Eai, Event, Family, Sock};
use crate::base::{Instant, Rng};
use core::time::Duration;
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

/// Port of DNS.
const PORT: u16 = 53;
/// Bytes of a name with its search domain.
const NAME_MAX: usize = 256;
/// Addresses that are kept (MAXADDRS).
const ADDRESSES_MAX: usize = 48;

/// One query of a pair.
#[derive(Clone, Debug)]
struct Asked {
    qtype: u16,
    query: Vec<u8>,
    slot: Slot,
}

/// `alens[i]`.
#[derive(Clone, Debug)]
enum Slot {
    /// 0.
    Open,
    /// -1: an answer by TCP is waited for.
    Tcp(Sock),
    /// An accepted answer.
    Got(Vec<u8>),
}

/// One call of getaddrinfo(3).
#[derive(Clone, Debug)]
pub struct Musl {
    conf: Conf,
    /// 1.2.4 and later: TCP, checked record types, EAI_NODATA.
    newer: bool,
    rng: Rng,
    family: Family,
    names: VecDeque<String>,
    name: String,
    sock: Option<Sock>,
    sockets: u32,
    asked: Vec<Asked>,
    began: Instant,
    sent: Instant,
    servfail_retry: u32,
    /// The last response code that decided.
    rcode: Option<u16>,
    out: Vec<Action>,
    answer: Option<Answer>,
}

impl Musl {
    /// Begins; `newer`: 1.2.5 rather than 1.2.3.
    pub fn start(
        now: Instant,
        conf: Conf,
        newer: bool,
        name: &str,
        family: Family,
        seed: u64,
    ) -> Self {
        let mut m = Musl {
            names: names(&conf, name),
            conf,
            newer,
            rng: Rng::new(seed ^ 0x6d75_736c),
            family,
            name: String::new(),
            sock: None,
            sockets: 0,
            asked: Vec::new(),
            began: now,
            sent: now,
            servfail_retry: 0,
            rcode: None,
            out: Vec::new(),
            answer: None,
        };
        m.next_name(now);
        m
    }

    /// See [`super::Resolver::actions`].
    pub fn actions(&mut self) -> Vec<Action> {
        core::mem::take(&mut self.out)
    }

    /// See [`super::Lookup::answer`].
    pub fn answer(&self) -> Option<&Answer> {
        self.answer.as_ref()
    }

    /// See [`super::Resolver::due`].
    pub fn due(&self) -> Option<Instant> {
        self.sock?;
        Some((self.sent + self.interval()).min(self.began + self.timeout()))
    }

    fn timeout(&self) -> Duration {
        Duration::from_secs(u64::from(self.conf.timeout))
    }

    /// `attempts:0` makes musl divide by zero and die; here it counts as one.
    fn interval(&self) -> Duration {
        let ms = u64::from(self.conf.timeout) * 1000 / u64::from(self.conf.attempts.max(1));
        Duration::from_millis(ms)
    }

    /// See [`super::Resolver::tick`].
    pub fn tick(&mut self, now: Instant) {
        if self.sock.is_none() {
            return;
        }
        if now.since(self.began) >= self.timeout() {
            self.over(now);
        } else if now.since(self.sent) >= self.interval() {
            self.ask_all(now);
        }
    }

    /// See [`super::Resolver::event`].
    pub fn event(&mut self, now: Instant, event: Event<'_>) {
        let tcp = |m: &Musl, sock: Sock| {
            m.asked
                .iter()
                .position(|a| matches!(a.slot, Slot::Tcp(s) if s == sock))
        };
        match event {
            Event::Datagram {
                sock,
                from,
                message,
            } if self.sock == Some(sock) => self.datagram(from, message),
            Event::Message { sock, message } => {
                let Some(i) = tcp(self, sock) else { return };
                let good = message.len() >= 13
                    && Head::of(message).is_some_and(|h| matches!(h.rcode(), 0 | 3));
                if !good {
                    return self.over(now);
                }
                self.out.push(Action::Close { sock });
                if let Some(a) = self.asked.get_mut(i) {
                    a.slot = Slot::Got(message.to_vec());
                }
            }
            // A connection that fails ends the whole wait (`goto out`).
            Event::Closed { sock } | Event::Failed { sock, .. } if tcp(self, sock).is_some() => {
                return self.over(now);
            }
            _ => return,
        }
        if self.asked.iter().all(|a| matches!(a.slot, Slot::Got(_))) {
            self.over(now);
        }
    }

    /// `__res_msend_rc` begins with the next name.
    fn next_name(&mut self, now: Instant) {
        loop {
            let Some(name) = self.names.pop_front() else {
                return self.finish(now, Vec::new(), Some(Eai::NoName));
            };
            self.name = format!("{}.", name.trim_end_matches('.'));
            let types: &[u16] = match self.family {
                Family::Any => &[A, AAAA],
                Family::V4 => &[A],
                Family::V6 => &[AAAA],
            };
            self.asked = Vec::new();
            for qtype in types {
                let mut id = self.rng.next_u64() as u16;
                let first = self.asked.first().and_then(|a| Head::of(&a.query));
                if first.is_some_and(|h| h.id >> 8 == id >> 8) {
                    id = id.wrapping_add(0x100);
                }
                if let Some(query) = message::query(&name, *qtype, id, None, false) {
                    self.asked.push(Asked {
                        qtype: *qtype,
                        query,
                        slot: Slot::Open,
                    });
                }
            }
            if self.asked.len() == types.len() {
                break;
            }
            if !self.newer {
                return self.finish(now, Vec::new(), Some(Eai::NoName));
            }
        }
        let sock = self.new_socket();
        self.sock = Some(sock);
        self.out.push(Action::Udp { sock, server: None });
        self.began = now;
        match self.conf.timeout {
            0 => self.over(now),
            _ => self.ask_all(now),
        }
    }

    fn new_socket(&mut self) -> Sock {
        self.sockets += 1;
        Sock(self.sockets)
    }

    fn servers(&self) -> Vec<SocketAddr> {
        let all = self.conf.nameservers.iter();
        all.map(|ip| SocketAddr::new(*ip, PORT)).collect()
    }

    /// All servers are asked whatever has no answer.
    fn ask_all(&mut self, now: Instant) {
        let (Some(sock), servers) = (self.sock, self.servers()) else {
            return;
        };
        for a in self.asked.iter().filter(|a| matches!(a.slot, Slot::Open)) {
            self.out.extend(servers.iter().map(|to| Action::Send {
                sock,
                to: *to,
                message: a.query.clone(),
            }));
        }
        self.sent = now;
        self.servfail_retry = 2 * self.asked.len() as u32;
    }

    fn datagram(&mut self, from: SocketAddr, m: &[u8]) {
        let Some(head) = Head::of(m).filter(|_| self.servers().contains(&from)) else {
            return;
        };
        let id = |a: &&mut Asked| Head::of(&a.query).is_some_and(|h| h.id == head.id);
        let Some(a) = self.asked.iter_mut().find(id) else {
            return;
        };
        if !matches!(a.slot, Slot::Open) {
            return;
        }
        match head.rcode() {
            0 | 3 => {}
            2 => {
                self.rcode = Some(2);
                if let Some(sock) = self.sock.filter(|_| self.servfail_retry > 0) {
                    self.servfail_retry -= 1;
                    let message = a.query.clone();
                    let to = from;
                    self.out.push(Action::Send { sock, to, message });
                }
                return;
            }
            other => {
                self.rcode = Some(other);
                return;
            }
        }
        if head.tc() && self.newer {
            self.sockets += 1;
            let sock = Sock(self.sockets);
            a.slot = Slot::Tcp(sock);
            let messages = vec![a.query.clone()];
            let server = from;
            self.out.push(Action::Tcp {
                sock,
                server,
                messages,
            });
            return;
        }
        a.slot = Slot::Got(m.to_vec());
    }

    /// `name_from_dns` after the wait: what the answers say, and whether the search goes on.
    fn over(&mut self, now: Instant) {
        let tcp = self.asked.iter().filter_map(|a| match a.slot {
            Slot::Tcp(sock) => Some(sock),
            Slot::Open | Slot::Got(_) => None,
        });
        let open: Vec<Sock> = tcp.chain(self.sock.take()).collect();
        self.out
            .extend(open.into_iter().map(|sock| Action::Close { sock }));
        let asked = core::mem::take(&mut self.asked);
        for a in &asked {
            let Slot::Got(m) = &a.slot else {
                return self.finish(now, Vec::new(), Some(Eai::Again));
            };
            if Head::of(m).is_some_and(|h| h.rcode() == 3) {
                self.rcode = Some(3);
                return self.next_name(now);
            }
        }
        self.rcode = Some(0);
        let got = |a: &Asked| match &a.slot {
            Slot::Got(m) => message::addresses(m, self.newer.then_some(a.qtype)),
            Slot::Open | Slot::Tcp(_) => Vec::new(),
        };
        // 1.2.4 and later keep AAAA before A.
        let mut found: Vec<IpAddr> = match self.newer {
            true => asked.iter().rev().flat_map(got).collect(),
            false => asked.iter().flat_map(got).collect(),
        };
        found.truncate(ADDRESSES_MAX);
        let none = if self.newer { Eai::NoData } else { Eai::NoName };
        let error = found.is_empty().then_some(none);
        self.finish(now, found, error);
    }

    fn finish(&mut self, at: Instant, addresses: Vec<IpAddr>, error: Option<Eai>) {
        self.answer = Some(Answer {
            addresses,
            error,
            rcode: self.rcode,
            asked: core::mem::take(&mut self.name),
            at,
        });
    }
}

/// `name_from_dns_search`: the names to ask for, in order.
fn names(conf: &Conf, name: &str) -> VecDeque<String> {
    let dots = name.bytes().filter(|b| *b == b'.').count() as u32;
    let bare = name.strip_suffix('.').unwrap_or(name);
    if bare.is_empty() || bare.ends_with('.') || bare.len() >= NAME_MAX {
        return VecDeque::new();
    }
    let searched = dots < conf.ndots && !name.ends_with('.');
    let fits = |d: &&String| d.len() + bare.len() + 1 < NAME_MAX;
    let listed = conf.search.iter().filter(|_| searched).filter(fits);
    listed
        .map(|d| format!("{bare}.{d}"))
        .chain([bare.to_owned()])
        .collect()
}
