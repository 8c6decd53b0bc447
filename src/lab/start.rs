//! How a client starts: what connect(2) asks the route, the port it gets, and the request it makes.
//!
//! Invariant: a client that is refused here has sent nothing.

use super::client::{ClientRef, ClientState};
use super::hop::{Hop, Way};
use super::lineage::Shape;
use super::probe::{Exchange, Probe, ProbeProtocol};
use super::world::Lab;
use crate::base::{FrameId, Instant, limits};
use crate::endpoint::{ClientId, Errno, PingRequest, Reply, Stack, TcpRequest, UdpRequest};
use crate::net::RouteKind;
use crate::net::fib::FibError;
use crate::path::{self, Disposition, DropReason, Observer};
use crate::wire::{Tuple, proto};
use bytes::Bytes;
use std::net::{IpAddr, SocketAddr};

/// A try that could not even start: what connect(2) or sendto(2) says at once.
pub(super) struct Refusal {
    pub errno: Errno,
    pub hop: Option<Box<Hop>>,
}

impl Refusal {
    fn plain(errno: Errno) -> Self {
        Refusal { errno, hop: None }
    }
}

/// What the route lookup of connect(2) gives a client.
pub(super) struct Start {
    pub(super) src: IpAddr,
    pub(super) mtu: u32,
    ttl: u8,
}

impl Lab {
    /// Asks the route as connect(2) does and starts the client in its namespace's stack.
    pub(super) fn begin<O: Observer>(
        &mut self,
        p: &Probe,
        seq: u16,
        obs: &mut O,
    ) -> Result<ClientRef, Refusal> {
        let start = self.route_out(p)?;
        if p.protocol != ProbeProtocol::Tcp && p.df == Some(true) {
            let head = if p.to.is_ipv4() { 28 } else { 48 };
            if p.size.saturating_add(head) > start.mtu {
                return Err(Refusal::plain(Errno::MsgSize)); // `__ip_append_data`: ip_local_error
            }
        }
        let t = self.free_tuple(p, start.src);
        let t = t.ok_or(Refusal::plain(Errno::Again))?;
        let now = self.now();
        let stack = self.ensure_stack(p.from);
        let stack = stack.ok_or(Refusal::plain(Errno::Invalid))?;
        stack.set_mtu(start.mtu);
        let id = call(stack, now, p, seq, &t, &start).map_err(Refusal::plain)?;
        let state = ClientState {
            ns: p.from,
            tuple: t,
            start: now,
            connected: None,
            bytes: 0,
            reply: Vec::new(),
            end: None,
        };
        let r = self.clients.add(id, state);
        let shape = Shape {
            ttl: p.ttl,
            df: p.df,
        };
        self.lineages.open(p.from, t, r, shape);
        self.flush_new(p.from, obs);
        Ok(r)
    }

    /// Route and source address (`ip_route_connect`, `ip6_dst_lookup_flow`).
    pub(super) fn route_out(&self, p: &Probe) -> Result<Start, Refusal> {
        let space = self
            .world
            .ns(p.from)
            .ok_or(Refusal::plain(Errno::Invalid))?;
        let found = space.route_output(None, p.to, None, 0, 0);
        let found = found.map_err(|e| self.no_way_out(p, &e))?;
        let src = space
            .source_for(&found, p.to)
            .ok_or(Refusal::plain(Errno::Invalid))?;
        let mtu = match found.route.kind {
            RouteKind::Local => 65_535,
            _ => u32::try_from(space.path_mtu(p.to, &found, self.now())).unwrap_or(65_535),
        };
        let ttl = u8::try_from(space.sysctl().ip_default_ttl).unwrap_or(64);
        Ok(Start { src, mtu, ttl })
    }

