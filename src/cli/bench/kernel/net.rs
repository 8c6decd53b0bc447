//! The oracle's two-node network of namespaces with kube-proxy's rules in it, and frames through it.
//!
//! Figures are per CPU second: the sender's thread, which does the softirq work of every hop of a veth path
//! inline, and ksoftirqd's part. A frame counts when the receiving pod's interface counted it. Invariant:
//! namespaces are gone when this process is, however it ended: a guard that outlives it takes them away.

use super::tools;
use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};
use std::io::Write;
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Seconds after which a run of frames ends, whether all were sent or not.
const LONGEST: &str = "6";
/// Where the receiving end counts and then drops, so that no socket is in the figure.
const DROP: [&str; 8] = ["-t", "raw", "-A", "PREROUTING", "-p", "udp", "-j", "DROP"];
/// Ends with the other end of its pipe, so also after SIGKILL. Without a word before that, a network may just
/// be in the making: it looks again.
const GUARD: &str = "trap '' INT TERM HUP
read -r word || { python3 \"$1\" clean --tag \"$2\"; sleep 3; }
python3 \"$1\" clean --tag \"$2\"; rm -rf \"$3\"";
/// The sending pod.
const SENDER: (&str, &str) = ("a1", "10.244.1.10");

/// How the nodes are joined, and where the server is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Way {
    /// On the client's node.
    Same,
    /// On the other node, over VXLAN.
    Vxlan,
    /// On the other node, routed.
    HostGw,
}

/// Who programs the Services.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Rules {
    /// kube-proxy in iptables mode, loaded by iptables-legacy.
    Legacy,
    /// kube-proxy in iptables mode, loaded by iptables-nft.
    Nft,
    /// kube-proxy in nftables mode.
    Nftables,
}

/// Frames or connections, and the CPU time that they took.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taken {
    /// How many arrived.
    pub done: u64,
    /// How many were sent.
    pub sent: u64,
    /// CPU seconds.
    pub cpu: f64,
}

impl Taken {
    /// Nanoseconds for one.
    pub fn each(&self) -> f64 {
        self.cpu * 1e9 / self.done.max(1) as f64
    }
}

/// The bench's programs, built, and where the oracle is.
#[derive(Debug)]
pub(super) struct Oracle {
    root: PathBuf,
    dir: PathBuf,
    tag: String,
    cpu: String,
    path: String,
    /// Waits for the end of this process, then removes what it left.
    guard: Child,
}

impl Oracle {
    /// Builds the programs in a folder of their own.
    pub fn new() -> anyhow::Result<Oracle> {
        let root = tools::oracle()?;
        let tag = format!("bench{}", std::process::id());
        let dir = std::env::temp_dir().join(format!("podpath-{tag}"));
        std::fs::create_dir_all(&dir).with_context(|| format!("{}", dir.display()))?;
        let path = tools::path();
        let mut guard = Command::new("sh");
        guard.args(["-c", GUARD, "guard"]);
        guard.arg(root.join("oracle")).arg(&tag).arg(&dir);
        // A group of its own: what kills this one's, does not kill it.
        guard
            .env("PATH", &path)
            .stdin(Stdio::piped())
            .process_group(0);
        let guard = guard.stdout(Stdio::null()).spawn().context("sh")?;
        let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
        let cpu = std::env::var("BENCH_CPU").unwrap_or_else(|_| (cores - 1).min(1).to_string());
        let oracle = Oracle {
            root,
            dir,
            tag,
            cpu,
            path,
            guard,
        };
        for name in ["pps", "cps"] {
            let source = oracle.root.join(format!("bench/{name}.c"));
            let program = oracle.dir.join(name);
            oracle.call("cc", &["-O2", "-o", text(&program)?, text(&source)?], None)?;
        }
        Ok(oracle)
    }

