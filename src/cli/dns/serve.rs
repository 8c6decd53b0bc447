//! Sockets and threads around one responder: UDP in the caller's thread, a thread for each TCP client, one
//! for timers, one that sees files change.
//!
//! Everything is bounded: TCP clients and the time they have, queries in flight (the responder's own caps),
//! octets of a message. Invariant: the responder is asked under one lock, and nothing waits while it is
//! held.

use super::source::{self, Source, Stamp};
use super::tcp;
use super::upstream::{self, Carrier};
use crate::base::{Instant, Rng};
use crate::cli::Exit;
use crate::kube::dns::{Answer, Client, Outcome, Responder, Transport};
use anyhow::Context;
use core::time::Duration;
use std::collections::BTreeMap;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

/// How often threads look whether they are still wanted.
const LOOK: Duration = Duration::from_millis(100);
/// How often files are looked at.
const FILES: Duration = Duration::from_secs(1);

/// Where a late reply goes.
pub(super) enum Back {
    Udp(SocketAddr),
    Tcp(crossbeam::channel::Sender<Vec<Vec<u8>>>),
}

/// The responder and who waits for it.
pub(super) struct State {
    pub responder: Responder,
    pub waiting: BTreeMap<u64, Back>,
}

/// What all threads share.
pub(super) struct Shared {
    state: Mutex<State>,
    pub carrier: Carrier,
    udp: UdpSocket,
    began: std::time::Instant,
    /// The port of the Corefile that the one listened on stands for.
    port: AtomicU16,
    pub clients: AtomicUsize,
    over: AtomicBool,
}

impl Shared {
    /// The responder; a thread that panicked leaves it usable.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(super) fn now(&self) -> Instant {
        Instant::ZERO + self.began.elapsed()
    }

    /// A client of this listener.
    pub(super) fn client(&self, from: SocketAddr, transport: Transport) -> Client {
        Client {
            from,
            port: self.port.load(Ordering::Relaxed),
            transport,
        }
    }

    /// Sends what the responder has to send: queries to upstreams, late replies, lines of its log.
    pub(super) fn flush(self: &Arc<Self>, state: &mut State) {
        while let Some(send) = state.responder.next_send() {
            self.carrier.send(self, send, state);
        }
        while let Some(Answer {
            ticket, messages, ..
        }) = state.responder.next_answer()
        {
            match state.waiting.remove(&ticket) {
                Some(Back::Udp(to)) => {
                    for message in &messages {
                        // A reply that cannot be sent is a reply that is lost, as on any network.
                        let _ = self.udp.send_to(message, to);
                    }
                }
                Some(Back::Tcp(to)) => {
                    let _ = to.send(messages);
                }
                None => {}
            }
        }
        while let Some(line) = state.responder.next_log() {
            let _ = writeln!(anstream::stdout(), "{line}");
        }
        if state.responder.fatal().is_some() {
            self.over.store(true, Ordering::Relaxed);
        }
    }

    /// Whether the server goes on.
    pub(super) fn goes_on(&self) -> bool {
        !self.over.load(Ordering::Relaxed)
    }
}

/// Open sockets with a responder behind them.
pub(in crate::cli) struct Listener {
    shared: Arc<Shared>,
    tcp: TcpListener,
    at: SocketAddr,
}

impl Listener {
    /// Opens both; port 0 takes any that is free.
    pub(in crate::cli) fn open(
        listen: SocketAddr,
        mut responder: Responder,
    ) -> anyhow::Result<Listener> {
        let tcp = TcpListener::bind(listen).with_context(|| format!("TCP {listen}"))?;
        let at = tcp.local_addr()?;
        let udp = UdpSocket::bind(at).with_context(|| format!("UDP {at}"))?;
        udp.set_read_timeout(Some(LOOK))?;
        let port = port(&responder, at.port());
        responder.start(Instant::ZERO);
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                responder,
                waiting: BTreeMap::new(),
            }),
            carrier: Carrier::new()?,
            udp,
            began: std::time::Instant::now(),
            port: AtomicU16::new(port),
            clients: AtomicUsize::new(0),
            over: AtomicBool::new(false),
        });
        Ok(Listener { shared, tcp, at })
    }

    /// Where it listens.
    pub(in crate::cli) fn at(&self) -> SocketAddr {
        self.at
    }

    /// Something that ends [`Listener::run`] from another thread.
    pub(in crate::cli) fn stopper(&self) -> impl FnOnce() + Send + use<> {
        let shared = Arc::clone(&self.shared);
        move || shared.over.store(true, Ordering::Relaxed)
    }

    /// Serves until it is stopped or `most` has passed; with a source, the Corefile that was read from it and
    /// the files as they were, changes are taken in.
    pub(in crate::cli) fn run(
        self,
        most: Option<Duration>,
        source: Option<(Source, String, Stamp)>,
    ) -> anyhow::Result<Exit> {
        let Listener { shared, tcp, at } = self;
        {
            let mut state = shared.lock();
            shared.flush(&mut state);
        }
        let mut threads = vec![spawn(&shared, timers), spawn(&shared, upstream::receive)];
        let accepting = Arc::clone(&shared);
        threads.push(thread::spawn(move || tcp::accept(&accepting, &tcp)));
        if let Some((source, text, stamp)) = source.filter(|(s, ..)| s.lasts()) {
            let shared = Arc::clone(&shared);
            threads.push(thread::spawn(move || watch(&shared, &source, text, stamp)));
        }
        datagrams(&shared, most);
        shared.over.store(true, Ordering::Relaxed);
        // Whoever waits for a connection gets one.
        let _ = TcpStream::connect_timeout(&at, LOOK);
        for thread in threads {
            let _ = thread.join();
        }
        let fatal = shared.lock().responder.fatal().map(str::to_owned);
        Ok(if fatal.is_some() {
            Exit::Findings
        } else {
            Exit::Clean
        })
    }
}

