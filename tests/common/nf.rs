//! One namespace with rules, and packets shown to one of its tables.
#![allow(dead_code)]

use podpath::base::{DevId, Instant, NodeId, NsId, Origin, Rng};
use podpath::net::{DeviceKind, Edit, IfAddr, LinkSpec, NetNs};
use podpath::nf::eval::{self, At, Cx, Effect, NfStep, RuleRef, Verdict};
use podpath::nf::{Backend, Counters, Family, Hook, Netfilter, RuleSet, TableName};
use podpath::wire::{Frame, MacAddr, build, checksum, ip, proto};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// The namespace, its rules and what the next packet meets.
#[derive(Clone, Debug)]
pub struct World {
    pub ns: NetNs,
    pub nf: Netfilter,
    pub rng: Rng,
    pub now: Instant,
    pub assume: BTreeMap<RuleRef, bool>,
    pub steps: Vec<NfStep>,
    /// Nobody is told of steps.
    pub quiet: bool,
    pub effects: Vec<Effect>,
}

/// A device with its addresses, up.
fn device(edit: &mut Edit<'_>, name: &str, last: u8, addrs: &[&str]) {
    let dev = edit
        .link_add(LinkSpec {
            name: name.to_owned(),
            kind: DeviceKind::Uplink,
            mac: MacAddr([2, 0, 0, 0, 0, last]),
            mtu: None,
            origin: Origin::Kernel,
        })
        .expect("a new name");
    edit.set_up(dev, true).expect("a device");
    for a in addrs {
        let net = a.parse().expect("an address");
        let addr = IfAddr::new(net, Origin::Kernel).with_broadcast();
        edit.addr_add(dev, addr).expect("a new address");
    }
}

impl World {
    /// A router between eth0 (10.0.0.1, fd00::1) and cni0 (10.1.0.1, fd01::1), with cali1 beside.
    pub fn new(rules: &str) -> World {
        let mut ns = NetNs::new(NsId(0), "n", NodeId(0));
        {
            let mut edit = ns.edit();
            let lo = edit.find("lo").expect("lo");
            edit.set_up(lo, true).expect("lo");
            device(&mut edit, "eth0", 2, &["10.0.0.1/24", "fd00::1/64"]);
            device(&mut edit, "cni0", 3, &["10.1.0.1/24", "fd01::1/64"]);
            device(&mut edit, "cali1", 4, &[]);
        }
        let mut world = World {
            ns,
            nf: Netfilter::default(),
            rng: Rng::new(1),
            now: Instant::from_secs(1),
            assume: BTreeMap::new(),
            steps: Vec::new(),
            quiet: false,
            effects: Vec::new(),
        };
        if !rules.is_empty() {
            world.load(rules, Family::V4, Backend::Legacy);
        }
        world
    }

    /// The same with rules for IPv6.
    pub fn v6(rules: &str) -> World {
        let mut world = World::new("");
        world.load(rules, Family::V6, Backend::Legacy);
        world
    }

    /// Loads rules, which have to be good; a text without a table is the filter table's.
    pub fn load(&mut self, rules: &str, family: Family, backend: Backend) {
        let text = match rules.trim_start().starts_with('*') {
            true => rules.to_owned(),
            false => filter(rules),
        };
        let (set, findings) = RuleSet::parse("rules", &text, family);
        assert!(findings.is_empty(), "{findings:?}");
        let findings = self.nf.set_rules(family, backend, set);
        assert!(findings.is_empty(), "{findings:?}");
    }

    pub fn dev(&self, name: &str) -> DevId {
        self.ns.dev_by_name(name).expect("a device").id
    }

    /// From eth0 to cni0 in FORWARD.
    pub fn forward(&mut self, f: &mut Frame) -> Verdict {
        self.at_hook(f, TableName::Filter, Hook::Forward, ("eth0", "cni0"))
    }

    /// One table at one place.
    pub fn show(&mut self, f: &mut Frame, at: &At, table: TableName) -> Verdict {
        self.ask(f, at, Backend::Legacy, table)
    }

    pub fn ask(&mut self, f: &mut Frame, at: &At, backend: Backend, table: TableName) -> Verdict {
        self.steps.clear();
        let mut cx = Cx {
            now: self.now,
            rng: &mut self.rng,
            steps: (!self.quiet).then_some(&mut self.steps),
            assume: &self.assume,
        };
        let (nf, ns, fx) = (&mut self.nf, &self.ns, &mut self.effects);
        let mut verdict = eval::table(nf, ns, f, at, backend, table, &mut cx, fx);
        while let Some(Effect::Paused(from)) = fx.pop_if(|e| matches!(e, Effect::Paused(_))) {
            verdict = eval::resume(nf, ns, f, at, (backend, table), *from, &mut cx, fx);
        }
        verdict
    }

    fn at(&self, f: &Frame, hook: Hook, input: &str, output: &str) -> At {
        let family = match f.l3()[0] >> 4 {
            4 => Family::V4,
            _ => Family::V6,
        };
        let dev = |name: &str| self.ns.dev_by_name(name).map(|d| d.id);
        At {
            hook,
            family,
            input: dev(input),
            output: dev(output),
        }
    }

    /// Conntrack looks at a packet from eth0.
    pub fn track(&mut self, f: &mut Frame, hook: Hook) {
        let at = self.at(f, hook, "eth0", "");
        let mut cx = Cx {
            now: self.now,
            rng: &mut self.rng,
            steps: None,
            assume: &self.assume,
        };
        self.nf.ct.track(&self.ns, f, &at, &mut cx);
    }

