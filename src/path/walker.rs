//! The walker: one frame in one namespace, from a device's receive to wherever it ends.
//!
//! Frames that leave, or that the kernel would put on its backlog, become [`Output`]s; whoever joins the
//! namespaces hands them on. Each protocol's part is a file beside this one.

use crate::base::{DevId, FrameId, Instant, NsId, Origin, Rng, limits};
use crate::ipvs::OpenChoice;
use crate::net::{Device, DeviceKind, NetNs, PortAt, RouteKind, SocketId};
use crate::nf::eval::RuleRef;
use crate::path::observer::{Direction, Observer, Place, Step};
use crate::path::reason::{Disposition, DropReason, IcmpSent};
use crate::path::touch::Touch;
use crate::wire::{ETH_HLEN, ETH_P_8021Q, ETH_P_ARP, ETH_P_IP, ETH_P_IPV6, Frame, IpHeader, Tuple};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// Why the kernel refused to send what a socket gave it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Errno {
    /// ENETUNREACH: no route.
    NetUnreach,
    /// EHOSTUNREACH: an unreachable route.
    HostUnreach,
    /// EACCES: a prohibit route.
    Access,
    /// EINVAL: a blackhole route.
    Inval,
    /// EADDRNOTAVAIL: no source address.
    AddrNotAvail,
    /// EPERM: a rule dropped it (netfilter OUTPUT).
    Perm,
    /// EMSGSIZE: larger than the path MTU with DF.
    MsgSize,
}

/// What leaves a namespace.
#[derive(Debug)]
pub enum Output {
    /// A frame on the cable of a veth or uplink.
    Wire {
        /// The sending device.
        from: PortAt,
        /// The receiving device.
        to: PortAt,
        /// The frame.
        frame: Frame,
    },
    /// A frame for the same namespace's backlog: loopback, or what a tunnel took out of its outer packet.
    Backlog {
        /// The device that receives it.
        at: PortAt,
        /// The frame.
        frame: Frame,
    },
    /// A packet for a socket; bytes from the network header on.
    Socket {
        /// The namespace.
        ns: crate::base::NsId,
        /// The socket.
        socket: SocketId,
        /// The packet.
        frame: Frame,
    },
}

/// What all walks of a world share: randomness, frame ids and the outputs to be handed on.
#[derive(Debug)]
pub struct Shared {
    /// Seeded randomness.
    pub rng: Rng,
    next_frame: u64,
    /// Counts what walks learned that other frames go by: bridge ports, neighbours' states, tunnels' ends.
    pub learned: u64,
    /// What left, in order.
    pub out: Vec<Output>,
    /// Room for what an operation of netfilter touches, used again and again.
    pub record: Option<Box<crate::nf::record::Record>>,
    /// The state of the configuration, where answers of its tables may be given again
    /// ([`crate::nf::Netfilter::recall`]).
    pub recall: Option<u64>,
    /// What is assumed of netfilter rules that are not understood: matched or not.
    pub assume: BTreeMap<NsId, BTreeMap<RuleRef, bool>>,
    /// Rules that are not understood, not assumed anything of, and that decided, as they were met.
    pub undecided: Vec<(NsId, RuleRef)>,
    /// Real servers that are assumed to be IPVS's choice, by namespace and the choice's number.
    pub servers: BTreeMap<(NsId, u32), SocketAddr>,
    /// Choices of IPVS of which nothing was assumed, as they were met.
    pub open_choices: Vec<(NsId, OpenChoice)>,
}

impl Shared {
    /// Shared state with this seed.
    pub fn new(seed: u64) -> Self {
        Shared {
            rng: Rng::new(seed),
            next_frame: 0,
            learned: 0,
            out: Vec::new(),
            record: None,
            recall: None,
            assume: BTreeMap::new(),
            undecided: Vec::new(),
            servers: BTreeMap::new(),
            open_choices: Vec::new(),
        }
    }

    /// A new frame id.
    pub fn frame_id(&mut self) -> FrameId {
        self.next_frame += 1;
        FrameId(self.next_frame)
    }

    /// Makes `f` a frame of its own: the start of a new lineage.
    pub fn adopt(&mut self, f: &mut Frame) {
        f.id = self.frame_id();
        f.root = f.id;
        f.parent = None;
    }
}

