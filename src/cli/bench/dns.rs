//! `podpath bench dns`: answers a second on one core, against decoding and encoding with hickory-proto
//! alone.
//!
//! 1,000 Services and kubeadm's Corefile with a cache for all names, in process; with `--wire` and
//! `--dnsperf` also through sockets ([`super::dns_wire`]). Every kind of question is asked and its answer
//! looked at before it is timed. Invariant: all rows of a table are from one run and one thread.

use super::clock::{self, Timing};
use super::dns_wire;
use super::figures::{Row, Section};
use crate::base::{Finding, Instant};
use crate::cli::bench::args::BenchArgs;
use crate::kube::dns::baseline::Baseline;
use crate::kube::dns::{Client, Corefile, Environment, Objects, Outcome, Responder, Transport};
use crate::kube::manifest::Input;
use crate::kube::store::Store;
use anyhow::{Context, bail};
use core::time::Duration;
use indicatif::ProgressBar;
use std::hint::black_box;

/// Services of the cluster.
pub(super) const SERVICES: usize = 1_000;
/// kubeadm's, with a cache for the cluster's names too, as it was up to Kubernetes 1.32 and as a NodeLocal
/// DNSCache has it. The upstream is nobody: no question here goes there.
const COREFILE: &str = ".:53 {
    errors
    health {
       lameduck 5s
    }
    ready
    kubernetes cluster.local in-addr.arpa ip6.arpa {
       pods insecure
       fallthrough in-addr.arpa ip6.arpa
       ttl 30
    }
    prometheus :9153
    forward . 127.0.0.1:9 {
       max_concurrent 1000
    }
    cache 30
    loop
    reload
    loadbalance
}
";
/// CPU time of one repetition, and how many there are.
const REPETITION: Duration = Duration::from_millis(150);
const REPETITIONS: usize = 5;

/// The tables.
pub fn run(a: &BenchArgs, bar: &ProgressBar) -> anyhow::Result<Vec<Section>> {
    let mut sections = vec![in_process(bar)?];
    if a.wire || a.dnsperf {
        sections.extend(dns_wire::run(a, bar)?);
    }
    Ok(sections)
}

/// A responder that knows the Services.
pub(super) fn responder(corefile: &str) -> anyhow::Result<Responder> {
    let service = |i: usize| {
        let ip = format!("10.96.{}.{}", i / 250, i % 250 + 1);
        serde_json::json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": format!("s{i}"), "namespace": "shop"},
            "spec": {
                "clusterIP": ip, "clusterIPs": [ip], "ipFamilies": ["IPv4"],
                "ports": [{"name": "http", "port": 80}],
            },
        })
    };
    let mut items: Vec<serde_json::Value> = (0..SERVICES).map(service).collect();
    items.push(serde_json::json!({
        "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}
    }));
    let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": items});
    let (store, mut findings) = Store::load(&[Input::new("cluster", list.to_string())]);
    let environment = Environment::default();
    let (parsed, found) = Corefile::parse("Corefile", corefile, &environment.around);
    findings.extend(found);
    let (mut dns, found) = Responder::new(&parsed, &environment);
    findings.extend(found);
    if let Some(wrong) = findings.iter().find(|f| Finding::is_error(f)) {
        bail!("the benchmark's own cluster: {wrong}");
    }
    dns.learn(Instant::ZERO, &Objects::of_store(&store));
    Ok(dns)
}

fn kubeadm() -> anyhow::Result<Responder> {
    responder(COREFILE)
}

/// The one that `--wire` serves: `loop` would complain of the upstream, which is nobody, and be silent then.
pub(super) fn served() -> anyhow::Result<Responder> {
    responder(&COREFILE.replace("    loop\n", ""))
}

/// A query as glibc sends it: RD, no EDNS.
pub(super) fn query(name: &str, kind: u16, id: usize) -> Vec<u8> {
    let id = u16::try_from(id & 0xffff).unwrap_or(0);
    let mut out = id.to_be_bytes().to_vec();
    out.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        out.push(u8::try_from(label.len()).unwrap_or(63));
        out.extend(label.as_bytes());
    }
    out.push(0);
    out.extend(kind.to_be_bytes());
    out.extend([0, 1]);
    out
}

/// One query for each Service.
fn queries(name: impl Fn(usize) -> String, kind: u16) -> Vec<Vec<u8>> {
    (0..SERVICES).map(|i| query(&name(i), kind, i)).collect()
}

fn client(transport: Transport) -> Client {
    Client {
        from: ([10, 244, 1, 9], 40_000).into(),
        port: 53,
        transport,
    }
}

/// A kind of question with what is expected of its answers.
struct Kind {
    what: &'static str,
    queries: Vec<Vec<u8>>,
    /// Code and number of answers.
    expect: (u8, u8),
}

fn kinds() -> Vec<Kind> {
    let service = |i: usize| format!("s{i}.shop.svc.cluster.local");
    let kind = |what, queries, expect| Kind {
        what,
        queries,
        expect,
    };
    vec![
        kind("A", queries(service, 1), (0, 1)),
        kind("AAAA (NODATA)", queries(service, 28), (0, 0)),
        kind(
            "SRV",
            queries(|i| format!("_http._tcp.{}", service(i)), 33),
            (0, 1),
        ),
        kind(
            "NXDOMAIN",
            queries(
                |i| format!("s{i}.shop.svc.cluster.local.shop.svc.cluster.local"),
                1,
            ),
            (3, 0),
        ),
    ]
}

