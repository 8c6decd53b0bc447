//! `podpath bench --threads N`: so many workers in this process, next to as many processes of one worker.
//!
//! Flows are shared out by hash; each worker has a replica of the cluster. Two measurements: frames that come
//! to whom they belong (a card that knows flows), and both directions by the hash alone, so that answers to
//! what NAT changed are handed over in batches. The processes carry the same frames, all of them their own.
//! Invariant: threads and processes take turns, each side starts at once and is measured by CPU time.

mod hands;
mod lane;

use super::args::{BenchArgs, Directions, FlowSet, Scenario};
use super::clock::Timing;
use super::figures::{Row, Section};
use super::path::ring_bytes;
use super::plan::Plan;
use crate::cli::out;
use crate::sim::shard::Shard;
use anyhow::{Context, ensure};
use clap::ValueEnum;
use crossbeam::channel::{Receiver, Sender, bounded};
use hands::{Hands, Post};
use indicatif::ProgressBar;
use lane::{Done, Frames, Lane, Opened};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Barrier};
use std::time::Duration;

const BOTH: [(Frames, &str); 2] = [(Frames::Own, "own"), (Frames::Hash, "hash")];

/// Measures a scenario.
pub(super) fn run(scenario: Scenario, a: &BenchArgs, bar: &ProgressBar) -> anyhow::Result<Section> {
    let mut rows = Vec::new();
    let steps = 2 + BOTH.len() as u64 * u64::from(a.repetitions);
    bar.set_length((a.services.len() * a.flows.len()) as u64 * steps);
    for services in &a.services {
        for flows in &a.flows {
            bar.set_message(format!("{services} Services, {flows} flows"));
            let (plan, flows) = (planned(scenario, *services, *flows, a)?, *flows);
            let mut threads = Threads::start(plan, flows, a)?;
            bar.inc(1);
            let mut processes = Processes::start(scenario, *services, flows, a)?;
            bar.inc(1);
            for (frames, name) in BOTH {
                let mut sides = [Vec::new(), Vec::new()];
                // The first turn of each is not counted.
                for n in 0..=a.repetitions {
                    let (ours, theirs) = (threads.repetition(frames)?, processes.repetition(name)?);
                    if n > 0 {
                        sides[0].push(ours);
                        sides[1].push(theirs);
                        bar.inc(1);
                    }
                }
                let of = Of {
                    services: *services,
                    flows,
                    frames: name,
                };
                rows.extend(of.rows(usize::from(a.threads), &sides));
            }
        }
    }
    Ok(Section {
        name: scenario.to_string(),
        title: format!(
            "{} threads of one process, next to as many processes",
            a.threads
        ),
        rows,
        notes: vec![
            "own: frames come to the worker that has their flow; hash: both directions, by hash"
                .to_owned(),
        ],
    })
}

/// The plan of a scenario that several workers can share.
fn planned(scenario: Scenario, services: u32, flows: u64, a: &BenchArgs) -> anyhow::Result<Plan> {
    // Twice as many: a masqueraded flow's worker takes a port among its own alone.
    let plan = Plan::of(scenario, services, flows * 2, a);
    let paths = !matches!(
        scenario,
        Scenario::Connect
            | Scenario::Churn
            | Scenario::Replay
            | Scenario::Dns
            | Scenario::Kernel
            | Scenario::Limit
            | Scenario::Mix
    );
    if !paths || plan.odd > 0 || a.packets.is_some() {
        return Err(out::stop(
            "--threads",
            "several threads carry frames of one size and of open flows, for a time",
            "name paths, such as service and nodeport, without --odd and --packets",
        ));
    }
    Ok(plan)
}

/// One row's place in the table.
struct Of {
    services: u32,
    flows: u64,
    frames: &'static str,
}

