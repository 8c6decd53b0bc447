//! What a server says: a closed set of small applications.
//!
//! Sans-IO: bytes in, bytes out, and whether to close. Knows neither sockets nor packets.
//! Invariant: an application holds at most [`limits::ENDPOINT_REQUEST_MAX`] bytes of a request.

use crate::base::limits;
use bytes::Bytes;
use std::net::SocketAddr;
use std::sync::Arc;

/// A server's behaviour, the same for TCP and UDP where it makes sense.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum App {
    /// Sends back what it receives; TCP: closes after the peer has.
    Echo,
    /// Sends these bytes once the first data arrive, then closes (UDP: for each datagram).
    Fixed(Bytes),
    /// Sends these bytes once the head of an HTTP request is there, then closes (UDP: nothing).
    Page(Bytes),
    /// Reads and says nothing; closes after the peer has.
    Sink,
    /// Answers a `GET` with 200 and one line `NAME sees CLIENT:PORT`, then closes (any other method:
    /// 405; what is no HTTP request: 400). UDP: answers each datagram with the line alone.
    Http {
        /// The server's name, usually the pod's.
        name: Arc<str>,
    },
    /// Accepts and closes at once.
    Close,
    /// The stack's caller plays it: [`super::UserEvent`] tells what comes, [`super::Stack::udp_send`] and
    /// [`super::Stack::tcp_write`] send. TCP closes after the peer has.
    User,
}

/// One TCP connection's application state.
#[derive(Debug)]
pub(super) struct Session {
    app: App,
    client: SocketAddr,
    request: Vec<u8>,
    /// Bytes to send, from `sent` onward.
    pub(super) out: Bytes,
    answered: bool,
    /// What came in for a caller that plays the server.
    inbox: Vec<u8>,
}

impl Session {
    pub(super) fn new(app: App, client: SocketAddr) -> Self {
        Session {
            app,
            client,
            request: Vec::new(),
            out: Bytes::new(),
            answered: false,
            inbox: Vec::new(),
        }
    }

    /// What came in since the last call ([`App::User`]).
    pub(super) fn take_inbox(&mut self) -> Vec<u8> {
        core::mem::take(&mut self.inbox)
    }

    /// More to send ([`App::User`]); beyond the buffer's size it is lost with the connection's use.
    pub(super) fn write(&mut self, data: &[u8]) {
        let room = (2 * limits::ENDPOINT_BUFFER).saturating_sub(self.out.len());
        let mut out = self.out.to_vec();
        out.extend_from_slice(&data[..data.len().min(room)]);
        self.out = out.into();
    }

    /// How many bytes the application wants to read now.
    pub(super) fn wants(&self) -> usize {
        match self.app {
            // An echo reads no faster than it can write: the peer's window closes, as with a real one.
            App::Echo if !self.out.is_empty() => 0,
            App::User if self.inbox.len() >= limits::ENDPOINT_BUFFER => 0,
            _ => usize::MAX,
        }
    }

    /// Takes received bytes.
    pub(super) fn data(&mut self, data: &[u8]) {
        match &self.app {
            App::Echo => self.out = Bytes::copy_from_slice(data),
            App::Fixed(reply) if !self.answered => {
                self.out = reply.clone();
                self.answered = true;
            }
            App::Page(reply) if !self.answered => {
                let room = limits::ENDPOINT_REQUEST_MAX.saturating_sub(self.request.len());
                self.request
                    .extend_from_slice(&data[..data.len().min(room)]);
                if head_is_whole(&self.request) {
                    self.out = reply.clone();
                    self.answered = true;
                    self.request = Vec::new();
                }
            }
            App::Http { name } if !self.answered => {
                let room = limits::ENDPOINT_REQUEST_MAX.saturating_sub(self.request.len());
                self.request
                    .extend_from_slice(&data[..data.len().min(room)]);
                if let Some(reply) = http_reply(&self.request, name, self.client) {
                    self.out = reply;
                    self.answered = true;
                    self.request = Vec::new();
                }
            }
            App::User => self.inbox.extend_from_slice(data),
            App::Fixed(_) | App::Page(_) | App::Http { .. } | App::Sink | App::Close => {}
        }
    }

    /// Whether to close our side once `out` is sent; `peer_closed`: no more data will come.
    pub(super) fn closes(&self, peer_closed: bool) -> bool {
        match self.app {
            App::Close => true,
            App::Echo | App::Sink | App::User => peer_closed,
            App::Fixed(_) | App::Page(_) | App::Http { .. } => self.answered || peer_closed,
        }
    }

    /// Bytes of send buffer worth having.
    pub(super) fn send_buffer(&self) -> usize {
        match &self.app {
            App::Echo | App::User => limits::ENDPOINT_BUFFER,
            App::Fixed(reply) | App::Page(reply) => reply.len().clamp(1, limits::ENDPOINT_BUFFER),
            App::Http { .. } => 1024,
            App::Sink | App::Close => 1,
        }
    }
}

/// The answer to one datagram, if any.
pub(super) fn datagram(app: &App, client: SocketAddr, payload: &[u8]) -> Option<Bytes> {
    match app {
        App::Echo => Some(Bytes::copy_from_slice(payload)),
        App::Fixed(reply) => Some(reply.clone()),
        App::Http { name } => Some(format!("{name} sees {client}\n").into()),
        App::Page(_) | App::Sink | App::Close | App::User => None,
    }
}

/// Whether a request's head is there, or more than is ever read of one.
fn head_is_whole(request: &[u8]) -> bool {
    let full = request.len() >= limits::ENDPOINT_REQUEST_MAX;
    full || request.windows(4).any(|w| w == b"\r\n\r\n")
}

/// The answer to `request`; `None` while its head is incomplete.
fn http_reply(request: &[u8], name: &str, client: SocketAddr) -> Option<Bytes> {
    if !head_is_whole(request) {
        return None;
    }
    let line = request.split(|b| *b == b'\r').next().unwrap_or(&[]);
    let mut words = line.split(|b| *b == b' ');
    let (method, version) = (words.next(), words.nth(1));
    let (status, body) = match (method, version) {
        (Some(b"GET"), Some(v)) if v.starts_with(b"HTTP/1.") => {
            ("200 OK", format!("{name} sees {client}\n"))
        }
        (Some(_), Some(v)) if v.starts_with(b"HTTP/1.") => {
            ("405 Method Not Allowed", "only GET\n".to_owned())
        }
        _ => ("400 Bad Request", "not HTTP\n".to_owned()),
    };
    Some(
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n{body}",
            body.len()
        )
        .into(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_waits_for_the_head_and_knows_methods() {
        let c: SocketAddr = "10.0.0.9:4000".parse().unwrap();
        assert_eq!(http_reply(b"GET / HTTP/1.1\r\nHost: x\r\n", "web", c), None);
        let ok = http_reply(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "web", c).unwrap();
        let text = std::str::from_utf8(&ok).unwrap();
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
        assert!(text.contains("Content-Length: 23\r\n"), "{text}");
        assert!(text.ends_with("\r\n\r\nweb sees 10.0.0.9:4000\n"), "{text}");
        let post = http_reply(b"POST / HTTP/1.1\r\n\r\n", "web", c).unwrap();
        assert!(post.starts_with(b"HTTP/1.1 405"));
        assert!(
            http_reply(b"\x16\x03\x01\r\n\r\n", "web", c)
                .unwrap()
                .starts_with(b"HTTP/1.1 400")
        );
    }
}
