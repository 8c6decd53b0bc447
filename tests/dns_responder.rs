//! The responder beyond the vectors: what is no query, policies of forward, loops, caches, transfers, kept octets.

use core::time::Duration;
use hickory_proto::op::{Message, ResponseCode};
use podpath::base::Instant;
use podpath::kube::dns::message::Edns;
use podpath::kube::dns::{
    Arrival, Client, Corefile, Decision, Environment, Objects, Outcome, Responder, Send, Transport,
    Version, codec, names, receive, text,
};
use podpath::kube::manifest::Input;
use podpath::kube::store::Store;

/// A responder and the clock.
struct Lab {
    dns: Responder,
    now: Instant,
    seen: Vec<String>,
    /// What upstreams answer: none is silence.
    answer: fn(&str) -> Option<ResponseCode>,
}

const CLUSTER: &str = r#"{"apiVersion": "v1", "kind": "List", "items": [
    {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}},
    {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "cart", "namespace": "shop"},
     "spec": {"clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7"], "ports": [{"port": 80}]}},
    {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "db", "namespace": "shop"},
     "spec": {"clusterIP": "None", "clusterIPs": ["None"], "ports": [{"port": 80}]}},
    {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
     "metadata": {"name": "db-1", "namespace": "shop", "labels": {"kubernetes.io/service-name": "db"}},
     "ports": [{"port": 80, "name": ""}],
     "endpoints": [{"addresses": ["10.244.1.1"]}, {"addresses": ["10.244.1.2"]}, {"addresses": ["10.244.1.3"]},
        {"addresses": ["10.244.1.4"]}]}]}"#;

fn lab_with(corefile: &str, environment: &Environment) -> Lab {
    let (parsed, mut findings) = Corefile::parse("Corefile", corefile, &environment.around);
    let (mut dns, more) = Responder::new(&parsed, environment);
    findings.extend(more);
    assert!(!findings.iter().any(|f| f.is_error()), "{findings:?}");
    let (store, _) = Store::load(&[Input::new("cluster", CLUSTER)]);
    dns.learn(Instant::ZERO, &Objects::of_store(&store));
    Lab {
        dns,
        now: Instant::ZERO,
        seen: Vec::new(),
        answer: |_| Some(ResponseCode::NoError),
    }
}

fn lab(corefile: &str) -> Lab {
    lab_with(corefile, &Environment::default())
}

fn query(name: &str, kind: &str, edns: Option<u16>, client: &Client) -> Vec<u8> {
    let plain = [
        &[0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0][..],
        &[1, b'x', 0, 0, 1, 0, 1],
    ]
    .concat();
    let receive::Received::Query(mut request) = receive::receive(&plain, client) else {
        panic!()
    };
    request.question.name = names::parse(name).unwrap();
    request.question.kind = text::kind(kind).unwrap();
    request.edns = edns.map(|payload| Edns {
        payload,
        dnssec_ok: false,
        version: 0,
    });
    codec::query(&request, 7)
}

fn client(transport: Transport) -> Client {
    Client {
        from: "10.244.1.9:4000".parse().unwrap(),
        port: 53,
        transport,
    }
}

impl Lab {
    fn carry(&mut self) -> Vec<Vec<u8>> {
        while let Some(Send {
            exchange,
            to,
            transport,
            bytes,
        }) = self.dns.next_send()
        {
            let asked = Message::from_vec(&bytes).unwrap();
            let question = &asked.queries[0];
            self.seen.push(format!(
                "{} {} {}",
                to.ip(),
                transport.name(),
                question.query_type
            ));
            if let Some(rcode) = (self.answer)(&to.ip().to_string()) {
                let mut reply = asked.clone().into_response();
                reply.metadata.response_code = rcode;
                let line = format!(
                    "{} 100 IN A 192.0.2.{}",
                    names::text(&question.name),
                    to.ip().to_string().len()
                );
                reply
                    .answers
                    .extend(text::parse(&line).filter(|_| rcode == ResponseCode::NoError));
                let bytes = reply.to_vec().unwrap();
                self.dns
                    .upstream_reply(self.now, exchange, Arrival::Message(bytes));
            }
        }
        let mut out = Vec::new();
        while let Some(answer) = self.dns.next_answer() {
            out.extend(answer.messages);
        }
        out
    }

