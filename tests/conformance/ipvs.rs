//! An IPVS recording: its commands and events played through the walker, and every choice, listing and
//! final table compared.
//!
//! A director between two veth cables gets the recorder's frames, as oracle/ipvs/probe.py sent them; the
//! choice is read from the frame that leaves. The kernel's random parts are no difference: the order of
//! `final_conns` (its table is hashed with a random seed; at most 38 rows were kept) and, within four
//! seconds, how much of a timeout is left. `--stats` shows what the estimator saw last, every two seconds
//! of a clock that was not recorded: the play starts at that phase of it which leads to the recorded
//! counters, and where there is none, they differ.

use core::time::Duration;
use std::collections::BTreeMap;

use podpath::base::{Instant, NsId, Origin, Span};
use podpath::import::ipcmd::{apply, parse, split_script};
use podpath::ipvs::text;
use podpath::net::{DeviceKind, LinkSpec, PortAt};
use podpath::path::Direction;
use podpath::sim::{Captures, World};
use podpath::wire::{Frame, IpHeader, MacAddr, build, checksum, proto};
use serde_json::Value;

use super::compare::Tally;
use super::recordings::Recording;
use super::verdict::Verdict;

const TICK: Duration = Duration::from_millis(1);
/// So much more of a timeout may be left than was recorded.
const SLACK: i64 = 4;
/// Rows of `final_conns` that were kept: 40 lines with two titles.
const ROWS: usize = 38;
const CLIENT: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const INSIDE: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
const OUTSIDE: MacAddr = MacAddr([2, 0, 0, 0, 0, 3]);
const SERVER: MacAddr = MacAddr([2, 0, 0, 0, 0, 4]);

/// Judges one recording.
pub fn judge(r: &Recording<'_>) -> Verdict {
    let own = r.source.read(&format!("ipvs/results/{}.json", r.name));
    let parsed = own.and_then(|b| serde_json::from_slice::<Value>(&b).ok());
    let Some(rec) = parsed else {
        return Verdict::cannot("not a JSON file");
    };
    match judged(&rec) {
        Ok(v) => v,
        Err(e) => Verdict::cannot(e),
    }
}

fn judged(rec: &Value) -> Result<Verdict, String> {
    let want = counters(&lines(rec, "final_stats"));
    let mut play = Play::new(rec, Instant::ZERO)?;
    play.all(rec)?;
    // The frame after which the estimator looked last.
    let seen = play.counted.iter().position(|c| covers(c, &want));
    if let Some(k) = seen.filter(|_| want.values().any(|c| c.iter().any(|n| *n > 0))) {
        // The k-th frame comes k - 1 ticks after the start.
        let before = (TICK * u32::try_from(k).unwrap_or(0)).saturating_sub(TICK / 2);
        let start = Instant::from_secs(2).since(Instant::ZERO + before);
        play = Play::new(rec, Instant::ZERO + start)?;
        play.all(rec)?;
    }
    let mut v = Checks::default();
    v.equal("ipvsadm -Sn", &lines(rec, "ipvsadm_Sn"), &play.first_save);
    v.equal("ipvsadm -Ln", &lines(rec, "ipvsadm_Ln"), &play.first_list);
    let choices = rec["choices"].as_array().cloned().unwrap_or_default();
    for (i, (want, got)) in choices.iter().zip(&play.choices).enumerate() {
        v.one(want == got, || {
            format!("choice {i}: recorded {want}, podpath {got}")
        });
    }
    let (n, m) = (choices.len(), play.choices.len());
    v.one(n == m, || format!("{n} choices recorded, {m} made"));
    v.equal("final -Ln", &lines(rec, "final_Ln"), &play.show("-Ln")?);
    v.equal(
        "final --stats",
        &lines(rec, "final_stats"),
        &play.show("-Ln --stats")?,
    );
    v.conns(&lines(rec, "final_conns"), &play.show("-Lnc")?);
    v.read_back(rec);
    Ok(Verdict {
        tally: Tally {
            compared: v.compared,
            equal: v.compared - v.differences.len(),
            first: None,
        },
        unit: "choices and tables",
        differences: v.differences,
        ..Verdict::default()
    })
}

