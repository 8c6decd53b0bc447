//! The real kernel: a router namespace, the far ends of its cables in another, and one round after the other.
//!
//! Frames go in through packet sockets at the far ends and are read there when they come out. Sending runs the
//! whole of the router's work in the sender's own context, so what a frame causes is there when the call is
//! back; at a round's end a short silence makes sure. Namespaces carry the process id in their names and go
//! when the value is dropped.

#[path = "kernel_rest.rs"]
mod rest;

use super::net::{CABLES, Shape, host_mac, mac};
use super::nft_kernel::{self, worked_off};
use super::packet::Seen;
use super::rng::Rng;
use super::round::{Backend, LOCAL, Out, Outcome, Round, Sent};
use super::traffic::Traffic;
use super::{EMPTY, NONE};
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, bind,
    recvfrom, send, sendto, setsockopt, socket, sockopt,
};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// `PACKET_OUTGOING` of linux/if_packet.h: the socket's own frame coming back to it.
const OUTGOING: u8 = 4;

/// What a round is that still turns when it should have ended, or that made too many frames: what came of it
/// hangs on how long it was watched.
pub const RESTLESS: &str = "the kernel does not come to rest";
/// How long a round may take to come to rest.
const REST: Duration = Duration::from_millis(600);
/// Frames a round may make.
const FRAMES_MAX: usize = 4000;

/// A router of one shape with everything around it.
pub struct Kernel {
    shape: Shape,
    names: [String; 2],
    /// The far ends.
    cables: Vec<OwnedFd>,
    /// Sends IP packets of the router's own.
    local: OwnedFd,
    router: File,
    home: File,
    events: Child,
    lines: Receiver<String>,
    loaded: Option<(Backend, bool)>,
}

/// What a program said when it failed.
pub(super) fn run(program: &str, args: &[&str], input: &str) -> Result<String, String> {
    let fail = |e: std::io::Error| format!("{program}: {e}");
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(fail)?;
    if let Some(mut pipe) = child.stdin.take() {
        // A program that does not read its input to the end says why itself.
        let _ = pipe.write_all(input.as_bytes());
    }
    let out = child.wait_with_output().map_err(fail)?;
    if out.status.success() {
        return Ok(String::from_utf8_lossy(&out.stdout).into_owned());
    }
    let why = String::from_utf8_lossy(&out.stderr);
    Err(format!("{program} {}: {}", args.join(" "), why.trim()))
}

/// Why this machine cannot do it, or nothing.
pub fn lacks() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("needs root".to_owned());
    }
    let tools = [
        ("ip", "-V"),
        ("iptables-nft", "-V"),
        ("iptables-legacy", "-V"),
        ("nft", "-v"),
        ("ipset", "-v"),
        ("conntrack", "-V"),
        ("ethtool", "--version"),
        ("bridge", "-V"),
    ];
    for (tool, version) in tools {
        if let Err(e) = run(tool, &[version], "") {
            return Some(format!("needs {tool} ({e})"));
        }
    }
    let name = format!("ppf{}-probe", std::process::id());
    let probe = run("ip", &["netns", "add", &name], "").and_then(|_| {
        run(
            "ip",
            &[
                "netns",
                "exec",
                &name,
                "iptables-nft",
                "-t",
                "nat",
                "-A",
                "OUTPUT",
                "-j",
                "ACCEPT",
            ],
            "",
        )
    });
    let _ = run("ip", &["netns", "del", &name], "");
    probe
        .err()
        .map(|e| format!("needs network namespaces with iptables ({e})"))
}

