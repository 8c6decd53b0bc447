//! A cached name answered from kept octets, against decoding and encoding the same messages with hickory-proto.
//!
//! In release a million queries and the issue's bound (4 times the rate); in debug a few thousand, where only the
//! answers count. Prints both rates: `cargo test --release --test dns_speed -- --nocapture`.

use hickory_proto::op::Message;
use podpath::base::Instant;
use podpath::kube::dns::{Client, Corefile, Environment, Objects, Outcome, Responder, Transport};
use podpath::kube::manifest::Input;
use podpath::kube::store::Store;
use std::hint::black_box;

const SERVICES: usize = 1000;
const COREFILE: &str = ".:53 {\n errors\n health\n ready\n kubernetes cluster.local in-addr.arpa ip6.arpa {\n  pods insecure\n\
    fallthrough in-addr.arpa ip6.arpa\n  ttl 30\n }\n prometheus :9153\n forward . 10.0.0.2\n cache 30\n loop\n reload\n\
    loadbalance\n}\n";

fn query(name: &str, id: u16) -> Vec<u8> {
    let mut out = id.to_be_bytes().to_vec();
    out.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        out.push(label.len() as u8);
        out.extend(label.as_bytes());
    }
    out.extend([0, 0, 1, 0, 1]);
    out
}

#[test]
fn a_hit_is_not_encoded_again() {
    let rounds = if cfg!(debug_assertions) { 5 } else { 1000 };
    let items: Vec<String> = (0..SERVICES)
        .map(|i| {
            let ip = format!("10.96.{}.{}", i / 250, i % 250 + 1);
            format!(
                r#"{{"apiVersion": "v1", "kind": "Service", "metadata": {{"name": "s{i}", "namespace": "shop"}},
                "spec": {{"clusterIP": "{ip}", "clusterIPs": ["{ip}"], "ports": [{{"port": 80}}]}}}}"#
            )
        })
        .collect();
    let list = format!(
        r#"{{"apiVersion": "v1", "kind": "List", "items": [{}]}}"#,
        items.join(",")
    );
    let (store, _) = Store::load(&[Input::new("cluster", list)]);
    let environment = Environment::default();
    let (corefile, _) = Corefile::parse("Corefile", COREFILE, &environment.around);
    let (mut dns, findings) = Responder::new(&corefile, &environment);
    assert_eq!(findings, []);
    dns.learn(Instant::ZERO, &Objects::of_store(&store));
    let client = Client {
        from: "10.244.1.9:4000".parse().unwrap(),
        port: 53,
        transport: Transport::Udp,
    };
    let queries: Vec<Vec<u8>> = (0..SERVICES)
        .map(|i| query(&format!("s{i}.shop.svc.cluster.local"), i as u16))
        .collect();
    let mut replies = Vec::new();
    for _ in 0..2 {
        replies.clear();
        for q in &queries {
            let Outcome::Reply(reply) = dns.query(Instant::ZERO, &client, q) else {
                panic!("no reply")
            };
            replies.push(reply);
        }
    }
    let before = dns.hot_hits();
    let began = std::time::Instant::now();
    let mut out = Vec::with_capacity(512);
    for _ in 0..rounds {
        for q in &queries {
            assert!(dns.quick(Instant::from_secs(3), &client, black_box(q), &mut out));
            black_box(&out);
        }
    }
    let ours = began.elapsed();
    assert_eq!(dns.hot_hits() - before, (rounds * SERVICES) as u64);
    let last = Message::from_vec(&out).unwrap();
    assert_eq!(
        (last.metadata.id, last.answers[0].ttl),
        ((SERVICES - 1) as u16, 27),
        "three seconds have passed"
    );
    let began = std::time::Instant::now();
    for _ in 0..rounds {
        for (q, r) in queries.iter().zip(&replies) {
            // What a server on hickory-proto does at least: the query read, the reply written.
            black_box(Message::from_vec(black_box(q)).unwrap());
            black_box(Message::from_vec(r).unwrap().to_vec().unwrap());
        }
    }
    let both = began.elapsed();
    let began = std::time::Instant::now();
    for _ in 0..rounds {
        for r in &replies {
            black_box(Message::from_vec(black_box(r)).unwrap());
        }
    }
    // The reply is there as a message in a server: reading it is taken off again.
    let hickory = both.saturating_sub(began.elapsed());
    let rate =
        |took: std::time::Duration| (rounds * SERVICES) as f64 / took.as_secs_f64().max(1e-9);
    let ratio = rate(ours) / rate(hickory);
    println!(
        "kept octets {:.0}/s, hickory-proto {:.0}/s, ratio {ratio:.1}",
        rate(ours),
        rate(hickory)
    );
    if !cfg!(debug_assertions) {
        assert!(ratio >= 4.0, "ratio {ratio:.1}");
    }
}