    fn ask_over(&mut self, name: &str, kind: &str, transport: Transport) -> Vec<Message> {
        let client = client(transport);
        let bytes = query(name, kind, None, &client);
        let mut got = match self.dns.query(self.now, &client, &bytes) {
            Outcome::Reply(one) => vec![one],
            Outcome::Transfer(all) => all,
            Outcome::Silence | Outcome::Pending(_) => Vec::new(),
        };
        got.extend(self.carry());
        while let Some(next) = self.dns.next_deadline().filter(|_| got.is_empty()) {
            self.now = next;
            self.dns.tick(next);
            got.extend(self.carry());
        }
        got.iter().map(|b| Message::from_vec(b).unwrap()).collect()
    }

    /// `RCODE record; record`, sorted.
    fn ask(&mut self, name: &str, kind: &str) -> String {
        let Some(got) = self.ask_over(name, kind, Transport::Udp).pop() else {
            return "silence".into();
        };
        let mut lines: Vec<String> = got.answers.iter().map(text::line).collect();
        lines.sort();
        format!("{:?} {}", got.metadata.response_code, lines.join("; "))
    }

    fn pass(&mut self, seconds: u64) {
        let until = self.now + Duration::from_secs(seconds);
        while let Some(next) = self.dns.next_deadline().filter(|d| *d <= until) {
            self.now = next;
            self.dns.tick(next);
            self.carry();
        }
        self.now = until;
    }
}

#[test]
fn what_is_no_query_gets_what_coredns_gives() {
    let mut lab = lab(". {\n kubernetes cluster.local\n}");
    let udp = client(Transport::Udp);
    let good = query("cart.shop.svc.cluster.local", "A", None, &udp);
    let mut ask = |bytes: &[u8]| match lab.dns.query(Instant::ZERO, &udp, bytes) {
        Outcome::Reply(bytes) => format!("{:?}", ResponseCode::from(0, bytes[3] & 15)),
        other => format!("{other:?}"),
    };
    assert_eq!(ask(&good), "NoError");
    assert_eq!(ask(&good[..11]), "Silence");
    assert_eq!(ask(&good[..20]), "FormErr");
    let changed = |at: usize, to: u8| {
        let mut bytes = good.clone();
        bytes[at] = to;
        bytes
    };
    assert_eq!(ask(&changed(2, 0x80)), "Silence", "a response");
    assert_eq!(ask(&changed(2, 0x28)), "NotImp", "an update");
    assert_eq!(ask(&changed(5, 0)), "FormErr", "no question");
    assert_eq!(ask(&changed(good.len() - 1, 3)), "Refused", "class CH");
    // A name that points at itself.
    let looped = [&good[..12], &[0xC0, 12, 0, 1, 0, 1]].concat();
    assert_eq!(ask(&looped), "FormErr");
}

#[test]
fn forward_bounds_what_is_open_and_skips_what_is_down() {
    let mut lab = lab(". {\n forward . 10.0.0.1 {\n  max_concurrent 1\n }\n}");
    let udp = client(Transport::Udp);
    let first = lab
        .dns
        .query(lab.now, &udp, &query("a.test", "A", None, &udp));
    assert!(matches!(first, Outcome::Pending(_)));
    let Outcome::Reply(second) = lab
        .dns
        .query(lab.now, &udp, &query("b.test", "A", None, &udp))
    else {
        panic!()
    };
    assert_eq!(second[3] & 15, 5);
    assert_eq!(lab.carry().len(), 1);
    assert_eq!(lab.dns.open(), 0);
    assert_eq!(lab.ask("b.test", "A"), "NoError b.test. 100 IN A 192.0.2.8");
}

#[test]
fn forward_options() {
    let mut lab = lab(
        ". {\n forward . 10.0.0.1 10.0.0.22 {\n  policy sequential\n  force_tcp\n  except local.test\n }\n}",
    );
    lab.answer = |to| (to != "10.0.0.1").then_some(ResponseCode::NoError);
    assert_eq!(lab.ask("a.test", "A"), "NoError a.test. 100 IN A 192.0.2.9");
    assert_eq!(lab.now, Instant::from_secs(2), "the first had two seconds");
    assert_eq!(
        lab.seen,
        ["10.0.0.1 tcp A", "10.0.0.1 tcp NS", "10.0.0.22 tcp A"]
    );
    assert_eq!(lab.ask("x.local.test", "A"), "ServFail ");
    lab.pass(8);
    let before = lab.now;
    assert_eq!(lab.ask("b.test", "A"), "NoError b.test. 100 IN A 192.0.2.9");
    assert_eq!(lab.now, before, "the first is down");
    lab.answer = |_| Some(ResponseCode::NXDomain);
    lab.pass(2);
    lab.seen.clear();
    lab.ask("c.test", "A");
    assert_eq!(
        lab.seen,
        ["10.0.0.1 tcp A"],
        "a check that got any reply put it back"
    );
}

