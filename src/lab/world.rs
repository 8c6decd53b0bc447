//! The world with its sockets: deliveries go to stacks, what stacks send goes into the world, by one clock.
//!
//! Order of one moment: packets that were delivered, then the world's events, then stacks' timers by
//! namespace. Invariant: a stack is called only at the world's present time, which never runs backward.

use super::client::{ClientRef, ClientState, Clients};
use super::lineage::{Lineage, Lineages, Shape};
use super::players::Players;
use super::sockets::{Server, mirror};
use crate::base::{FrameId, Instant, NsId, Rng, limits};
use crate::endpoint::{self, App, Config, Stack};
use crate::net::SocketId;
use crate::path::{self, Observer};
use crate::sim::{Delivery, World};
use crate::wire::{IpHeader, Tuple, build, ip, proto};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// A world with sockets.
pub struct Lab {
    /// The namespaces and what joins them. Change it between calls; let only the lab run it.
    pub world: World,
    pub(super) stacks: BTreeMap<NsId, Stack>,
    pub(super) servers: BTreeMap<NsId, Vec<Server>>,
    pub(super) lineages: Lineages,
    pub(super) clients: Clients,
    pub(super) players: Players,
    pub(super) rng: Rng,
    seed: u64,
    due: BTreeSet<(Instant, NsId)>,
    due_at: BTreeMap<NsId, Instant>,
    next_socket: u32,
    moment: (Instant, u64),
}

/// The delivered frame that a socket reacts to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trigger {
    frame: FrameId,
    client: Option<ClientRef>,
}

impl Lab {
    /// A lab around `world`; every random choice of its sockets follows from `seed`.
    pub fn new(world: World, seed: u64) -> Self {
        Lab {
            world,
            stacks: BTreeMap::new(),
            servers: BTreeMap::new(),
            lineages: Lineages::default(),
            clients: Clients::default(),
            players: Players::default(),
            rng: Rng::new(seed ^ 0x6c61_6221),
            seed,
            due: BTreeSet::new(),
            due_at: BTreeMap::new(),
            next_socket: 1,
            moment: (Instant::ZERO, 0),
        }
    }

    /// Virtual now.
    pub fn now(&self) -> Instant {
        self.world.now()
    }

    /// Starts a server in a namespace: TCP or UDP, on one address or (`None`) on any. EADDRINUSE when
    /// the port is taken, EINVAL for port 0, another protocol or a namespace that is not there.
    pub fn listen(
        &mut self,
        ns: NsId,
        addr: Option<IpAddr>,
        proto: u8,
        port: u16,
        app: App,
    ) -> Result<(), endpoint::Errno> {
        if port == 0 || !matches!(proto, proto::TCP | proto::UDP) {
            return Err(endpoint::Errno::Invalid);
        }
        let space = self.world.ns_mut(ns).ok_or(endpoint::Errno::Invalid)?;
        let servers = self.servers.entry(ns).or_default();
        if servers.iter().any(|s| s.clashes(proto, addr, port)) {
            return Err(endpoint::Errno::AddrInUse);
        }
        let server = Server {
            proto,
            addr,
            port,
            app,
        };
        let bound = space
            .sockets_mut()
            .bind(server.binding(), SocketId(self.next_socket));
        bound.map_err(|_| endpoint::Errno::AddrInUse)?;
        self.next_socket = self.next_socket.wrapping_add(1);
        if let Some(stack) = self.stacks.get_mut(&ns) {
            server.bind(stack)?;
        }
        servers.push(server);
        Ok(())
    }

    /// Stops a server; its connections go on. False when there was none.
    pub fn unlisten(&mut self, ns: NsId, addr: Option<IpAddr>, proto: u8, port: u16) -> bool {
        let Some(servers) = self.servers.get_mut(&ns) else {
            return false;
        };
        let at = |s: &Server| (s.proto, s.addr, s.port) == (proto, addr, port);
        let Some(i) = servers.iter().position(at) else {
            return false;
        };
        let server = servers.remove(i);
        if let Some(stack) = self.stacks.get_mut(&ns) {
            stack.unlisten(proto, addr, port);
        }
        if let Some(space) = self.world.ns_mut(ns) {
            space.sockets_mut().unbind(&server.binding());
        }
        true
    }