impl Of {
    /// A row for each worker and one for all, of the repetitions of both sides.
    fn rows(&self, threads: usize, [ours, theirs]: &[Vec<Vec<Done>>; 2]) -> Vec<Row> {
        let one = |n: usize| (n.to_string(), n..n + 1);
        let all = ("all".to_owned(), 0..threads);
        let rows = (0..threads).map(one).chain([all]);
        let row = |(name, workers): (String, core::ops::Range<usize>)| {
            // Nanoseconds for a frame of those workers together: their rates add up.
            let rate = |r: &Vec<Done>| -> f64 {
                r[workers.clone()]
                    .iter()
                    .map(|d| 1.0 / d.tally.each())
                    .sum()
            };
            let side = |s: &Vec<Vec<Done>>| Timing::of(s.iter().map(|r| 1.0 / rate(r)).collect());
            let (us, them) = (side(ours), side(theirs));
            let sum = |what: fn(&Done) -> u64| -> f64 {
                let done = ours.iter().flat_map(|r| &r[workers.clone()]);
                done.map(what).sum::<u64>() as f64
            };
            let sent = sum(|d| d.tally.sent);
            Row::of("frames", self.frames)
                .count("services", self.services.into())
                .count("flows", self.flows)
                .text("thread", name)
                .number("mpps", 1e3 / us.least(), 2)
                .number("mpps_median", 1e3 / us.median(), 2)
                .wide()
                .number("spread_percent", us.spread() * 100.0, 0)
                .number("process_mpps", 1e3 / them.least(), 2)
                .number("of_processes", them.least() / us.least(), 3)
                .number("of_medians", them.median() / us.median(), 3)
                .number("handed_percent", sum(|d| d.handed) * 100.0 / sent, 1)
                .number("hit_percent", sum(|d| d.tally.hits) * 100.0 / sent, 2)
        };
        rows.map(row).collect()
    }
}

/// What a thread is asked to do: frames of a kind, for the so manieth time.
type Ask = (Frames, usize);

/// The threads.
struct Threads {
    asks: Vec<Sender<Ask>>,
    answers: Vec<Receiver<anyhow::Result<Done>>>,
    round: usize,
}

impl Threads {
    fn start(plan: Plan, flows: u64, a: &BenchArgs) -> anyhow::Result<Threads> {
        let of = a.threads;
        let (hands, barrier) = (Hands::new(of), Arc::new(Barrier::new(of.into())));
        let (mut asks, mut answers, mut opened, mut tell) = (vec![], vec![], vec![], vec![]);
        let (bytes, at_least) = (ring_bytes(a), a.seconds);
        for me in 0..of {
            let (ask, todo) = bounded::<Ask>(1);
            let (back, answer) = bounded(1);
            let (first, told) = bounded::<anyhow::Result<Opened>>(1);
            let (all, others) = bounded::<Arc<Vec<Opened>>>(1);
            let mut post = Some(Post::new(hands.clone(), me));
            let barrier = barrier.clone();
            let work = move || {
                let shard = Shard { me, of };
                let mut lane = match Lane::new(plan, flows, shard) {
                    Ok((lane, opened)) => {
                        let _ = first.send(Ok(opened));
                        lane
                    }
                    Err(e) => return drop(first.send(Err(e))),
                };
                let Ok(all) = others.recv() else { return };
                lane.learn(&all);
                drop(all);
                let filled = BOTH.iter().try_for_each(|(f, _)| lane.fill(*f, bytes));
                if back.send(filled.map(|()| Done::default())).is_err() {
                    return;
                }
                for (frames, round) in todo {
                    barrier.wait();
                    let done = lane.repetition(frames, at_least, &mut post, round);
                    if back.send(done).is_err() {
                        return;
                    }
                }
            };
            std::thread::Builder::new()
                .name(format!("worker {me}"))
                .spawn(work)?;
            asks.push(ask);
            answers.push(answer);
            opened.push(told);
            tell.push(all);
        }
        let opened = opened
            .iter()
            .map(|told| told.recv().context("a worker ended")?);
        let opened = Arc::new(opened.collect::<anyhow::Result<Vec<Opened>>>()?);
        for all in tell {
            all.send(opened.clone()).ok().context("a worker ended")?;
        }
        let mut threads = Threads {
            asks,
            answers,
            round: 0,
        };
        threads.gather()?;
        Ok(threads)
    }

