//! `scenario.json` and `trace.json` of a recording, as typed values. Keys nobody asked for are kept.

use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

use super::pcapng::{self, Packet};
use super::recordings::Recording;

/// Unknown keys of one object.
pub type Rest = BTreeMap<String, Value>;

/// The resolved scenario.
#[derive(Deserialize, Debug, Default)]
pub struct Scenario {
    /// Namespaces in the order they were made.
    #[serde(default)]
    pub netns: indexmap::IndexMap<String, Netns>,
    /// Bridges, tunnels, dummies.
    #[serde(default)]
    pub devices: Vec<Device>,
    /// veth pairs.
    #[serde(default)]
    pub links: Vec<Link>,
    /// Rule sets per namespace.
    #[serde(default)]
    pub rules: BTreeMap<String, Vec<BTreeMap<String, Value>>>,
    /// Before capturing.
    #[serde(default)]
    pub setup: Vec<Step>,
    /// While capturing.
    #[serde(default)]
    pub steps: Vec<Step>,
    /// How this recording wants to be compared (ours only; the oracle ignores it).
    #[serde(default)]
    pub compare: Compare,
    /// Everything else.
    #[serde(flatten)]
    pub rest: Rest,
}

/// A recording's own wishes about its comparison; absent means the default of its source.
#[derive(Deserialize, Debug, Default, Clone, Copy)]
pub struct Compare {
    /// Compare ARP and neighbour discovery frames.
    pub arp: Option<bool>,
    /// Compare payloads by hash and not only by length.
    pub payload: Option<bool>,
}

/// One namespace.
#[derive(Deserialize, Debug, Default)]
pub struct Netns {
    /// node, switch, pod, host, router.
    #[serde(default)]
    pub role: String,
    /// Settings, in order.
    #[serde(default)]
    pub sysctl: indexmap::IndexMap<String, Value>,
    /// Operands of `ip route add`.
    #[serde(default)]
    pub routes: Vec<String>,
    /// Permanent neighbours.
    #[serde(default)]
    pub neigh: Vec<Neigh>,
    /// Forwarding entries.
    #[serde(default)]
    pub fdb: Vec<Fdb>,
    /// Lines of `ip -batch`.
    #[serde(default)]
    pub ip: Vec<String>,
    /// Whether IPv6 is on.
    #[serde(default)]
    pub ipv6: bool,
    /// Everything else.
    #[serde(flatten)]
    pub rest: Rest,
}

/// A permanent neighbour.
#[derive(Deserialize, Debug)]
pub struct Neigh {
    /// Address.
    pub ip: String,
    /// Link address.
    pub mac: String,
    /// Device.
    pub dev: String,
}

/// A forwarding entry of a bridge port or a vxlan device.
#[derive(Deserialize, Debug)]
pub struct Fdb {
    /// `append` unless named.
    #[serde(default)]
    pub op: Option<String>,
    /// Link address.
    pub mac: String,
    /// Device.
    pub dev: String,
    /// Remote tunnel end.
    #[serde(default)]
    pub dst: Option<String>,
    /// Other operands, `master static` unless named.
    #[serde(default)]
    pub args: Option<Vec<String>>,
}

/// What a device or a veth end has in common.
#[derive(Deserialize, Debug, Default, Clone)]
pub struct End {
    /// Namespace.
    pub ns: String,
    /// Device name.
    pub dev: String,
    /// Link address; the kernel draws one when absent.
    #[serde(default)]
    pub mac: Option<String>,
    /// Addresses with prefix length.
    #[serde(default)]
    pub addr: Vec<String>,
    /// MTU; the kernel's default when absent.
    #[serde(default)]
    pub mtu: Option<u32>,
    /// Bridge it is enslaved to.
    #[serde(default)]
    pub master: Option<String>,
    /// Bridge port flag.
    #[serde(default)]
    pub hairpin: Option<bool>,
    /// Bridge port flag.
    #[serde(default)]
    pub isolated: Option<bool>,
    /// Bridge port flag.
    #[serde(default)]
    pub learning: Option<bool>,
    /// Left administratively down.
    #[serde(default)]
    pub down: bool,
}

