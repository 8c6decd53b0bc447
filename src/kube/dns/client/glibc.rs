//! glibc 2.36's stub resolver: the search list (`__res_context_search`) over queries
//! (`__res_context_query`) over servers (`send`).
//!
//! Sources: glibc `resolv/res_query.c`, `resolv/res_send.c`, `resolv/nss_dns/dns-host.c`
//! (`_nss_dns_gethostbyname4_r`), `sysdeps/posix/getaddrinfo.c`; measured in
//! `../shared/vectors/dns/stub-resolver.json`. A process that asks once: what `_res` would keep for the next
//! call (the single-request mode after a lost answer) is forgotten with the look-up.
//! Invariant: the names asked for are in search-list order and each is asked for once.

mod send;

use self::send::{Done, Send};
use super::conf::Conf;
use super::message::{self, A, AAAA, Head};
use super::{Action, Answer, Eai, Event, Family, Sock};
use crate::base::{Instant, Rng};

/// Payload that queries with EDNS announce (RESOLV_EDNS_BUFFER_SIZE).
const EDNS_PAYLOAD: u16 = 1200;
/// Longest name that is put together (NS_MAXDNAME).
const NAME_MAX: usize = 1025;

/// `h_errno`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum HErrno {
    HostNotFound,
    TryAgain,
    NoRecovery,
    NoData,
}

/// Why a query failed.
#[derive(Clone, Copy, Debug)]
struct Failure {
    herrno: HErrno,
    /// The response code that decided, if a server answered.
    rcode: Option<u16>,
    /// errno is ECONNREFUSED: no server could be asked.
    refused: bool,
}

/// Which name is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// The name as it is, first.
    First,
    /// With this entry of the search list.
    Listed(usize),
    /// The name as it is, last.
    Last,
}

/// One call of getaddrinfo(3).
#[derive(Clone, Debug)]
pub struct Glibc {
    conf: Conf,
    rng: Rng,
    family: Family,
    name: String,
    dots: u32,
    trailing_dot: bool,
    stage: Stage,
    tried_as_is: bool,
    root_on_list: bool,
    searched: bool,
    /// What the first try of the name as it is said.
    saved: Option<Failure>,
    nodata: Option<Failure>,
    servfail: Option<Failure>,
    asked: String,
    send: Option<Send>,
    sockets: u32,
    /// Where `rotate` goes on (`nameserver_offset`); drawn when first needed.
    rotation: Option<u64>,
    out: Vec<Action>,
    answer: Option<Answer>,
}

impl Glibc {
    /// Begins.
    pub fn start(now: Instant, conf: Conf, name: &str, family: Family, seed: u64) -> Self {
        let mut m = Glibc {
            conf,
            rng: Rng::new(seed ^ 0x676c_6962_6332),
            family,
            name: name.to_owned(),
            dots: name.bytes().filter(|b| *b == b'.').count() as u32,
            trailing_dot: name.ends_with('.'),
            stage: Stage::First,
            tried_as_is: false,
            root_on_list: false,
            searched: false,
            saved: None,
            nodata: None,
            servfail: None,
            asked: String::new(),
            send: None,
            sockets: 0,
            rotation: None,
            out: Vec::new(),
            answer: None,
        };
        if m.dots >= m.conf.ndots || m.trailing_dot {
            m.tried_as_is = true;
            m.query(now, None);
        } else {
            m.search(now, 0, None);
        }
        m
    }

    /// See [`super::Resolver::actions`].
    pub fn actions(&mut self) -> Vec<Action> {
        core::mem::take(&mut self.out)
    }

    /// See [`super::Resolver::due`].
    pub fn due(&self) -> Option<Instant> {
        self.send.as_ref().and_then(Send::due)
    }

    /// See [`super::Lookup::answer`].
    pub fn answer(&self) -> Option<&Answer> {
        self.answer.as_ref()
    }

