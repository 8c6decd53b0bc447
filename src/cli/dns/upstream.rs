//! Queries to upstreams: one UDP socket for each family and a thread for each TCP query, both bounded.
//!
//! A datagram is matched to its exchange by the upstream's address and the message's id, as CoreDNS does
//! with a socket of its own for each.

use super::serve::{Shared, State};
use super::tcp::message;
use crate::base::limits::DNS_TCP_UPSTREAMS_MAX;
use crate::kube::dns::{Arrival, Send, Transport};
use core::time::Duration;
use std::collections::BTreeMap;
use std::io::Write;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// How long an upstream has for a TCP query.
const TCP_TIMEOUT: Duration = Duration::from_secs(2);

/// Sockets to upstreams.
pub(super) struct Carrier {
    v4: UdpSocket,
    v6: Option<UdpSocket>,
    open: Mutex<BTreeMap<(SocketAddr, [u8; 2]), u64>>,
    streams: AtomicUsize,
}

impl Carrier {
    pub(super) fn new() -> std::io::Result<Carrier> {
        let wait = Some(Duration::from_millis(100));
        let v4 = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        v4.set_read_timeout(wait)?;
        // A machine without IPv6 asks nobody over it.
        let v6 = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).ok();
        if let Some(v6) = &v6 {
            v6.set_read_timeout(wait)?;
        }
        Ok(Carrier {
            v4,
            v6,
            open: Mutex::new(BTreeMap::new()),
            streams: AtomicUsize::new(0),
        })
    }

    pub(super) fn send(&self, shared: &Arc<Shared>, send: Send, state: &mut State) {
        let broken = match send.transport {
            Transport::Udp => !self.datagram(&send),
            Transport::Tcp => !self.stream(shared, &send),
        };
        if broken {
            let now = shared.now();
            state
                .responder
                .upstream_reply(now, send.exchange, Arrival::Broken);
        }
    }

    fn datagram(&self, send: &Send) -> bool {
        let socket = if send.to.is_ipv4() {
            Some(&self.v4)
        } else {
            self.v6.as_ref()
        };
        let id = send.bytes.first_chunk::<2>().copied();
        let (Some(socket), Some(id)) = (socket, id) else {
            return false;
        };
        let mut open = self
            .open
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if open.len() > usize::from(u16::MAX) {
            // What was never answered; the responder has long given it up.
            open.clear();
        }
        open.insert((send.to, id), send.exchange);
        socket.send_to(&send.bytes, send.to).is_ok()
    }

    fn stream(&self, shared: &Arc<Shared>, send: &Send) -> bool {
        if self.streams.fetch_add(1, Ordering::Relaxed) >= DNS_TCP_UPSTREAMS_MAX {
            self.streams.fetch_sub(1, Ordering::Relaxed);
            return false;
        }
        let (shared, send) = (Arc::clone(shared), send.clone());
        thread::spawn(move || {
            let arrival = match exchange(&send) {
                Ok(Some(bytes)) => Arrival::Message(bytes),
                Ok(None) | Err(_) => Arrival::Broken,
            };
            let mut state = shared.lock();
            let now = shared.now();
            state.responder.upstream_reply(now, send.exchange, arrival);
            shared.flush(&mut state);
            shared.carrier.streams.fetch_sub(1, Ordering::Relaxed);
        });
        true
    }
}

fn exchange(send: &Send) -> std::io::Result<Option<Vec<u8>>> {
    let mut stream = TcpStream::connect_timeout(&send.to, TCP_TIMEOUT)?;
    stream.set_write_timeout(Some(TCP_TIMEOUT))?;
    let len = u16::try_from(send.bytes.len()).unwrap_or(u16::MAX);
    stream.write_all(&[&len.to_be_bytes()[..], &send.bytes].concat())?;
    message(&mut stream, TCP_TIMEOUT)
}

/// Takes what upstreams answer over UDP.
pub(super) fn receive(shared: &Arc<Shared>) {
    thread::scope(|scope| {
        if let Some(v6) = &shared.carrier.v6 {
            scope.spawn(|| listen(shared, v6));
        }
        listen(shared, &shared.carrier.v4);
    });
}

fn listen(shared: &Arc<Shared>, socket: &UdpSocket) {
    let mut buffer = vec![0_u8; 65_535];
    while shared.goes_on() {
        let Ok((len, from)) = socket.recv_from(&mut buffer) else {
            continue;
        };
        let Some(bytes) = buffer.get(..len) else {
            continue;
        };
        let Some(id) = bytes.first_chunk::<2>() else {
            continue;
        };
        let carrier = &shared.carrier;
        let known = {
            let mut open = carrier
                .open
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            open.remove(&(from, *id))
        };
        if let Some(exchange) = known {
            let mut state = shared.lock();
            let now = shared.now();
            state
                .responder
                .upstream_reply(now, exchange, Arrival::Message(bytes.to_vec()));
            shared.flush(&mut state);
        }
    }
}