/// A bridge, vxlan, ipip, dummy or vlan device.
#[derive(Deserialize, Debug)]
pub struct Device {
    /// Its kind.
    pub kind: String,
    /// The common part.
    #[serde(flatten)]
    pub end: End,
    /// VNI or VLAN id.
    #[serde(default)]
    pub id: Option<u32>,
    /// Tunnel source address.
    #[serde(default)]
    pub local: Option<String>,
    /// Device underneath.
    #[serde(default)]
    pub under: Option<String>,
    /// VXLAN UDP port.
    #[serde(default)]
    pub dstport: Option<u16>,
    /// VXLAN learning off (the default of the scenarios).
    #[serde(default)]
    pub nolearning: Option<bool>,
    /// Bridge with VLAN filtering.
    #[serde(default)]
    pub vlan_filtering: bool,
}

/// A veth pair.
#[derive(Deserialize, Debug)]
pub struct Link {
    /// One end.
    pub a: End,
    /// The other.
    pub b: End,
}

/// One step of `setup` or `steps`: exactly one action, plus an optional pause.
#[derive(Deserialize, Debug, Default)]
pub struct Step {
    /// When, from the beginning of the run.
    #[serde(default)]
    pub at_ms: Option<u64>,
    /// Frames sent from a packet socket of an endpoint.
    #[serde(default)]
    pub inject: Option<Value>,
    /// A command in a namespace.
    #[serde(default)]
    pub exec: Option<Exec>,
    /// Rule sets to load.
    #[serde(default)]
    pub rules: Option<BTreeMap<String, Value>>,
    /// Settings per namespace.
    #[serde(default)]
    pub sysctl: Option<indexmap::IndexMap<String, indexmap::IndexMap<String, Value>>>,
    /// `ip -batch` lines per namespace.
    #[serde(default)]
    pub ip: Option<indexmap::IndexMap<String, Vec<String>>>,
    /// Everything else (`wait_port`, `sleep_ms`: no effect on state).
    #[serde(flatten)]
    pub rest: Rest,
}

/// A command run in a namespace.
#[derive(Deserialize, Debug)]
pub struct Exec {
    /// Namespace.
    pub ns: String,
    /// A shell line, or
    #[serde(default)]
    pub sh: Option<String>,
    /// words.
    #[serde(default)]
    pub argv: Vec<String>,
}

impl Exec {
    /// The command as one line.
    pub fn line(&self) -> String {
        self.sh.clone().unwrap_or_else(|| self.argv.join(" "))
    }
}

/// The head of `trace.json`.
#[derive(Deserialize, Debug)]
pub struct Trace {
    /// Ports that keep their numbers.
    #[serde(default)]
    pub fixed_ports: Vec<u16>,
    /// Interfaces by `NS.DEV`.
    #[serde(default)]
    pub interfaces: BTreeMap<String, Interface>,
    /// Time of the first captured frame.
    #[serde(default)]
    pub t0_ns: u64,
    /// Frames the capture lost: then nothing can be equal.
    #[serde(default)]
    pub capture_drops: u64,
    /// Frames injected by steps, times from the beginning of the run.
    #[serde(default)]
    pub injected: Vec<Injected>,
    /// Commands that ran.
    #[serde(default)]
    pub exec: Vec<Ran>,
    /// `conntrack -E` of each node, in order.
    #[serde(default)]
    pub conntrack_events: BTreeMap<String, Vec<String>>,
    /// Every frame in time order.
    #[serde(default)]
    pub frames: Vec<FrameRef>,
}

/// A command that ran.
#[derive(Deserialize, Debug)]
pub struct Ran {
    /// Where.
    pub ns: String,
    /// Its words.
    #[serde(default)]
    pub cmd: String,
    /// Its exit code.
    #[serde(default)]
    pub rc: Option<i64>,
}