/// EtherType of an 802.1ad tag.
const ETH_P_8021AD: u16 = 0x88a8;

/// Takes the outer tag off and gives its VLAN, 0 without one; captures show the frame without it
/// (kernel: `skb_vlan_untag`).
fn untag(f: &mut Frame) -> u16 {
    if !matches!(f.ethertype(), ETH_P_8021Q | ETH_P_8021AD) {
        return 0;
    }
    let (dst, src) = (f.dst_mac(), f.src_mac());
    let Some([hi, lo, t0, t1]) = f
        .data()
        .get(ETH_HLEN..)
        .and_then(|d| d.first_chunk::<4>())
        .copied()
    else {
        return u16::MAX;
    };
    f.pull(4, ETH_HLEN);
    f.set_ethernet(dst, src, u16::from_be_bytes([t0, t1]));
    u16::from_be_bytes([hi, lo]) & 0x0fff
}

/// Takes further priority tags off; gives the first VLAN that is not 0.
fn untag_all(f: &mut Frame) -> u16 {
    while let ETH_P_8021Q | ETH_P_8021AD = f.ethertype() {
        match untag(f) {
            0 => {}
            vlan => return vlan,
        }
    }
    0
}

/// One walk.
pub struct Walker<'w, O> {
    pub(crate) ns: &'w mut NetNs,
    pub(crate) now: Instant,
    pub(crate) cx: &'w mut Shared,
    pub(crate) obs: &'w mut O,
    depth: u32,
    /// An ICMP message of the kernel's own is being sent, by family: a second one cannot be (kernel:
    /// `icmp_xmit_lock`, `icmpv6_xmit_lock`).
    pub(crate) icmp_busy: [bool; 2],
    /// A TEE copy is on its way: it makes no further ones.
    pub(crate) teeing: bool,
    /// OUTPUT routed that copy anew: no longer to the rule's gateway.
    pub(crate) copy_rerouted: bool,
    /// How many `dup` and `fwd` below the IP layer are being carried out within each other
    /// (`nf_dup_skb_recursion`).
    pub(crate) forwarding: u8,
    /// The device whose egress rules dropped a frame last.
    pub(crate) refused_by: Option<DevId>,
    /// What is being answered has no route but the one back to its sender (`nf_reject_fill_skb_dst`).
    pub(crate) route_back: bool,
    /// A process is sending, not a softirq: the backlog runs where bottom halves are enabled again, in the
    /// midst of the walk ([`Walker::softirqs`]).
    in_process: bool,
}

impl<'w, O: Observer> Walker<'w, O> {
    /// A walk in `ns` at `now`.
    pub fn new(ns: &'w mut NetNs, now: Instant, cx: &'w mut Shared, obs: &'w mut O) -> Self {
        Walker {
            ns,
            now,
            cx,
            obs,
            depth: 0,
            icmp_busy: [false; 2],
            teeing: false,
            copy_rerouted: false,
            forwarding: 0,
            refused_by: None,
            route_back: false,
            in_process: false,
        }
    }

    /// Reports a step; its arguments are built only when somebody watches.
    pub(crate) fn step(
        &mut self,
        dev: Option<DevId>,
        f: &Frame,
        step: impl FnOnce(&NetNs) -> Step,
    ) {
        if O::TRACING {
            let s = step(self.ns);
            let at = Place {
                now: self.now,
                ns: self.ns,
                dev,
            };
            self.obs.step(at, f, s);
        }
    }

    /// Tells whoever compiles what the walk touched.
    pub(crate) fn touch(&mut self, dev: Option<DevId>, what: Touch) {
        if O::RECORDING {
            let at = Place {
                now: self.now,
                ns: self.ns,
                dev,
            };
            self.obs.touch(at, what);
        }
    }

    /// Ends a frame's way.
    pub(crate) fn end(&mut self, dev: Option<DevId>, f: &Frame, how: Disposition) {
        let at = Place {
            now: self.now,
            ns: self.ns,
            dev,
        };
        self.obs.end(at, f, &how);
    }