#[test]
fn next_asks_the_next_forward() {
    let mut lab = lab(". {\n forward . 10.0.0.1 {\n  next NXDOMAIN\n }\n forward . 10.0.0.22\n}");
    lab.answer = |to| {
        Some(if to == "10.0.0.1" {
            ResponseCode::NXDomain
        } else {
            ResponseCode::NoError
        })
    };
    assert_eq!(lab.ask("a.test", "A"), "NoError a.test. 100 IN A 192.0.2.9");
}

#[test]
fn one_dead_upstream_takes_six_seconds_and_four_since_1_14() {
    for (version, seconds) in [(Version::V1_13, 6), (Version::V1_14, 4)] {
        let environment = Environment {
            version,
            ..Environment::default()
        };
        let mut lab = lab_with(". {\n forward . 10.0.0.1\n errors\n}", &environment);
        lab.answer = |_| None;
        assert_eq!(lab.ask("a.test", "A"), "ServFail ");
        assert_eq!(lab.now, Instant::from_secs(seconds));
        assert_eq!(
            lab.dns.next_log().as_deref(),
            Some("[ERROR] plugin/errors: 2 a.test. A: SERVFAIL")
        );
    }
}

#[test]
fn a_wrong_id_is_not_the_reply_and_a_wrong_question_is_formerr() {
    let mut lab = lab(". {\n forward . 10.0.0.1\n}");
    let udp = client(Transport::Udp);
    lab.dns
        .query(lab.now, &udp, &query("a.test", "A", None, &udp));
    let sent = lab.dns.next_send().unwrap();
    let mut reply = Message::from_vec(&sent.bytes).unwrap().into_response();
    let id = reply.metadata.id;
    reply.metadata.id = id.wrapping_add(1);
    lab.dns.upstream_reply(
        lab.now,
        sent.exchange,
        Arrival::Message(reply.to_vec().unwrap()),
    );
    assert_eq!(lab.dns.next_answer(), None);
    reply.metadata.id = id;
    reply.queries[0].name = names::parse("b.test").unwrap();
    lab.dns.upstream_reply(
        lab.now,
        sent.exchange,
        Arrival::Message(reply.to_vec().unwrap()),
    );
    let answer = lab.dns.next_answer().unwrap();
    assert_eq!(answer.messages[0][3] & 15, 1);
}

#[test]
fn a_server_that_asks_itself_ends() {
    let mut lab = lab(". {\n loop\n forward . 10.0.0.1\n}");
    lab.dns.start(lab.now);
    // The upstream is the server itself: what it is sent comes in again.
    for _ in 0..4 {
        let Some(sent) = lab.dns.next_send() else {
            break;
        };
        lab.dns.query(lab.now, &client(Transport::Udp), &sent.bytes);
    }
    assert!(
        lab.dns
            .fatal()
            .is_some_and(|f| f.contains("detected for zone \".\"")),
        "{:?}",
        lab.dns.fatal()
    );
    assert_eq!(lab.ask("a.test", "A"), "silence");
    let mut fine = self::lab(". {\n loop\n forward . 10.0.0.1\n}");
    fine.dns.start(fine.now);
    fine.carry();
    fine.pass(40);
    assert_eq!(
        (fine.dns.fatal(), fine.seen.as_slice()),
        (None, &["10.0.0.1 udp HINFO".to_owned()][..])
    );
}

#[test]
fn stale_entries_are_verified_first() {
    let mut lab = lab(". {\n forward . 10.0.0.1\n cache 30 {\n  serve_stale 1h verify\n }\n}");
    assert_eq!(lab.ask("a.test", "A"), "NoError a.test. 30 IN A 192.0.2.8");
    lab.pass(40);
    lab.answer = |_| Some(ResponseCode::ServFail);
    assert_eq!(lab.ask("a.test", "A"), "NoError a.test. 0 IN A 192.0.2.8");
    lab.answer = |_| Some(ResponseCode::NoError);
    assert_eq!(lab.ask("a.test", "A"), "NoError a.test. 30 IN A 192.0.2.8");
}

#[test]
fn a_bad_corefile_keeps_the_old_one() {
    let mut lab = lab(". {\n forward . 10.0.0.1\n cache\n}");
    lab.ask("a.test", "A");
    let parse = |text: &str| Corefile::parse("Corefile", text, &Default::default()).0;
    let findings = lab
        .dns
        .reload(&parse(". {\n nonsense\n}"), &Environment::default());
    assert!(findings.iter().any(|f| f.is_error()));
    lab.ask("a.test", "A");
    assert_eq!(lab.seen.len(), 1, "the cache is still there");
    let findings = lab.dns.reload(
        &parse(". {\n forward . 10.0.0.22\n}"),
        &Environment::default(),
    );
    assert_eq!(findings, []);
    assert_eq!(lab.ask("a.test", "A"), "NoError a.test. 100 IN A 192.0.2.9");
}