    fn call(&self, program: &str, args: &[&str], input: Option<&str>) -> anyhow::Result<String> {
        let mut command = Command::new(program);
        command.args(args).env("PATH", &self.path);
        command.stdin(if input.is_some() {
            Stdio::piped()
        } else {
            Stdio::null()
        });
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| program.to_owned())?;
        if let (Some(text), Some(mut pipe)) = (input, child.stdin.take()) {
            // A program that does not read to the end says why by its exit code.
            let _ = pipe.write_all(text.as_bytes());
        }
        let out = child.wait_with_output()?;
        if !out.status.success() {
            let said = String::from_utf8_lossy(&out.stderr);
            let said: String = said.trim().chars().take(600).collect();
            bail!("{program} {}: {} {said}", args.join(" "), out.status);
        }
        Ok(String::from_utf8_lossy(&out.stdout).into_owned())
    }

    /// Builds the network with so many Services.
    pub fn up(&self, way: Way, rules: Rules, services: u32) -> anyhow::Result<Net<'_>> {
        let topology = match way {
            Way::HostGw => "two-node-hostgw",
            Way::Same | Way::Vxlan => "two-node-vxlan",
        };
        let base = self.root.join(format!("topologies/{topology}.json"));
        let scenario = self.dir.join("scenario.json");
        let content = json!({"extends": text(&base)?, "offload": true});
        std::fs::write(&scenario, content.to_string())?;
        let oracle = self.root.join("oracle");
        let args = [text(&oracle)?, "up", text(&scenario)?, "--tag", &self.tag];
        self.call("python3", &args, None)?;
        let net = Net { oracle: self, way };
        net.program(rules, services)?;
        net.warm()?;
        Ok(net)
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        if let Some(mut pipe) = self.guard.stdin.take() {
            let _ = pipe.write_all(b"done\n");
        }
        let _ = self.guard.wait();
    }
}

fn text(path: &Path) -> anyhow::Result<&str> {
    path.to_str().context("a path that is not UTF-8")
}

/// A network that is up.
#[derive(Debug)]
pub(super) struct Net<'o> {
    oracle: &'o Oracle,
    way: Way,
}

