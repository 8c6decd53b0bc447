//! The link between two stacks, with a kernel at each end that answers for closed ports.

use bytes::Bytes;
use podpath::base::Instant;
use podpath::endpoint::{
    ClientEvent, ClientId, Config, Delivery, Errno, Outcome, Reply, SocketChange, SocketInfo,
    Stack, TcpRequest, UdpRequest,
};
use podpath::wire::{IpHeader, Tuple, build, proto};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Which packets the link loses: by number (from 0) and direction (0: from the client).
pub type Loss = fn(usize, usize, &[u8]) -> bool;

/// Two namespaces, each with a kernel that answers for closed ports, and a router between them whose MTU may
/// be smaller than theirs.
pub struct Net {
    pub stacks: [Stack; 2],
    pub tables: [BTreeSet<SocketKey>; 2],
    pub latency: Duration,
    pub mtu: usize,
    pub icmp: bool,
    pub loss: Loss,
    pub now: Instant,
    pub queue: BTreeMap<(Instant, u64), (usize, Vec<u8>)>,
    pub seq: u64,
    pub sent: [usize; 2],
    /// Every packet put on the link: when, by whom, bytes.
    pub wire: Vec<(Instant, usize, Vec<u8>)>,
    pub events: Vec<(ClientId, ClientEvent)>,
}

impl Net {
    pub fn new(seed: u64, mtu: u32) -> Net {
        Net {
            stacks: [1, 2].map(|i| Stack::new(Config::new(seed + i, mtu))),
            tables: Default::default(),
            latency: Duration::from_micros(100),
            mtu: 65_535,
            icmp: true,
            loss: |_, _, _| false,
            now: Instant::from_secs(3),
            queue: BTreeMap::new(),
            seq: 0,
            sent: [0; 2],
            wire: Vec::new(),
            events: Vec::new(),
        }
    }

    pub fn send(&mut self, from: usize, packet: Vec<u8>) {
        self.wire.push((self.now, from, packet.clone()));
        let n = self.sent[from];
        self.sent[from] += 1;
        if (self.loss)(n, from, &packet) {
            return;
        }
        let h = IpHeader::parse(&packet).expect("own packets are well formed");
        assert!(build::l4_checksum_ok(&h, &packet), "checksum of {h:?}");
        if h.total_len > self.mtu && h.df {
            if self.icmp {
                self.queue_to(from, too_big(&h, &packet, self.mtu as u32));
            }
            return;
        }
        self.queue_to(1 - from, packet);
    }

    pub fn queue_to(&mut self, to: usize, packet: Vec<u8>) {
        self.seq += 1;
        let key = (self.now + self.latency, self.seq);
        self.queue.insert(key, (to, packet));
    }

    pub fn flush(&mut self) {
        for i in 0..2 {
            for packet in self.stacks[i].poll(self.now) {
                self.send(i, packet);
            }
        }
        self.events.extend(self.stacks[0].events());
        self.check_sockets();
    }

    /// The kernels' socket tables, kept by changes alone, say what the stacks say.
    fn check_sockets(&mut self) {
        for (stack, table) in self.stacks.iter_mut().zip(&mut self.tables) {
            for change in stack.changes().expect("read often enough") {
                match change {
                    SocketChange::Opened(s) => {
                        assert!(table.insert(key(&s)), "opened twice: {s:?}")
                    }
                    SocketChange::Closed(s) => assert!(table.remove(&key(&s)), "never open: {s:?}"),
                }
            }
            let listed: BTreeSet<_> = stack.sockets().iter().map(key).collect();
            assert_eq!(*table, listed);
        }
    }

    /// Runs until nothing is due before `until`.
    pub fn run(&mut self, until: Instant) {
        for _ in 0..1_000_000 {
            self.flush();
            let timers = self.stacks.iter().filter_map(Stack::poll_at);
            let next = timers.chain(self.queue.keys().next().map(|k| k.0)).min();
            let Some(next) = next.filter(|t| *t <= until) else {
                self.now = self.now.max(until);
                return;
            };
            self.now = self.now.max(next);
            while let Some(e) = self.queue.first_entry().filter(|e| e.key().0 <= self.now) {
                let (to, packet) = e.remove();
                self.deliver(to, &packet);
            }
        }
        panic!("no end");
    }

    /// A kernel: the stack first, then RST or port-unreachable.
    pub fn deliver(&mut self, to: usize, packet: &[u8]) {
        if self.stacks[to].receive(self.now, packet) != Delivery::NoSocket {
            return;
        }
        let h = IpHeader::parse(packet).unwrap();
        match h.proto {
            proto::TCP => {
                if let Some(rst) = build::tcp_reset(&h, packet) {
                    let p = build::ip_packet(h.dst, h.src, proto::TCP, 64, 0, 0, true, &rst);
                    self.send(to, p);
                }
            }
            proto::UDP => {
                let (t, c) = if h.is_v4() { (3, 3) } else { (1, 4) };
                self.send(to, icmp(h.dst, t, c, 0, packet));
            }
            _ => {}
        }
    }