    /// A namespace's stack; `None` while nobody has talked to or from it.
    pub fn stack(&self, ns: NsId) -> Option<&Stack> {
        self.stacks.get(&ns)
    }

    /// Where a packet that a socket sent comes from, by the id of its first frame
    /// (`root` of a [`crate::wire::Frame`]).
    pub fn lineage(&self, root: FrameId) -> Option<&Lineage> {
        self.lineages.get(root)
    }

    /// The client whose exchange the frames with this root belong to, forward and reply alike.
    pub fn client_of(&self, root: FrameId) -> Option<ClientRef> {
        self.lineages.client(root)
    }

    /// A client that was started and not yet finished.
    pub fn client(&self, r: ClientRef) -> Option<&ClientState> {
        self.clients.get(r)
    }

    /// Forgets a client and returns what it was told.
    pub fn finish(&mut self, r: ClientRef) -> Option<ClientState> {
        self.clients.remove(r)
    }

    /// Lets everything happen up to and including `t`; virtual time stands at `t` afterwards. False when
    /// one moment had no end ([`limits::LAB_STEPS_PER_MOMENT`]): time then stands there.
    pub fn run_until<O: Observer>(&mut self, t: Instant, obs: &mut O) -> bool {
        while self.step(t, obs) {}
        if self.stuck() {
            return false;
        }
        self.world.run_until(t, obs);
        true
    }

    /// The next thing that happens up to and including `until`; false when there is none. Time stands
    /// where it happened.
    pub fn step<O: Observer>(&mut self, until: Instant, obs: &mut O) -> bool {
        if self.stuck() {
            return false;
        }
        let delivered = self.world.take_deliveries();
        if !delivered.is_empty() {
            self.moment.1 += 1;
            delivered.into_iter().for_each(|d| self.deliver(d, obs));
            return true;
        }
        let event = self.world.next_event();
        let now = self.world.now();
        let timer = self.due.first().map(|(t, ns)| ((*t).max(now), *ns));
        self.players.plan_poked();
        let play = self.players.next_due().map(|t| t.max(now));
        let first = [event, timer.map(|t| t.0), play]
            .into_iter()
            .flatten()
            .min();
        let Some(first) = first.filter(|t| *t <= until) else {
            return false;
        };
        // Mail is read in the moment in which it came, before the world's next event.
        if play == Some(first) && (event != play || first == now) {
            self.world.run_until(first, obs);
            self.play(obs);
        } else if event == Some(first) {
            self.world.step(obs);
        } else if let Some((_, ns)) = timer {
            self.world.run_until(first, obs);
            self.flush(ns, None, obs);
        }
        self.moment.1 += 1;
        if self.world.now() != self.moment.0 {
            self.moment = (self.world.now(), 0);
        }
        true
    }

    fn stuck(&self) -> bool {
        self.moment.0 == self.world.now() && self.moment.1 >= limits::LAB_STEPS_PER_MOMENT
    }

    /// The namespace's stack, made when it is first needed.
    pub(super) fn ensure_stack(&mut self, ns: NsId) -> Option<&mut Stack> {
        let space = self.world.ns(ns)?;
        let (seed, servers) = (self.seed, self.servers.get(&ns));
        let stack = self.stacks.entry(ns).or_insert_with(|| {
            let own = Rng::new(seed.wrapping_add(u64::from(ns.0) << 32)).next_u64();
            let mut config = Config::new(own, 1500);
            config.ttl = u8::try_from(space.sysctl().ip_default_ttl).unwrap_or(64);
            let mut stack = Stack::new(config);
            for s in servers.into_iter().flatten() {
                // Checked against the others when it was bound: it cannot clash.
                let _ = s.bind(&mut stack);
            }
            stack
        });
        Some(stack)
    }

