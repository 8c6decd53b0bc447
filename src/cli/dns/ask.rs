//! `podpath dns NAME`: a query or a whole look-up from a pod, over the emulated path.

use crate::cli::args::{DnsArgs, Format, Global};
use crate::cli::{Exit, load, out, show, trace};
use crate::cluster::Scenario;
use crate::cluster::dns::Resolved;
use crate::cluster::dns::ask::Record;
use crate::kube::dns::client::conf::Conf;
use crate::kube::dns::client::dig::Question;
use crate::kube::dns::client::text::type_number;
use crate::kube::dns::client::{Family, Libc};
use crate::kube::podpath_v1alpha1::Target;
use crate::report::dns as report;
use crate::report::trace::{self as steps, Style};
use core::time::Duration;
use std::io::Write;
use std::net::{IpAddr, SocketAddr};

/// What the words say.
struct Words {
    name: String,
    qtype: u16,
    server: Option<SocketAddr>,
    short: bool,
    search: bool,
    change: Vec<(String, Option<u64>)>,
}

/// Who asks; clap sees to it that somebody does.
fn asker(a: &DnsArgs) -> &str {
    a.from.as_deref().unwrap_or_default()
}

/// Looks up.
pub fn run(g: &Global, a: &DnsArgs) -> anyhow::Result<Exit> {
    let words = words(&a.words)?;
    let from = trace::target(g, asker(a))?;
    let inputs = load::inputs(g, None)?;
    let Some(mut s) = load::scenario(g, &inputs) else {
        return Ok(Exit::Failed);
    };
    if s.namespace(&from).is_err() {
        return Err(show::nobody(&s, &from.peer.to_string()));
    }
    // What servers do at their start is over: loops are found, and the kubelet has seen it.
    let findings = s.settle_dns();
    if out::findings(&findings, g.quiet) {
        return Ok(Exit::Failed);
    }
    s.cluster.trace_dns(a.trace);
    match a.libc {
        Some(libc) => look_up(&mut s, a, &words, &from, libc),
        None => dig(&mut s, a, &words, &from),
    }
}

fn look_up(
    s: &mut Scenario,
    a: &DnsArgs,
    w: &Words,
    from: &Target,
    libc: Libc,
) -> anyhow::Result<Exit> {
    let family = match (a.ipv4, a.ipv6) {
        (true, _) => Family::V4,
        (_, true) => Family::V6,
        _ => Family::Any,
    };
    let r = s.resolve(from, &w.name, libc, family);
    let r = r.map_err(|e| out::stop(asker(a), e, ""))?;
    let mut o = anstream::stdout();
    match a.output {
        Format::Json => {
            let doc = report::lookup_json(&w.name, &r);
            writeln!(o, "{}", serde_json::to_string_pretty(&doc)?)?;
        }
        Format::Text => {
            write!(o, "{}", report::lookup(&w.name, &r))?;
            more(s, a, r.record.as_ref())?;
        }
    }
    Ok(exit(&r))
}

fn exit(r: &Resolved) -> Exit {
    match r.answer.error {
        None => Exit::Clean,
        Some(_) => Exit::Findings,
    }
}

fn dig(s: &mut Scenario, a: &DnsArgs, w: &Words, from: &Target) -> anyhow::Result<Exit> {
    let conf = s.cluster.resolv_conf(from);
    let conf = Conf::glibc(&conf.map_err(|e| out::stop(asker(a), e, ""))?);
    let first = conf.nameservers.first().copied();
    let first = first.unwrap_or(IpAddr::from([127, 0, 0, 1]));
    let server = w.server.unwrap_or(SocketAddr::new(first, 53));
    let mut exit = Exit::Findings;
    for name in candidates(&conf, w) {
        let mut q = Question::new(&name, w.qtype, server);
        for (option, value) in &w.change {
            apply(&mut q, option, *value)?;
        }
        let done = s.dig(from, q);
        let (found, record) = done.map_err(|e| out::stop(asker(a), e, ""))?;
        let good = report::rcode(&found) == Some(0);
        let last = good || !w.search || name.trim_end_matches('.') == w.name;
        if !last && report::answers(&found) == 0 {
            continue;
        }
        let mut o = anstream::stdout();
        match a.output {
            Format::Json => {
                let doc = report::dig_json(&name, server, &found, &record);
                writeln!(o, "{}", serde_json::to_string_pretty(&doc)?)?;
            }
            Format::Text => {
                let text = report::dig(&w.name, server, &found, &record, w.short);
                write!(o, "{text}")?;
                more(s, a, Some(&record))?;
            }
        }
        exit = if good { Exit::Clean } else { Exit::Findings };
        break;
    }
    Ok(exit)
}