    pub fn connect(&mut self, request: Bytes, reply: Reply, seconds: u64) -> ClientId {
        let (local, remote) = (addr(0, 40_000), addr(1, 80));
        self.connect_from(local, remote, request, reply, seconds)
    }

    pub fn connect_from(
        &mut self,
        local: SocketAddr,
        remote: SocketAddr,
        request: Bytes,
        reply: Reply,
        seconds: u64,
    ) -> ClientId {
        let r = TcpRequest {
            local,
            remote,
            request,
            reply,
            deadline: self.now + Duration::from_secs(seconds),
            path_mtu: None,
        };
        self.stacks[0].connect_tcp(self.now, r).unwrap()
    }

    pub fn data(&self, id: ClientId) -> Vec<u8> {
        let of_id = self.events.iter().filter(|(i, _)| *i == id);
        of_id
            .filter_map(|(_, e)| match e {
                ClientEvent::Data { data, .. } => Some(data.to_vec()),
                _ => None,
            })
            .flatten()
            .collect()
    }

    pub fn end(&self, id: ClientId) -> Option<&ClientEvent> {
        let of_id = self.events.iter().filter(|(i, _)| *i == id);
        let ends: Vec<_> = of_id
            .map(|(_, e)| e)
            .filter(|e| matches!(e, ClientEvent::Done { .. } | ClientEvent::Failed { .. }))
            .collect();
        assert!(ends.len() <= 1, "more than one end: {ends:?}");
        ends.first().copied()
    }

    /// (outcome, errno, seconds after `start`) of a failure.
    pub fn failure(&self, id: ClientId, start: Instant) -> (Outcome, Option<Errno>, f64) {
        match self.end(id) {
            Some(ClientEvent::Failed {
                outcome, errno, at, ..
            }) => (*outcome, *errno, at.since(start).as_secs_f64()),
            other => panic!("not a failure: {other:?}"),
        }
    }

    pub fn done(&self, id: ClientId) -> Instant {
        match self.end(id) {
            Some(ClientEvent::Done { at }) => *at,
            other => panic!("not done: {other:?}\n{}", self.dump()),
        }
    }

    /// The link's traffic, one line per packet.
    pub fn dump(&self) -> String {
        let line = |(at, from, p): &(Instant, usize, Vec<u8>)| {
            let h = IpHeader::parse(p).unwrap();
            let t = Tuple::of(&h, p);
            let flags = h.payload(p).get(13).copied().unwrap_or(0);
            let l4 = h.payload(p);
            let word = |at: usize| {
                l4.get(at..at + 4)
                    .map_or(0, |w| u32::from_be_bytes(w.try_into().unwrap()))
            };
            let (seq, ack) = (word(4), word(8));
            format!(
                "{at} {from} {t} len={} flags={flags:02x} seq={seq} ack={ack}\n",
                h.total_len
            )
        };
        self.wire.iter().rev().take(60).rev().map(line).collect()
    }
}

/// What a kernel's socket table is keyed by.
pub type SocketKey = (u8, u16, Option<IpAddr>, Option<SocketAddr>);

fn key(s: &SocketInfo) -> SocketKey {
    (s.proto, s.port, s.addr, s.peer)
}

pub fn addr(side: u8, port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::from([10, 244, side + 1, 10]), port)
}

pub fn addr6(side: u8, port: u16) -> SocketAddr {
    let ip: IpAddr = format!("fd00:10:244:{}::a", side + 1).parse().unwrap();
    SocketAddr::new(ip, port)
}

/// An ICMP error quoting `packet`, from `from` to the packet's source.
pub fn icmp(from: IpAddr, typ: u8, code: u8, rest: u32, packet: &[u8]) -> Vec<u8> {
    let h = IpHeader::parse_lax(packet).unwrap();
    let m = build::icmp_message(from, h.src, typ, code, rest, build::quote(packet, 1500, 0));
    let p = if h.is_v4() {
        proto::ICMP
    } else {
        proto::ICMPV6
    };
    build::ip_packet(from, h.src, p, 64, 0xc0, 7, false, &m)
}

pub fn too_big(h: &IpHeader, packet: &[u8], mtu: u32) -> Vec<u8> {
    match h.is_v4() {
        true => icmp("192.168.50.1".parse().unwrap(), 3, 4, mtu, packet),
        false => icmp("fd00::1".parse().unwrap(), 2, 0, mtu, packet),
    }
}

pub fn pattern(n: usize) -> Bytes {
    (0..n)
        .map(|i| (i * 31 % 251) as u8)
        .collect::<Vec<_>>()
        .into()
}

pub fn tcp_flags(p: &[u8]) -> u8 {
    let h = IpHeader::parse(p).unwrap();
    h.payload(p)[13]
}

pub fn udp_client(
    net: &mut Net,
    local: SocketAddr,
    remote: SocketAddr,
    payload: Bytes,
    s: u64,
) -> ClientId {
    let r = UdpRequest {
        local,
        remote,
        payload,
        expects_reply: true,
        deadline: net.now + Duration::from_secs(s),
        path_mtu: None,
    };
    net.stacks[0].send_udp(net.now, r).unwrap()
}