    /// Drops a frame; `detail` is built only when somebody watches.
    pub(crate) fn drop(&mut self, dev: Option<DevId>, f: &Frame, reason: DropReason) {
        self.drop_with(dev, f, reason, Origin::Kernel, |_| String::new());
    }

    /// Drops a frame, naming what decided.
    pub(crate) fn drop_with(
        &mut self,
        dev: Option<DevId>,
        f: &Frame,
        reason: DropReason,
        origin: Origin,
        detail: impl FnOnce(&NetNs) -> String,
    ) {
        let detail = if O::TRACING {
            detail(self.ns)
        } else {
            String::new()
        };
        self.end(
            dev,
            f,
            Disposition::Dropped {
                reason,
                detail,
                origin,
            },
        );
    }

    /// Ends a frame whose sender is told by ICMP, if the ICMP went out; drops it otherwise.
    pub(crate) fn rejected(
        &mut self,
        dev: Option<DevId>,
        f: &Frame,
        sent: Option<IcmpSent>,
        reason: DropReason,
        origin: Origin,
        detail: impl FnOnce(&NetNs) -> String,
    ) {
        match sent {
            Some(icmp) => {
                let detail = if O::TRACING {
                    detail(self.ns)
                } else {
                    String::new()
                };
                self.end(
                    dev,
                    f,
                    Disposition::Rejected {
                        icmp,
                        reason,
                        detail,
                        origin,
                    },
                );
            }
            None => self.drop_with(dev, f, reason, origin, detail),
        }
    }

    /// A copy of `f` with an identity of its own.
    pub(crate) fn copy(&mut self, f: &Frame) -> Frame {
        let mut c = f.clone();
        c.id = self.cx.frame_id();
        c.parent = Some(f.id);
        c
    }

    /// A new frame that answers or is caused by `cause`.
    pub(crate) fn child_of(&mut self, cause: &Frame, mut f: Frame) -> Frame {
        f.id = self.cx.frame_id();
        f.root = cause.root;
        f.parent = Some(cause.id);
        // An answer to an answer to an answer ends like any other loop.
        f.hops = cause.hops;
        f
    }

    /// Enters one level of devices; false when it went too deep.
    fn enter(&mut self, dev: DevId, f: &Frame) -> bool {
        self.depth += 1;
        if self.depth > limits::WALK_DEPTH_MAX {
            self.end(Some(dev), f, Disposition::Loop);
            self.depth -= 1;
            return false;
        }
        true
    }

    /// Whether the packet at hand is a copy whose route leads to a gateway, wherever it is addressed to.
    pub(crate) fn by_gateway(&self) -> bool {
        self.teeing && !self.copy_rerouted
    }

    /// Bottom halves are enabled again (kernel: `local_bh_enable`): what a process's packet has put on this
    /// namespace's backlog so far (an error of REJECT, a TEE copy for this host) is received before the
    /// packet goes on, that is while its own new connection is not confirmed yet. Walks that began with a
    /// received frame run in a softirq themselves: there the backlog comes after them.
    pub(crate) fn softirqs(&mut self) {
        if !self.in_process || self.teeing || self.icmp_busy.contains(&true) {
            return;
        }
        self.in_process = false;
        let depth = std::mem::take(&mut self.depth);
        for _ in 0..limits::SOFTIRQ_FRAMES_MAX {
            let here = self.ns.id;
            let next = |o: &Output| match o {
                Output::Backlog { at, frame } => at.ns == here && frame.hops < limits::HOPS_MAX,
                _ => false,
            };
            let Some(i) = self.cx.out.iter().position(next) else {
                break;
            };
            if let Output::Backlog { at, mut frame } = self.cx.out.remove(i) {
                frame.hops += 1;
                self.receive(at.dev, frame);
            }
        }
        self.depth = depth;
        self.in_process = true;
    }

