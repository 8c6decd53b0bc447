//! The reference topology of the measurements: nodes n1 and n2 on one LAN with an external host x and, where
//! asked for, a gateway; pods c and s1 on n1, s2 on n2, each behind its node's bridge cni0.
//!
//! Built by the commands an operator would type.

use podpath::base::{Instant, NsId, Origin, Span};
use podpath::endpoint::App;
use podpath::import::ipcmd::{apply, derived_mac, parse};
use podpath::lab::{Lab, Probe, ProbeResult};
use podpath::net::{DeviceKind, LinkSpec, PortAt};
use podpath::path::NoTrace;
use podpath::sim::World;
use podpath::wire::proto;
use std::net::IpAddr;
use std::time::Duration;

/// How pods of different nodes reach each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Backend {
    /// Plain routes via the other node.
    HostGw,
    /// flannel.1, VNI 1, UDP 8472, static neighbours and FDB.
    Vxlan,
}

/// What varies.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Between nodes.
    pub backend: Backend,
    /// Whether nodes and x have a default route by a gateway 192.168.56.1.
    pub gateway: bool,
    /// MTU of pods' devices and the bridges; `None`: what fits the backend.
    pub pod_mtu: Option<u32>,
    /// One way of each LAN cable.
    pub latency: Duration,
    /// Lost on each LAN cable, per million.
    pub loss_ppm: u32,
    /// Of everything random.
    pub seed: u64,
}

impl Options {
    /// A LAN without delay, loss and gateway.
    pub fn new(backend: Backend) -> Self {
        Options {
            backend,
            gateway: false,
            pod_mtu: None,
            latency: Duration::ZERO,
            loss_ppm: 0,
            seed: 1,
        }
    }
}

/// The topology, servers listening: 8080/tcp and 5353/udp echo on s1, s2, x and both nodes.
pub struct T2 {
    pub lab: Lab,
    pub n1: NsId,
    pub n2: NsId,
    pub x: NsId,
    pub gw: Option<NsId>,
    pub lan: NsId,
    pub c: NsId,
    pub s1: NsId,
    pub s2: NsId,
}

/// Addresses.
pub const C: &str = "10.244.1.2";
pub const S1: &str = "10.244.1.3";
pub const S2: &str = "10.244.2.2";
pub const N1: &str = "192.168.56.11";
pub const N2: &str = "192.168.56.12";
pub const X: &str = "192.168.56.50";

/// An address.
pub fn ip(a: &str) -> IpAddr {
    a.parse().expect("an address")
}

/// Runs a command in a namespace.
pub fn run(lab: &mut Lab, ns: NsId, line: &str) {
    let c = parse(line, &Span::new("t2", 1, 1)).unwrap_or_else(|f| panic!("{f}"));
    let now = lab.now();
    let origin = Origin::Scenario(line.into());
    let done = lab.world.edit(ns, |e| apply(&c, e, now, &origin));
    let kept = done.expect("a namespace");
    assert_eq!(
        kept.unwrap_or_else(|e| panic!("{line}: {e}")).len(),
        0,
        "{line}"
    );
}

/// Joins two namespaces by a veth pair (or cable) and sets both ends up.
pub fn cable(lab: &mut Lab, a: (NsId, &str), b: (NsId, &str)) -> (PortAt, PortAt) {
    let mut end = |(ns, dev): (NsId, &str)| {
        let mac = derived_mac(&lab.world.ns(ns).expect("a namespace").name, dev);
        let spec = LinkSpec {
            name: dev.to_owned(),
            kind: DeviceKind::Veth,
            mac,
            mtu: None,
            origin: Origin::Kernel,
        };
        let dev = lab.world.edit(ns, |e| e.link_add(spec));
        let dev = dev.expect("a namespace").expect("a new device");
        PortAt { ns, dev }
    };
    let (x, y) = (end(a), end(b));
    lab.world.connect(x, y).expect("both ends");
    run(lab, a.0, &format!("ip link set {} up", a.1));
    run(lab, b.0, &format!("ip link set {} up", b.1));
    (x, y)
}

impl T2 {
    /// Builds it and lets it come to rest.
    pub fn new(o: Options) -> T2 {
        let mut lab = Lab::new(World::new(o.seed), o.seed);
        let mut host = |name: &str| {
            let node = lab.world.add_node(name);
            let ns = lab.world.add_ns(name, node);
            run(&mut lab, ns, "ip link set lo up");
            ns
        };
        let (lan, n1, n2, x) = (host("lan"), host("n1"), host("n2"), host("x"));
        let gw = o.gateway.then(|| host("gw"));
        let mut pod = |name: &str, on: NsId| {
            let node = lab.world.ns(on).expect("the node").node;
            let ns = lab.world.add_ns(name, node);
            run(&mut lab, ns, "ip link set lo up");
            ns
        };
        let (c, s1, s2) = (pod("c", n1), pod("s1", n1), pod("s2", n2));
        let mut t = T2 {
            lab,
            n1,
            n2,
            x,
            gw,
            lan,
            c,
            s1,
            s2,
        };
        t.build(o);
        for ns in [t.s1, t.s2, t.x, t.n1, t.n2] {
            t.lab
                .listen(ns, None, proto::TCP, 8080, App::Echo)
                .expect("free");
            t.lab
                .listen(ns, None, proto::UDP, 5353, App::Echo)
                .expect("free");
        }
        t.lab.run_until(Instant::from_secs(20), &mut NoTrace);
        t
    }

