//! Flows: the first packet of a connection through a node that has the rules, and what becomes of it.
//!
//! The node has its addresses, a network of pods behind pod0, everybody else behind eth0. A packet from one of its
//! own addresses is sent by a process of the node, others come in by pod0 or eth0. What happened is read as on a
//! real node: which rules counted (`iptables-save -c`) and the connection (`conntrack -L`). The possible backends
//! are what comes out over all choices of the random rules: each endpoint that a DNAT rule names is forced once, on
//! a node of its own. Verdicts in this order: DNAT if the connection is mapped; REJECT, DROP if such a rule counted;
//! ACCEPT if a rule of KUBE-NODEPORTS in filter did; else NONE. Rules of nft have no counters there: which of them
//! decided is what the packet's trace says.

use crate::policy_world::packet;
use crate::{conntrack, engine};
use podpath::base::{Instant, NsId, Origin, Span};
use podpath::import::ipcmd::{apply, parse};
use podpath::net::{DeviceKind, LinkSpec, PortAt};
use podpath::nf::ct::CtTuple;
use podpath::nf::forced::{Choice, Place, endpoints};
use podpath::nf::nft::eval::forced as nft_forced;
use podpath::nf::nft::model::ChainType;
use podpath::nf::{Backend, Family, RuleSet, TableName};
use podpath::path::{Disposition, DropReason, Event, EventKind, NoTrace, Step, TraceBuilder};
use podpath::sim::{SendOptions, World};
use podpath::wire::{Frame, MacAddr, proto};
use serde_json::Value;
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

/// The port of every client.
const CLIENT: u16 = 40000;
/// When the packet is sent.
const BEGIN: Instant = Instant::from_secs(100);

/// A node to send packets through.
pub struct Node {
    /// Family of the rules.
    pub family: Family,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// `net.ipv4.conf.all.route_localnet`
    pub route_localnet: bool,
    /// How its rules come to be, in order.
    pub rules: Vec<Rules>,
}

/// A step in loading rules.
pub enum Rules {
    /// `iptables-restore`
    Restore(String),
    /// `iptables-restore --noflush`
    Add(String),
    /// A command that makes a chain or rule; a chain that is there already is no mistake.
    Ensure(String),
    /// `nft -f`
    Nft(String),
}

impl Node {
    /// Whether its rules are native ones.
    fn is_nft(&self) -> bool {
        self.rules.iter().any(|r| matches!(r, Rules::Nft(_)))
    }
}

/// Judges every flow of a case.
pub fn judge(node: &Node, flows: &[Value]) -> Result<(), String> {
    let mut wrong = Vec::new();
    for flow in flows {
        let found = Flow::read(flow).and_then(|f| f.verdict(node));
        let expect = Outcome::read(&flow["expect"]);
        match found {
            Ok(found) if found == expect => {}
            Ok(found) => wrong.push(format!(
                "{}: expected {expect:?}, found {found:?}",
                flow["name"]
            )),
            Err(e) => wrong.push(format!("{}: {e}", flow["name"])),
        }
    }
    let count = wrong.len();
    (count == 0).then_some(()).ok_or(format!(
        "{count} flows of {}\n{}",
        flows.len(),
        wrong.join("\n")
    ))
}

/// What becomes of a connection.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Outcome {
    verdict: String,
    backends: BTreeSet<String>,
    masquerade: bool,
}

impl Outcome {
    fn read(v: &Value) -> Outcome {
        let list = v["backends"].as_array().into_iter().flatten();
        Outcome {
            verdict: v["verdict"].as_str().unwrap_or_default().to_owned(),
            backends: list.filter_map(|b| b.as_str().map(str::to_owned)).collect(),
            masquerade: v["masquerade"] == true,
        }
    }

    /// Only what is mapped has a backend and a masqueraded source.
    fn of(verdict: &str, to: Option<SocketAddr>, masquerade: bool) -> Outcome {
        let to = to.filter(|_| verdict == "DNAT");
        Outcome {
            verdict: verdict.to_owned(),
            backends: to.map(|t| t.to_string()).into_iter().collect(),
            masquerade: to.is_some() && masquerade,
        }
    }
}

struct Flow {
    src: IpAddr,
    dst: IpAddr,
    dport: u16,
    proto: u8,
}