    /// A frame arrives at a device (kernel: `__netif_receive_skb_core`).
    pub fn receive(&mut self, dev: DevId, mut f: Frame) {
        if f.looped {
            return self.ipv4_receive(dev, f);
        }
        let Some(d) = self.ns.dev(dev) else { return };
        let (up, mac, layer3, master) = (d.up, d.mac, d.is_layer3(), d.master.is_some());
        if !up {
            return self.drop(Some(dev), &f, DropReason::DeviceDown);
        }
        if !layer3 && f.len() < ETH_HLEN {
            return self.drop(Some(dev), &f, DropReason::Runt);
        }
        if !self.enter(dev, &f) {
            return;
        }
        let vlan = if layer3 || master { 0 } else { untag(&mut f) };
        f.classify(mac);
        self.count_rx(dev, f.len());
        self.tap(dev, Direction::In, &f);
        let Some(mut f) = self.received(dev, f) else {
            self.depth -= 1;
            return;
        };
        if master {
            self.bridge_receive(dev, f);
        } else if vlan != 0
            || matches!(f.ethertype(), ETH_P_8021Q | ETH_P_8021AD) && untag_all(&mut f) != 0
        {
            self.drop_with(
                Some(dev),
                &f,
                DropReason::UnhandledProtocol,
                Origin::Kernel,
                |_| "an 802.1Q tag and no VLAN device".into(),
            );
        } else {
            self.protocol_receive(dev, f);
        }
        self.depth -= 1;
    }

    /// Ingress rules, before anybody but a capture sees the frame (kernel: `nf_ingress`).
    pub(crate) fn received(&mut self, dev: DevId, f: Frame) -> Option<Frame> {
        match self.ns.nf {
            Some(_) => self.ingress(dev, f),
            None => Some(f),
        }
    }

    /// Hands a frame to its protocol on behalf of a device.
    pub(crate) fn protocol_receive(&mut self, dev: DevId, f: Frame) {
        match f.ethertype() {
            ETH_P_ARP => self.arp_receive(dev, f),
            ETH_P_IP => self.ipv4_receive(dev, f),
            ETH_P_IPV6 => self.ipv6_receive(dev, f),
            t => self.drop_with(
                Some(dev),
                &f,
                DropReason::UnhandledProtocol,
                Origin::Kernel,
                |_| format!("EtherType 0x{t:04x}"),
            ),
        }
    }

    /// Shows a frame to whoever captures at the device.
    pub(crate) fn tap(&mut self, dev: DevId, dir: Direction, f: &Frame) {
        let at = Place {
            now: self.now,
            ns: self.ns,
            dev: Some(dev),
        };
        self.obs.tap(at, dir, f);
    }

    pub(crate) fn count_rx(&mut self, dev: DevId, bytes: usize) {
        if let Some(d) = self.ns.dev_mut(dev) {
            d.stats.rx_packets += 1;
            d.stats.rx_bytes += bytes as u64;
        }
    }

    /// A device sends a frame (kernel: `__dev_queue_xmit` and the driver's transmit).
    pub fn transmit(&mut self, dev: DevId, f: Frame) {
        let Some(d) = self.ns.dev(dev) else { return };
        if !d.up {
            return self.drop_with(
                Some(dev),
                &f,
                DropReason::DeviceDown,
                d.origin.clone(),
                |_| String::new(),
            );
        }
        if !d.carrier && d.peer.is_some() {
            // The queue of a device without carrier is a no-op (kernel: dev_deactivate): nothing is seen.
            return self.drop_with(
                Some(dev),
                &f,
                DropReason::NoCarrier,
                d.origin.clone(),
                |_| String::new(),
            );
        }
        if !self.enter(dev, &f) {
            return;
        }
        let f = match self.ns.nf {
            Some(_) => self.egress(dev, f),
            None => Some(f),
        };
        if let Some(f) = f {
            self.sent(dev, f);
        }
        self.depth -= 1;
        // The end of `__dev_queue_xmit` (`rcu_read_unlock_bh`).
        self.softirqs();
    }

    /// Its driver gets a frame (kernel: `dev_hard_start_xmit`).
    fn sent(&mut self, dev: DevId, f: Frame) {
        if let Some(d) = self.ns.dev_mut(dev) {
            d.stats.tx_packets += 1;
            d.stats.tx_bytes += f.len() as u64;
        }
        self.tap(dev, Direction::Out, &f);
        self.driver_transmit(dev, f);
    }