impl Net<'_> {
    fn ns(&self, name: &str) -> String {
        format!("pp-{}-{name}", self.oracle.tag)
    }

    fn exec(&self, ns: &str, args: &[&str], input: Option<&str>) -> anyhow::Result<String> {
        let ns = self.ns(ns);
        let all: Vec<&str> = ["netns", "exec", &ns].iter().chain(args).copied().collect();
        self.oracle.call("ip", &all, input)
    }

    /// The server: its namespace, its address, its Service's.
    fn server(&self) -> (&'static str, &'static str, &'static str) {
        match self.way {
            Way::Same => ("a2", "10.244.1.11", "10.96.200.1"),
            Way::Vxlan | Way::HostGw => ("b1", "10.244.2.10", "10.96.200.2"),
        }
    }

    fn program(&self, rules: Rules, services: u32) -> anyhow::Result<()> {
        let file = self.oracle.dir.join("services.json");
        std::fs::write(&file, config(services).to_string())?;
        let kp = self.oracle.root.join("tools/kp.py");
        let (mode, restore): (_, &[&str]) = match rules {
            Rules::Legacy => ("iptables", &["iptables-legacy-restore"]),
            Rules::Nft => ("iptables", &["iptables-restore"]),
            Rules::Nftables => ("nft", &["nft", "-f", "-"]),
        };
        for node in ["n1", "n2"] {
            let args = [text(&kp)?, text(&file)?, "--node", node, "--mode", mode];
            let written = self.oracle.call("python3", &args, None)?;
            self.exec(node, restore, Some(&written))?;
        }
        let drop: Vec<&str> = ["iptables-legacy"].iter().chain(&DROP).copied().collect();
        self.exec(self.server().0, &drop, None)?;
        Ok(())
    }

    /// Neighbours get to know each other. An echo that is lost shows when no frame arrives.
    fn warm(&self) -> anyhow::Result<()> {
        let (server, ip, _) = self.server();
        let gateway = if self.way == Way::Same {
            "10.244.1.1"
        } else {
            "10.244.2.1"
        };
        let pings = [(SENDER.0, "10.244.1.1"), (server, gateway), (SENDER.0, ip)];
        for (ns, to) in pings {
            let _ = self.exec(ns, &["ping", "-c1", "-W1", to], None);
        }
        Ok(())
    }

    /// Forgets all connections.
    fn flush(&self) -> anyhow::Result<()> {
        for node in ["n1", "n2"] {
            self.exec(node, &["conntrack", "-F"], None)?;
        }
        Ok(())
    }

    fn received(&self) -> anyhow::Result<u64> {
        let ns = self.ns(self.server().0);
        let args = ["-n", &ns, "-s", "-j", "link", "show", "dev", "eth0"];
        let shown: Value = serde_json::from_str(&self.oracle.call("ip", &args, None)?)?;
        let packets = &shown[0]["stats64"]["rx"]["packets"];
        packets.as_u64().context("ip -s -j link has no packets")
    }

    fn mac(&self, ns: &str, dev: &str) -> anyhow::Result<String> {
        let path = format!("/sys/class/net/{dev}/address");
        Ok(self.exec(ns, &["cat", &path], None)?.trim().to_owned())
    }

    /// A program of the bench in a namespace, on the one processor.
    fn pinned(&self, ns: &str, program: &str, args: &[&str]) -> anyhow::Result<Command> {
        let program = self.oracle.dir.join(program);
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.ns(ns), "nice", "-n", "-19"]);
        command.args(["taskset", "-c", &self.oracle.cpu, text(&program)?]);
        command.args(args).env("PATH", &self.oracle.path);
        command.stdin(Stdio::null()).stderr(Stdio::null());
        Ok(command)
    }

    fn measured(&self, ns: &str, program: &str, args: &[&str]) -> anyhow::Result<Value> {
        let out = self.pinned(ns, program, args)?.output()?;
        ensure!(
            out.status.success(),
            "{program} {}: {}",
            args.join(" "),
            out.status
        );
        Ok(serde_json::from_slice(&out.stdout)?)
    }

    /// Sends so many frames of `size` bytes of so many flows; of 0, and every frame begins one.
    fn send(&self, flows: u64, frames: u64, size: u16) -> anyhow::Result<Taken> {
        let from = self.mac(SENDER.0, "eth0")?;
        let to = self.mac("n1", "cni0")?;
        let (flows, frames, size) = (flows.to_string(), frames.to_string(), size.to_string());
        let before = (self.received()?, ksoftirqd(&self.oracle.cpu));
        let address = [SENDER.1, self.server().2, "7"];
        let head = ["eth0", &from, &to].into_iter().chain(address);
        let args: Vec<&str> = head.chain([&*flows, &*frames, &*size, LONGEST]).collect();
        let said = self.measured(SENDER.0, "pps", &args)?;
        // What lies in a backlog arrives yet.
        std::thread::sleep(Duration::from_millis(100));
        let cpu = said["cpu_s"].as_f64().context("pps has no cpu_s")?;
        Ok(Taken {
            done: self.received()?.saturating_sub(before.0),
            sent: said["sent"].as_u64().unwrap_or(0),
            cpu: cpu + ksoftirqd(&self.oracle.cpu) - before.1,
        })
    }

    /// Makes the flows known.
    pub fn establish(&self, flows: u64, size: u16) -> anyhow::Result<()> {
        self.flush()?;
        let taken = self.send(flows, flows * 2, size)?;
        ensure!(
            taken.done >= taken.sent && taken.sent == flows * 2,
            "{} of {} frames arrived through the kernel",
            taken.done,
            taken.sent
        );
        Ok(())
    }

    /// Frames of flows that are known.
    pub fn established(&self, flows: u64, frames: u64, size: u16) -> anyhow::Result<Taken> {
        self.send(flows, frames, size)
    }

    /// Frames that each begin a flow.
    pub fn new_flows(&self, frames: u64, size: u16) -> anyhow::Result<Taken> {
        self.flush()?;
        self.send(0, frames, size)
    }

    /// TCP connections: a byte each way, then a reset. Client, server and all hops are in the figure.
    pub fn connections(&self, count: u64) -> anyhow::Result<Taken> {
        self.flush()?;
        let (server, _, vip) = self.server();
        let mut listening = self.pinned(server, "cps", &["server", "8080"])?.spawn()?;
        std::thread::sleep(Duration::from_millis(200));
        // `ip netns exec`, nice and taskset each become the next: the process is the server.
        let own = listening.id();
        let before = ksoftirqd(&self.oracle.cpu) + ran(own);
        let said = self.measured(SENDER.0, "cps", &["client", vip, "80", &count.to_string()]);
        let after = ksoftirqd(&self.oracle.cpu) + ran(own);
        let _ = listening.kill();
        let _ = listening.wait();
        let said = said?;
        Ok(Taken {
            done: said["ok"].as_u64().unwrap_or(0),
            sent: count,
            cpu: said["cpu_s"].as_f64().unwrap_or(f64::NAN) + after - before,
        })
    }
}

