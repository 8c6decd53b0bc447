//! Sockets and threads around one responder: UDP in this thread, a thread for each TCP client, one for
//! timers.
//!
//! Everything is bounded: TCP clients, queries in flight (the responder's own caps), octets of a message. A
//! client that says nothing for ten seconds is closed. Who comes when all places are taken is closed at
//! once.

use super::upstream::{self, Carrier};
use crate::base::Instant;
use crate::base::limits::DNS_TCP_CLIENTS_MAX;
use crate::cli::Exit;
use crate::kube::dns::{Answer, Client, Outcome, Responder, Transport};
use anyhow::Context;
use core::time::Duration;
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

/// How long a TCP client may say nothing.
const IDLE: Duration = Duration::from_secs(10);
/// How often threads look whether they are still wanted.
const LOOK: Duration = Duration::from_millis(100);

/// Where a late reply goes.
enum Back {
    Udp(SocketAddr),
    Tcp(crossbeam::channel::Sender<Vec<Vec<u8>>>),
}

/// The responder and who waits for it.
pub(super) struct State {
    pub responder: Responder,
    waiting: BTreeMap<u64, Back>,
}

/// What all threads share.
pub(super) struct Shared {
    state: Mutex<State>,
    pub carrier: Carrier,
    udp: UdpSocket,
    began: std::time::Instant,
    port: u16,
    clients: AtomicUsize,
    pub over: AtomicBool,
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

/// Serves until it is stopped.
pub(super) fn run(
    listen: SocketAddr,
    port: u16,
    responder: Responder,
    most: Option<Duration>,
) -> anyhow::Result<Exit> {
    let tcp = TcpListener::bind(listen).with_context(|| format!("TCP {listen}"))?;
    // Port 0 means any: UDP takes the one that TCP got.
    let listen = tcp.local_addr()?;
    let udp = UdpSocket::bind(listen).with_context(|| format!("UDP {listen}"))?;
    udp.set_read_timeout(Some(LOOK))?;
    tcp.set_nonblocking(true)?;
    let shared = Arc::new(Shared {
        state: Mutex::new(State {
            responder,
            waiting: BTreeMap::new(),
        }),
        carrier: Carrier::new()?,
        udp,
        began: std::time::Instant::now(),
        port,
        clients: AtomicUsize::new(0),
        over: AtomicBool::new(false),
    });
    {
        let mut state = shared.lock();
        state.responder.start(Instant::ZERO);
        shared.flush(&mut state);
    }
    let mut threads = vec![spawn(&shared, timers), spawn(&shared, upstream::receive)];
    let accepting = Arc::clone(&shared);
    threads.push(thread::spawn(move || accept(&accepting, &tcp)));
    writeln!(
        anstream::stderr(),
        "podpath dns: listening on {listen} (UDP and TCP)"
    )?;
    datagrams(&shared, most);
    shared.over.store(true, Ordering::Relaxed);
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

fn spawn(shared: &Arc<Shared>, body: fn(&Arc<Shared>)) -> thread::JoinHandle<()> {
    let shared = Arc::clone(shared);
    thread::spawn(move || body(&shared))
}

/// UDP: the hot path is one lock, one copy and one call to send.
fn datagrams(shared: &Arc<Shared>, most: Option<Duration>) {
    let mut buffer = vec![0_u8; 65_535];
    let mut reply = Vec::with_capacity(512);
    while shared.goes_on() && most.is_none_or(|most| shared.began.elapsed() < most) {
        let (len, from) = match shared.udp.recv_from(&mut buffer) {
            Ok(got) => got,
            // Time out, or the ICMP error of a client that is gone.
            Err(_) => continue,
        };
        let Some(bytes) = buffer.get(..len) else {
            continue;
        };
        let client = Client {
            from,
            port: shared.port,
            transport: Transport::Udp,
        };
        let now = shared.now();
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

fn accept(shared: &Arc<Shared>, listener: &TcpListener) {
    while shared.goes_on() {
        match listener.accept() {
            Ok((stream, from)) => {
                if shared.clients.fetch_add(1, Ordering::Relaxed) >= DNS_TCP_CLIENTS_MAX {
                    shared.clients.fetch_sub(1, Ordering::Relaxed);
                    continue;
                }
                let shared = Arc::clone(shared);
                thread::spawn(move || {
                    // A client that breaks off is no concern of the others.
                    let _ = connection(&shared, stream, from);
                    shared.clients.fetch_sub(1, Ordering::Relaxed);
                });
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => thread::sleep(Duration::from_millis(5)),
            Err(_) => thread::sleep(LOOK),
        }
    }
}

/// One TCP client: a query, its reply, the next query.
fn connection(
    shared: &Arc<Shared>,
    mut stream: TcpStream,
    from: SocketAddr,
) -> std::io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(IDLE))?;
    stream.set_write_timeout(Some(IDLE))?;
    stream.set_nodelay(true)?;
    let client = Client {
        from,
        port: shared.port,
        transport: Transport::Tcp,
    };
    while shared.goes_on() {
        let Some(bytes) = message(&mut stream)? else {
            return Ok(());
        };
        let outcome = {
            let mut state = shared.lock();
            let now = shared.now();
            let outcome = state.responder.query(now, &client, &bytes);
            let waits = match &outcome {
                Outcome::Pending(ticket) => {
                    let (to, late) = crossbeam::channel::bounded(1);
                    state.waiting.insert(*ticket, Back::Tcp(to));
                    Some((*ticket, late))
                }
                _ => None,
            };
            shared.flush(&mut state);
            (outcome, waits)
        };
        let messages = match outcome {
            (Outcome::Reply(reply), _) => vec![reply],
            (Outcome::Transfer(messages), _) => messages,
            (_, Some((ticket, late))) => match late.recv_timeout(IDLE) {
                Ok(messages) => messages,
                Err(_) => {
                    shared.lock().waiting.remove(&ticket);
                    return Ok(());
                }
            },
            // No reply to this one: miekg/dns closes the connection.
            (_, None) => return Ok(()),
        };
        for bytes in messages {
            let Ok(len) = u16::try_from(bytes.len()) else {
                return Ok(());
            };
            stream.write_all(&[&len.to_be_bytes()[..], &bytes].concat())?;
        }
    }
    Ok(())
}

/// The next message of a connection, behind its length; none at the end.
pub(super) fn message(stream: &mut TcpStream) -> std::io::Result<Option<Vec<u8>>> {
    let mut len = [0; 2];
    match stream.read_exact(&mut len) {
        Ok(()) => {}
        Err(e) if e.kind() == ErrorKind::UnexpectedEof => return Ok(None),
        Err(e) => return Err(e),
    }
    let mut bytes = vec![0; usize::from(u16::from_be_bytes(len))];
    stream.read_exact(&mut bytes)?;
    Ok(Some(bytes))
}