impl Flow {
    fn read(v: &Value) -> Result<Flow, String> {
        let ip = |key: &str| -> Result<IpAddr, String> {
            let text = v[key].as_str().unwrap_or_default();
            text.parse()
                .map_err(|_| format!("{key}: not an address: {text}"))
        };
        let proto = match v["protocol"].as_str() {
            Some("TCP") => proto::TCP,
            Some("UDP") => proto::UDP,
            Some("SCTP") => proto::SCTP,
            p => return Err(format!("protocol {p:?}")),
        };
        let dport = v["dport"].as_u64().and_then(|p| u16::try_from(p).ok());
        Ok(Flow {
            src: ip("src")?,
            dst: ip("dst")?,
            dport: dport.ok_or("dport")?,
            proto,
        })
    }

    fn tuple(&self) -> CtTuple {
        CtTuple {
            proto: self.proto,
            src: self.src,
            dst: self.dst,
            sport: CLIENT,
            dport: self.dport,
        }
    }

    /// One outcome over all choices.
    fn verdict(&self, node: &Node) -> Result<Outcome, String> {
        let mut out: Option<Outcome> = None;
        let mut wishes: Vec<Option<Place>> = self.endpoints(node)?.into_iter().map(Some).collect();
        wishes.push(None);
        for wish in wishes {
            let found = Try::new(node)?.send(self, wish)?;
            match &mut out {
                None => out = Some(found),
                Some(o) if (&o.verdict, o.masquerade) != (&found.verdict, found.masquerade) => {
                    // A hairpin masquerades for one backend only; all else has to agree.
                    if o.verdict != found.verdict {
                        return Err(format!("not one verdict: {o:?}, {found:?}"));
                    }
                    o.masquerade |= found.masquerade;
                    o.backends.extend(found.backends);
                }
                Some(o) => o.backends.extend(found.backends),
            }
        }
        out.ok_or("nothing was tried".to_owned())
    }

    /// Where the node's rules could lead the connection.
    fn endpoints(&self, node: &Node) -> Result<Vec<Place>, String> {
        let first = Try::new(node)?;
        if node.is_nft() {
            let nf = first.world.ns(first.ns).and_then(|ns| ns.nf());
            let tables = nf.map(|nf| nf.nft().tables.values());
            let mut all = BTreeSet::new();
            for table in tables.into_iter().flatten() {
                let is_nat = |b: &podpath::nf::nft::model::Base| b.kind == ChainType::Nat;
                let chains = table.chains.values();
                for c in chains.filter(|c| c.base.as_ref().is_some_and(is_nat)) {
                    all.extend(nft_forced::endpoints(table, &c.name, &self.tuple()));
                }
            }
            return Ok(all.into_iter().collect());
        }
        let text = engine::save(&first.world, first.ns, node.family, Backend::Nft)?;
        let (set, _) = RuleSet::parse("rules", &text, node.family);
        let nat = set.table(TableName::Nat).ok_or("no nat table")?;
        Ok(endpoints(nat, &self.tuple()))
    }

    /// The first packet.
    fn packet(&self) -> Vec<u8> {
        let (s, d) = (CLIENT.to_be_bytes(), self.dport.to_be_bytes());
        let mut b = [s, d].concat();
        match self.proto {
            proto::TCP => b.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xfa, 0xf0, 0, 0, 0, 0]),
            proto::UDP => b.extend([0, 12, 0, 0, 1, 2, 3, 4]),
            _ => {
                // INIT: tag, window, streams, sequence number; CRC-32c.
                b.extend([0; 8]);
                b.extend([1, 0, 0, 20, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1]);
            }
        }
        packet(self.src, self.dst, self.proto, b)
    }
}

/// A node that has seen nothing yet.
struct Try<'n> {
    node: &'n Node,
    world: World,
    ns: NsId,
    /// The far ends of pod0 and eth0.
    far: [PortAt; 2],
}

const NEAR_MAC: &str = "02:00:00:00:00:01";
const FAR_MAC: &str = "02:00:00:00:00:02";

impl<'n> Try<'n> {
    fn new(node: &'n Node) -> Result<Self, String> {
        let mut world = World::new(1);
        let (a, b) = (world.add_node("node"), world.add_node("others"));
        let (ns, others) = (world.add_ns("node", a), world.add_ns("others", b));
        let mut far = Vec::new();
        for dev in ["pod0", "eth0"] {
            let near = veth(&mut world, ns, dev, NEAR_MAC)?;
            let end = veth(&mut world, others, dev, FAR_MAC)?;
            world.connect(near, end).map_err(|e| e.to_string())?;
            far.push(end);
        }
        let far: [PortAt; 2] = far.try_into().map_err(|_| "two cables")?;
        let mut t = Try {
            node,
            world,
            ns,
            far,
        };
        for key in ["all", "default"] {
            t.line(
                others,
                &format!("sysctl -w net.ipv6.conf.{key}.disable_ipv6=1"),
            )?;
        }
        for dev in ["pod0", "eth0"] {
            t.line(others, &format!("ip link set {dev} up"))?;
        }
        for l in node_lines(node) {
            t.line(ns, &l)?;
        }
        t.world.run_until(BEGIN, &mut NoTrace);
        for r in &node.rules {
            t.load(r)?;
        }
        Ok(t)
    }

