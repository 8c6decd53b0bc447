//! What the stub resolvers do beyond the measured cases: rotation, dead servers, refusals, limits; and that
//! nothing a server sends makes one panic or go on for ever.

#![allow(missing_docs, reason = "a test binary")]

#[path = "common/dns_servers.rs"]
#[allow(dead_code, reason = "shared with the vectors")]
mod dns_servers;

use dns_servers::{Behaviour, Rule, Seen, Servers, run};
use podpath::base::Instant;
use podpath::kube::dns::client::{Answer, Eai, Event, Family, Libc, Lookup, Resolver, Sock};
use proptest::prelude::*;

const CLUSTER: &str =
    "nameserver 10.96.0.10\nsearch shop.svc.cluster.local svc.cluster.local cluster.local\n";

fn look(
    libc: Libc,
    conf: &str,
    name: &str,
    servers: &mut Servers,
    seed: u64,
) -> (Answer, Vec<Seen>) {
    let mut lookup = Lookup::start(Instant::ZERO, libc, conf, name, Family::Any, seed);
    run(&mut lookup, servers)
}

fn always(name: &str, what: Behaviour) -> Rule {
    Rule {
        server: None,
        name: name.into(),
        qtype: None,
        what,
        times: u32::MAX,
    }
}

fn with(rules: Vec<Rule>, records: &[&str]) -> Servers {
    let mut s = Servers {
        rules,
        ..Servers::default()
    };
    records.iter().for_each(|r| s.record(r));
    s
}

#[test]
fn a_dead_server_costs_glibc_each_candidate_it_still_tries() {
    // Nothing answered: the search ends and the name is tried as it is: 2 x 10 s. musl gives up after one.
    let conf = format!("{CLUSTER}options ndots:5\n");
    let mut dead = with(vec![always("*", Behaviour::Drop)], &[]);
    let (a, seen) = look(
        Libc::Glibc236,
        &conf,
        "www.example.org",
        &mut dead.clone(),
        1,
    );
    assert_eq!(
        (a.error, a.at, seen.len()),
        (Some(Eai::Again), Instant::from_secs(20), 8)
    );
    assert_eq!(a.rcode, None);
    let (a, seen) = look(Libc::Musl125, &conf, "www.example.org", &mut dead, 1);
    assert_eq!(
        (a.error, a.at, seen.len()),
        (Some(Eai::Again), Instant::from_secs(5), 4)
    );
}

#[test]
fn port_unreachable_ends_glibc_at_once_and_musl_does_not_hear_it() {
    let conf = format!("{CLUSTER}options ndots:5\n");
    let mut closed = with(vec![always("*", Behaviour::Unreachable)], &[]);
    let (a, seen) = look(
        Libc::Glibc236,
        &conf,
        "www.example.org",
        &mut closed.clone(),
        1,
    );
    // Two attempts from two sockets, then ECONNREFUSED stops the search (`__res_context_search`).
    assert_eq!((a.error, a.at), (Some(Eai::Again), Instant::ZERO));
    assert_eq!(seen.iter().map(|s| s.sock.0).max(), Some(2));
    let (a, _) = look(Libc::Musl125, &conf, "www.example.org", &mut closed, 1);
    assert_eq!(a.at, Instant::from_secs(5));
}

#[test]
fn later_servers_get_a_share_of_the_doubled_time() {
    // `seconds = (retrans << ns) / nscount` from the second server on: 5, 10/3, 20/3 s, twice.
    let conf = "nameserver 10.0.0.1\nnameserver 10.0.0.2\nnameserver 10.0.0.3\n";
    let mut dead = with(vec![always("*", Behaviour::Drop)], &[]);
    let (a, seen) = look(Libc::Glibc236, conf, "a.test.", &mut dead, 1);
    assert_eq!(a.at, Instant::from_secs(2 * (5 + 3 + 6)));
    let order: Vec<String> = seen
        .iter()
        .step_by(2)
        .map(|s| s.server.to_string())
        .collect();
    assert_eq!(
        order,
        [
            "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.1", "10.0.0.2", "10.0.0.3"
        ]
    );
}

#[test]
fn rotate_begins_anywhere_and_goes_on() {
    let conf =
        "nameserver 10.0.0.1\nnameserver 10.0.0.2\nsearch a.test b.test\noptions rotate ndots:2\n";
    let mut first = std::collections::BTreeSet::new();
    for seed in 0..8 {
        let (_, seen) = look(Libc::Glibc236, conf, "x", &mut with(vec![], &[]), seed);
        let order: Vec<_> = seen.iter().step_by(2).map(|s| s.server).collect();
        assert_eq!(order.len(), 3);
        assert!(order[0] != order[1] && order[0] == order[2], "{order:?}");
        first.insert(order[0]);
    }
    assert_eq!(first.len(), 2);
}

