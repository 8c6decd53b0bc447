//! Who watches a walk. The walk is one text; what is recorded of it is the observer's.

use crate::base::{DevId, Instant, Origin};
use crate::net::NetNs;
use crate::nf::Hook;
use crate::path::reason::{Disposition, IcmpSent};
use crate::path::touch::Touch;
use crate::wire::{Frame, MacAddr};
use std::net::{IpAddr, SocketAddr};

/// Where and when something happens.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    /// Virtual time.
    pub now: Instant,
    /// The namespace.
    pub ns: &'a NetNs,
    /// The device, where one is meant.
    pub dev: Option<DevId>,
}

impl Place<'_> {
    /// The device's name, or nothing.
    pub fn dev_name(&self) -> &str {
        self.dev.map_or("", |d| self.ns.dev_name(d))
    }
}

/// Direction of a frame at a device, as `tcpdump -Q` has it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Direction {
    /// Received by the device.
    In,
    /// Sent by the device.
    Out,
}

/// One thing that the kernel did with a frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// A bridge learned (or moved) the source address.
    FdbLearn {
        /// The address.
        mac: MacAddr,
        /// The port's name.
        port: String,
    },
    /// A bridge sends it out of one port.
    BridgeForward {
        /// The port's name.
        port: String,
    },
    /// A bridge sends it out of several ports.
    BridgeFlood {
        /// Their names in order.
        ports: Vec<String>,
        /// Why: `broadcast`, `multicast`, `unknown unicast`.
        why: &'static str,
    },
    /// A bridge hands it to the host.
    BridgeUp {
        /// The bridge's name.
        bridge: String,
    },
    /// A route was found.
    Route {
        /// The table's id.
        table: u32,
        /// The rule's priority.
        rule: u32,
        /// The route as `ip route` prints it.
        route: String,
        /// Who made it.
        origin: Origin,
    },
    /// TTL or hop limit went down.
    Ttl {
        /// After.
        to: u8,
    },
    /// The next hop's link address was known.
    NeighHit {
        /// The neighbour.
        ip: IpAddr,
        /// Its address.
        mac: MacAddr,
        /// State of the entry, `ip neigh`'s word.
        state: &'static str,
    },
    /// The next hop is asked for; the packet waits.
    NeighWait {
        /// The neighbour.
        ip: IpAddr,
        /// Packets now waiting.
        queued: usize,
    },
    /// The next hop was found; the packet goes on.
    NeighResolved {
        /// The neighbour.
        ip: IpAddr,
        /// Its address.
        mac: MacAddr,
    },
    /// It was put into an outer packet.
    Encap {
        /// `vxlan` or `ipip`.
        kind: &'static str,
        /// Outer source and destination.
        outer: (IpAddr, IpAddr),
        /// VNI, or 0.
        vni: u32,
    },
    /// It was taken out of an outer packet.
    Decap {
        /// `vxlan` or `ipip`.
        kind: &'static str,
        /// The tunnel device.
        dev: String,
    },
    /// It was cut into fragments.
    Fragment {
        /// How many.
        count: usize,
        /// For this MTU.
        mtu: usize,
    },
    /// It waits for its other fragments.
    FragmentQueued,
    /// Fragments became a whole packet.
    Reassembled {
        /// Its size, bytes.
        len: usize,
    },
    /// The kernel answers with this frame.
    Answer {
        /// What it is: `echo reply`, `ARP reply`...
        what: &'static str,
    },
    /// The kernel sends an ICMP error.
    IcmpError {
        /// Which.
        icmp: IcmpSent,
        /// To whom.
        to: IpAddr,
    },
    /// An ICMP error was due but not sent.
    IcmpSuppressed {
        /// Why.
        why: &'static str,
    },
    /// A path MTU was learned.
    PmtuLearned {
        /// For this destination.
        dst: IpAddr,
        /// Bytes.
        mtu: u32,
    },
    /// A netfilter rule matched.
    Rule {
        /// Which.
        at: RuleAt,
        /// Rules of its chain that were passed over since the last one told.
        skipped: u32,
        /// Its chance in 1/2^31, if it matches at random.
        chance: Option<u32>,
    },
    /// A built-in chain ended and its policy decided.
    Policy {
        /// Which chain.
        at: RuleAt,
        /// Rules passed over since the last one told.
        skipped: u32,
    },
    /// Conntrack looked at the packet.
    Conntrack {
        /// Where.
        hook: Hook,
        /// NEW, ESTABLISHED, RELATED, INVALID, UNTRACKED.
        state: &'static str,
        /// The connection, or why there is none.
        text: String,
    },
    /// A connection was mapped to another address or port.
    NatSetup {
        /// `source` or `destination`.
        what: &'static str,
        /// The rule that asked for it.
        at: Option<RuleAt>,
        /// Before.
        from: String,
        /// After.
        to: String,
    },
    /// A packet's addresses were translated.
    NatPacket {
        /// Where.
        hook: Hook,
        /// Before.
        from: String,
        /// After.
        to: String,
    },
    /// IPVS sent a request to a real server, or translated a reply back.
    Ipvs {
        /// It is a reply.
        reply: bool,
        /// The virtual address and port.
        virt: SocketAddr,
        /// The real server.
        server: SocketAddr,
        /// The way there: `Masq`, `Local`, `Tunnel`, `Route`.
        forward: &'static str,
        /// The connection is new, and of so many real servers it is not known which was next; 0: it is known.
        open: u32,
        /// What the virtual service was made from.
        origin: Origin,
    },
    /// Anything else worth a line.
    Note(String),
}