    fn line(&mut self, ns: NsId, line: &str) -> Result<(), String> {
        let c =
            parse(line, &Span::new("node", 0, 0)).map_err(|e| format!("{line}: {}", e.message))?;
        let (now, origin) = (self.world.now(), Origin::Scenario("node".into()));
        match self.world.edit(ns, |e| apply(&c, e, now, &origin)) {
            Some(Ok(_)) => Ok(()),
            Some(Err(e)) => Err(format!("{line}: {e}")),
            None => Err(format!("{line}: no namespace")),
        }
    }

    fn load(&mut self, r: &Rules) -> Result<(), String> {
        let family = self.node.family;
        let (noflush, text) = match r {
            Rules::Restore(text) => (false, text),
            Rules::Add(text) => (true, text),
            Rules::Ensure(line) => {
                return match engine::command(&mut self.world, self.ns, line) {
                    Err(e) if !e.contains("Chain already exists") => Err(e),
                    _ => Ok(()),
                };
            }
            Rules::Nft(text) => return engine::nft(&mut self.world, self.ns, text),
        };
        engine::restore(
            &mut self.world,
            self.ns,
            family,
            Backend::Nft,
            noflush,
            text,
        )
    }

    /// Sends the packet; `wish` is where it should go.
    fn send(mut self, flow: &Flow, wish: Option<Place>) -> Result<Outcome, String> {
        if wish.is_some() {
            let choice = Choice {
                dnat: wish,
                snat: None,
            };
            engine::force(&mut self.world, self.ns, flow.tuple(), choice);
        }
        let packet = flow.packet();
        let mut trace = TraceBuilder::default();
        if flow.src.is_loopback() || self.node.addresses.contains(&flow.src) {
            let options = SendOptions::default();
            // Refused, or no route: both are results.
            let _ = self.world.send_with(self.ns, &packet, options, &mut trace);
        } else {
            let at = self.far[usize::from(!is_pod(flow.src))];
            let mut frame: Vec<u8> = mac(NEAR_MAC)?.0.to_vec();
            frame.extend(mac(FAR_MAC)?.0);
            frame.extend(if flow.src.is_ipv4() {
                [8, 0]
            } else {
                [0x86, 0xdd]
            });
            frame.extend_from_slice(&packet);
            self.world.transmit(at, Frame::ethernet(&frame), &mut trace);
        }
        let until = self.world.now() + std::time::Duration::from_millis(100);
        self.world.run_until(until, &mut trace);
        match self.node.is_nft() {
            true => self.told(flow, &trace.take()),
            false => self.counted(flow),
        }
    }

    /// Where the connection was mapped to, by `conntrack -L`.
    fn mapped(&mut self, flow: &Flow) -> Result<Option<SocketAddr>, String> {
        let lines = engine::connections(&mut self.world, self.ns, self.node.family)?;
        Ok(lines
            .iter()
            .filter_map(|l| conntrack::parse(l))
            .find_map(|l| {
                let mine = l.ip(0, "src") == Some(flow.src) && l.number(0, "sport") == Some(CLIENT);
                let to = SocketAddr::new(l.ip(1, "src")?, l.number(1, "sport")?);
                (mine && to != SocketAddr::new(flow.dst, flow.dport)).then_some(to)
            }))
    }

    /// The outcome of native rules: what the trace says of the node.
    fn told(&mut self, flow: &Flow, events: &[Event]) -> Result<Outcome, String> {
        let mine = || events.iter().filter(|e| e.ns == self.ns);
        let ended = |why: DropReason| {
            mine().any(|e| match &e.kind {
                EventKind::End(
                    Disposition::Dropped { reason, .. } | Disposition::Rejected { reason, .. },
                ) => *reason == why,
                _ => false,
            })
        };
        let (rejects, drops) = (
            ended(DropReason::NetfilterReject),
            ended(DropReason::Netfilter),
        );
        let masquerade = mine().any(|e| {
            matches!(&e.kind, EventKind::Step(Step::NatSetup { what: "source", at: Some(at), .. })
                if at.text.contains("masquerade"))
        });
        let to = self.mapped(flow)?;
        let verdict = match () {
            () if rejects => "REJECT",
            () if drops => "DROP",
            () if to.is_some() => "DNAT",
            () => "NONE",
        };
        Ok(Outcome::of(verdict, to, masquerade))
    }