/// What was compared.
#[derive(Default)]
struct Checks {
    compared: usize,
    differences: Vec<String>,
}

impl Checks {
    fn one(&mut self, same: bool, why: impl FnOnce() -> String) {
        self.compared += 1;
        if !same {
            self.differences.push(why());
        }
    }

    fn equal(&mut self, what: &str, want: &[String], got: &[String]) {
        let at = want.iter().zip(got).position(|(w, g)| w != g);
        let at = at.or((want.len() != got.len()).then_some(want.len().min(got.len())));
        self.one(at.is_none(), || {
            let line = |l: &[String]| at.and_then(|i| l.get(i).cloned()).unwrap_or_default();
            format!("{what}: recorded `{}`, podpath `{}`", line(want), line(got))
        });
    }

    /// The final tables as text in, and out again.
    fn read_back(&mut self, rec: &Value) {
        let conns = lines(rec, "final_conns");
        // Where the recorder kept some rows only, what -Ln counts is not in them.
        let whole = conns.len() < ROWS + 2;
        let tables = [
            ("-Ln", lines(rec, "final_Ln")),
            ("-Ln --stats", lines(rec, "final_stats")),
            ("-Lnc", if whole { conns } else { Vec::new() }),
        ];
        let text: Vec<String> = tables.iter().flat_map(|t| t.1.clone()).collect();
        let (dump, mut findings) = text::parse_dump(&text.join("\n"), "recording");
        let mut vs = podpath::ipvs::Ipvs::default();
        findings.extend(text::load_dump(&mut vs, &dump, false, Instant::ZERO));
        findings.retain(podpath::base::Finding::is_error);
        self.one(findings.is_empty(), || format!("tables read: {findings:?}"));
        for (words, want) in tables.iter().filter(|t| !t.1.is_empty()) {
            let split: Vec<&str> = words.split(' ').collect();
            let shown = text::command(&split).map(|c| text::run(&mut vs, &c, Instant::ZERO));
            let shown = shown.ok().and_then(Result::ok).unwrap_or_default();
            let shown: Vec<String> = shown.lines().map(str::to_owned).collect();
            self.equal(&format!("{words} read and printed"), want, &shown);
        }
    }

    fn conns(&mut self, want: &[String], got: &[String]) {
        self.equal("titles of -Lnc", &titles(want), &titles(got));
        let mut left = rows(got);
        let whole = want.len() < ROWS + 2;
        for (row, expires) in rows(want) {
            let near = |(r, e): &(String, i64)| *r == row && (0..=SLACK).contains(&(e - expires));
            let found = left.iter().position(near);
            if let Some(i) = found {
                left.swap_remove(i);
            }
            self.one(found.is_some(), || {
                format!("-Lnc: recorded `{row}` ({expires} s left)")
            });
        }
        self.one(left.is_empty() || !whole, || {
            format!("-Lnc: surplus {left:?}")
        });
    }
}

fn titles(l: &[String]) -> Vec<String> {
    l.iter().take(2).cloned().collect()
}

/// Rows without their timeout, and it in seconds.
fn rows(l: &[String]) -> Vec<(String, i64)> {
    let row = |line: &String| {
        let w: Vec<&str> = line.split_whitespace().collect();
        let (m, s) = w.get(1)?.split_once(':')?;
        let secs = m.parse::<i64>().ok()? * 60 + s.parse::<i64>().ok()?;
        let rest = line.replacen(w.get(1)?, "", 1);
        Some((rest, secs))
    };
    l.iter().skip(2).filter_map(row).collect()
}

fn lines(rec: &Value, key: &str) -> Vec<String> {
    let all = rec[key].as_array().cloned().unwrap_or_default();
    all.iter()
        .map(|l| l.as_str().unwrap_or_default().to_owned())
        .collect()
}

/// The five counters by service or destination, as a listing names it.
type Counters = BTreeMap<String, [u64; 5]>;