    fn driver_transmit(&mut self, dev: DevId, f: Frame) {
        let Some(d) = self.ns.dev(dev) else { return };
        let from = PortAt {
            ns: self.ns.id,
            dev,
        };
        match &d.kind {
            DeviceKind::Loopback => self.cx.out.push(Output::Backlog { at: from, frame: f }),
            DeviceKind::Veth | DeviceKind::Uplink => match d.peer {
                Some(to) => self.cx.out.push(Output::Wire { from, to, frame: f }),
                None if matches!(d.kind, DeviceKind::Uplink) => {
                    self.end(Some(dev), &f, Disposition::LeftTheCluster);
                }
                None => self.drop(Some(dev), &f, DropReason::NoPeer),
            },
            DeviceKind::Bridge(_) => self.bridge_transmit(dev, f),
            DeviceKind::Vxlan(_) => self.vxlan_transmit(dev, f),
            DeviceKind::Ipip(_) => self.ipip_transmit(dev, f),
            DeviceKind::Dummy => self.drop(Some(dev), &f, DropReason::DummyDevice),
        }
    }

    /// Lets everything happen whose time has come: neighbour timers, reassembly timeouts, delayed answers.
    pub fn run_timers(&mut self) {
        while let Some((dev, ip)) = self.ns.neigh.pop_due(self.now) {
            self.neigh_timer(dev, ip);
        }
        while let Some((key, dev, first)) = self.ns.frags.pop_expired(self.now) {
            if let Some(f) = first {
                self.fragments_timed_out(dev, f, key.user);
            }
        }
        let now = self.now;
        let (due, wait): (Vec<_>, Vec<_>) = std::mem::take(&mut self.ns.proxy_queue)
            .into_iter()
            .partition(|p| p.0 <= now);
        self.ns.proxy_queue = wait;
        for (_, dev, f) in due {
            self.proxy_answer(dev, f);
        }
    }

    /// A socket, or whoever plays one, sends an IP packet (kernel: `ip_local_out`).
    pub fn send_local(&mut self, f: Frame, oif: Option<DevId>) -> Result<(), Errno> {
        self.in_process = true;
        self.local_out(f, oif)
    }

    /// A packet that a raw IPv4 socket sends with its header (kernel: `raw_sendmsg`, `raw_send_hdrinc`; IPv6:
    /// `rawv6_send_hdrinc`): refused before any hook if it is for a broadcast address or larger than the
    /// route's device takes, since nothing cuts it.
    pub fn send_raw(&mut self, mut f: Frame, oif: Option<DevId>) -> Result<(), Errno> {
        self.in_process = true;
        if let Ok(h) = IpHeader::parse_lax(f.l3())
            && let Ok(found) = self.ns.route_output(None, h.dst, oif, f.mark, 0)
        {
            let mtu = self
                .out_device(&found)
                .and_then(|d| self.device(d))
                .map_or(usize::MAX, |d| d.mtu as usize);
            let refused = if h.is_v4() && found.route.kind == RouteKind::Broadcast {
                Some((Errno::Access, DropReason::Prohibit, "needs SO_BROADCAST"))
            } else if f.l3().len() > mtu {
                let why = "a raw socket's packets are not cut";
                Some((Errno::MsgSize, DropReason::MtuExceeded, why))
            } else {
                None
            };
            if let Some((errno, reason, why)) = refused {
                self.drop_with(None, &f, reason, Origin::Kernel, |_| why.to_owned());
                return Err(errno);
            }
            if h.is_v4() {
                // The socket's route, which its header's source has no part in.
                f.local = true;
                if let Some(dev) = found.dev() {
                    self.show_route(dev, &f, &found);
                }
                return self.local_out_by(found, f, oif);
            }
        }
        self.local_out(f, oif)
    }

    /// The socket that a delivered packet belongs to: the one TPROXY chose, else the one bound to it.
    pub(crate) fn find_socket(&self, h: &IpHeader, f: &Frame) -> Option<SocketId> {
        let chosen = f.socket.map(SocketId);
        chosen.or_else(|| self.ns.sockets.lookup(&Tuple::of(h, f.l3())))
    }

    /// A device that must be there.
    pub(crate) fn device(&self, dev: DevId) -> Option<&Device> {
        self.ns.dev(dev)
    }

    /// Whether `ip` belongs to a device of this namespace.
    pub(crate) fn is_own(&self, ip: IpAddr) -> bool {
        self.ns.is_local(ip)
    }
}