    /// The outcome of iptables' rules: which of them counted.
    fn counted(&mut self, flow: &Flow) -> Result<Outcome, String> {
        let family = self.node.family;
        let save = engine::save(&self.world, self.ns, family, Backend::Nft)?;
        let counted: Vec<&str> = save
            .lines()
            .filter(|l| l.starts_with('[') && !l.starts_with("[0:0]"))
            .filter_map(|l| l.split_once("-A ").map(|(_, r)| r))
            .collect();
        let does = |target: &str| {
            let with = format!("-j {target} ");
            counted.iter().any(|r| format!("{r} ").contains(&with))
        };
        let to = self.mapped(flow)?;
        let accepted = counted
            .iter()
            .any(|r| r.starts_with("KUBE-NODEPORTS ") && r.ends_with("-j ACCEPT"));
        let verdict = match () {
            () if does("REJECT") => "REJECT",
            () if does("DROP") => "DROP",
            () if to.is_some() => "DNAT",
            () if accepted => "ACCEPT",
            () => "NONE",
        };
        Ok(Outcome::of(verdict, to, does("MASQUERADE")))
    }
}

/// Whether an address is a pod's in the vectors.
fn is_pod(a: IpAddr) -> bool {
    match a {
        IpAddr::V4(a) => a.octets()[0] == 10,
        IpAddr::V6(a) => a.octets()[..2] == [0xfd, 0] || a.segments()[0] == 0x2600,
    }
}

fn mac(text: &str) -> Result<MacAddr, String> {
    text.parse().map_err(|_| "a link address".to_owned())
}

fn veth(world: &mut World, ns: NsId, name: &str, address: &str) -> Result<PortAt, String> {
    let spec = LinkSpec {
        name: name.to_owned(),
        kind: DeviceKind::Veth,
        mac: mac(address)?,
        mtu: None,
        origin: Origin::Scenario("node".into()),
    };
    let made = world.edit(ns, |e| e.link_add(spec)).ok_or("no namespace")?;
    let dev = made.map_err(|e| e.to_string())?;
    Ok(PortAt { ns, dev })
}

/// The node as `ip` commands: pods behind pod0, all others behind eth0's gateway.
fn node_lines(node: &Node) -> Vec<String> {
    let mut out: Vec<String> = [
        "sysctl -w net.ipv6.conf.all.disable_ipv6=0",
        "sysctl -w net.ipv6.conf.default.accept_dad=0",
        "sysctl -w net.ipv4.ip_forward=1",
        "sysctl -w net.ipv6.conf.all.forwarding=1",
        "ip link set lo up",
        "ip addr add 10.255.0.1/32 dev pod0",
        "ip addr add fd00:ffff::1/128 dev pod0 nodad",
        "ip link set pod0 up",
        "ip link set eth0 up",
        "ip addr add 192.0.2.1/30 dev eth0",
        "ip addr add 2001:db8:ffff::1/64 dev eth0 nodad",
    ]
    .map(str::to_owned)
    .into();
    if node.route_localnet {
        out.push("sysctl -w net.ipv4.conf.all.route_localnet=1".to_owned());
    }
    for a in node.addresses.iter().filter(|a| !a.is_loopback()) {
        out.push(match a {
            IpAddr::V4(a) => format!("ip addr add {a}/32 dev eth0"),
            IpAddr::V6(a) => format!("ip addr add {a}/128 dev eth0 nodad"),
        });
    }
    for net in ["10.0.0.0/8", "fd00::/16", "2600::/16"] {
        out.push(format!("ip route add {net} dev pod0"));
    }
    out.push(format!(
        "ip neigh replace 192.0.2.2 lladdr {FAR_MAC} dev eth0 nud permanent"
    ));
    out.push(format!(
        "ip neigh replace 2001:db8:ffff::2 lladdr {FAR_MAC} dev eth0 nud permanent"
    ));
    out.push("ip route add default via 192.0.2.2".to_owned());
    out.push("ip route add default via 2001:db8:ffff::2".to_owned());
    out
}