fn counters(list: &[String]) -> Counters {
    let row = |l: &String| {
        let words: Vec<&str> = l.split_whitespace().collect();
        let name = (*words.get(1)?).to_owned();
        let numbers: Vec<u64> = words
            .iter()
            .skip(2)
            .filter_map(|w| w.parse().ok())
            .collect();
        Some((name, *numbers.first_chunk::<5>()?))
    };
    list.iter().skip(3).filter_map(row).collect()
}

fn covers(live: &Counters, want: &Counters) -> bool {
    let zero = [0; 5];
    want.iter().all(|(k, v)| live.get(k).unwrap_or(&zero) == v)
}

/// A client's connection: address, port, virtual port.
type Client = (String, u16, u16);

/// The recorder's network in podpath.
struct Play {
    world: World,
    dir: NsId,
    outside: PortAt,
    inside: PortAt,
    taps: Captures,
    conns: BTreeMap<Client, (String, u16)>,
    choices: Vec<Value>,
    /// After every frame, what was counted.
    counted: Vec<Counters>,
    first_save: Vec<String>,
    first_list: Vec<String>,
}

impl Play {
    fn new(rec: &Value, start: Instant) -> Result<Play, String> {
        let mut world = World::new(1);
        let node = world.add_node("dir");
        let dir = world.add_ns("dir", node);
        let mut port = |ns: NsId, name: &str, mac: MacAddr| {
            let spec = LinkSpec {
                name: name.to_owned(),
                kind: DeviceKind::Veth,
                mac,
                mtu: None,
                origin: Origin::Kernel,
            };
            let dev = world.edit(ns, |e| e.link_add(spec));
            let dev = dev.ok_or("no namespace")?.map_err(|e| e.to_string())?;
            Ok::<PortAt, String>(PortAt { ns, dev })
        };
        let (outside, inside) = (port(dir, "c0", INSIDE)?, port(dir, "r0", OUTSIDE)?);
        for (name, mac, peer) in [("cl", CLIENT, outside), ("rs", SERVER, inside)] {
            let ns = world.add_ns(name, node);
            let spec = LinkSpec {
                name: "e0".into(),
                kind: DeviceKind::Veth,
                mac,
                mtu: None,
                origin: Origin::Kernel,
            };
            let dev = world.edit(ns, |e| e.link_add(spec));
            let dev = dev.ok_or("no namespace")?.map_err(|e| e.to_string())?;
            world
                .connect(peer, PortAt { ns, dev })
                .map_err(|e| e.to_string())?;
            run(&mut world, ns, "ip link set e0 up")?;
        }
        let at = [outside, inside].map(|p| (p.ns, p.dev));
        let mut play = Play {
            world,
            dir,
            outside,
            inside,
            taps: Captures::at(at),
            conns: BTreeMap::new(),
            choices: Vec::new(),
            counted: vec![Counters::new()],
            first_save: Vec::new(),
            first_list: Vec::new(),
        };
        play.setup(rec)?;
        play.world.run_until(start, &mut play.taps);
        Ok(play)
    }

    fn setup(&mut self, rec: &Value) -> Result<(), String> {
        let vip = rec["vip"].as_str().unwrap_or_default();
        let mut script = format!(
            "ip link set lo up\nip link set c0 up\nip link set r0 up\nip link add kube-ipvs0 type dummy\n\
             ip addr add {vip}/32 dev kube-ipvs0\nip addr add 192.168.9.1/24 dev c0\n\
             ip addr add 10.244.0.1/16 dev r0\nip route add 10.1.0.0/16 via 192.168.9.2\n\
             ip neigh replace 192.168.9.2 lladdr {CLIENT} dev c0 nud permanent\n\
             sysctl -w net.ipv4.ip_forward=1\n"
        );
        for x in 10..60 {
            script +=
                &format!("ip neigh replace 10.244.0.{x} lladdr {SERVER} dev r0 nud permanent\n");
        }
        for (k, v) in rec["sysctl"].as_object().into_iter().flatten() {
            script += &format!("sysctl -w net.ipv4.vs.{k}={}\n", plain(v));
        }
        run(&mut self.world, self.dir, &script)?;
        let commands = lines(rec, "commands").join("\n");
        let (commands, bad) = text::parse(&commands, "commands");
        let now = self.world.now();
        let mut findings = bad;
        findings.extend(self.change(|vs| text::load(vs, &commands, false, now))?);
        if let Some(f) = findings.first() {
            return Err(f.to_string());
        }
        self.first_save = self.show("-Sn")?;
        self.first_list = self.show("-Ln")?;
        Ok(())
    }