    /// The route says no: no packet is ever made, yet the place is known.
    fn no_way_out(&self, p: &Probe, e: &FibError) -> Refusal {
        let (errno, reason, route) = match e {
            FibError::NoRoute => (path::Errno::NetUnreach, DropReason::NoRoute, None),
            FibError::Unreachable(r) => (
                path::Errno::HostUnreach,
                DropReason::Unreachable,
                r.as_ref(),
            ),
            FibError::Prohibit(r) => (path::Errno::Access, DropReason::Prohibit, r.as_ref()),
            FibError::Blackhole(r) => (path::Errno::Inval, DropReason::Blackhole, r.as_ref()),
        };
        let hop = self.world.ns(p.from).map(|ns| {
            Box::new(Hop {
                time: self.now(),
                ns: ns.id,
                ns_name: ns.name.clone(),
                dev: None,
                device: String::new(),
                frame: FrameId::default(),
                root: FrameId::default(),
                way: Way::Forward,
                how: Disposition::Dropped {
                    reason,
                    detail: match route {
                        Some(r) => {
                            format!("{} matches {}", p.to, crate::net::text::route_text(ns, r))
                        }
                        None => p.to.to_string(),
                    },
                    origin: route.map(|r| r.origin.clone()).unwrap_or_default(),
                },
            })
        });
        Refusal {
            errno: super::world::errno(errno),
            hop,
        }
    }

    /// A tuple with a port of net.ipv4.ip_local_port_range that no socket holds; echo: an id.
    pub(super) fn free_tuple(&mut self, p: &Probe, src: IpAddr) -> Option<Tuple> {
        for _ in 0..limits::LAB_PORT_TRIES {
            let mut port = |low, high| {
                let drawn = self.rng.range(low, high) as u16;
                p.sport.unwrap_or(drawn)
            };
            let (proto, sport, dport) = match p.protocol {
                ProbeProtocol::Icmp => {
                    let id = port(1, 65_535);
                    let v4 = p.to.is_ipv4();
                    (if v4 { proto::ICMP } else { proto::ICMPV6 }, id, id)
                }
                ProbeProtocol::Tcp => (proto::TCP, port(32_768, 60_999), p.port),
                ProbeProtocol::Udp => (proto::UDP, port(32_768, 60_999), p.port),
            };
            let t = Tuple {
                proto,
                src,
                dst: p.to,
                sport,
                dport,
            };
            if self
                .world
                .ns(p.from)?
                .sockets()
                .lookup(&t.reply())
                .is_none()
            {
                return Some(t);
            }
        }
        None
    }
}

/// `size` bytes, none of them alike to its neighbours, so that a misplaced one shows.
fn payload(size: u32) -> Bytes {
    (0..size)
        .map(|i| (i % 251) as u8)
        .collect::<Vec<_>>()
        .into()
}

fn tcp_exchange(p: &Probe) -> (Bytes, Reply) {
    if p.size == 0 && p.exchange != Exchange::Http {
        return (Bytes::new(), Reply::Len(0));
    }
    match p.exchange {
        Exchange::Echo => (payload(p.size), Reply::Len(p.size as usize)),
        Exchange::Send => (payload(p.size), Reply::Len(0)),
        Exchange::UntilClose => (payload(p.size), Reply::UntilClose),
        Exchange::Http => {
            let mut head = format!("GET / HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", p.to);
            let room = (p.size as usize).saturating_sub(head.len() + 2 + "X-Pad: \r\n".len());
            if room > 0 {
                head.push_str(&format!("X-Pad: {}\r\n", "a".repeat(room)));
            }
            head.push_str("\r\n");
            (head.into(), Reply::UntilClose)
        }
    }
}

/// The socket call itself.
fn call(
    stack: &mut Stack,
    now: Instant,
    p: &Probe,
    seq: u16,
    t: &Tuple,
    start: &Start,
) -> Result<ClientId, Errno> {
    let local = SocketAddr::new(t.src, t.sport);
    let remote = SocketAddr::new(t.dst, t.dport);
    let (deadline, path_mtu) = (now + p.timeout, Some(start.mtu));
    match p.protocol {
        ProbeProtocol::Tcp => {
            let (request, reply) = tcp_exchange(p);
            let r = TcpRequest {
                local,
                remote,
                request,
                reply,
                deadline,
                path_mtu,
            };
            stack.connect_tcp(now, r)
        }
        ProbeProtocol::Udp => {
            let r = UdpRequest {
                local,
                remote,
                payload: payload(p.size),
                expects_reply: true,
                deadline,
                path_mtu,
            };
            stack.send_udp(now, r)
        }
        ProbeProtocol::Icmp => stack.ping(PingRequest {
            local: t.src,
            remote: t.dst,
            id: t.sport,
            seq,
            payload: payload(p.size),
            ttl: p.ttl.unwrap_or(start.ttl),
            // IP_PMTUDISC_WANT, as every socket's default: DF while it fits.
            df: p.df.unwrap_or(p.size.saturating_add(28) <= start.mtu),
            deadline,
        }),
    }
}