impl Kernel {
    /// Builds it.
    pub fn new(shape: Shape, backend: Backend) -> Result<Self, String> {
        let id = std::process::id();
        let kind = match (shape, backend) {
            (Shape::Routed, Backend::Nft) => "rn",
            (Shape::Routed, Backend::Legacy) => "rl",
            (Shape::Bridged, Backend::Nft) => "bn",
            (Shape::Bridged, Backend::Legacy) => "bl",
        };
        let names = [format!("ppf{id}-{kind}"), format!("ppf{id}-{kind}e")];
        for n in &names {
            run("ip", &["netns", "add", n], "")?;
        }
        let built = Kernel::build(shape, backend, &names);
        if built.is_err() {
            names
                .iter()
                .for_each(|n| drop(run("ip", &["netns", "del", n], "")));
        }
        built
    }

    fn build(shape: Shape, backend: Backend, names: &[String; 2]) -> Result<Self, String> {
        let open = |path: &str| File::open(path).map_err(|e| format!("{path}: {e}"));
        let home = open("/proc/thread-self/ns/net")?;
        let router = open(&format!("/run/netns/{}", names[0]))?;
        let ends = open(&format!("/run/netns/{}", names[1]))?;
        enter(&router)?;
        // Without a link-local address nobody is redirected (ndisc.c `ndisc_send_redirect`): how often that may
        // be said to a neighbour would hang on the rounds before.
        let silent = sysctl("net.ipv6.conf.default.addr_gen_mode", "1");
        enter(&ends)?;
        let far = silent.and_then(|()| Kernel::far_ends(names));
        enter(&router)?;
        let near = Kernel::near_ends(shape, backend);
        let started = far.and_then(|f| near.map(|n| (f, n)));
        let (cables, (local, events, lines)) = match started {
            Ok(s) => s,
            Err(e) => {
                enter(&home)?;
                return Err(e);
            }
        };
        enter(&home)?;
        let names = names.clone();
        Ok(Kernel {
            shape,
            names,
            cables,
            local,
            router,
            home,
            events,
            lines,
            loaded: None,
        })
    }

    fn far_ends(names: &[String; 2]) -> Result<Vec<OwnedFd>, String> {
        for key in ["all", "default"] {
            sysctl(&format!("net.ipv6.conf.{key}.disable_ipv6"), "1")?;
        }
        let mut out = Vec::new();
        for (i, r) in CABLES.iter().enumerate() {
            let e = format!("e{i}");
            let pair = [
                "link", "add", &e, "type", "veth", "peer", "name", r, "netns", &names[0],
            ];
            run("ip", &pair, "")?;
            let mac = mac(host_mac(i));
            run(
                "ip",
                &["link", "set", &e, "address", &mac, "arp", "off", "up"],
                "",
            )?;
            out.push(packet_socket(&e)?);
        }
        Ok(out)
    }

    #[allow(clippy::type_complexity, reason = "taken apart at the only caller")]
    fn near_ends(
        shape: Shape,
        backend: Backend,
    ) -> Result<(OwnedFd, Child, Receiver<String>), String> {
        for (key, value) in shape
            .sysctls()
            .iter()
            .filter(|(k, _)| !k.contains("bridge"))
        {
            sysctl(key, value)?;
        }
        // Its neighbours never come and go, and its addresses are used at once.
        sysctl("net.ipv6.conf.default.router_solicitations", "0")?;
        for l in shape.lines() {
            let words: Vec<&str> = l.split_whitespace().collect();
            run(words[0], &words[1..], "")?;
        }
        for (key, value) in shape.sysctls().iter().filter(|(k, _)| k.contains("bridge")) {
            sysctl(key, value)?;
        }
        // Checksums in frames are real ones.
        for dev in CABLES
            .iter()
            .chain((shape == Shape::Bridged).then_some(&"br0"))
        {
            let off = [
                "-K", dev, "tx", "off", "tso", "off", "gso", "off", "gro", "off", "sg", "off",
            ];
            run("ethtool", &off, "")?;
        }
        let raw = socket(
            AddressFamily::Inet,
            SockType::Raw,
            SockFlag::empty(),
            SockProtocol::Raw,
        )
        .map_err(|e| format!("raw socket: {e}"))?;
        if backend == Backend::Legacy {
            run(&tool(backend, false, "restore"), &[], EMPTY)?;
            run(&tool(backend, true, "restore"), &[], EMPTY)?;
        }
        let (events, lines) = events()?;
        Ok((raw, events, lines))
    }