    /// Its connection enters the table.
    pub fn confirm(&mut self, f: &mut Frame) {
        let at = self.at(f, Hook::Postrouting, "eth0", "cni0");
        let mut cx = Cx {
            now: self.now,
            rng: &mut self.rng,
            steps: None,
            assume: &self.assume,
        };
        self.nf.ct.confirm(&self.ns, f, &at, &mut cx);
    }

    /// NAT at a hook.
    pub fn nat(&mut self, f: &mut Frame, hook: Hook, input: &str, output: &str) -> Verdict {
        let at = self.at(f, hook, input, output);
        let mut cx = Cx {
            now: self.now,
            rng: &mut self.rng,
            steps: None,
            assume: &self.assume,
        };
        let (ns, fx) = (&self.ns, &mut self.effects);
        let mut ask =
            |nf: &mut Netfilter, f: &mut Frame, cx: &mut Cx<'_>, b: podpath::nf::hook::NatChain| {
                eval::nat_chain(nf, ns, f, &at, b, cx, fx)
            };
        podpath::nf::nat::hook(&mut self.nf, f, &at, &mut cx, &mut ask)
            .expect("no drop by NAT itself")
    }

    /// One table of the legacy back end at a hook.
    pub fn at_hook(
        &mut self,
        f: &mut Frame,
        table: TableName,
        hook: Hook,
        (input, output): (&str, &str),
    ) -> Verdict {
        let at = self.at(f, hook, input, output);
        self.show(f, &at, table)
    }

    /// Packets counted by the rules and the policy of a chain.
    pub fn packets(&self, chain: &str) -> Vec<u64> {
        self.counters(chain).iter().map(|c| c.packets).collect()
    }

    pub fn counters(&self, chain: &str) -> Vec<Counters> {
        let sets = [Family::V4, Family::V6].into_iter();
        let set = sets
            .filter_map(|f| self.nf.rule_set(f, Backend::Legacy))
            .next();
        let set = set.expect("rules");
        let chains = set.tables.iter().flat_map(|t| &t.chains);
        let chain = chains
            .into_iter()
            .find(|c| c.name == chain)
            .expect("a chain");
        let rules = chain.rules.iter().map(|r| r.counters);
        rules.chain([chain.counters]).collect()
    }

    /// Passes time.
    pub fn wait(&mut self, ms: u64) {
        self.now = Instant::from_nanos(self.now.as_nanos() + ms * 1_000_000);
    }
}

/// Rules of FORWARD and chains for a filter table; lines that do not begin with `:` or `-A` get `-A FORWARD`.
pub fn filter(rules: &str) -> String {
    let mut text =
        String::from("*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n");
    for line in rules.lines().map(str::trim).filter(|l| !l.is_empty()) {
        let own = line.starts_with(':') || line.starts_with("-A");
        text.push_str(if own { "" } else { "-A FORWARD " });
        text.push_str(line);
        text.push('\n');
    }
    text + "COMMIT\n"
}

/// An IP packet around an upper-layer one whose checksum is filled in.
pub fn packet(src: &str, dst: &str, proto: u8, l4: &[u8]) -> Frame {
    let (src, dst): (IpAddr, IpAddr) = (src.parse().expect("src"), dst.parse().expect("dst"));
    let mut l4 = l4.to_vec();
    let at = match proto {
        proto::TCP => 16,
        proto::UDP => 6,
        proto::ICMP | proto::ICMPV6 => 2,
        _ => usize::MAX,
    };
    if l4.len() >= at.saturating_add(2) {
        l4[at..at + 2].fill(0);
        let sum = match proto {
            proto::ICMP => checksum::of(&l4),
            _ => checksum::l4(src, dst, proto, &l4),
        };
        l4[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    }
    Frame::ip(&build::ip_packet(src, dst, proto, 64, 0, 7, true, &l4))
}

/// A TCP segment: flags as in the header's byte, options behind it, no payload.
pub fn tcp(src: &str, dst: &str, sport: u16, dport: u16, flags: u8, options: &[u8]) -> Frame {
    let mut h = vec![0; 20];
    h[..2].copy_from_slice(&sport.to_be_bytes());
    h[2..4].copy_from_slice(&dport.to_be_bytes());
    h[12] = ((20 + options.len()) / 4 * 16) as u8;
    h[13] = flags;
    h[14] = 0x72;
    h.extend_from_slice(options);
    packet(src, dst, proto::TCP, &h)
}

pub fn udp(src: &str, dst: &str, sport: u16, dport: u16, payload: &[u8]) -> Frame {
    let len = (8 + payload.len()) as u16;
    let mut h = [
        sport.to_be_bytes(),
        dport.to_be_bytes(),
        len.to_be_bytes(),
        [0; 2],
    ]
    .concat();
    h.extend_from_slice(payload);
    packet(src, dst, proto::UDP, &h)
}

/// A SYN from 10.0.0.9 to 10.1.0.9.
pub fn syn(dport: u16) -> Frame {
    tcp("10.0.0.9", "10.1.0.9", 40000, dport, 2, &[])
}

/// Every checksum of the packet holds.
pub fn is_sound(f: &Frame) -> bool {
    let h = ip::IpHeader::parse(f.l3()).expect("a header");
    h.frag_off > 0 || build::l4_checksum_ok(&h, f.l3())
}