    fn change<R>(&mut self, f: impl FnOnce(&mut podpath::ipvs::Ipvs) -> R) -> Result<R, String> {
        let ns = self.world.ns_mut(self.dir).ok_or("no namespace")?;
        Ok(ns.ipvs_change(f))
    }

    /// An ipvsadm command; the lines it prints.
    fn show(&mut self, words: &str) -> Result<Vec<String>, String> {
        Ok(self.ipvsadm(words)?.lines().map(str::to_owned).collect())
    }

    fn ipvsadm(&mut self, words: &str) -> Result<String, String> {
        let words: Vec<&str> = words.split_whitespace().collect();
        let command = text::command(&words).map_err(|e| e.1)?;
        let now = self.world.now();
        self.change(|vs| text::run(vs, &command, now))?
            .map_err(|e| e.to_string())
    }

    fn all(&mut self, rec: &Value) -> Result<(), String> {
        for e in rec["events"].as_array().into_iter().flatten() {
            self.event(rec, e)?;
        }
        Ok(())
    }

    fn event(&mut self, rec: &Value, e: &Value) -> Result<(), String> {
        let what = e["e"].as_str().unwrap_or_default();
        match what {
            "cmd" => {
                return self
                    .ipvsadm(e["args"].as_str().unwrap_or_default())
                    .map(|_| ());
            }
            "list" => {
                let list = self.ipvsadm("-Ln")?;
                self.choices.push(serde_json::json!({ "list": list }));
                return Ok(());
            }
            _ => {}
        }
        let client: Client = (
            e["src"].as_str().unwrap_or_default().to_owned(),
            number(&e["sport"]),
            if e["dport"].is_null() {
                80
            } else {
                number(&e["dport"])
            },
        );
        let vip = rec["vip"].as_str().unwrap_or_default().to_owned();
        match what {
            "syn" => self.choose(&client, &vip, Some((0x02, 1000, 0)))?,
            "ack" => self.choose(&client, &vip, Some((0x10, 1000, 1)))?,
            "udp" => self.choose(&client, &vip, None)?,
            "est" => {
                self.server_says(&client, (0x12, 5000, 1001))?;
                self.client_says(&client, &vip, Some((0x10, 1001, 5001)))?;
            }
            "fin" => {
                self.client_says(&client, &vip, Some((0x11, 1001, 5001)))?;
                self.server_says(&client, (0x11, 5001, 1002))?;
                self.client_says(&client, &vip, Some((0x10, 1002, 5002)))?;
            }
            "rst" => self.client_says(&client, &vip, Some((0x04, 1001, 0)))?,
            other => return Err(format!("unknown event `{other}`")),
        }
        Ok(())
    }

    /// One frame of a client and what came of it.
    fn choose(&mut self, c: &Client, vip: &str, tcp: Option<Tcp>) -> Result<(), String> {
        self.client_says(c, vip, tcp)?;
        let mut choice = Value::Null;
        for f in self
            .taps
            .frames()
            .iter()
            .filter(|f| f.dir == Direction::Out)
        {
            let frame = Frame::ethernet(&f.data);
            let Ok(h) = IpHeader::parse_lax(frame.l3()) else {
                continue;
            };
            let flags = h.payload(frame.l3()).get(13).copied().unwrap_or(0);
            if f.dev == self.inside.dev {
                let port = h.ports(frame.l3()).map_or(0, |p| p.1);
                choice = format!("{}:{port}", h.dst).into();
                self.conns.insert(c.clone(), (h.dst.to_string(), port));
            } else if let Some((t, code)) = h.icmp(frame.l3()) {
                choice = format!("icmp {t}/{code}").into();
            } else if h.proto == proto::TCP {
                choice = format!("tcp {}", named(flags)).into();
            }
        }
        self.choices.push(choice);
        Ok(())
    }

