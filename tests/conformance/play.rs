//! Plays a plan through podpath's world and keeps what passes the interfaces that were recorded.
//!
//! The networks are built by the same commands the recorder gave; then virtual time goes to [`BEGIN`],
//! which is the moment of the first recorded frame. What the kernels say while they come up is before it
//! and not compared, as it was not recorded. Frames after the recording's end are not compared either: the
//! end is the last recorded frame, or
//! `settle_ms` after the last timed step if that is later, plus 2 ms.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::build::{self, Line};
use super::compare::Emulated;
use super::dumps::{self, State};
use super::engine;
use super::hashes::Hashes;
use super::mld;
use super::plan::{Change, Input, Plan, Send, What};
use super::process::{self, Local, Unheard};
use super::scenario::{Dir, End};
use super::seed::Seeds;
use super::setup;
use super::topo::{Port, Topo};
use podpath::base::{DevId, FrameId, Instant, NsId, Origin, Span};
use podpath::import::ipcmd::{Command, apply, derived_mac, parse};
use podpath::net::{DeviceKind, LinkSpec, NudState, PortAt, SocketId};
use podpath::path::{Direction, Tee, TraceBuilder};
use podpath::sim::{Captures, SendOptions, World};
use podpath::wire::{Frame, MacAddr, build as build_packet, proto};

/// Virtual time of the first recorded frame: late enough that nothing of the bring-up is still going on.
const BEGIN: Instant = Instant::from_secs(1000);

/// What came out.
#[derive(Default)]
pub struct Played {
    /// Frames at recorded interfaces, in the order they happened.
    pub frames: Vec<Emulated>,
    /// Of each, the input it descends from.
    pub roots: Vec<FrameId>,
    /// When each input was put in, and as which frame.
    pub inputs: Vec<(u64, FrameId)>,
    /// What could not be done.
    pub lacks: Vec<String>,
    /// What is kept without being acted on.
    pub notes: Vec<String>,
    /// The way of each input's descendants, when asked for.
    pub stories: BTreeMap<FrameId, Vec<String>>,
    /// What the tools would print of each emulated namespace when the recorder dumped it.
    pub states: BTreeMap<String, State>,
}