#[test]
fn ready_once_is_ready() {
    for (block, after) in [("ready", 0), ("ready {\n  monitor continuously\n }", 1)] {
        let mut lab = lab(&format!(". {{\n {block}\n kubernetes cluster.local\n}}"));
        assert_eq!(lab.dns.unready(), Vec::<&str>::new());
        let mut gone = Objects::default();
        gone.api.reachable = false;
        lab.dns.learn(lab.now, &gone);
        assert_eq!(lab.dns.unready().len(), after);
    }
}

#[test]
fn rewrites_of_every_kind() {
    let mut lab = lab(
        ". {\n rewrite type TXT A\n rewrite continue ttl suffix test 5-6\n\
        rewrite name regex ^(.*)\\.old\\.test\\.$ {1}.new.test answer auto\n\
        rewrite rcode exact gone.test NOERROR REFUSED\n forward . 10.0.0.1\n}",
    );
    assert_eq!(
        lab.ask("a.old.test", "A"),
        "NoError a.old.test. 6 IN A 192.0.2.8"
    );
    assert_eq!(lab.ask("gone.test", "A").split(' ').next(), Some("Refused"));
    lab.ask("b.other", "TXT");
    assert_eq!(lab.seen.last().map(String::as_str), Some("10.0.0.1 udp A"));
}

#[test]
fn acl_refuses_filters_and_drops() {
    let mut lab = lab(
        ". {\n acl {\n  drop type AAAA net 10.244.0.0/16\n  block type PTR\n  filter type MX\n  allow net *\n }\n\
        forward . 10.0.0.1\n}",
    );
    assert_eq!(lab.ask("a.test", "AAAA"), "silence");
    assert_eq!(lab.ask("a.test", "PTR"), "Refused ");
    assert_eq!(lab.ask("a.test", "MX"), "NoError ");
    assert_eq!(lab.ask("a.test", "A"), "NoError a.test. 100 IN A 192.0.2.8");
}

#[test]
fn small_plugins() {
    let mut lab = lab(
        "a.test {\n whoami\n}\nb.test {\n any\n chaos v1 me\n}\nlocalhost {\n local\n}\nc.test {\n header {\n\
        set aa\n }\n forward . 10.0.0.1\n}\nempty.test {\n}",
    );
    let who = lab.ask_over("x.a.test", "A", Transport::Udp).remove(0);
    assert_eq!(
        text::line(&who.additionals[0]),
        "x.a.test. 0 IN A 10.244.1.9"
    );
    assert!(lab.ask("b.test", "ANY").contains("RFC 8482"));
    assert_eq!(lab.ask("b.test", "A"), "ServFail ");
    assert_eq!(
        lab.ask("localhost", "A"),
        "NoError localhost. 604800 IN A 127.0.0.1"
    );
    assert!(
        lab.ask_over("c.test", "A", Transport::Udp)[0]
            .metadata
            .authoritative
    );
    assert_eq!(lab.ask("empty.test", "A"), "Refused ");
    assert_eq!(lab.ask("other.test", "A"), "Refused ");
}

#[test]
fn zone_files_are_answered_and_transferred() {
    let mut environment = Environment::default();
    let mut zone = "$TTL 60\n@ SOA ns h 7 1 1 1 1\n@ NS ns\nns A 10.0.0.1\n".to_owned();
    for i in 0..1200 {
        zone += &format!("h{i} A 10.1.{}.{}\n", i / 256, i % 256);
    }
    environment.around.files.insert("/zones/db".into(), zone);
    let corefile = "ex.test {\n file /zones/db\n transfer {\n  to 10.244.1.9\n }\n}";
    let mut lab = lab_with(corefile, &environment);
    assert_eq!(
        lab.ask("h7.ex.test", "A"),
        "NoError h7.ex.test. 60 IN A 10.1.0.7"
    );
    assert_eq!(lab.ask("nope.ex.test", "A"), "NXDomain ");
    let messages = lab.ask_over("ex.test", "AXFR", Transport::Tcp);
    assert_eq!(messages.len(), 3, "500 records a message");
    assert_eq!(
        messages.iter().map(|m| m.answers.len()).sum::<usize>(),
        1204
    );
}