    fn client_says(&mut self, c: &Client, vip: &str, tcp: Option<Tcp>) -> Result<(), String> {
        let packet = packet((&c.0, c.1), (vip, c.2), tcp)?;
        self.frame(self.outside, INSIDE, CLIENT, &packet);
        Ok(())
    }

    fn server_says(&mut self, c: &Client, tcp: Tcp) -> Result<(), String> {
        let (ip, port) = self.conns.get(c).ok_or("no server was chosen")?;
        let packet = packet((ip, *port), (&c.0, c.1), Some(tcp))?;
        self.frame(self.inside, OUTSIDE, SERVER, &packet);
        Ok(())
    }

    /// A frame arrives, everything it causes happens, and a millisecond passes.
    fn frame(&mut self, at: PortAt, dst: MacAddr, src: MacAddr, packet: &[u8]) {
        self.taps.take();
        let mut f = Frame::ip(packet);
        f.set_ethernet(dst, src, 0x0800);
        f.classify(dst);
        self.world.arrive(at, f, &mut self.taps);
        let until = self.world.now() + TICK;
        self.world.run_until(until, &mut self.taps);
        self.counted.push(self.live());
    }

    fn live(&self) -> Counters {
        let vs = self.world.ns(self.dir).and_then(|ns| ns.ipvs());
        let mut out = Counters::new();
        for s in vs.into_iter().flat_map(|vs| vs.services()) {
            let name = s.spec.at.to_string();
            let name = name.split(' ').nth(1).unwrap_or_default().to_owned();
            out.insert(name, s.stats.live.columns());
            for d in vs.into_iter().flat_map(|vs| vs.dests_of(s)) {
                let name = format!("{}:{}", d.spec.ip, d.spec.port);
                out.insert(name, d.stats.live.columns());
            }
        }
        out
    }
}

/// Flags, sequence number, acknowledgement.
type Tcp = (u8, u32, u32);

fn packet(src: (&str, u16), dst: (&str, u16), tcp: Option<Tcp>) -> Result<Vec<u8>, String> {
    let ip = |s: &str| s.parse().map_err(|_| format!("`{s}` is no address"));
    let (s, d) = (ip(src.0)?, ip(dst.0)?);
    let (p, l4) = match tcp {
        None => (proto::UDP, build::udp(s, d, src.1, dst.1, b"x")),
        Some((flags, seq, ack)) => {
            let mut t = [src.1.to_be_bytes(), dst.1.to_be_bytes()].concat();
            t.extend_from_slice(&seq.to_be_bytes());
            t.extend_from_slice(&ack.to_be_bytes());
            t.extend_from_slice(&[0x50, flags, 0x20, 0, 0, 0, 0, 0]);
            let sum = checksum::sum(&t, checksum::pseudo(s, d, proto::TCP, t.len()));
            t[16..18].copy_from_slice(&(!(sum as u16)).to_be_bytes());
            (proto::TCP, t)
        }
    };
    Ok(build::ip_packet(s, d, p, 64, 0, 1, false, &l4))
}

/// As the recorder writes flags.
fn named(flags: u8) -> String {
    let bits = [(1, 'F'), (2, 'S'), (4, 'R'), (8, 'P'), (16, 'A')];
    bits.iter()
        .filter(|b| flags & b.0 != 0)
        .map(|b| b.1)
        .collect()
}

fn number(v: &Value) -> u16 {
    v.as_u64().and_then(|n| n.try_into().ok()).unwrap_or(0)
}

fn plain(v: &Value) -> String {
    v.as_str().map_or_else(|| v.to_string(), str::to_owned)
}

fn run(world: &mut World, ns: NsId, script: &str) -> Result<(), String> {
    for line in split_script(script).into_iter().filter(|l| !l.is_empty()) {
        let command = parse(line, &Span::default()).map_err(|f| format!("{line}: {f}"))?;
        let now = world.now();
        let done = world.edit(ns, |e| apply(&command, e, now, &Origin::Kernel));
        let done = done.ok_or("no namespace")?;
        done.map_err(|e| format!("{line}: {e}"))?;
    }
    Ok(())
}
