//! Any bytes as frames: printed, parsed, and sent through two nodes with pods, bridges, VXLAN and IPIP.
//!
//! Input: records of four bytes (port, flags, length) and a frame. Flags let the fuzzer past what it could hardly
//! guess: right MACs, a right header checksum.

use podpath::base::{DevId, FrameId, Instant, NsId, Origin, Span, limits};
use podpath::import::ipcmd;
use podpath::net::{Binding, DeviceKind, LinkSpec, PortAt, SocketId};
use podpath::path::{Event, EventKind, Observer, Step, Tee, TraceBuilder};
use podpath::sim::{Captures, World};
use podpath::wire::{
    ETH_HLEN, Frame, IpHeader, MacAddr, Tuple, arp::Arp, build, ip, ndp::Ndp, print, proto,
};
use std::collections::BTreeSet;
use std::time::Duration;

/// Frames of one input that are sent; what follows is left.
const FRAMES_MAX: usize = 12;

/// No panic, no endless loop, no frame without an end, nothing larger than was put in plus headers.
pub fn run(data: &[u8]) {
    headers(data);
    accounted(&events(data));
}

/// No frame vanishes: it ends, or became others (a bridge's copies, the packet that its fragments made).
fn accounted(events: &[Event]) {
    let ended: BTreeSet<FrameId> = events
        .iter()
        .filter(|e| matches!(e.kind, EventKind::End(_)))
        .map(|e| e.frame)
        .collect();
    let became = |e: &Event| {
        matches!(e.kind, EventKind::Step(Step::BridgeFlood { .. })) || e.summary.contains("frag ")
    };
    let others: BTreeSet<FrameId> = events
        .iter()
        .filter(|e| became(e))
        .map(|e| e.frame)
        .collect();
    for e in events {
        let lost = !ended.contains(&e.frame) && !others.contains(&e.frame);
        assert!(
            !lost || events.len() >= limits::TRACE_STEPS_MAX,
            "no end: {e:?}"
        );
    }
}

/// What happens to the frames of an input.
pub fn events(data: &[u8]) -> Vec<Event> {
    let mut lab = Lab::new();
    let (mut rest, mut obs) = (data, Tee(Captures::all(), TraceBuilder::default()));
    for _ in 0..FRAMES_MAX {
        let [port, flags, hi, lo, body @ ..] = rest else {
            break;
        };
        let n = usize::from(u16::from_be_bytes([*hi, *lo]) & 0x7ff).min(body.len());
        let (frame, next) = body.split_at(n);
        lab.inject(*port, *flags, frame, &mut obs);
        rest = next;
    }
    lab.run(Duration::from_secs(35), &mut obs); // beyond ARP's 3 s and reassembly's 30 s
    let most = data.len() + 4_096;
    assert!(obs.0.frames().iter().all(|f| f.data.len() <= most));
    obs.1.take()
}

fn headers(b: &[u8]) {
    let _ = (
        print::ethernet(b, 0),
        print::packet(b, 0),
        Arp::parse(b),
        IpHeader::parse(b),
    );
    if let Ok(h) = IpHeader::parse_lax(b) {
        let _ = (
            Tuple::of(&h, b),
            h.ports(b),
            h.icmp(b),
            h.is_icmp_error(b),
            h.payload(b),
        );
        let _ = (
            Ndp::parse(&h, b),
            build::tcp_reset(&h, b),
            build::l4_checksum_ok(&h, b),
        );
    }
    let mut copy = b.to_vec();
    ip::decrease_ttl(&mut copy);
    ip::fill_v4_checksum(&mut copy);
}

struct Lab {
    world: World,
    ports: Vec<PortAt>,
}

impl Lab {
    fn new() -> Self {
        let mut lab = Lab {
            world: World::new(7),
            ports: Vec::new(),
        };
        let uplinks = [1, 2].map(|n| lab.node(n));
        lab.world.connect(uplinks[0], uplinks[1]).expect("uplinks");
        lab
    }