/// Asks all and looks at the answers.
fn ask(dns: &mut Responder, kind: &Kind, transport: Transport) -> anyhow::Result<Vec<Vec<u8>>> {
    let (now, client) = (Instant::ZERO, client(transport));
    let mut replies = Vec::new();
    for query in &kind.queries {
        let Outcome::Reply(reply) = dns.query(now, &client, query) else {
            bail!("{}: no reply", kind.what);
        };
        let at = |i: usize| reply.get(i).copied().unwrap_or(0xff);
        if (at(3) & 15, at(7)) != kind.expect || reply.get(..2) != query.get(..2) {
            bail!("{}: a wrong reply", kind.what);
        }
        replies.push(reply);
    }
    Ok(replies)
}

/// Times a round of questions; nanoseconds for one.
fn time(mut round: impl FnMut() -> usize) -> Timing {
    let mut once = || u64::try_from(round()).unwrap_or(0);
    once();
    Timing::of(
        (0..REPETITIONS)
            .map(|_| clock::repetition(REPETITION, &mut once))
            .collect(),
    )
}

fn row(what: &str, way: &str, timing: &Timing, alone: &Timing) -> Row {
    Row::of("question", what)
        .text("answered", way)
        .number("answers_per_s", 1e9 / timing.median(), 0)
        .number("ns_per_answer", timing.median(), 0)
        .number("spread", timing.spread(), 2)
        .number("times_hickory_alone", alone.median() / timing.median(), 1)
}

fn in_process(bar: &ProgressBar) -> anyhow::Result<Section> {
    let kinds = kinds();
    bar.set_length(kinds.len() as u64 * 2 + 2);
    let mut section = Section {
        name: "dns".to_owned(),
        title: format!("kubeadm's Corefile with cache, {SERVICES} Services, in process, one core"),
        notes: vec![
            "hickory-proto alone: each query decoded, its reply encoded, nothing decided"
                .to_owned(),
        ],
        ..Section::default()
    };
    let (fresh, mut first) = (kubeadm()?, None);
    for kind in &kinds {
        bar.set_message(kind.what);
        let mut dns = fresh.clone();
        ask(&mut dns, kind, Transport::Udp)?;
        let replies = ask(&mut dns, kind, Transport::Udp)?;
        let alone = hickory(kind, &replies)?;
        bar.inc(1);
        if first.is_none() {
            section
                .rows
                .push(row(kind.what, "hickory-proto alone", &alone, &alone));
        }
        let kept = kept(&mut dns, kind)?;
        section.rows.push(row(kind.what, "cached", &kept, &alone));
        bar.inc(1);
        first.get_or_insert((alone, replies.len()));
    }
    let Some((alone, _)) = first else {
        bail!("nothing was asked");
    };
    bar.set_message("without kept replies");
    for (way, corefile) in [
        ("by the cache plugin", COREFILE.to_owned()),
        ("no cache", uncached()),
    ] {
        // Over TCP nothing is kept in octets.
        let (mut dns, kind) = (responder(&corefile)?, &kinds[0]);
        ask(&mut dns, kind, Transport::Tcp)?;
        let timing = time(|| {
            ask(&mut dns, kind, Transport::Tcp).map_or(0, |replies| black_box(replies).len())
        });
        section.rows.push(row(kind.what, way, &timing, &alone));
    }
    bar.inc(1);
    section.rows.push(row(
        "A of a pod",
        "never asked before",
        &new_names()?,
        &alone,
    ));
    bar.inc(1);
    Ok(section)
}

fn uncached() -> String {
    COREFILE.replace("    cache 30\n", "")
}

fn hickory(kind: &Kind, replies: &[Vec<u8>]) -> anyhow::Result<Timing> {
    let replies = replies.iter().map(Vec::as_slice);
    let baseline = Baseline::new(replies).context("a reply that is no message")?;
    Ok(time(|| {
        let each = kind.queries.iter().enumerate();
        each.filter_map(|(i, q)| baseline.answer(i, black_box(q)))
            .count()
    }))
}

/// Replies kept as octets: the way of `dns serve` for a name that was asked before.
fn kept(dns: &mut Responder, kind: &Kind) -> anyhow::Result<Timing> {
    let (client, mut out) = (client(Transport::Udp), Vec::with_capacity(512));
    let before = dns.hot_hits();
    let (now, mut rounds) = (Instant::from_secs(3), 0_u64);
    let timing = time(|| {
        rounds += 1;
        for query in &kind.queries {
            black_box(dns.quick(now, &client, black_box(query), &mut out));
            black_box(&out);
        }
        kind.queries.len()
    });
    let asked = rounds * u64::try_from(kind.queries.len()).unwrap_or(0);
    if dns.hot_hits() - before != asked {
        bail!("{}: not every reply was kept", kind.what);
    }
    // Three seconds have passed, and every TTL says so: the last record's, which every kind has.
    let last = kind.queries.last().map(Vec::as_slice).unwrap_or_default();
    if out.get(..2) != last.get(..2) || !out.windows(4).any(|w| w == [0, 0, 0, 27]) {
        bail!("{}: a wrong kept reply", kind.what);
    }
    Ok(timing)
}

/// Every name for the first time: a miss, an answer made, kept by the cache.
fn new_names() -> anyhow::Result<Timing> {
    let mut dns = kubeadm()?;
    let client = client(Transport::Udp);
    let (mut next, mut wrong) = (0_u32, 0_u32);
    let timing = time(|| {
        for _ in 0..SERVICES {
            next += 1;
            let [_, b, c, d] = next.to_be_bytes();
            let asked = query(&format!("10-{b}-{c}-{d}.shop.pod.cluster.local"), 1, 7);
            let outcome = dns.query(Instant::ZERO, &client, black_box(&asked));
            let good = matches!(&outcome, Outcome::Reply(r) if r.get(7) == Some(&1));
            wrong += u32::from(!good);
        }
        SERVICES
    });
    if wrong > 0 {
        bail!("{wrong} of {next} names of pods have no address");
    }
    Ok(timing)
}