    /// A packet for a socket.
    fn deliver<O: Observer>(&mut self, d: Delivery, obs: &mut O) {
        let packet = d.packet.l3();
        let Ok(h) = IpHeader::parse_lax(packet) else {
            return;
        };
        let opens = h.proto == proto::UDP
            || (h.proto == proto::TCP && h.payload(packet).get(13).is_some_and(|f| f & 2 != 0));
        let mtu = opens.then(|| self.path_mtu(d.ns, h.dst, h.src)).flatten();
        let now = self.world.now();
        let Some(stack) = self.ensure_stack(d.ns) else {
            return;
        };
        if let Some(mtu) = mtu {
            // MSS option and DF of what answers follow the route back (`ipv4_mtu`, `tcp_advertise_mss`).
            stack.set_mtu(mtu);
        }
        let taken = stack.receive(now, packet);
        let trigger = Trigger {
            frame: d.packet.id,
            client: self.lineages.client(d.packet.root),
        };
        if taken == endpoint::Delivery::NoSocket {
            self.kernel_answer(d.ns, &h, packet, trigger, obs);
        }
        self.flush(d.ns, Some(trigger), obs);
    }

    /// Path MTU of the present route from a namespace's address to another.
    pub(super) fn path_mtu(&self, ns: NsId, src: IpAddr, dst: IpAddr) -> Option<u32> {
        let space = self.world.ns(ns)?;
        let found = space.route_output(Some(src), dst, None, 0, 0).ok()?;
        if found.route.kind == crate::net::RouteKind::Local {
            return Some(65_535);
        }
        u32::try_from(space.path_mtu(dst, &found, self.world.now())).ok()
    }

    /// The kernel's answer where its table found a socket that does not take the packet: a segment for a
    /// listener that opens no connection, a datagram for a socket that has just gone
    /// (`tcp_v4_send_reset`, `__udp4_lib_rcv`).
    fn kernel_answer<O: Observer>(
        &mut self,
        ns: NsId,
        h: &IpHeader,
        packet: &[u8],
        trigger: Trigger,
        obs: &mut O,
    ) {
        let ttl = self.world.ns(ns).map_or(64, |n| n.sysctl().ip_default_ttl);
        let ttl = u8::try_from(ttl).unwrap_or(64);
        let (src, dst) = (h.dst, h.src);
        let answer = match h.proto {
            proto::TCP => build::tcp_reset(h, packet)
                .map(|r| build::ip_packet(src, dst, proto::TCP, ttl, h.tos & !3, 0, true, &r)),
            proto::UDP => {
                let (p, typ, code, tos) = match h.is_v4() {
                    true => (proto::ICMP, 3, 3, (h.tos & 0x1e) | 0xc0),
                    false => (proto::ICMPV6, 1, 4, 0),
                };
                let quoted = build::quote(packet, 1500, 0);
                let message = build::icmp_message(src, dst, typ, code, 0, quoted);
                let id = self.rng.next_u64() as u16;
                Some(build::ip_packet(src, dst, p, ttl, tos, id, false, &message))
            }
            _ => None,
        };
        if let Some(p) = answer {
            // A kernel's answer that has no way back is lost without a word.
            let _ = self.send(ns, p, Some(trigger), obs);
        }
    }

    /// Sends what a namespace's sockets have to send, and reads what they have to say.
    pub(super) fn flush_new<O: Observer>(&mut self, ns: NsId, obs: &mut O) {
        self.flush(ns, None, obs);
    }