    /// A node with a pod on a bridge, flannel's VXLAN and an IPIP tunnel; its uplink.
    fn node(&mut self, n: u8) -> PortAt {
        let id = self.world.add_node(format!("node{n}"));
        let host = self.world.add_ns(format!("node{n}"), id);
        let pod = self.world.add_ns(format!("pod{n}"), id);
        let up = self.device(host, "eth0", DeviceKind::Uplink, n);
        let veth = self.device(host, "veth0", DeviceKind::Veth, 0x10 + n);
        let eth = self.device(pod, "eth0", DeviceKind::Veth, 0x20 + n);
        self.world.connect(veth, eth).expect("a veth pair");
        let peer = 3 - n;
        let commands = format!(
            "ip link set lo up; ip addr add 192.168.0.{n}/24 dev eth0; ip addr add fd00::{n}/64 dev eth0
             ip link set eth0 up; ip link add cni0 type bridge; ip addr add 10.244.{n}.1/24 dev cni0
             ip addr add fd10:{n}::1/64 dev cni0; ip link set cni0 up
             ip link set veth0 master cni0; ip link set veth0 up; bridge link set dev veth0 hairpin on
             ip link add flannel.1 type vxlan id 1 dstport 8472 local 192.168.0.{n} dev eth0 nolearning
             ip link set flannel.1 address 02:00:00:00:00:a{n}; ip link set flannel.1 up
             ip addr add 10.244.{n}.0/32 dev flannel.1
             ip route add 10.244.{peer}.0/24 via 10.244.{peer}.0 dev flannel.1 onlink
             ip neigh replace 10.244.{peer}.0 lladdr 02:00:00:00:00:a{peer} dev flannel.1 nud permanent
             bridge fdb append 02:00:00:00:00:a{peer} dev flannel.1 dst 192.168.0.{peer}
             ip link add tun1 type ipip local 192.168.0.{n} remote 192.168.0.{peer}; ip link set tun1 up
             ip route add 10.9.{peer}.0/24 dev tun1; ip addr add 10.9.{n}.1/32 dev tun1
             ip route add blackhole 10.66.0.0/16; ip route add unreachable 10.67.0.0/16
             ip -6 route add fd10:{peer}::/64 via fd00::{peer}
             sysctl -w net.ipv4.ip_forward=1; sysctl -w net.ipv6.conf.all.forwarding=1
             sysctl -w net.ipv4.conf.eth0.proxy_arp=1"
        );
        self.script(host, &commands);
        let commands = format!(
            "ip link set lo up; ip addr add 10.244.{n}.2/24 dev eth0; ip addr add fd10:{n}::2/64 dev eth0
             ip link set eth0 up; ip route add default via 10.244.{n}.1; ip -6 route add default via fd10:{n}::1"
        );
        self.script(pod, &commands);
        let sockets = self.world.ns_mut(pod).expect("just made").sockets_mut();
        for (i, p) in [proto::UDP, proto::TCP].into_iter().enumerate() {
            let open = Binding {
                proto: p,
                port: 53,
                local: None,
                remote: None,
            };
            sockets.bind(open, SocketId(i as u32)).expect("a free port");
        }
        let flannel = self
            .world
            .ns(host)
            .and_then(|s| s.dev_by_name("flannel.1"))
            .map(|d| d.id);
        let flannel = PortAt {
            ns: host,
            dev: flannel.expect("made by the script"),
        };
        self.ports.extend([up, veth, eth, flannel]);
        up
    }

    fn device(&mut self, ns: NsId, name: &str, kind: DeviceKind, mac: u8) -> PortAt {
        let spec = LinkSpec {
            name: name.to_owned(),
            kind,
            mac: MacAddr([2, 0, 0, 0, 0, mac]),
            mtu: None,
            origin: Origin::Kernel,
        };
        let made = self
            .world
            .edit(ns, |e| e.link_add(spec))
            .expect("a namespace");
        PortAt {
            ns,
            dev: made.expect("a device"),
        }
    }

    fn script(&mut self, ns: NsId, commands: &str) {
        for line in ipcmd::split_script(commands) {
            let command =
                ipcmd::parse(line, &Span::default()).unwrap_or_else(|f| panic!("{line}: {f}"));
            let now = self.world.now();
            self.world
                .edit(ns, |e| ipcmd::apply(&command, e, now, &Origin::Kernel))
                .expect("a namespace")
                .unwrap_or_else(|e| panic!("{line}: {e}"));
        }
    }

    fn mac(&self, at: PortAt) -> MacAddr {
        let dev = self.world.ns(at.ns).and_then(|n| n.dev(at.dev));
        dev.map_or(MacAddr::ZERO, |d| d.mac)
    }

    fn inject(&mut self, port: u8, flags: u8, bytes: &[u8], obs: &mut impl Observer) {
        let at = match self.ports.get(usize::from(port) % (self.ports.len() + 1)) {
            Some(at) => *at,
            None => PortAt {
                ns: NsId(99),
                dev: DevId(99),
            },
        };
        let mut bytes = bytes.to_vec();
        if flags & 1 != 0 && bytes.len() >= 12 {
            bytes[..6].copy_from_slice(&self.mac(at).0);
            bytes[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 0x77]);
        }
        // Bits 2 and 3: how it comes in. A socket's packet has no Ethernet header.
        let l3 = if flags >> 2 & 3 == 3 { 0 } else { ETH_HLEN };
        if flags & 2 != 0 && bytes.len() > l3 {
            ip::fill_v4_checksum(&mut bytes[l3..]);
        }
        match flags >> 2 & 3 {
            0 | 1 => drop(self.world.arrive(at, Frame::ethernet(&bytes), obs)),
            2 => drop(self.world.transmit(at, Frame::ethernet(&bytes), obs)),
            _ => drop(self.world.send(at.ns, &bytes, None, obs)),
        }
        self.run(Duration::from_millis(u64::from(flags >> 4) * 400), obs);
    }

    fn run(&mut self, time: Duration, obs: &mut impl Observer) {
        let until: Instant = self.world.now() + time;
        self.world.run_until(until, obs);
        drop(self.world.take_deliveries());
    }
}