/// Seconds that a process has run (the first field of its schedstat).
fn ran(pid: u32) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap_or_default();
    let first = text.split_whitespace().next();
    first.and_then(|w| w.parse::<f64>().ok()).unwrap_or(0.0) / 1e9
}

/// Seconds that a processor's softirq thread has run.
fn ksoftirqd(cpu: &str) -> f64 {
    let name = format!("ksoftirqd/{cpu}");
    let Ok(all) = std::fs::read_dir("/proc") else {
        return 0.0;
    };
    let pids = all
        .flatten()
        .filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok());
    let own = pids.filter(|pid| {
        let comm = std::fs::read_to_string(format!("/proc/{pid}/comm"));
        comm.is_ok_and(|c| c.trim() == name)
    });
    own.map(ran).sum()
}

/// The Services, those that are measured the last of them; the file that kp.py reads.
fn config(services: u32) -> Value {
    let address = |n: u32| Ipv4Addr::from_bits(u32::from(Ipv4Addr::new(10, 97, 0, 1)) + n);
    let filler = (0..services.saturating_sub(1)).map(|n| {
        let end = |node: u32| {
            let ip = Ipv4Addr::new(10, 244, node as u8, 100 + (n % 100) as u8);
            json!({"ip": ip, "port": 9, "node": format!("n{node}")})
        };
        json!({
            "ns": "fill", "name": format!("s{n:05}"), "cluster_ip": address(n),
            "ports": [{"name": "p", "proto": "UDP", "port": 7}], "endpoints": [end(1), end(2)],
        })
    });
    let last = |name: &str, ip: &str, end: &str, node: &str| {
        json!({
            "ns": "zz", "name": name, "cluster_ip": ip,
            "ports": [{"name": "u", "proto": "UDP", "port": 7}, {"name": "t", "proto": "TCP", "port": 80}],
            "endpoints": [{"ip": end, "port": 7007, "ports": {"t": 8080}, "node": node}],
        })
    };
    let mut all: Vec<Value> = filler.collect();
    all.push(last("zlocal", "10.96.200.1", "10.244.1.11", "n1"));
    all.push(last("zremote", "10.96.200.2", "10.244.2.10", "n2"));
    json!({
        "cluster_cidr": "10.244.0.0/16",
        "node_cidrs": {"n1": "10.244.1.0/24", "n2": "10.244.2.0/24"},
        "node_ips": {"n1": "192.168.50.11", "n2": "192.168.50.12"},
        "services": all,
    })
}
