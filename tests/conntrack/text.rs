//! What `conntrack` prints is read and printed back: recordings of it, hand-made lines, wrong ones.

use super::{packet, replay};
use podpath::base::Instant;
use podpath::nf::ct::text::{
    EventLine, Style, event_line, list, parse, parse_events, parse_stats, stats_line,
};
use podpath::nf::ct::{Conntrack, EventKind, Filter};
use proptest::prelude::*;
use std::io::Read;
use std::path::Path;

/// The dumps of both programs in the archive of recordings, by path.
fn dumps() -> Vec<(String, String)> {
    let archive = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recordings/oracle.tar.gz");
    let packed = std::fs::File::open(archive).unwrap();
    let mut tar = tar::Archive::new(flate2::read::GzDecoder::new(packed));
    let mut out = Vec::new();
    for file in tar.entries().unwrap() {
        let mut file = file.unwrap();
        let path = file.path().unwrap().display().to_string();
        if path.ends_with("/conntrack.txt") || path.ends_with("/conntrack6.txt") {
            let mut text = String::new();
            file.read_to_string(&mut text).unwrap();
            out.push((path, text));
        }
    }
    out
}

fn same(file: &str, text: &str) -> usize {
    let (dump, findings) = parse(file, text);
    assert!(findings.is_empty(), "{file}: {}", findings[0]);
    assert_eq!(dump.to_text(), text, "{file}");
    dump.entries.len()
}

#[test]
fn every_recorded_dump_prints_as_it_was() {
    let dumps = dumps();
    let lines: usize = dumps.iter().map(|(path, text)| same(path, text)).sum();
    assert!(
        dumps.len() > 80 && lines > 400,
        "{} dumps, {lines} lines",
        dumps.len()
    );
}

/// A dump put into a table and listed again is the dump, in another order.
#[test]
fn recorded_dumps_live_in_a_table() {
    let now = Instant::from_secs(77);
    for (path, text) in dumps() {
        let mut ct = Conntrack::default();
        for (line, e) in parse(&path, &text).0.entries {
            assert!(ct.insert(e.to_conn(now), now).is_some(), "{path}:{line}");
        }
        let mut printed: Vec<String> = list(&ct, now, Style::Extended)
            .iter()
            .map(ToString::to_string)
            .collect();
        // The tool itself held on to some while it printed them.
        let once = |l: &str| l.replace(" use=2", " use=1").replace(" use=3", " use=1");
        let mut given: Vec<String> = text.lines().map(once).collect();
        given.sort();
        printed.sort();
        assert_eq!(printed, given, "{path}");
    }
}

/// All options and protocols of `conntrack -L` 1.4.7 and of /proc, as a 6.18 kernel printed them.
#[test]
fn every_form_prints_as_it_was() {
    assert!(same("list", include_str!("../data/conntrack/text-list.txt")) > 50);
}

#[test]
fn events_print_as_they_were() {
    let text = include_str!("../data/conntrack/text-events.txt");
    let (events, findings) = parse_events("events", text);
    assert!(findings.is_empty(), "{}", findings[0]);
    let printed: String = events.iter().map(|(_, e)| format!("{e}\n")).collect();
    assert_eq!(printed, text);
    let of = |kind| events.iter().filter(|(_, e)| e.kind == kind).count();
    assert!(of(EventKind::New) > 10 && of(EventKind::Update) > 5 && of(EventKind::Destroy) > 5);
}

#[test]
fn statistics_print_as_they_were() {
    let cpu0 = "cpu=0   \tfound=1 invalid=255 insert=3 insert_failed=4 drop=5 early_drop=6 error=7 \
                search_restart=8 clash_resolve=9 chaintoolong=10 \n";
    let (stats, findings) = parse_stats("stats", cpu0);
    assert!(findings.is_empty());
    assert_eq!(stats_line(&stats), cpu0);
    let (twice, _) = parse_stats("stats", &cpu0.repeat(2));
    assert_eq!((twice.found, twice.chaintoolong), (2, 20));
    let (_, findings) = parse_stats("stats", "cpu=0 found=x\n");
    assert_eq!((findings[0].span.line, findings[0].span.column), (1, 7));
}

const GOOD: &str = "udp      17 29 src=10.1.0.2 dst=10.2.0.2 sport=1 dport=2 [UNREPLIED] \
                    src=10.2.0.2 dst=10.1.0.2 sport=2 dport=1 mark=0 use=1";