/// `+search`: the list as dig goes through it; without it the name as it is.
fn candidates(conf: &Conf, w: &Words) -> Vec<String> {
    let dots = w.name.matches('.').count() as u32;
    let own = w.name.clone();
    if !w.search || own.ends_with('.') {
        return vec![own];
    }
    let listed = conf.search.iter().map(|d| format!("{own}.{d}"));
    match dots >= conf.ndots {
        true => [own.clone()].into_iter().chain(listed).collect(),
        false => listed.chain([own.clone()]).collect(),
    }
}

/// With `--trace`: the packets' way, and what servers saw and decided.
fn more(s: &mut Scenario, a: &DnsArgs, record: Option<&Record>) -> anyhow::Result<()> {
    let Some(record) = record else { return Ok(()) };
    let mut o = anstream::stdout();
    if a.trace {
        let style = Style {
            verbose: a.verbose,
            ..Style::default()
        };
        writeln!(o, "\n{}", steps::text(&record.events, style))?;
        let seen = s.cluster.dns_seen();
        write!(o, "{}", report::decisions(record.began, &seen))?;
    }
    for (pod, why) in s.cluster.dns_ended() {
        writeln!(o, ";; {pod} is not running: {why}")?;
    }
    if let Some(hop) = record.hop.as_ref().filter(|_| a.trace) {
        let what = crate::cluster::disposition_name(&hop.how);
        let at = match hop.device.is_empty() {
            true => hop.ns_name.clone(),
            false => format!("{} {}", hop.ns_name, hop.device),
        };
        writeln!(o, ";; decided at {at}: {what}")?;
    }
    Ok(())
}

fn words(all: &[String]) -> anyhow::Result<Words> {
    let mut w = Words {
        name: String::new(),
        qtype: 1,
        server: None,
        short: false,
        search: false,
        change: Vec::new(),
    };
    for word in all {
        if let Some(option) = word.strip_prefix('+') {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            match name {
                "short" => w.short = true,
                "search" => w.search = true,
                "nosearch" => w.search = false,
                _ => w.change.push((name.to_owned(), value.parse().ok())),
            }
        } else if let Some(server) = word.strip_prefix('@') {
            let ip = server.parse().map(|ip: IpAddr| SocketAddr::new(ip, 53));
            let at = ip.or_else(|_| server.parse());
            w.server = Some(at.map_err(|_| {
                out::stop(
                    word,
                    "expected the address of a server, with or without :PORT",
                    "",
                )
            })?);
        } else if w.name.is_empty() {
            w.name = word.clone();
        } else {
            w.qtype = type_number(word).ok_or_else(|| {
                out::stop(
                    word,
                    "no such record type",
                    "A, AAAA, SRV, PTR, TXT, SOA ... or TYPE123",
                )
            })?;
        }
    }
    // dig -x
    if let (12, Ok(ip)) = (w.qtype, w.name.parse::<IpAddr>()) {
        w.name = reverse(ip);
    }
    match w.name.is_empty() {
        true => Err(out::stop(
            "",
            "expected a name to look up",
            "podpath dns NAME --from POD",
        )),
        false => Ok(w),
    }
}

/// RFC 1035 section 3.5, RFC 3596 section 2.5.
fn reverse(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(v6) => {
            let nibbles = v6.octets().into_iter().rev().flat_map(|b| [b & 15, b >> 4]);
            let text: String = nibbles.map(|n| format!("{n:x}.")).collect();
            format!("{text}ip6.arpa")
        }
    }
}

fn apply(q: &mut Question, option: &str, value: Option<u64>) -> anyhow::Result<()> {
    let number = || {
        value.ok_or_else(|| {
            out::stop(
                &format!("+{option}"),
                "expected a number behind it",
                "+time=2",
            )
        })
    };
    match option {
        "tcp" | "vc" => q.tcp = true,
        "notcp" | "novc" => q.tcp = false,
        "ignore" => q.ignore = true,
        "noedns" => q.edns = None,
        "norecurse" | "norec" => q.recurse = false,
        "bufsize" => q.edns = Some(u16::try_from(number()?).unwrap_or(u16::MAX)),
        "time" => q.timeout = Duration::from_secs(number()?.clamp(1, 3_600)),
        "tries" => q.tries = u32::try_from(number()?.clamp(1, 100)).unwrap_or(1),
        _ => {
            let known =
                "known: +tcp +short +search +ignore +noedns +norecurse +bufsize= +time= +tries=";
            return Err(out::stop(&format!("+{option}"), "unknown option", known));
        }
    }
    Ok(())
}