    /// Loads a round's rules; an error is what the tool said. Of `fresh` native ones those that are refused go.
    fn load(&mut self, r: &mut Round, fresh: bool) -> Result<(), String> {
        if let Some((b, v6)) = self.loaded.take() {
            run(&tool(b, v6, "restore"), &[], empty(b))?;
        }
        if !r.sets.is_empty() {
            run("ipset", &["restore"], &r.sets)?;
        }
        for (k, v) in &r.sysctl {
            sysctl(k, v)?;
        }
        if r.nft_first {
            nft_kernel::load(&mut r.nft, fresh)?;
        }
        if !r.rules.is_empty() {
            self.loaded = Some((r.backend, r.v6));
            // A restore replaces the tables it names; the others were emptied.
            run(&tool(r.backend, r.v6, "restore"), &[], &r.rules)?;
        }
        if !r.nft_first {
            nft_kernel::load(&mut r.nft, fresh)?;
        }
        run("conntrack", &["-F"], "")?;
        let _ = std::fs::write("/proc/sys/net/ipv4/route/flush", "1");
        self.drain();
        Ok(())
    }

    /// Runs a round: with frames drawn, `count` of them, or those that `r` has.
    pub fn run(&mut self, r: &mut Round, draw: Option<(&mut Rng, usize)>) -> Result<(), String> {
        enter(&self.router)?;
        let done = self.inside(r, draw);
        if done.is_err()
            && let Some((b, v6)) = self.loaded.take()
        {
            // What turns endlessly does so by the rules.
            run(&tool(b, v6, "restore"), &[], empty(b))?;
        }
        let cleaned = self.clean(r);
        enter(&self.home)?;
        done.and(cleaned)
    }

    fn inside(&mut self, r: &mut Round, draw: Option<(&mut Rng, usize)>) -> Result<(), String> {
        self.load(r, draw.is_some())?;
        let mut out: Vec<Vec<Out>> = vec![Vec::new(); CABLES.len()];
        let begun = Instant::now();
        match draw {
            Some((rng, count)) => {
                let mut traffic = Traffic::new(r.shape, r.v6, rng.next() as u16);
                let mut other = Traffic::new(r.shape, !r.v6, 1);
                while r.sent.len() < count && rested(&out) {
                    if r.dual && rng.chance(50) {
                        std::mem::swap(&mut traffic, &mut other);
                    }
                    for mut s in traffic.draw(rng) {
                        s.t_us = begun.elapsed().as_micros() as u64;
                        if self.put(&s)? {
                            let mut seen = Vec::new();
                            self.take(&mut out, Some(&mut seen));
                            for s in seen {
                                match r.dual && s.ip.src.is_ipv6() != traffic.v6 {
                                    true => other.seen.push(s),
                                    false => traffic.seen.push(s),
                                }
                            }
                            r.sent.push(s);
                        }
                    }
                }
            }
            None => {
                for s in &mut r.sent {
                    s.t_us = begun.elapsed().as_micros() as u64;
                    self.put(s)?;
                    self.take(&mut out, None);
                }
            }
        }
        let mut events = Vec::new();
        let begun = Instant::now();
        loop {
            let before: usize = out.iter().map(Vec::len).sum();
            let own = rest::own_packets();
            let quiet = self.events_until_quiet(&mut events) && own == rest::own_packets();
            self.take(&mut out, None);
            if quiet && before == out.iter().map(Vec::len).sum::<usize>() {
                break;
            }
            if begun.elapsed() > REST || !rested(&out) {
                return Err(RESTLESS.to_owned());
            }
        }
        let save = match r.rules.is_empty() {
            true => String::new(),
            false => run(&tool(r.backend, r.v6, "save"), &["-c"], "")?,
        };
        let mut conntrack = String::new();
        for family in r.families() {
            let family = if *family { "ipv6" } else { "ipv4" };
            conntrack += &run("conntrack", &["-L", "-f", family, "-o", "extended"], "")?;
        }
        self.last_event(&mut events)?;
        let sets = match r.sets.is_empty() {
            true => String::new(),
            false => run("ipset", &["save"], "")?,
        };
        r.kernel = Outcome {
            out: out.into_iter().flatten().collect(),
            save,
            conntrack: conntrack.lines().map(str::to_owned).collect(),
            events,
            sets,
            nft: nft_kernel::list(r)?,
        };
        self.forget_fragments(r).map(drop)
    }

