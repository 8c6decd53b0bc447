//! `podpath bench replay`: frames of a capture through the path of `service`, as fast as they can be read.
//!
//! The file passes through one window and frames are lent out of it: memory does not depend on its size. With
//! `--make` the capture is written first: what opens the flows, then frames of random ones; the same cluster
//! built anew makes the same choices, so that its answers find their way. Invariant: of a capture that the
//! bench made every frame arrives, or there are no figures.

use super::args::BenchArgs;
use super::clock::{Timing, cpu, peak_memory};
use super::drive::{Scene, Sent};
use super::figures::{Row, Section};
use super::plan::Plan;
use super::tally::{Tally, of_batch};
use super::traffic::resolves;
use crate::base::Rng;
use crate::cli::bench::args::Scenario;
use crate::cli::load;
use crate::fast::{BATCH, Batch, Fate};
use crate::path::NoTrace;
use crate::replay::pcap::{CaptureReader, LinkType, PcapWriter, Record};
use anyhow::{Context, bail, ensure};
use indicatif::ProgressBar;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::Duration;

/// Packets lent at once, at most.
const LENT: usize = 4096;
/// Bytes that a packet takes in the file besides itself.
const HEADER: u64 = 16;
/// Nanoseconds between the packets of a capture that is made.
const STEP: u64 = 100;
/// Frames of random flows that are kept ready while one is made.
const READY: u64 = 1 << 18;

/// Makes the capture if asked to, and measures it.
pub fn run(file: Option<&Path>, a: &BenchArgs, bar: &ProgressBar) -> anyhow::Result<Section> {
    let services = a.services.first().copied().unwrap_or(10);
    let flows = a.flows.first().copied().unwrap_or(1);
    let plan = Plan::of(Scenario::Replay, services, flows, a);
    let made = file.is_none();
    let file = file
        .or(a.make.as_deref())
        .context("a replay without a capture")?;
    if made {
        bar.set_message("writing");
        make(file, plan, flows, a.bytes)?;
    }
    let row = measure(file, plan, flows, a, bar, made)?;
    let notes = vec![
        "the first time through the file a cluster without connections is met, flows are walked".to_owned(),
        "ns/packet is of the later times, the least of them; CPU time, reading from the page cache included"
            .to_owned(),
        "frames go in where their sender is plugged in, strangers' at the first client's".to_owned(),
    ];
    Ok(Section {
        name: Scenario::Replay.to_string(),
        title: format!("frames of {}", file.display()),
        rows: vec![row],
        notes,
    })
}

/// Writes a capture of some bytes: what opens the flows, then frames of random ones.
fn make(file: &Path, plan: Plan, flows: u64, bytes: u64) -> anyhow::Result<()> {
    let out = File::create(file).with_context(|| format!("{}", file.display()))?;
    let mut out = PcapWriter::new(BufWriter::with_capacity(1 << 20, out), LinkType::Ethernet)?;
    let (mut written, mut time) = (24, 0);
    let mut put = |frames: &[Sent]| -> anyhow::Result<u64> {
        for (_, f) in frames {
            out.write(&Record::new(0, time, f))?;
            written += HEADER + f.len() as u64;
            time += STEP;
        }
        Ok(written)
    };
    let mut scene = Scene::new(plan, flows, 1)?;
    let mut opening = 0;
    scene.open(0..flows, &mut |frames| {
        opening = put(frames)?;
        Ok(())
    })?;
    ensure!(
        opening <= bytes,
        "{flows} flows take {opening} bytes to open: give more --bytes or fewer --flows"
    );
    let mut rng = Rng::new(21);
    let any = |rng: &mut Rng| {
        let (n, back) = (rng.below(flows), rng.below(2) == 1);
        scene.any_frame(n, plan.size, back)
    };
    let ready: Vec<Sent> = (0..READY.min(flows * 4)).map(|_| any(&mut rng)).collect();
    while opening < bytes {
        let from = rng.below(ready.len() as u64) as usize;
        let frame = ready.get(from..=from).unwrap_or_default();
        opening = put(frame)?;
    }
    out.finish()?.flush()?;
    Ok(())
}

/// What one time through the file gave.
#[derive(Default)]
struct Pass {
    tally: Tally,
    strangers: u64,
}