    /// See [`super::Resolver::tick`].
    pub fn tick(&mut self, now: Instant) {
        if self.due().is_some_and(|t| t <= now) {
            self.with_send(now, |s, io| s.timeout(now, io));
        }
    }

    /// See [`super::Resolver::event`].
    pub fn event(&mut self, now: Instant, event: Event<'_>) {
        self.with_send(now, |s, io| s.event(now, event, io));
    }

    fn with_send(&mut self, now: Instant, f: impl FnOnce(&mut Send, &mut Io<'_>) -> Option<Done>) {
        let Some(mut send) = self.send.take() else {
            return;
        };
        let mut io = Io {
            conf: &mut self.conf,
            out: &mut self.out,
            sockets: &mut self.sockets,
        };
        match f(&mut send, &mut io) {
            None => self.send = Some(send),
            Some(done) => self.queried(now, done),
        }
    }

    /// `__res_context_querydomain`: asks for the name below a domain, or as it is.
    fn query(&mut self, now: Instant, domain: Option<&str>) {
        let name = match domain {
            None => self.name.clone(),
            Some(d) => format!("{}.{d}", self.name),
        };
        self.asked = match name.ends_with('.') {
            true => name.clone(),
            false => format!("{name}."),
        };
        let types: &[u16] = match self.family {
            Family::Any if self.conf.no_aaaa => &[A],
            Family::Any => &[A, AAAA],
            Family::V4 => &[A],
            Family::V6 => &[AAAA],
        };
        let edns = self.conf.edns0.then_some(EDNS_PAYLOAD);
        let ad = self.conf.trust_ad;
        let mut queries: Vec<Vec<u8>> = Vec::new();
        for t in types {
            let id = self.rng.next_u64() as u16;
            let id = match queries.first().and_then(|q| Head::of(q)) {
                Some(first) if first.id == id => id.wrapping_add(1),
                _ => id,
            };
            queries.extend(message::query(&name, *t, id, edns, ad));
        }
        if queries.len() != types.len() || name.len() >= NAME_MAX {
            return self.failed(now, Failure::of(HErrno::NoRecovery, None));
        }
        let offset = self.offset();
        self.send = Some(Send::new(queries, offset, self.conf.use_vc));
        self.with_send(now, |s, io| s.start(now, io));
    }

    /// `nameserver_offset`: a random first server, then the next with every query.
    fn offset(&mut self) -> usize {
        let count = self.conf.nameservers.len();
        if !self.conf.rotate || count <= 1 {
            return 0;
        }
        let at = match self.rotation {
            Some(at) => at,
            None => self.rng.next_u64() >> 1,
        };
        self.rotation = Some(at.wrapping_add(1));
        (at % count as u64) as usize
    }

    /// What `__res_context_query` makes of the answers of one name.
    fn queried(&mut self, now: Instant, done: Done) {
        let (first, second) = match done {
            Done::Failed { refused, rcode } => {
                let rcode = (rcode != 0).then_some(rcode);
                let failure = Failure {
                    refused,
                    ..Failure::of(HErrno::TryAgain, rcode)
                };
                return self.failed(now, failure);
            }
            Done::Answered { first, second } => (first, second),
        };
        let head = |m: &Option<Vec<u8>>| m.as_deref().and_then(Head::of);
        let (hp, hp2) = match (head(&first), head(&second)) {
            (Some(a), Some(b)) => (a, b),
            (Some(a), None) | (None, Some(a)) => (a, a),
            (None, None) => return self.failed(now, Failure::of(HErrno::TryAgain, None)),
        };
        let (rcodes, counts) = ((hp.rcode(), hp2.rcode()), (hp.counts[1], hp2.counts[1]));
        if (rcodes.0 != 0 && rcodes.1 != 0) || (counts.0 == 0 && counts.1 == 0) {
            let code = if rcodes.0 == 0 { rcodes.1 } else { rcodes.0 };
            let herrno = match code {
                0 => HErrno::NoData,
                2 => HErrno::TryAgain,
                3 => HErrno::HostNotFound,
                _ => HErrno::NoRecovery,
            };
            return self.failed(now, Failure::of(herrno, Some(code)));
        }
        let replies = [first, second];
        let addresses: Vec<_> = replies
            .iter()
            .flatten()
            .flat_map(|m| message::addresses(m, None))
            .collect();
        // Answers without an address, a CNAME alone: `gaih_getanswer_slice` says NOTFOUND.
        let error = addresses.is_empty().then_some(Eai::NoName);
        self.finish(now, addresses, error, Some(0));
    }

    /// `__res_context_search` after a name that was not found.
    fn failed(&mut self, now: Instant, f: Failure) {
        match self.stage {
            Stage::First if self.trailing_dot => self.give_up(now, f),
            Stage::First => {
                self.saved = Some(f);
                self.search(now, 0, Some(f));
            }
            Stage::Listed(_) if f.refused => {
                self.finish(now, Vec::new(), Some(Eai::Again), f.rcode);
            }
            Stage::Listed(i) => {
                let next = match f.herrno {
                    HErrno::NoData => {
                        self.nodata = Some(f);
                        true
                    }
                    HErrno::HostNotFound => true,
                    HErrno::TryAgain if f.rcode == Some(2) => {
                        self.servfail = Some(f);
                        true
                    }
                    HErrno::TryAgain | HErrno::NoRecovery => false,
                };
                match next {
                    true => self.search(now, i + 1, Some(f)),
                    false => self.as_it_is(now, f),
                }
            }
            Stage::Last => self.give_up(now, f),
        }
    }

    /// The search list from one entry on.
    fn search(&mut self, now: Instant, i: usize, before: Option<Failure>) {
        let entry = self.conf.search.get(i).filter(|_| !self.trailing_dot);
        let Some(domain) = entry.cloned() else {
            let none = Failure::of(HErrno::HostNotFound, None);
            return self.as_it_is(now, before.unwrap_or(none));
        };
        self.searched = true;
        let domain = domain.strip_prefix('.').unwrap_or(&domain);
        self.root_on_list |= domain.is_empty();
        self.stage = Stage::Listed(i);
        self.query(now, Some(domain));
    }

    /// After the search list.
    fn as_it_is(&mut self, now: Instant, before: Failure) {
        let wanted = self.dots > 0 || !self.searched || !self.conf.no_tld_query;
        if wanted && !self.tried_as_is && !self.root_on_list {
            self.stage = Stage::Last;
            self.query(now, None);
        } else {
            self.give_up(now, before);
        }
    }

    fn give_up(&mut self, now: Instant, last: Failure) {
        let told = self.saved.or(self.nodata).or(self.servfail);
        let f = told.unwrap_or(last);
        let error = match f.herrno {
            HErrno::HostNotFound | HErrno::NoRecovery => Eai::NoName,
            HErrno::NoData => Eai::NoData,
            HErrno::TryAgain => Eai::Again,
        };
        self.finish(now, Vec::new(), Some(error), f.rcode);
    }

    fn finish(
        &mut self,
        at: Instant,
        addresses: Vec<std::net::IpAddr>,
        error: Option<Eai>,
        rcode: Option<u16>,
    ) {
        self.send = None;
        self.answer = Some(Answer {
            addresses,
            error,
            rcode,
            asked: core::mem::take(&mut self.asked),
            at,
        });
    }
}

impl Failure {
    fn of(herrno: HErrno, rcode: Option<u16>) -> Self {
        Failure {
            herrno,
            rcode,
            refused: false,
        }
    }
}

/// What sending needs of the look-up around it.
struct Io<'a> {
    conf: &'a mut Conf,
    out: &'a mut Vec<Action>,
    sockets: &'a mut u32,
}

impl Io<'_> {
    fn new_socket(&mut self) -> Sock {
        *self.sockets += 1;
        Sock(*self.sockets)
    }
}