    /// Runs a command.
    pub fn run(&mut self, ns: NsId, line: &str) {
        run(&mut self.lab, ns, line);
    }

    fn build(&mut self, o: Options) {
        self.run(self.lan, "ip link add br0 type bridge");
        self.run(self.lan, "ip link set br0 up");
        let mut hosts = vec![(self.n1, N1), (self.n2, N2), (self.x, X)];
        hosts.extend(self.gw.map(|g| (g, "192.168.56.1")));
        for (i, (ns, addr)) in hosts.into_iter().enumerate() {
            let port = format!("p{i}");
            let (a, b) = cable(&mut self.lab, (ns, "eth0"), (self.lan, &port));
            for end in [a, b] {
                let link = self.lab.world.link_mut(end);
                (link.latency, link.loss_ppm) = (o.latency, o.loss_ppm);
            }
            self.run(self.lan, &format!("ip link set {port} master br0"));
            self.run(ns, &format!("ip addr add {addr}/24 dev eth0"));
            if self.gw.is_some_and(|g| g != ns) {
                self.run(ns, "ip route add default via 192.168.56.1");
            }
        }
        if let Some(g) = self.gw {
            self.run(g, "sysctl -w net.ipv4.ip_forward=1");
        }
        self.node(self.n1, 1, o);
        self.node(self.n2, 2, o);
        for (ns, node, addr) in [
            (self.c, self.n1, C),
            (self.s1, self.n1, S1),
            (self.s2, self.n2, S2),
        ] {
            self.pod(ns, node, addr, o);
        }
    }

    fn node(&mut self, ns: NsId, n: u8, o: Options) {
        self.run(ns, "sysctl -w net.ipv4.ip_forward=1");
        self.run(ns, "ip link add cni0 type bridge");
        self.run(ns, &format!("ip link set cni0 mtu {}", o.mtu()));
        self.run(ns, "ip link set cni0 up");
        self.run(ns, &format!("ip addr add 10.244.{n}.1/24 dev cni0"));
        let other = 3 - n;
        let far = format!("192.168.56.1{other}");
        if o.backend == Backend::HostGw {
            return self.run(ns, &format!("ip route add 10.244.{other}.0/24 via {far}"));
        }
        self.run(ns, &format!(
            "ip link add flannel.1 type vxlan id 1 local 192.168.56.1{n} dev eth0 dstport 8472 nolearning"
        ));
        self.run(ns, "ip link set flannel.1 up");
        self.run(ns, &format!("ip addr add 10.244.{n}.0/32 dev flannel.1"));
        let (mac, vtep) = (
            derived_mac(&format!("n{other}"), "flannel.1"),
            format!("10.244.{other}.0"),
        );
        self.run(
            ns,
            &format!("ip neigh add {vtep} lladdr {mac} dev flannel.1 nud permanent"),
        );
        self.run(ns, &format!("bridge fdb add {mac} dev flannel.1 dst {far}"));
        self.run(
            ns,
            &format!("ip route add {vtep}/24 via {vtep} dev flannel.1 onlink"),
        );
    }

    fn pod(&mut self, ns: NsId, node: NsId, addr: &str, o: Options) {
        let name = self.lab.world.ns(ns).expect("the pod").name.clone();
        let veth = format!("veth-{name}");
        cable(&mut self.lab, (ns, "eth0"), (node, &veth));
        self.run(ns, &format!("ip link set eth0 mtu {}", o.mtu()));
        self.run(node, &format!("ip link set {veth} mtu {}", o.mtu()));
        self.run(node, &format!("ip link set {veth} master cni0"));
        self.run(ns, &format!("ip addr add {addr}/24 dev eth0"));
        let gw = addr.rsplit_once('.').expect("IPv4").0;
        self.run(ns, &format!("ip route add default via {gw}.1"));
    }

    /// Runs a probe.
    pub fn go(&mut self, p: Probe) -> ProbeResult {
        self.lab.probe(&p, &mut NoTrace)
    }

    /// A connect to the echo server of an address.
    pub fn tcp(&mut self, from: NsId, to: &str) -> ProbeResult {
        self.go(Probe::tcp(from, ip(to), 8080))
    }

    /// A datagram for its echo server. As the measurements: six seconds of patience.
    pub fn udp(&mut self, from: NsId, to: &str) -> ProbeResult {
        let p = Probe::udp(from, ip(to), 5353).size(32);
        self.go(p.timeout(Duration::from_secs(6)))
    }

    /// One echo request.
    pub fn ping(&mut self, from: NsId, to: &str) -> ProbeResult {
        self.go(Probe::ping(from, ip(to)).timeout(Duration::from_secs(6)))
    }

    /// The MAC of the other node's VXLAN device.
    pub fn vtep_mac(n: u8) -> String {
        derived_mac(&format!("n{n}"), "flannel.1").to_string()
    }
}

impl Options {
    fn mtu(&self) -> u32 {
        self.pod_mtu.unwrap_or(match self.backend {
            Backend::HostGw => 1500,
            Backend::Vxlan => 1450,
        })
    }
}