fn measure(
    file: &Path,
    plan: Plan,
    flows: u64,
    a: &BenchArgs,
    bar: &ProgressBar,
    made: bool,
) -> anyhow::Result<Row> {
    let mut scene = Scene::new(plan, flows, 1)?;
    let doors = Doors::new(&mut scene)?;
    bar.set_length(u64::from(a.repetitions) + 1);
    bar.set_message("reading");
    let (mut first, mut later) = (None, Vec::new());
    let mut all = Pass::default();
    for _ in 0..=a.repetitions {
        let pass = through(&mut scene, &doors, file, a.packets)?;
        if made && pass.tally.arrived != pass.tally.sent {
            bail!(
                "{} of {} frames arrived",
                pass.tally.arrived,
                pass.tally.sent
            );
        }
        match first {
            None => first = Some(pass.tally.each()),
            Some(_) => later.push(pass.tally.each()),
        }
        all.tally.add(&pass.tally);
        all.strangers += pass.strangers;
        bar.inc(1);
    }
    let (t, later) = (all.tally, Timing::of(later));
    let passes = u64::from(a.repetitions) + 1;
    let bytes = t.bytes as f64 / t.sent as f64;
    Ok(Row::default()
        .count("services", plan.services.into())
        .count("frames", t.sent / passes)
        .number("ns_per_packet", later.least(), 1)
        .number("mpps", 1e3 / later.least(), 2)
        .number("spread_percent", later.spread() * 100.0, 0)
        .number("first_ns_per_packet", first.unwrap_or(f64::NAN), 1)
        .number("hit_percent", t.hits as f64 * 100.0 / t.sent as f64, 2)
        .number(
            "arrived_percent",
            t.arrived as f64 * 100.0 / t.sent as f64,
            2,
        )
        .count("strangers", all.strangers / passes)
        .count("peak_mib", peak_memory() >> 20)
        .number("ns_median", later.median(), 1)
        .wide()
        .number("gbit_s", bytes * 8.0 / later.least(), 1)
        .wide()
        .count("sampled", t.sampled)
        .wide()
        .count("entries", scene.fast.len() as u64)
        .wide())
}

/// Slots of the quick look.
const QUICK: usize = 1024;

/// Where frames come in, by who sent them.
struct Doors {
    ports: BTreeMap<u64, u16>,
    /// Senders by a few of their bits, with their ports.
    quick: Vec<(u64, u16)>,
    /// Where others' do.
    other: u16,
}

/// An address as a number; none is 0.
fn number(mac: &[u8; 6]) -> u64 {
    let [a, b, c, d, e, f] = *mac;
    u64::from_ne_bytes([a, b, c, d, e, f, 1, 0])
}

fn slot(mac: u64) -> usize {
    (mac.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 54) as usize % QUICK
}

impl Doors {
    fn new(scene: &mut Scene) -> anyhow::Result<Doors> {
        let (mut ports, mut quick) = (BTreeMap::new(), vec![(0, 0); QUICK]);
        for end in scene.cluster.pod_ends() {
            let port = scene.fast.port(end.port).context("no ports left")?;
            let mac = number(&end.mac.0);
            ports.insert(mac, port);
            quick[slot(mac)] = (mac, port);
        }
        let other = scene.frame(0, scene.plan().size).0;
        Ok(Doors {
            ports,
            quick,
            other,
        })
    }

    #[inline(always)]
    fn of(&self, frame: &[u8], strangers: &mut u64) -> u16 {
        let mac = frame.get(6..12).and_then(|mac| mac.first_chunk());
        let mac = mac.map_or(0, number);
        let (known, port) = self.quick[slot(mac)];
        if known == mac {
            return port;
        }
        self.ports.get(&mac).copied().unwrap_or_else(|| {
            *strangers += 1;
            self.other
        })
    }
}