/// A netfilter rule or a chain's policy, for people.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RuleAt {
    /// The command that lists it: `iptables`, `ip6tables-legacy`...
    pub tool: &'static str,
    /// Table.
    pub table: std::borrow::Cow<'static, str>,
    /// Chain.
    pub chain: String,
    /// Number in the chain, from 1; `None` for the policy.
    pub number: Option<u32>,
    /// The rule as iptables-save prints it, or `policy DROP`.
    pub text: String,
    /// Who made it.
    pub origin: Origin,
}

impl core::fmt::Display for RuleAt {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} {}", self.table, self.chain)?;
        match self.number {
            Some(n) => write!(f, " rule {n}"),
            None => Ok(()),
        }
    }
}

/// Watches walks. Never changes one.
pub trait Observer {
    /// Whether `step` wants to be called: its arguments are not even built otherwise.
    const TRACING: bool;
    /// Whether `touch` wants to be called: this observer compiles.
    const RECORDING: bool = false;
    /// Whether what rules touch is still of use, where it takes work to note it.
    fn records(&self) -> bool {
        Self::RECORDING
    }
    /// The walk touched something besides the frame.
    fn touch(&mut self, _at: Place<'_>, _what: Touch) {}
    /// A frame is at a device, where tcpdump would see it.
    fn tap(&mut self, _at: Place<'_>, _dir: Direction, _frame: &Frame) {}
    /// Something was done with a frame.
    fn step(&mut self, _at: Place<'_>, _frame: &Frame, _step: Step) {}
    /// A frame's way ended.
    fn end(&mut self, _at: Place<'_>, _frame: &Frame, _how: &Disposition) {}
}

/// Watches nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoTrace;

impl Observer for NoTrace {
    const TRACING: bool = false;
}

/// Two observers at once.
#[derive(Debug, Default)]
pub struct Tee<A, B>(pub A, pub B);

impl<A: Observer, B: Observer> Observer for Tee<A, B> {
    const TRACING: bool = A::TRACING || B::TRACING;
    const RECORDING: bool = A::RECORDING || B::RECORDING;
    fn records(&self) -> bool {
        self.0.records() || self.1.records()
    }
    fn touch(&mut self, at: Place<'_>, what: Touch) {
        self.0.touch(at, what);
        self.1.touch(at, what);
    }
    fn tap(&mut self, at: Place<'_>, dir: Direction, frame: &Frame) {
        self.0.tap(at, dir, frame);
        self.1.tap(at, dir, frame);
    }
    fn step(&mut self, at: Place<'_>, frame: &Frame, step: Step) {
        if A::TRACING {
            self.0.step(at, frame, step.clone());
        }
        if B::TRACING {
            self.1.step(at, frame, step);
        }
    }
    fn end(&mut self, at: Place<'_>, frame: &Frame, how: &Disposition) {
        self.0.end(at, frame, how);
        self.1.end(at, frame, how);
    }
}

impl<O: Observer> Observer for &mut O {
    const TRACING: bool = O::TRACING;
    const RECORDING: bool = O::RECORDING;
    fn records(&self) -> bool {
        (**self).records()
    }
    fn touch(&mut self, at: Place<'_>, what: Touch) {
        (**self).touch(at, what);
    }
    fn tap(&mut self, at: Place<'_>, dir: Direction, frame: &Frame) {
        (**self).tap(at, dir, frame);
    }
    fn step(&mut self, at: Place<'_>, frame: &Frame, step: Step) {
        (**self).step(at, frame, step);
    }
    fn end(&mut self, at: Place<'_>, frame: &Frame, how: &Disposition) {
        (**self).end(at, frame, how);
    }
}
