//! `podpath bench dns --wire`: `dns serve`'s own listener against a bare UDP echo, driven the same way.
//!
//! The echo copies a query back with QR set, which is a valid reply, and decides nothing: what is left of
//! the rate is the price of deciding. Server on one CPU, driver on another. The driver keeps `OUTSTANDING`
//! queries on their way; `--dnsperf` lets dnsperf drive both too. Invariant: the two servers differ in
//! nothing but what they do with a datagram.

use super::clock;
use super::dns;
use super::figures::{Row, Section};
use crate::cli::bench::args::BenchArgs;
use crate::cli::dns::serve::Listener;
use anyhow::{Context, bail};
use indicatif::ProgressBar;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Queries on their way, of the built-in driver.
const OUTSTANDING: usize = 64;
/// How long each server is driven, and how often.
const TIME: Duration = Duration::from_secs(2);
const ROUNDS: usize = 3;
/// A query that was not answered in this time is lost.
const LOST: Duration = Duration::from_millis(200);

/// What a driver saw.
#[derive(Clone, Copy, Debug, Default)]
struct Drive {
    per_second: f64,
    lost: u64,
    /// CPU time of the server's thread for one query, in nanoseconds.
    server_ns: f64,
}

/// Drives a server for a time: queries answered, lost, seconds.
type Driver = fn(SocketAddr, Duration) -> anyhow::Result<(u64, u64, f64)>;

/// A server on a thread of its own.
struct Serving {
    at: SocketAddr,
    /// CPU time of its thread in nanoseconds, when it has ended.
    cpu: Arc<AtomicU64>,
    stop: Box<dyn FnOnce()>,
}

/// CPUs that this process may use: the first serves, the last drives.
fn cpus() -> (usize, usize) {
    let allowed = sched_getaffinity(Pid::from_raw(0)).unwrap_or_default();
    let is = |cpu: &usize| allowed.is_set(*cpu).unwrap_or(false);
    let all: Vec<usize> = (0..CpuSet::count()).filter(is).collect();
    let first = all.first().copied().unwrap_or(0);
    (first, all.last().copied().unwrap_or(first))
}

/// Binds this thread, and what it starts, to a CPU; a machine that forbids it is measured as it is.
fn pin(cpu: usize) {
    let mut set = CpuSet::new();
    if set.set(cpu).is_ok() {
        let _ = sched_setaffinity(Pid::from_raw(0), &set);
    }
}

/// A bare echo loop.
fn echo(cpu: usize) -> anyhow::Result<Serving> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.set_read_timeout(Some(Duration::from_millis(100)))?;
    let at = socket.local_addr()?;
    let (over, spent) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU64::new(0)),
    );
    let (end, cpu_time) = (Arc::clone(&over), Arc::clone(&spent));
    let thread = thread::spawn(move || {
        pin(cpu);
        let mut buffer = vec![0_u8; 65_535];
        while !end.load(Ordering::Relaxed) {
            let Ok((len, from)) = socket.recv_from(&mut buffer) else {
                continue;
            };
            if let Some(flags) = buffer.get_mut(2) {
                *flags |= 0x80;
            }
            let _ = socket.send_to(buffer.get(..len).unwrap_or_default(), from);
        }
        cpu_time.store(nanoseconds(clock::cpu()), Ordering::Relaxed);
    });
    let stop = Box::new(move || {
        over.store(true, Ordering::Relaxed);
        let _ = thread.join();
    });
    Ok(Serving {
        at,
        cpu: spent,
        stop,
    })
}

/// `dns serve` as it is.
fn serve(cpu: usize) -> anyhow::Result<Serving> {
    let listener = Listener::open((Ipv4Addr::LOCALHOST, 0).into(), dns::served()?)?;
    let (at, stopper) = (listener.at(), listener.stopper());
    let spent = Arc::new(AtomicU64::new(0));
    let cpu_time = Arc::clone(&spent);
    let thread = thread::spawn(move || {
        pin(cpu);
        let _ = listener.run(None, None);
        cpu_time.store(nanoseconds(clock::cpu()), Ordering::Relaxed);
    });
    let stop = Box::new(move || {
        stopper();
        let _ = thread.join();
    });
    Ok(Serving {
        at,
        cpu: spent,
        stop,
    })
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Keeps queries on their way for a time.
fn drive(at: SocketAddr, time: Duration) -> anyhow::Result<(u64, u64, f64)> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.connect(at)?;
    socket.set_read_timeout(Some(LOST))?;
    let name = |i: usize| format!("s{i}.shop.svc.cluster.local");
    let queries: Vec<Vec<u8>> = (0..dns::SERVICES)
        .map(|i| dns::query(&name(i), 1, i))
        .collect();
    let mut asked = queries.iter().cycle();
    let mut send = || {
        // One that is not taken is lost, and found so.
        asked.next().map(|q| socket.send(q))
    };
    let (mut buffer, mut answered, mut lost) = ([0_u8; 4_096], 0_u64, 0_u64);
    let began = Instant::now();
    for _ in 0..OUTSTANDING {
        let _ = send();
    }
    while began.elapsed() < time {
        match socket.recv(&mut buffer) {
            Ok(len) if len > 12 && buffer[2] & 0x80 != 0 && buffer[3] & 15 == 0 => {
                answered += 1;
                let _ = send();
            }
            Ok(_) => bail!("{at} sent what is no good reply"),
            // All of them: none came for so long.
            Err(_) => {
                lost += OUTSTANDING as u64;
                for _ in 0..OUTSTANDING {
                    let _ = send();
                }
            }
        }
    }
    Ok((answered, lost, began.elapsed().as_secs_f64()))
}