/// What the trace says about an interface.
#[derive(Deserialize, Debug, Default)]
pub struct Interface {
    /// Without Ethernet header.
    #[serde(default)]
    pub l3: bool,
}

/// An injected frame.
#[derive(Deserialize, Debug)]
pub struct Injected {
    /// Microseconds since the beginning of the run.
    pub t_us: u64,
    /// Interface it was sent from.
    #[serde(rename = "if")]
    pub interface: String,
    /// Its bytes in hex.
    pub hex: String,
}

/// One line of the trace's frame list.
#[derive(Deserialize, Debug, Clone)]
pub struct FrameRef {
    /// Interface.
    #[serde(rename = "if")]
    pub interface: String,
    /// Index in its pcapng.
    pub i: usize,
    /// `in` or `out`.
    pub dir: Dir,
    /// The recording's own one-line form; the decoder is tested against it.
    #[serde(default)]
    #[allow(dead_code, reason = "read by conformance_parts only")]
    pub sum: String,
}

/// Direction as the interface sees it.
#[derive(Deserialize, Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "lowercase")]
pub enum Dir {
    /// Received.
    In,
    /// Transmitted.
    Out,
}

/// One frame of a recording with its bytes.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// `NS.DEV`.
    pub interface: String,
    /// Direction.
    pub dir: Dir,
    /// Without Ethernet header.
    pub l3: bool,
    /// Nanoseconds since the first captured frame.
    pub t_ns: u64,
    /// The bytes.
    pub data: Vec<u8>,
}

/// Reads `scenario.json`.
pub fn load_scenario(r: &Recording<'_>) -> Result<Scenario, String> {
    let text = r
        .text("scenario.json")
        .ok_or("scenario.json: absent or not UTF-8")?;
    serde_json::from_str(&text).map_err(|e| format!("scenario.json: {e}"))
}

/// Reads `trace.json`.
pub fn load_trace(r: &Recording<'_>) -> Result<Trace, String> {
    let text = r
        .text("trace.json")
        .ok_or("trace.json: absent or not UTF-8")?;
    serde_json::from_str(&text).map_err(|e| format!("trace.json: {e}"))
}

/// The frames of a recording in the order of its trace.
pub fn load_frames(r: &Recording<'_>, trace: &Trace) -> Result<Vec<Recorded>, String> {
    let mut files: BTreeMap<&str, Vec<Packet>> = BTreeMap::new();
    let mut out = Vec::with_capacity(trace.frames.len());
    for f in &trace.frames {
        if !files.contains_key(f.interface.as_str()) {
            let name = format!("{}.pcapng", f.interface);
            let bytes = r.file(&name).ok_or_else(|| format!("{name}: absent"))?;
            files.insert(
                &f.interface,
                pcapng::read(&bytes).map_err(|e| format!("{name}: {e}"))?,
            );
        }
        let packet = files.get(f.interface.as_str()).and_then(|v| v.get(f.i));
        let p = packet.ok_or_else(|| format!("{}.pcapng: no frame {}", f.interface, f.i))?;
        out.push(Recorded {
            interface: f.interface.clone(),
            dir: f.dir,
            l3: trace.interfaces.get(&f.interface).is_some_and(|i| i.l3),
            t_ns: p.t_ns.saturating_sub(trace.t0_ns),
            data: p.data.clone(),
        });
    }
    Ok(out)
}

/// The text of a rule set entry: inline, or a file `@oracle/...` that `shared` finds.
pub fn rule_text(v: &Value, shared: impl Fn(&str) -> Option<Vec<u8>>) -> Option<String> {
    let s = v.as_str()?;
    match s.strip_prefix("@oracle/") {
        Some(name) => shared(name).and_then(|b| String::from_utf8(b).ok()),
        None => Some(s.to_owned()),
    }
}