#[test]
fn a_wrong_line_is_told_with_its_place_and_the_rest_loads() {
    let cases = [
        ("udp 18 29", 5, "the number of protocol \"udp\""),
        ("udp      17 29 src=10.1.0.300", 16, "src= with an address"),
        ("udp      17 29 src=10.1.0.3 dst=fe80::1", 29, "same family"),
        ("tcp      6 29 OPEN src=10.1.0.3", 15, "a state or src="),
        ("ipv4     10 tcp", 10, "2, the number of that network layer"),
        ("=", 1, "a protocol's name"),
    ];
    for (line, column, expected) in cases {
        let text = format!("{GOOD}\n{line}\n{GOOD}\n");
        let (dump, findings) = parse("f", &text);
        assert_eq!(dump.entries.len(), 2, "{line}");
        let f = &findings[0];
        assert_eq!((f.span.line, f.span.column), (2, column), "{f}");
        assert!(f.message.contains(expected), "{f}");
    }
    let bad_tail = format!("{GOOD} color=3");
    assert!(
        parse("f", &bad_tail).1[0]
            .message
            .contains("the end of the line")
    );
}

#[test]
fn filters_choose_as_the_tool_does() {
    let now = Instant::from_secs(5);
    let mut ct = Conntrack::default();
    let lines = [
        "udp 17 29 src=10.1.0.2 dst=10.96.0.10 sport=40000 dport=53 src=10.2.0.2 dst=10.1.0.2 sport=53 dport=40000 mark=7 use=1",
        "udp 17 29 src=10.1.0.2 dst=10.2.0.2 sport=40000 dport=1001 [UNREPLIED] src=10.2.0.2 dst=10.1.0.2 sport=1001 dport=40000 mark=0 zone=5 use=1",
        "tcp 6 431999 ESTABLISHED src=10.1.0.3 dst=10.2.0.2 sport=40000 dport=21 src=10.2.0.2 dst=192.168.0.1 sport=21 dport=40000 [ASSURED] mark=0 use=1",
        "icmp 1 29 src=10.1.0.2 dst=10.2.0.2 type=8 code=0 id=4 [UNREPLIED] src=10.2.0.2 dst=10.1.0.2 type=0 code=0 id=4 mark=0 use=1",
        "udp 17 29 src=fd01::2 dst=fd02::2 sport=40000 dport=6 [UNREPLIED] src=fd02::2 dst=fd01::2 sport=6 dport=40000 mark=0 use=1",
    ];
    let (dump, findings) = parse("f", &lines.join("\n"));
    assert!(findings.is_empty(), "{}", findings[0]);
    for (_, e) in dump.entries {
        ct.insert(e.to_conn(now), now).unwrap();
    }
    let cases: [(&str, usize); 24] = [
        ("", 5),
        ("-f ipv6", 1),
        ("-u SEEN_REPLY", 2),
        ("-u ASSURED,SEEN_REPLY", 1),
        ("--status UNREPLIED", 3),
        ("-p tcp --state ESTABLISHED", 1),
        ("-p tcp --state CLOSE", 0),
        ("-p icmp --icmp-type 8", 1),
        ("-p udp --dport 1001", 1),
        ("-p udp --orig-port-dst 53 --dst-nat 10.2.0.2", 1),
        ("-m 7", 1),
        ("-m 1/0", 0),
        ("-m 0x0/0xff", 4),
        ("-w 0", 4),
        ("-w 5", 1),
        ("-j", 2),
        ("-g", 1),
        ("-n", 1),
        ("--src-nat=192.168.0.1", 1),
        ("-n 192.168.0.2", 0),
        ("-s 10.1.0.0/16", 4),
        ("-s 10.1.0.2 -r 10.2.0.2 -p 17", 2),
        ("-q 192.168.0.1 -o extended", 1),
        ("-d 10.96.0.10 -z", 1),
    ];
    for (words, n) in cases {
        let words: Vec<&str> = words.split_whitespace().collect();
        let filter = Filter::parse(&words).unwrap();
        let hits = ct.iter().filter(|(_, c)| filter.matches(c)).count();
        assert_eq!(hits, n, "{words:?}");
    }
    for wrong in [
        "--dport 53",
        "--state ESTABLISHED",
        "-p tcp --state established",
        "--bogus",
        "-u CONFIRMED",
        "-s",
        "-w x",
    ] {
        let words: Vec<&str> = wrong.split_whitespace().collect();
        assert!(Filter::parse(&words).is_err(), "{wrong}");
    }
    let filter = Filter::parse(&["-p", "udp", "--dport", "53", "--dst-nat", "10.2.0.2"]).unwrap();
    assert_eq!(ct.delete(|c| filter.matches(c)), 1);
    assert_eq!(ct.iter().count(), 4);
}