/// A Corefile is for port 53; the port listened on stands for the one it has.
fn port(responder: &Responder, listened: u16) -> u16 {
    let ports = responder.ports();
    match ports.first() {
        Some(_) if ports.contains(&listened) => listened,
        Some(first) => *first,
        None => 53,
    }
}

fn spawn(shared: &Arc<Shared>, body: fn(&Arc<Shared>)) -> thread::JoinHandle<()> {
    let shared = Arc::clone(shared);
    thread::spawn(move || body(&shared))
}

/// UDP: the hot path is one lock, one copy and one call to send.
fn datagrams(shared: &Arc<Shared>, most: Option<Duration>) {
    let mut buffer = vec![0_u8; 65_535];
    let mut reply = Vec::with_capacity(512);
    let end = most.map(|most| Instant::ZERO + most);
    let mut now = shared.now();
    while shared.goes_on() && end.is_none_or(|end| now < end) {
        let got = shared.udp.recv_from(&mut buffer);
        now = shared.now();
        // Time out, or the ICMP error of a client that is gone.
        let Ok((len, from)) = got else { continue };
        let Some(bytes) = buffer.get(..len) else {
            continue;
        };
        let client = shared.client(from, Transport::Udp);
        let mut state = shared.lock();
        if state.responder.quick(now, &client, bytes, &mut reply) {
            drop(state);
            let _ = shared.udp.send_to(&reply, from);
            continue;
        }
        match state.responder.query(now, &client, bytes) {
            Outcome::Reply(reply) => {
                let _ = shared.udp.send_to(&reply, from);
            }
            Outcome::Pending(ticket) => {
                state.waiting.insert(ticket, Back::Udp(from));
            }
            Outcome::Transfer(_) | Outcome::Silence => {}
        }
        shared.flush(&mut state);
    }
}

/// Timeouts and health checks of the responder.
fn timers(shared: &Arc<Shared>) {
    while shared.goes_on() {
        let wait = {
            let mut state = shared.lock();
            let now = shared.now();
            state.responder.tick(now);
            shared.flush(&mut state);
            let next = state.responder.next_deadline().map(|at| at.since(now));
            next.unwrap_or(LOOK).clamp(Duration::from_millis(1), LOOK)
        };
        thread::sleep(wait);
    }
}

/// Takes in what has changed on disk: objects at once, the Corefile when `reload` looks. What is wrong with
/// the new state is said, and the old one goes on.
fn watch(shared: &Arc<Shared>, source: &Source, mut text: String, mut stamp: Stamp) {
    let mut rng = Rng::new(u64::from(std::process::id()));
    let (mut files_at, mut reload_at) = (shared.now() + FILES, None);
    // A Corefile that has changed and waits for `reload`.
    let mut pending = false;
    while shared.goes_on() {
        thread::sleep(LOOK);
        let now = shared.now();
        if reload_at.is_none() {
            let state = shared.lock();
            reload_at = source::reload_every(state.responder.care(), &mut rng).map(|d| now + d);
        }
        let due = reload_at.is_some_and(|at| at <= now);
        if due {
            reload_at = None;
        }
        if now >= files_at {
            files_at = now + FILES;
            let seen = source.stamp();
            if seen != stamp {
                stamp = seen;
                pending = true;
                take(shared, source, &mut text, false);
            }
        }
        if due && pending {
            pending = false;
            take(shared, source, &mut text, true);
        }
    }
}

/// Reads everything again; the Corefile only where `reload` may.
fn take(shared: &Arc<Shared>, source: &Source, text: &mut String, reload: bool) {
    let say = |line: String| {
        let _ = writeln!(anstream::stdout(), "{line}");
    };
    let made = match source.read() {
        Ok(made) => made,
        Err(e) => return say(format!("[ERROR] what has changed cannot be read: {e}")),
    };
    if let Some(wrong) = made.findings.iter().find(|f| f.is_error()) {
        return say(format!("[ERROR] what has changed is not taken: {wrong}"));
    }
    let mut state = shared.lock();
    let now = shared.now();
    if reload && made.text != *text {
        say("[INFO] Reloading".to_owned());
        let found = state.responder.reload(&made.corefile, &made.environment);
        match found.iter().find(|f| f.is_error()) {
            Some(wrong) => say(format!(
                "[ERROR] plugin/reload: Corefile changed but reload failed: {wrong}"
            )),
            None => {
                // Who waited gets no reply, as from a process that was replaced.
                state.waiting.clear();
                state.responder.start(now);
                let at = shared.udp.local_addr().map_or(53, |a| a.port());
                let port = port(&state.responder, at);
                shared.port.store(port, Ordering::Relaxed);
                say("[INFO] Reloading complete".to_owned());
            }
        }
        *text = made.text;
    }
    state.responder.learn(now, &made.objects);
    shared.flush(&mut state);
}