/// Once through the file, or through its first packets.
fn through(
    scene: &mut Scene,
    doors: &Doors,
    file: &Path,
    packets: Option<u64>,
) -> anyhow::Result<Pass> {
    let name = file.display().to_string();
    let open = File::open(file);
    let open = open.map_err(|e| load::unreadable(file, &e, "a capture (pcap or pcapng)"))?;
    let mut pass = Pass::default();
    let began = cpu();
    let mut reader = CaptureReader::new(&name, open).map_err(|f| anyhow::anyhow!("{f}"))?;
    let (mut places, mut out, mut rng) = (Vec::new(), Vec::new(), Rng::new(3));
    let most = packets.unwrap_or(u64::MAX);
    while pass.tally.sent < most {
        let room = usize::try_from(most - pass.tally.sent).unwrap_or(LENT);
        let Some(lent) = reader.next_many(room.min(LENT), &mut places) else {
            break;
        };
        let bytes = lent.map_err(|f| anyhow::anyhow!("{f}"))?;
        // One frame of what was lent is looked at byte by byte.
        let sampled = rng.below(places.len().max(1) as u64) as usize;
        let mut batch = Batch::new();
        for (n, part) in places.chunks(BATCH).enumerate() {
            batch.clear();
            for place in part {
                let frame = bytes.get(place.clone()).unwrap_or_default();
                batch.push(doors.of(frame, &mut pass.strangers), frame);
            }
            scene
                .fast
                .run(&mut scene.cluster.lab.world, &mut batch, &mut out);
            pass.tally.add(&of_batch(&batch, &out));
            if sampled / BATCH == n {
                pass.tally.sampled += u64::from(sample(scene, &batch, sampled % BATCH)?);
            }
            out.clear();
        }
        scene.pass(Duration::from_micros(100));
    }
    pass.tally.took = cpu().saturating_sub(began);
    Ok(pass)
}

/// Whether a frame of a batch was sent by an entry; then what its walk says has to be what was sent.
fn sample(scene: &mut Scene, batch: &Batch<'_>, i: usize) -> anyhow::Result<bool> {
    let Fate::Sent(port) = batch.fates[i] else {
        return Ok(false);
    };
    let sent = (scene.fast.port_at(port), batch.sent(i));
    let world = &mut scene.cluster.lab.world;
    let frame = batch.frames[i];
    let out = scene
        .fast
        .look(world, batch.ingress[i], frame, &mut NoTrace);
    let walked = out.iter().find(|(_, f)| !resolves(f.data()));
    let walked = walked.map(|(to, f)| (Some(*to), f.data().to_vec()));
    ensure!(
        walked.as_ref() == Some(&sent),
        "a frame was not delivered as its walk leaves it: {frame:02x?} became {sent:02x?}, not {walked:02x?}"
    );
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::bench::plan::tests::plan;

    #[test]
    fn a_made_capture_arrives_whole_and_a_spoilt_one_does_not() {
        let dir = std::env::temp_dir().join(format!("podpath-bench-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a folder");
        let file = dir.join("made.pcap");
        let plan = plan("replay", &[]);
        make(&file, plan, 32, 100_000).expect("made");
        let size = std::fs::metadata(&file).expect("there").len();
        assert!((100_000..100_100).contains(&size), "{size}");
        let mut scene = Scene::new(plan, 32, 1).expect("a scene");
        let doors = Doors::new(&mut scene).expect("doors");
        let pass = through(&mut scene, &doors, &file, None).expect("read");
        assert_eq!((pass.tally.arrived, pass.strangers), (pass.tally.sent, 0));
        assert!(pass.tally.sent > 1200 && pass.tally.hits > 1000 && pass.tally.sampled > 0);
        let some = through(&mut scene, &doors, &file, Some(100)).expect("read");
        assert_eq!(some.tally.sent, 100);
        // Packets of somebody else, to nobody.
        let mut bytes = std::fs::read(&file).expect("there");
        for f in bytes[24..].chunks_mut(80) {
            f[16 + 11] ^= 0x55;
            f[16 + 33] ^= 0x55;
        }
        std::fs::write(&file, &bytes).expect("written");
        let strange = through(&mut scene, &doors, &file, None).expect("read");
        assert_eq!(strange.strangers, strange.tally.sent);
        assert!(strange.tally.arrived < strange.tally.sent);
        bytes.truncate(bytes.len() - 7);
        std::fs::write(&file, &bytes).expect("written");
        assert!(through(&mut scene, &doors, &file, None).is_err());
        std::fs::remove_dir_all(&dir).expect("removed");
    }
}