/// What happens is told as `conntrack -E` tells it.
#[test]
fn events_are_told() {
    let mut p = replay::Player::new(false);
    p.ct.listen(true);
    for (client, words) in [
        (true, "tcp S seq=1000 mss"),
        (false, "tcp SA seq=5000 ack=1001 mss"),
        (true, "tcp A seq=1001 ack=5001"),
        (true, "tcp A seq=1001 ack=5001"),
        (false, "tcp R seq=5001"),
    ] {
        let words: Vec<&str> = words.split_whitespace().collect();
        p.send(&packet::packet(&words, false, client));
    }
    p.pass(std::time::Duration::from_secs(11));
    p.ct.expire(p.now);
    let (events, lost) = p.ct.take_events();
    let lines: Vec<EventLine> = events.iter().map(event_line).collect();
    let told: Vec<String> = lines.iter().map(ToString::to_string).collect();
    let t = "src=10.1.0.2 dst=10.2.0.2 sport=40000 dport=80";
    let r = "src=10.2.0.2 dst=10.1.0.2 sport=80 dport=40000";
    assert_eq!(
        told,
        [
            format!("    [NEW] tcp      6 120 SYN_SENT {t} [UNREPLIED] {r}"),
            format!(" [UPDATE] tcp      6 60 SYN_RECV {t} {r}"),
            format!(" [UPDATE] tcp      6 432000 ESTABLISHED {t} {r} [ASSURED]"),
            format!(" [UPDATE] tcp      6 10 CLOSE {t} {r} [ASSURED]"),
            format!("[DESTROY] tcp      6 CLOSE {t} {r} [ASSURED]"),
        ]
    );
    assert_eq!(lost, 0);
}

fn conn_line() -> impl Strategy<Value = String> {
    let ports = (
        any::<u16>(),
        any::<u16>(),
        any::<[u8; 4]>(),
        any::<[u8; 4]>(),
    );
    let proto = prop_oneof![
        Just(("tcp", 6, Some("SYN_RECV"))),
        Just(("tcp", 6, Some("TIME_WAIT"))),
        Just(("udp", 17, None)),
        Just(("sctp", 132, Some("COOKIE_WAIT"))),
        Just(("udplite", 136, None))
    ];
    let marks = (
        any::<bool>(),
        any::<Option<u16>>(),
        any::<u32>(),
        any::<Option<u32>>(),
    );
    (proto, ports, marks, 0u32..500_000).prop_map(|(p, (sp, dp, a, b), m, left)| {
        let [a, b] = [a, b].map(std::net::Ipv4Addr::from);
        let state = p.2.map(|s| format!(" {s}")).unwrap_or_default();
        let unreplied = if m.0 { " [UNREPLIED]" } else { "" };
        let zone = m.1.map(|z| format!(" zone={z}")).unwrap_or_default();
        let id = m.3.map(|n| format!(" id={n}")).unwrap_or_default();
        format!(
            "{:<8} {} {left}{state} src={a} dst={b} sport={sp} dport={dp}{unreplied} src={b} dst={a} \
             sport={dp} dport={sp} mark={}{zone} use=1{id}",
            p.0, p.1, m.2
        )
    })
}

proptest! {
    #[test]
    fn lines_survive(lines in proptest::collection::vec(conn_line(), 1..20)) {
        let text = lines.join("\n") + "\n";
        let (dump, findings) = parse("f", &text);
        prop_assert!(findings.is_empty(), "{}", findings[0]);
        prop_assert_eq!(dump.to_text(), text);
    }

    #[test]
    fn no_text_panics(text in "(?s)([a-z]{3,5} +[0-9]{1,3} |src=|dst=|[0-9.:a-f]{0,9} |\\[[A-Z]*\\]|[ -~\n])*") {
        let _ = (parse("f", &text), parse_events("f", &text), parse_stats("f", &text));
    }
}