/// Starts a server, drives it, ends it.
fn measure(start: fn(usize) -> anyhow::Result<Serving>, by: Driver) -> anyhow::Result<Drive> {
    let (server, driver) = cpus();
    let serving = start(server)?;
    let at = serving.at;
    let driving = thread::spawn(move || {
        pin(driver);
        by(at, TIME)
    });
    let done = driving.join();
    (serving.stop)();
    let (answered, lost, seconds) = match done {
        Ok(done) => done?,
        Err(_) => bail!("the driver panicked"),
    };
    Ok(Drive {
        per_second: answered as f64 / seconds,
        lost,
        server_ns: serving.cpu.load(Ordering::Relaxed) as f64 / answered.max(1) as f64,
    })
}

/// dnsperf: eight clients, 200 queries outstanding, as the figures of CoreDNS were taken.
fn dnsperf(at: SocketAddr, time: Duration) -> anyhow::Result<(u64, u64, f64)> {
    let file = std::env::temp_dir().join(format!("podpath-dnsperf-{}", std::process::id()));
    let lines = (0..dns::SERVICES).map(|i| format!("s{i}.shop.svc.cluster.local A\n"));
    std::fs::write(&file, lines.collect::<String>())?;
    let out = std::process::Command::new("dnsperf")
        .args(["-s", &at.ip().to_string(), "-p", &at.port().to_string()])
        .args(["-l", &time.as_secs().to_string(), "-c", "8", "-T", "1"])
        .args(["-q", "200", "-d"])
        .arg(&file)
        .output();
    let _ = std::fs::remove_file(&file);
    let out = out.context("dnsperf does not run: apt-get install dnsperf")?;
    let text = String::from_utf8_lossy(&out.stdout);
    let number = |name: &str| {
        let line = text.lines().find_map(|l| l.trim().strip_prefix(name));
        let word = line.and_then(|l| l.split_whitespace().next());
        word.and_then(|w| w.parse::<f64>().ok())
    };
    let answered = number("Queries completed:").context("dnsperf printed no figures")?;
    let seconds = number("Run time (s):").context("dnsperf printed no time")?;
    let lost = number("Queries lost:").unwrap_or(0.0);
    Ok((answered as u64, lost as u64, seconds))
}

/// The round with the middle rate.
fn median(mut rounds: Vec<Drive>) -> Drive {
    rounds.sort_by(|a, b| a.per_second.total_cmp(&b.per_second));
    rounds.get(rounds.len() / 2).copied().unwrap_or_default()
}

/// The table.
pub fn run(a: &BenchArgs, bar: &ProgressBar) -> anyhow::Result<Vec<Section>> {
    let mut drivers: Vec<(&str, Driver)> = vec![("built in", drive)];
    if a.dnsperf {
        drivers.push(("dnsperf", dnsperf));
    }
    let (server, driver) = cpus();
    let mut section = Section {
        name: "dns-wire".to_owned(),
        title: format!("UDP on loopback, server on CPU {server}, driver on CPU {driver}"),
        ..Section::default()
    };
    if server == driver {
        section
            .notes
            .push("there is one CPU only: the driver takes its part of it".to_owned());
    }
    bar.set_length((drivers.len() * ROUNDS) as u64);
    bar.set_position(0);
    for (name, by) in drivers {
        bar.set_message(name);
        let (mut bare, mut ours) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            // One after the other in each round: what else the machine does hits both.
            bare.push(measure(echo, by)?);
            ours.push(measure(serve, by)?);
            bar.inc(1);
        }
        let (bare, ours) = (median(bare), median(ours));
        for (what, drive) in [("UDP echo", bare), ("dns serve", ours)] {
            section.rows.push(
                Row::of("server", what)
                    .text("driver", name)
                    .number("queries_per_s", drive.per_second, 0)
                    .count("lost", drive.lost)
                    .number("server_cpu_ns_per_query", drive.server_ns, 0)
                    .number("rate_of_echo", drive.per_second / bare.per_second, 2)
                    .number("rate_of_echo_by_cpu", bare.server_ns / drive.server_ns, 2),
            );
        }
    }
    Ok(vec![section])
}