#[test]
fn options_change_what_is_asked() {
    let names = |conf: &str, name: &str| {
        let (_, seen) = look(Libc::Glibc236, conf, name, &mut with(vec![], &[]), 1);
        seen.iter()
            .map(|s| (s.name.clone(), s.qtype))
            .collect::<Vec<_>>()
    };
    let base = "nameserver 10.0.0.1\nsearch a.test\n";
    assert_eq!(names(base, "x").len(), 4);
    assert_eq!(
        names(&format!("{base}options no-tld-query\n"), "x").len(),
        2
    );
    assert_eq!(
        names(&format!("{base}options no-aaaa\n"), "x"),
        [("x.a.test.".into(), 1), ("x.".into(), 1)]
    );
    // A root on the search list is the name as it is: not asked for again.
    assert_eq!(
        names("nameserver 10.0.0.1\nsearch . a.test\n", "x").len(),
        4
    );
    let (a, seen) = look(
        Libc::Glibc236,
        "options attempts:0\n",
        "x.",
        &mut with(vec![], &[]),
        1,
    );
    assert_eq!((a.error, seen.len()), (Some(Eai::Again), 0));
}

#[test]
fn single_request_waits_for_what_it_never_sent_after_a_refusal() {
    // glibc bug 30081, fixed in 2.38.
    let servfail = always("x.test.", Behaviour::Rcode(2));
    let conf = "nameserver 10.0.0.1\noptions single-request\n";
    let (a, seen) = look(
        Libc::Glibc236,
        conf,
        "x.test.",
        &mut with(vec![servfail], &[]),
        1,
    );
    assert_eq!((a.error, a.at), (Some(Eai::Again), Instant::from_secs(10)));
    assert!(seen.iter().all(|s| s.qtype == 1), "{seen:?}");
    assert_eq!(a.rcode, Some(2));
}

#[test]
fn nodata_and_names_that_cannot_be() {
    let mut s = with(vec![], &["x.test. 5 IN TXT t"]);
    let conf = "nameserver 10.0.0.1\n";
    for (libc, error) in [
        (Libc::Glibc236, Eai::NoData),
        (Libc::Musl123, Eai::NoName),
        (Libc::Musl125, Eai::NoData),
    ] {
        let (a, _) = look(libc, conf, "x.test", &mut s, 1);
        assert_eq!((a.error, a.rcode), (Some(error), Some(0)), "{libc:?}");
        for name in ["", ".", "a..b", &"l".repeat(64), &"long.".repeat(60)] {
            let (a, seen) = look(libc, conf, name, &mut s, 1);
            assert!(a.error.is_some(), "{libc:?} {name}");
            assert!(name == "." || seen.is_empty(), "{libc:?} {name}: {seen:?}");
        }
    }
}

#[test]
fn tcp_refused_after_a_truncated_answer() {
    let mut s = with(vec![], &["x.test. 5 IN A 10.0.0.9"]);
    s.truncate = true;
    let conf = "nameserver 10.0.0.1\n";
    for libc in [Libc::Glibc236, Libc::Musl125] {
        let mut lookup = Lookup::start(Instant::ZERO, libc, conf, "x.test.", Family::V4, 1);
        let mut refusing = s.clone();
        refusing.tcp_refused = true;
        let (a, seen) = run(&mut lookup, &mut refusing);
        assert_eq!(
            (a.error, a.at),
            (Some(Eai::Again), Instant::ZERO),
            "{libc:?}"
        );
        assert_eq!(seen.iter().filter(|s| s.tcp).count(), 1, "{libc:?}");
    }
}

proptest! {
    /// Whatever comes, and whenever: it ends, in bounded time and a bounded number of queries.
    #[test]
    fn any_replies_and_any_conf(
        conf in concat!(
            "((nameserver 10\\.0\\.0\\.[0-9]|search [a-z. ]{0,30}|",
            "options (ndots|timeout|attempts):[0-9]{1,3}|",
            "options (rotate|single-request|single-request-reopen|use-vc|edns0))\n){0,8}"
        ),
        name in "[a-z.]{0,12}",
        replies in proptest::collection::vec(
            (proptest::collection::vec(any::<u8>(), 0..40), any::<u16>(), 0u8..4),
            0..40,
        ),
    ) {
        for libc in Libc::ALL {
            let mut lookup = Lookup::start(Instant::ZERO, libc, &conf, &name, Family::Any, 3);
            let (mut now, mut sent, mut next) = (Instant::ZERO, 0, replies.iter().cycle());
            for _ in 0..20_000 {
                let actions = lookup.actions();
                sent += actions.len();
                if lookup.answer().is_some() { break; }
                for a in &actions {
                    let Some((noise, flags, kind)) = next.next() else { continue };
                    use podpath::kube::dns::client::Action::{Send, Tcp};
                    let (sock, to, message) = match a {
                        Send { sock, to, message } => (*sock, *to, message.clone()),
                        Tcp { sock, server, messages } => (*sock, *server, messages[0].clone()),
                        _ => continue,
                    };
                    let mut m = match kind { 0 => noise.clone(), _ => message };
                    if m.len() > 3 && *kind == 1 { m[2..4].copy_from_slice(&flags.to_be_bytes()); }
                    if *kind == 2 { m.extend_from_slice(noise); }
                    lookup.event(now, Event::Datagram { sock, from: to, message: &m });
                    lookup.event(now, Event::Message { sock, message: &m });
                    if *kind == 3 { lookup.event(now, Event::Closed { sock }); }
                }
                match lookup.due() {
                    Some(t) => { now = now.max(t); lookup.tick(now) }
                    None => (1..200).for_each(|n| lookup.event(now, Event::Closed { sock: Sock(n) })),
                }
            }
            prop_assert!(lookup.answer().is_some(), "{libc:?} no end");
            prop_assert!(now <= Instant::from_secs(100_000) && sent < 20_000);
        }
    }
}