/// Something that happens at a moment of the plan.
enum Act<'p> {
    Change(&'p Change),
    Input(&'p Input),
    Send(&'p Send),
    Local(&'p Local),
    Syn(&'p Unheard),
}

/// Plays.
pub struct Player<'t, 's> {
    /// The wiring.
    pub topo: &'t Topo<'s>,
    /// Where it is played.
    pub world: World,
    /// Namespaces by name.
    pub ns: BTreeMap<String, NsId>,
    /// Interfaces whose frames are compared: name, and whether without link header. Kept here because a
    /// step may delete a device.
    watched: BTreeMap<(NsId, DevId), (String, bool)>,
    /// Sees everything.
    pub obs: Tee<Captures, TraceBuilder>,
    /// What came out.
    pub out: Played,
}

/// Plays it; `choices` are each node's `conntrack -E`, of which podpath takes what NAT decided. With `tell` every
/// step is kept.
pub fn play(
    topo: &Topo<'_>,
    plan: &Plan,
    seeds: &Seeds,
    choices: &BTreeMap<String, Vec<String>>,
    tell: bool,
) -> Played {
    let end = plan.end;
    let mut world = World::new(1);
    let ns = topo.scenario.netns.keys().map(|n| {
        let node = world.add_node(n.as_str());
        (n.clone(), world.add_ns(n.as_str(), node))
    });
    let ns: BTreeMap<String, NsId> = ns.collect();
    let mut p = Player {
        topo,
        world,
        ns,
        watched: BTreeMap::new(),
        obs: Tee(Captures::at([]), TraceBuilder::default()),
        out: Played::default(),
    };
    p.build();
    p.world.run_until(Instant::from_secs(900), &mut p.obs.0);
    p.sockets(plan);
    p.force(choices);
    for c in plan.changes.iter().filter(|c| c.t_ns.is_none()) {
        p.change(c);
    }
    p.seed(seeds);
    let at = p.world.now().max(Instant::from_secs(990));
    p.world.run_until(at, &mut p.obs.0);
    p.watched = p.watch();
    p.obs = Tee(
        Captures::at(p.watched.keys().copied()),
        TraceBuilder::default(),
    );
    p.run(plan, end, tell);
    p.collect(end);
    p.until(plan.dumped, false);
    dumps::read(&mut p);
    p.out
}

impl Player<'_, '_> {
    fn build(&mut self) {
        let b = build::commands(self.topo);
        self.out.lacks.extend(b.lacks);
        b.first.iter().for_each(|l| self.line(l));
        for [x, y] in &b.cables {
            let (Some(x), Some(y)) = (self.veth(x), self.veth(y)) else {
                continue;
            };
            if let Err(e) = self.world.connect(x, y) {
                self.out.lacks.push(e.to_string());
            }
        }
        b.then.iter().for_each(|l| self.line(l));
    }

    fn veth(&mut self, e: &End) -> Option<PortAt> {
        let port = (e.ns.clone(), e.dev.clone());
        let mac = self
            .topo
            .macs
            .get(&port)
            .copied()
            .unwrap_or_else(|| derived_mac(&e.ns, &e.dev));
        let spec = LinkSpec {
            name: e.dev.clone(),
            kind: DeviceKind::Veth,
            mac,
            mtu: None,
            origin: Origin::Scenario("scenario.json".into()),
        };
        let ns = *self.ns.get(&e.ns)?;
        match self.world.edit(ns, |edit| edit.link_add(spec))? {
            Ok(dev) => Some(PortAt { ns, dev }),
            Err(err) => {
                self.out.lacks.push(format!("{}: {err}", e.ns));
                None
            }
        }
    }

    fn line(&mut self, (ns, line): &Line) {
        match parse(line, &Span::new("scenario.json", 0, 0)) {
            Ok(c) => self.command(ns, line, &c),
            Err(e) => self.out.lacks.push(format!("{ns}: {line}: {}", e.message)),
        }
    }

    fn command(&mut self, ns: &str, text: &str, c: &Command) {
        let Some(id) = self.ns.get(ns).copied() else {
            return self.out.lacks.push(format!("no namespace {ns}: {text}"));
        };
        let now = self.world.now();
        let origin = Origin::Scenario(text.into());
        match self.world.edit(id, |e| apply(c, e, now, &origin)) {
            Some(Ok(kept)) => self.out.notes.extend(
                kept.into_iter()
                    .map(|k| format!("{ns}: kept, not acted on: {k}")),
            ),
            Some(Err(e)) => self.out.lacks.push(format!("{ns}: {text}: {e}")),
            None => self.out.lacks.push(format!("{ns}: {text}")),
        }
    }

    /// A change of a step. Endpoints have only their interfaces: of the rest they know nothing.
    fn change(&mut self, c: &Change) {
        let endpoint = !self.topo.emulated(&c.ns);
        let done = match &c.what {
            What::Command(x) if endpoint && !matches!(**x, Command::LinkSet { .. }) => Ok(()),
            What::Command(x) => {
                self.command(&c.ns, &format!("{x:?}"), x);
                Ok(())
            }
            What::Load(l) => setup::load(self, &c.ns, l),
            What::Script(s) => setup::script(self, &c.ns, s),
            What::Reports(r) => mld::send(self, &c.ns, r),
            What::Ping(dst) => setup::ping(self, &c.ns, *dst),
        };
        if let Err(e) = done {
            self.out.lacks.push(format!("{}: {e}", c.ns));
        }
    }

    /// What conntrack told of new connections decides NAT's choices.
    fn force(&mut self, choices: &BTreeMap<String, Vec<String>>) {
        for (ns, events) in choices {
            let Some(id) = self.ns.get(ns).copied().filter(|_| self.topo.emulated(ns)) else {
                continue;
            };
            for e in events.iter().filter(|e| e.starts_with("[NEW]")) {
                if let Some((orig, choice)) = super::conntrack::choice(e)
                    && choice != podpath::nf::forced::Choice::default()
                {
                    engine::force(&mut self.world, id, orig, choice);
                }
            }
        }
    }

    /// Sockets of the processes on nodes.
    fn sockets(&mut self, plan: &Plan) {
        for (i, (ns, binding)) in plan.sockets.iter().enumerate() {
            let ns = self.ns.get(ns).and_then(|id| self.world.ns_mut(*id));
            if let Some(ns) = ns {
                // One connection made twice has one socket.
                let _ = ns.sockets_mut().bind(*binding, SocketId(i as u32));
            }
        }
    }

    /// The interface of that name.
    pub fn port(&self, p: &Port) -> Option<PortAt> {
        let ns = *self.ns.get(&p.0)?;
        let dev = self.world.ns(ns)?.dev_by_name(&p.1)?.id;
        Some(PortAt { ns, dev })
    }

    fn seed(&mut self, seeds: &Seeds) {
        let now = self.world.now();
        for (p, ip, mac) in &seeds.neigh {
            self.seed_neighbour(p, *ip, *mac);
        }
        for (p, mac) in &seeds.fdb {
            let Some(at) = self.port(p) else { continue };
            if let Some(Err(e)) = self
                .world
                .edit(at.ns, |e| e.fdb_set(at.dev, 0, *mac, false, now))
            {
                self.out
                    .notes
                    .push(format!("not seeded: {mac} at {}.{}: {e}", p.0, p.1));
            }
        }
    }

    /// A neighbour that is in use.
    pub fn seed_neighbour(&mut self, p: &Port, ip: IpAddr, mac: MacAddr) {
        let Some(at) = self.port(p) else { return };
        let origin = Origin::Scenario("in use before the recording".into());
        let set = |e: &mut podpath::net::Edit<'_>| {
            e.neigh_set(at.dev, ip, mac, NudState::Reachable, origin)
        };
        if let Some(Err(e)) = self.world.edit(at.ns, set) {
            self.out
                .notes
                .push(format!("not seeded: {ip} at {}.{}: {e}", p.0, p.1));
        }
    }

    /// The interfaces whose frames are compared.
    fn watch(&self) -> BTreeMap<(NsId, DevId), (String, bool)> {
        let topo = self.topo;
        let joined = |p: &Port| topo.peers.get(p).is_some_and(|q| topo.emulated(&q.0));
        let wanted = topo
            .ends
            .keys()
            .filter(|p| topo.captured(p) && (topo.emulated(&p.0) || joined(p)));
        let named = wanted.filter_map(|p| {
            let at = self.port(p)?;
            let l3 = self.world.ns(at.ns)?.dev(at.dev)?.is_layer3();
            Some(((at.ns, at.dev), (format!("{}.{}", p.0, p.1), l3)))
        });
        named.collect()
    }

    fn run(&mut self, plan: &Plan, end: u64, tell: bool) {
        let mut acts: Vec<(u64, Act<'_>)> = Vec::new();
        acts.extend(
            plan.changes
                .iter()
                .filter_map(|c| Some((c.t_ns?, Act::Change(c)))),
        );
        acts.extend(plan.inputs.iter().map(|i| (i.t_ns, Act::Input(i))));
        acts.extend(plan.sends.iter().map(|s| (s.t_ns, Act::Send(s))));
        acts.extend(plan.local.iter().map(|l| (l.t_ns, Act::Local(l))));
        for (t, u) in &plan.unheard {
            acts.extend((0..u.syns).map(|i| (t + i * 1_000_000_000, Act::Syn(u))));
        }
        // Stable: of one moment, changes first, then what endpoints sent, in the recording's order.
        acts.sort_by_key(|(t, _)| *t);
        for (t, act) in acts {
            self.until(t, tell);
            match act {
                Act::Change(c) => self.change(c),
                Act::Input(i) => self.input(i, &plan.hashes),
                Act::Send(s) => self.send(s),
                Act::Local(l) => {
                    let hash = plan.hashes.of(l.t_ns, &l.packet);
                    self.local(&l.ns, l.t_ns, &l.packet, hash);
                }
                Act::Syn(u) => self.syn(u, t),
            }
        }
        self.until(end, tell);
    }

    /// A packet of a node's process.
    fn local(&mut self, ns: &str, t_ns: u64, packet: &[u8], hash: Option<u32>) {
        let Some(id) = self.ns.get(ns).copied() else {
            return;
        };
        let options = SendOptions {
            hash,
            ..SendOptions::default()
        };
        let (root, _) = self.world.send_with(id, packet, options, &mut self.obs);
        self.out.inputs.push((t_ns, root));
        self.world.take_deliveries();
    }

    /// A connection that a node's process tries in vain; podpath picks the source address.
    fn syn(&mut self, u: &Unheard, t_ns: u64) {
        let ns = self.ns.get(&u.ns).and_then(|id| self.world.ns(*id));
        let found = ns.and_then(|ns| {
            let found = ns.route_output(None, u.dst.0, None, 0, 0).ok()?;
            ns.source_for(&found, u.dst.0)
        });
        if let Some(packet) = found.and_then(|src| process::syn((src, 40001), u.dst)) {
            self.local(&u.ns, t_ns, &packet, None);
        }
    }

    /// A process on a node: podpath picks the route and with it the source address. Without a route nothing
    /// leaves.
    fn send(&mut self, s: &Send) {
        let Some(id) = self.ns.get(&s.ns).copied() else {
            return;
        };
        let (dst, p) = (s.ping.dst, &s.ping);
        let Some(ns) = self.world.ns(id) else { return };
        let found = ns.route_output(None, dst, None, p.mark, 0);
        let Some(src) = found.ok().and_then(|f| ns.source_for(&f, dst)) else {
            return;
        };
        let default = u8::try_from(ns.sysctl().ip_default_ttl).unwrap_or(64);
        let (typ, protocol) = if dst.is_ipv6() {
            (128, proto::ICMPV6)
        } else {
            (8, proto::ICMP)
        };
        let message = build_packet::icmp_message(src, dst, typ, 0, p.id_seq, &p.payload);
        let ttl = p.ttl.unwrap_or(default);
        let packet = build_packet::ip_packet(src, dst, protocol, ttl, 0, 1, p.df, &message);
        let options = SendOptions {
            mark: p.mark,
            ..SendOptions::default()
        };
        let (root, _) = self.world.send_with(id, &packet, options, &mut self.obs);
        self.out.inputs.push((s.t_ns, root));
    }

    /// Goes on to a moment after the first frame.
    fn until(&mut self, t_ns: u64, tell: bool) {
        let t = BEGIN + std::time::Duration::from_nanos(t_ns);
        if !tell {
            return self.world.run_until(t, &mut self.obs.0);
        }
        // Event by event, so that the trace never reaches its cap.
        self.tell();
        while self.world.next_event().is_some_and(|e| e <= t) {
            self.world.step(&mut self.obs);
            self.tell();
        }
        self.world.run_until(t, &mut self.obs);
    }

    fn tell(&mut self) {
        for e in self.obs.1.take() {
            let at = if e.dev_name.is_empty() {
                e.ns_name.clone()
            } else {
                format!("{}.{}", e.ns_name, e.dev_name)
            };
            let line = format!("{:?} {at} {:?} {}", e.time.since(BEGIN), e.kind, e.summary);
            self.out.stories.entry(e.root).or_default().push(line);
        }
    }

    fn input(&mut self, i: &Input, hashes: &Hashes) {
        match self.port(&i.port) {
            Some(at) => {
                let mut f = Frame::ethernet(&i.data);
                f.hash = hashes.of_frame(i.t_ns, &format!("{}.{}", i.port.0, i.port.1), &i.data);
                f.confirm = i.confirm;
                let id = self.world.transmit(at, f, &mut self.obs);
                self.out.inputs.push((i.t_ns, id));
            }
            None => self
                .out
                .lacks
                .push(format!("no interface {}.{}", i.port.0, i.port.1)),
        }
    }

    fn collect(&mut self, end: u64) {
        let until = BEGIN + std::time::Duration::from_nanos(end);
        for c in self.obs.0.take() {
            let Some((name, l3)) = self.watched.get(&(c.ns, c.dev)) else {
                continue;
            };
            let dir = if c.dir == Direction::In {
                Dir::In
            } else {
                Dir::Out
            };
            let ns = name.split('.').next().unwrap_or("");
            // What an endpoint sent is the input, not a result.
            if c.time < BEGIN || c.time > until || (dir == Dir::Out && !self.topo.emulated(ns)) {
                continue;
            }
            self.out.frames.push(Emulated {
                interface: name.clone(),
                dir,
                t_ns: u64::try_from(c.time.since(BEGIN).as_nanos()).unwrap_or(u64::MAX),
                l3: *l3,
                data: c.data.to_vec(),
            });
            self.out.roots.push(c.root);
        }
    }
}