    pub(super) fn flush<O: Observer>(&mut self, ns: NsId, trigger: Option<Trigger>, obs: &mut O) {
        let now = self.world.now();
        for _ in 0..limits::LAB_SEND_ROUNDS {
            let Some(stack) = self.stacks.get_mut(&ns) else {
                return;
            };
            let packets = stack.poll(now);
            let Some(space) = self.world.ns_mut(ns) else {
                return;
            };
            let m = mirror(stack, space.sockets_mut(), &mut self.next_socket);
            if let Some(client) = trigger.and_then(|t| t.client) {
                let served = m.opened.iter().filter(|t| t.proto == proto::TCP);
                served.for_each(|t| self.lineages.follow(ns, *t, client));
            }
            let idle = packets.is_empty();
            for p in packets {
                if let Err((tuple, errno)) = self.send(ns, p, trigger, obs)
                    && let Some(stack) = self.stacks.get_mut(&ns)
                {
                    stack.local_error(now, tuple, errno);
                }
            }
            // Only now: a connection's last packet is its own, too.
            m.gone.iter().for_each(|t| self.lineages.close(ns, t));
            if idle {
                break;
            }
        }
        let Some(stack) = self.stacks.get_mut(&ns) else {
            return;
        };
        for event in stack.user_events() {
            self.players.user_event(ns, event, trigger);
        }
        for (id, event) in stack.events() {
            if !self.players.client_event(ns, id, &event, trigger) {
                self.clients.event(ns, id, event);
            }
        }
        self.schedule(ns);
    }

    /// Keeps exactly one due time per stack.
    fn schedule(&mut self, ns: NsId) {
        let want = self.stacks.get(&ns).and_then(Stack::poll_at);
        if let Some(old) = self.due_at.remove(&ns) {
            self.due.remove(&(old, ns));
        }
        if let Some(at) = want {
            self.due.insert((at, ns));
            self.due_at.insert(ns, at);
        }
    }

    /// A packet of a socket goes out; remembers whose it is.
    fn send<O: Observer>(
        &mut self,
        ns: NsId,
        mut packet: Vec<u8>,
        trigger: Option<Trigger>,
        obs: &mut O,
    ) -> Result<(), (Tuple, endpoint::Errno)> {
        let tuple = IpHeader::parse_lax(&packet)
            .ok()
            .map(|h| Tuple::of(&h, &packet));
        let flow = tuple.as_ref().and_then(|t| self.lineages.flow(ns, t));
        let caused = trigger.and_then(|t| t.client);
        if let Some((_, shape)) = flow {
            reshape(&mut packet, shape);
        }
        let client = flow.map(|f| f.0).or(caused);
        let parent = trigger.filter(|t| t.client == client).map(|t| t.frame);
        let (root, sent) = self.world.send(ns, &packet, None, obs);
        let lineage = Lineage {
            ns,
            tuple,
            parent,
            client,
        };
        self.lineages.record(root, lineage);
        match (sent, tuple) {
            (Err(e), Some(t)) => Err((t, errno(e))),
            _ => Ok(()),
        }
    }
}

/// The same errno in the endpoint's list. That list has no EADDRNOTAVAIL: EINVAL, which has the same
/// outcome, stands for it.
pub(super) fn errno(e: path::Errno) -> endpoint::Errno {
    match e {
        path::Errno::NetUnreach => endpoint::Errno::NetUnreach,
        path::Errno::HostUnreach => endpoint::Errno::HostUnreach,
        path::Errno::Access => endpoint::Errno::Access,
        path::Errno::Inval | path::Errno::AddrNotAvail => endpoint::Errno::Invalid,
        path::Errno::Perm => endpoint::Errno::Perm,
        path::Errno::MsgSize => endpoint::Errno::MsgSize,
    }
}

/// Applies socket options to a packet.
fn reshape(packet: &mut [u8], shape: Shape) {
    let v4 = packet.first().is_some_and(|b| b >> 4 == 4);
    let (ttl_at, header) = if v4 { (8, 20) } else { (7, 40) };
    if packet.len() < header {
        return;
    }
    if let Some(ttl) = shape.ttl {
        packet[ttl_at] = ttl;
    }
    if let Some(df) = shape.df.filter(|_| v4) {
        packet[6] = (packet[6] & !0x40) | if df { 0x40 } else { 0 };
    }
    if v4 {
        ip::fill_v4_checksum(packet);
    }
}