    /// Empties what a round left behind.
    fn clean(&mut self, r: &Round) -> Result<(), String> {
        for (k, _) in &r.sysctl {
            if let Some((_, usual)) = SETTINGS.iter().find(|(name, _)| name == k) {
                sysctl(k, usual[0])?;
            }
        }
        nft_kernel::clean(r)?;
        self.forget_places()?;
        if rest::queued() > 0 {
            // A rule stood in the way of those that end it.
            if let Some((b, v6)) = self.loaded.take() {
                run(&tool(b, v6, "restore"), &[], empty(b))?;
            }
            let left = self.forget_fragments(r)?;
            if left > 0 {
                // Something still sends them.
                return Err(RESTLESS.to_owned());
            }
        }
        if r.sets.is_empty() {
            return Ok(());
        }
        if let Some((b, v6)) = self.loaded.take() {
            run(&tool(b, v6, "restore"), &[], empty(b))?;
        }
        // Members of a list count as used.
        run("ipset", &["flush"], "")?;
        // Rules let go of their sets a little after they are gone.
        for _ in 0..50 {
            if run("ipset", &["destroy"], "").is_ok() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(4));
        }
        Err("the sets of a round cannot be destroyed".to_owned())
    }

    /// Puts a frame in; false if the cable does not take one of its size.
    fn put(&self, s: &Sent) -> Result<bool, String> {
        let fail = |e: nix::Error| format!("sending at {}: {e}", s.at);
        if s.at == LOCAL {
            let dst: [u8; 4] = s
                .data
                .get(16..20)
                .and_then(|d| d.try_into().ok())
                .unwrap_or_default();
            let to = SockaddrIn::new(dst[0], dst[1], dst[2], dst[3], 0);
            // Refused by a rule, or no route: both are results.
            let _ = sendto(self.local.as_raw_fd(), &s.data, &to, MsgFlags::MSG_DONTWAIT);
            worked_off();
            return Ok(true);
        }
        let cable = CABLES
            .iter()
            .position(|c| *c == s.at)
            .ok_or("no such cable")?;
        match send(self.cables[cable].as_raw_fd(), &s.data, MsgFlags::empty()) {
            Ok(_) => {
                worked_off();
                Ok(true)
            }
            Err(nix::Error::ENOBUFS) => Ok(false),
            Err(e) => Err(fail(e)),
        }
    }

    /// Reads what came out so far.
    fn take(&self, out: &mut [Vec<Out>], mut seen: Option<&mut Vec<Seen>>) {
        let mut buffer = vec![0; 4096];
        for (i, fd) in self.cables.iter().enumerate() {
            while let Ok((n, from)) = recvfrom::<LinkAddr>(fd.as_raw_fd(), &mut buffer) {
                let data = &buffer[..n];
                if from.is_some_and(|f| f.pkttype() == OUTGOING) || !wanted(data) {
                    continue;
                }
                if let Some((seen, s)) = seen.as_deref_mut().zip(Seen::new(i, data)) {
                    seen.push(s);
                }
                out[i].push(Out {
                    at: CABLES[i].to_owned(),
                    data: data.to_vec(),
                });
            }
        }
    }

    /// Forgets what is left of earlier.
    fn drain(&mut self) {
        self.take(&mut vec![Vec::new(); CABLES.len()], None);
        while self.lines.try_recv().is_ok() {}
    }

    /// Which shape it has.
    pub fn shape(&self) -> Shape {
        self.shape
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        let _ = self.events.kill();
        let _ = self.events.wait();
        for n in &self.names {
            let _ = run("ip", &["netns", "del", n], "");
        }
    }
}