#[test]
fn kept_octets_are_what_the_long_way_answers() {
    let corefile = ".:53 {\n errors\n kubernetes cluster.local {\n  ttl 30\n }\n forward . 10.0.0.1\n cache 30 {\n\
        disable success cluster.local\n }\n loadbalance\n}";
    let (mut quick, mut slow) = (lab(corefile), lab(corefile));
    slow.dns.trace(true);
    let udp = client(Transport::Udp);
    let names = [
        "cart.shop.svc.cluster.local",
        "db.shop.svc.cluster.local",
        "CART.shop.svc.cluster.local",
        "nope.cluster.local",
        "a.test",
    ];
    let kinds = ["A", "SRV", "AAAA"];
    for round in 0..40_u64 {
        let each = names.iter().flat_map(|n| kinds.map(|k| (*n, k)));
        for (i, (name, kind)) in each.enumerate() {
            let edns = [None, Some(1232), Some(300)][(round as usize + i) % 3];
            let bytes = query(name, kind, edns, &udp);
            for lab in [&mut quick, &mut slow] {
                lab.now = Instant::from_millis(round * 700);
            }
            let got: Vec<Vec<Vec<u8>>> = [&mut quick, &mut slow]
                .into_iter()
                .map(|lab| match lab.dns.query(lab.now, &udp, &bytes) {
                    Outcome::Reply(reply) => vec![reply],
                    _ => lab.carry(),
                })
                .collect();
            assert_eq!(got[0], got[1], "round {round}, {name} {kind}");
        }
    }
    assert!(quick.dns.hot_hits() > 300, "{}", quick.dns.hot_hits());
    assert_eq!(slow.dns.hot_hits(), 0);
    // A change of the cluster is seen at once.
    quick.dns.learn(quick.now, &Objects::default());
    assert_eq!(
        quick.ask("cart.shop.svc.cluster.local", "A"),
        "ServFail ".replace("ServFail", "NXDomain")
    );
}

#[test]
fn decisions_say_what_each_plugin_did() {
    let mut lab = lab(
        ". {\n cache 30\n rewrite name a.test cart.shop.svc.cluster.local\n kubernetes cluster.local\n}",
    );
    lab.dns.trace(true);
    lab.ask("a.test", "A");
    let said = |d: &Decision| format!("{}: {}", d.plugin, d.what);
    let all: Vec<String> = lab.dns.decisions().iter().map(said).collect();
    assert_eq!(
        all,
        [
            "server: block . (port 53)",
            "cache: miss",
            "rewrite: now cart.shop.svc.cluster.local. A",
            "kubernetes: 1 records, of 2 Services known"
        ]
    );
    lab.ask("a.test", "A");
    assert!(
        lab.dns
            .decisions()
            .iter()
            .any(|d| d.what == "hit, 5 s left")
    );
}

#[test]
fn since_1_14_the_cache_sees_rewritten_names() {
    let corefile = ". {\n cache 30\n rewrite name a.test b.test\n forward . 10.0.0.1\n}";
    for (version, asked) in [(Version::V1_13, 2), (Version::V1_14, 1)] {
        let environment = Environment {
            version,
            ..Environment::default()
        };
        let mut lab = lab_with(corefile, &environment);
        lab.ask("a.test", "A");
        assert_eq!(lab.ask("b.test", "A"), "NoError b.test. 30 IN A 192.0.2.8");
        assert_eq!(lab.seen.len(), asked);
    }
}

#[test]
fn a_full_cache_drops_one() {
    let mut lab = lab(". {\n cache {\n  success 1024\n }\n forward . 10.0.0.1\n}");
    for i in 0..1100 {
        lab.ask(&format!("h{i}.test"), "A");
    }
    let before = lab.seen.len();
    for i in 0..1100 {
        lab.ask(&format!("h{i}.test"), "A");
    }
    let again = lab.seen.len() - before;
    assert!((76..1100).contains(&again), "{again} were asked again");
}

#[test]
fn log_writes_what_its_format_says() {
    let mut lab = lab(
        ". {\n log {\n  class denial\n }\n kubernetes cluster.local\n}\nb.test {\n\
        log b.test \"{combined} {nonesuch} {/meta}\"\n whoami\n}",
    );
    lab.ask("cart.shop.svc.cluster.local", "A");
    assert_eq!(lab.dns.next_log(), None, "a success");
    lab.ask("no.cluster.local", "A");
    assert_eq!(
        lab.dns.next_log().as_deref(),
        Some(
            "[INFO] 10.244.1.9:4000 - 7 \"A IN no.cluster.local. udp 34 false 512\" NXDOMAIN qr,aa,rd 127 0.000000000s"
        )
    );
    lab.ask("b.test", "A");
    let line = lab.dns.next_log().unwrap();
    assert!(line.ends_with("0.000000000s \"0\" {nonesuch} -"), "{line}");
}
