//! TCP clients of `dns serve`: a thread for each, at most `DNS_TCP_CLIENTS_MAX`.
//!
//! A message has to be whole within the time of CoreDNS's server (3 s for the first, 10 s for each later
//! one, 5 s to take a reply; coredns `core/dnsserver/server.go`), however slowly its octets come. What has
//! no reply leaves the connection open, as miekg/dns does. Who comes when all places are taken is closed at
//! once.

use super::serve::{Back, Shared};
use crate::base::limits::DNS_TCP_CLIENTS_MAX;
use crate::kube::dns::{Outcome, Transport};
use core::time::Duration;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Instant;

/// How long the first message may take.
const FIRST: Duration = Duration::from_secs(3);
/// How long until the next one is whole.
const IDLE: Duration = Duration::from_secs(10);
/// How long a reply may take to be taken.
const WRITE: Duration = Duration::from_secs(5);
/// Pause after an error of accept(2): no descriptors left, for one.
const PAUSE: Duration = Duration::from_millis(100);

/// Takes clients until the server ends; whoever ends it connects once more.
pub(super) fn accept(shared: &Arc<Shared>, listener: &TcpListener) {
    while shared.goes_on() {
        let Ok((stream, from)) = listener.accept() else {
            thread::sleep(PAUSE);
            continue;
        };
        if shared.clients.fetch_add(1, Ordering::Relaxed) >= DNS_TCP_CLIENTS_MAX {
            shared.clients.fetch_sub(1, Ordering::Relaxed);
            continue;
        }
        let own = Arc::clone(shared);
        let spawned = thread::Builder::new().spawn(move || {
            // A client that breaks off is no concern of the others.
            let _ = connection(&own, stream, from);
            own.clients.fetch_sub(1, Ordering::Relaxed);
        });
        if spawned.is_err() {
            shared.clients.fetch_sub(1, Ordering::Relaxed);
            thread::sleep(PAUSE);
        }
    }
}

/// One client: a query, its reply, the next query.
fn connection(
    shared: &Arc<Shared>,
    mut stream: TcpStream,
    from: SocketAddr,
) -> std::io::Result<()> {
    stream.set_write_timeout(Some(WRITE))?;
    stream.set_nodelay(true)?;
    let mut patience = FIRST;
    while shared.goes_on() {
        let Some(bytes) = message(&mut stream, patience)? else {
            return Ok(());
        };
        patience = IDLE;
        for reply in replies(shared, from, &bytes) {
            let Ok(len) = u16::try_from(reply.len()) else {
                return Ok(());
            };
            stream.write_all(&[&len.to_be_bytes()[..], &reply].concat())?;
        }
    }
    Ok(())
}

/// What a query is answered with, none for silence.
fn replies(shared: &Arc<Shared>, from: SocketAddr, bytes: &[u8]) -> Vec<Vec<u8>> {
    let client = shared.client(from, Transport::Tcp);
    let late = {
        let mut state = shared.lock();
        let now = shared.now();
        let outcome = state.responder.query(now, &client, bytes);
        let late = match outcome {
            Outcome::Pending(ticket) => {
                let (to, late) = crossbeam::channel::bounded(1);
                state.waiting.insert(ticket, Back::Tcp(to));
                Ok((ticket, late))
            }
            Outcome::Reply(reply) => Err(vec![reply]),
            Outcome::Transfer(messages) => Err(messages),
            Outcome::Silence => Err(Vec::new()),
        };
        shared.flush(&mut state);
        late
    };
    match late {
        Err(messages) => messages,
        Ok((ticket, late)) => late.recv_timeout(IDLE).unwrap_or_else(|_| {
            shared.lock().waiting.remove(&ticket);
            Vec::new()
        }),
    }
}

/// The next message of a connection, behind its length; none where it ends between two.
pub(super) fn message(
    stream: &mut TcpStream,
    patience: Duration,
) -> std::io::Result<Option<Vec<u8>>> {
    let until = Instant::now() + patience;
    let mut len = [0; 2];
    if !fill(stream, &mut len, until)? {
        return Ok(None);
    }
    let mut bytes = vec![0; usize::from(u16::from_be_bytes(len))];
    match fill(stream, &mut bytes, until)? {
        true => Ok(Some(bytes)),
        false => Err(ErrorKind::UnexpectedEof.into()),
    }
}

/// Fills a buffer by a time; false where the peer closed before its first octet.
fn fill(stream: &mut TcpStream, buffer: &mut [u8], until: Instant) -> std::io::Result<bool> {
    let mut done = 0;
    while let Some(rest) = buffer.get_mut(done..).filter(|r| !r.is_empty()) {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(rest) {
            Ok(0) if done == 0 => return Ok(false),
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(len) => done += len,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(true)
}