/// Whether so few frames came out that the round may go on.
fn rested(out: &[Vec<Out>]) -> bool {
    out.iter().map(Vec::len).sum::<usize>() <= FRAMES_MAX
}

/// Settings a round may change: the key, and its values with the usual one first.
pub const SETTINGS: [(&str, &[&str]); 4] = [
    ("net.netfilter.nf_conntrack_tcp_be_liberal", &["0", "1"]),
    ("net.netfilter.nf_conntrack_tcp_loose", &["1", "0"]),
    ("net.netfilter.nf_conntrack_checksum", &["1", "0"]),
    (
        "net.netfilter.nf_conntrack_tcp_ignore_invalid_rst",
        &["0", "1"],
    ),
];

/// What empties the tables of a back end.
fn empty(b: Backend) -> &'static str {
    match b {
        Backend::Legacy => EMPTY,
        Backend::Nft => NONE,
    }
}

fn tool(b: Backend, v6: bool, what: &str) -> String {
    let name = if v6 { "ip6tables" } else { "iptables" };
    let back = if b == Backend::Legacy {
        "legacy"
    } else {
        "nft"
    };
    format!("{name}-{back}-{what}")
}

/// This thread, and the programs it starts, live in that namespace from now on.
fn enter(ns: &File) -> Result<(), String> {
    setns(ns, CloneFlags::CLONE_NEWNET).map_err(|e| format!("setns: {e}"))
}

fn sysctl(key: &str, value: &str) -> Result<(), String> {
    let path = format!("/proc/sys/{}", key.replace('.', "/"));
    std::fs::write(&path, value).map_err(|e| format!("{path}: {e}"))
}

/// Whether a frame takes part: IP, and neither neighbour nor listener discovery.
pub fn wanted(f: &[u8]) -> bool {
    match f.get(12..14) {
        Some([8, 0]) => true,
        Some([0x86, 0xdd]) => {
            let next = f.get(20).copied().unwrap_or(0);
            let at = if next == 0 { 62 } else { 54 };
            let kind = f.get(at).copied().unwrap_or(0);
            !(matches!(next, 0 | 58) && matches!(kind, 130..=137 | 143))
        }
        _ => false,
    }
}

fn packet_socket(dev: &str) -> Result<OwnedFd, String> {
    let fail = |e: nix::Error| format!("packet socket on {dev}: {e}");
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let fd = socket(
        AddressFamily::Packet,
        SockType::Raw,
        flags,
        SockProtocol::EthAll,
    )
    .map_err(fail)?;
    setsockopt(&fd, sockopt::RcvBuf, &(4 << 20)).map_err(fail)?;
    let mut all = nix::ifaddrs::getifaddrs().map_err(fail)?;
    let found = all.find_map(|a| {
        let same = a.interface_name == dev;
        a.address?.as_link_addr().copied().filter(|_| same)
    });
    let address = found.ok_or(format!("{dev}: no link address"))?;
    bind(fd.as_raw_fd(), &address).map_err(fail)?;
    Ok(fd)
}

/// Listens to new connections.
fn events() -> Result<(Child, Receiver<String>), String> {
    let mut child = Command::new("conntrack")
        .args(["-E", "-e", "NEW", "-o", "extended", "-b", "4194304"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|e| format!("conntrack -E: {e}"))?;
    let pipe = child.stdout.take().ok_or("conntrack -E: no output")?;
    let (tx, rx) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            if tx.send(line).is_err() {
                return;
            }
        }
    });
    Ok((child, rx))
}