    fn gather(&mut self) -> anyhow::Result<Vec<Done>> {
        let all: Vec<_> = self
            .answers
            .iter()
            .map(|a| a.recv().context("a worker ended"))
            .collect();
        all.into_iter().map(|done| done?).collect()
    }

    fn repetition(&mut self, frames: Frames) -> anyhow::Result<Vec<Done>> {
        self.round += 1;
        for ask in &self.asks {
            ask.send((frames, self.round))
                .ok()
                .context("a worker ended")?;
        }
        self.gather()
    }
}

/// One process of one worker.
struct Process {
    child: Child,
    ask: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

/// The processes, side by side.
struct Processes(Vec<Process>);

impl Processes {
    fn start(
        scenario: Scenario,
        services: u32,
        flows: u64,
        a: &BenchArgs,
    ) -> anyhow::Result<Processes> {
        let name = |v: Option<clap::builder::PossibleValue>| v.map(|v| v.get_name().to_owned());
        let set = name(FlowSet::to_possible_value(&a.flow_set)).unwrap_or_default();
        let both = name(Directions::to_possible_value(&a.directions)).unwrap_or_default();
        let mut all = Processes(Vec::new());
        for me in 0..a.threads {
            let mut c = Command::new(std::env::current_exe().context("this program's own path")?);
            c.arg("bench").arg(scenario.to_string());
            c.args([
                "--flows",
                &flows.to_string(),
                "--services",
                &services.to_string(),
            ]);
            c.args(["--size", &a.size.to_string(), "--ring", &a.ring.to_string()]);
            c.args(["--seconds", &a.seconds.as_secs_f64().to_string()]);
            c.args(["--flow-set", &set, "--directions", &both]);
            c.args([
                "--threads",
                &a.threads.to_string(),
                "--lane",
                &me.to_string(),
            ]);
            let mut child = c.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
            let (ask, out) = (child.stdin.take(), child.stdout.take());
            let answers = BufReader::new(out.context("no pipe")?);
            all.0.push(Process {
                child,
                ask,
                answers,
            });
        }
        for p in &mut all.0 {
            ensure!(
                p.line()? == "ready",
                "a process of the bench could not begin"
            );
        }
        Ok(all)
    }

    fn repetition(&mut self, frames: &str) -> anyhow::Result<Vec<Done>> {
        for p in &mut self.0 {
            let ask = p.ask.as_mut().context("no pipe")?;
            writeln!(ask, "{frames}").context("a process of the bench ended")?;
        }
        self.0.iter_mut().map(Process::done).collect()
    }
}

impl Process {
    fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        Ok(line.trim().to_owned())
    }

    fn done(&mut self) -> anyhow::Result<Done> {
        let line = self.line()?;
        let words: Vec<u64> = line.split(' ').filter_map(|w| w.parse().ok()).collect();
        let [sent, took, hits] = words[..] else {
            anyhow::bail!("a process of the bench ended");
        };
        let mut done = Done::default();
        (done.tally.sent, done.tally.hits) = (sent, hits);
        done.tally.took = Duration::from_nanos(took);
        Ok(done)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Without questions it ends.
        drop(self.ask.take());
        let _ = self.child.wait();
    }
}

/// One of the processes: answers questions on standard input until there are none.
pub(super) fn process(scenario: Scenario, me: u16, a: &BenchArgs) -> anyhow::Result<()> {
    let services = a.services.first().copied().unwrap_or(1);
    let flows = a.flows.first().copied().unwrap_or(1);
    let plan = planned(scenario, services, flows, a)?;
    let shard = Shard { me, of: a.threads };
    let (mut lane, _) = Lane::new(plan, flows, shard)?;
    for (frames, _) in BOTH {
        lane.fill(frames, ring_bytes(a))?;
    }
    let mut out = std::io::stdout();
    writeln!(out, "ready")?;
    for line in std::io::stdin().lines() {
        let line = line?;
        let asked = BOTH.iter().find(|(_, name)| *name == line);
        let (frames, _) = asked.context("no such frames")?;
        let done = lane.repetition(*frames, a.seconds, &mut None, 0)?.tally;
        writeln!(out, "{} {} {}", done.sent, done.took.as_nanos(), done.hits)?;
    }
    Ok(())
}
