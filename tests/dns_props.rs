//! Any octets to the server, any text as a Corefile, any records there and back.

use hickory_proto::op::ResponseCode;
use podpath::base::Instant;
use podpath::kube::dns::message::{Edns, Reply};
use podpath::kube::dns::{
    Arrival, Client, Corefile, Environment, Objects, Outcome, Responder, Transport, codec, names,
    receive, text,
};
use proptest::prelude::*;

const COREFILE: &str = ". {\n cache 30\n rewrite name suffix .x .y answer auto\n template IN A t.y {\n  answer \"{{ .Name }} 60 IN A 10.0.0.1\"\n\
    fallthrough\n }\n kubernetes cluster.local in-addr.arpa {\n  pods insecure\n  fallthrough in-addr.arpa\n }\n forward . 10.0.0.1\n\
    loadbalance\n}";

fn responder(corefile: &str) -> Responder {
    let environment = Environment::default();
    let (parsed, _) = Corefile::parse("Corefile", corefile, &environment.around);
    let (mut dns, _) = Responder::new(&parsed, &environment);
    dns.learn(Instant::ZERO, &Objects::default());
    dns
}

fn client(tcp: bool) -> Client {
    let transport = if tcp { Transport::Tcp } else { Transport::Udp };
    Client {
        from: "10.0.0.1:4000".parse().unwrap(),
        port: 53,
        transport,
    }
}

fn name() -> impl Strategy<Value = String> {
    let label = "[a-zA-Z0-9_-]{1,20}";
    prop::collection::vec(label, 1..6).prop_map(|labels| labels.join(".") + ".")
}

fn record() -> impl Strategy<Value = String> {
    let data = prop_oneof![
        any::<[u8; 4]>().prop_map(|o| format!("A {}", std::net::Ipv4Addr::from(o))),
        any::<[u8; 16]>().prop_map(|o| format!("AAAA {}", std::net::Ipv6Addr::from(o))),
        name().prop_map(|n| format!("CNAME {n}")),
        name().prop_map(|n| format!("PTR {n}")),
        name().prop_map(|n| format!("NS {n}")),
        (any::<u16>(), name()).prop_map(|(p, n)| format!("MX {p} {n}")),
        (any::<[u16; 3]>(), name())
            .prop_map(|(v, n)| format!("SRV {} {} {} {n}", v[0], v[1], v[2])),
        (name(), name(), any::<u32>())
            .prop_map(|(a, b, s)| format!("SOA {a} {b} {s} 7200 1800 86400 30")),
        "[ -!#-\\[\\]-~]{0,60}".prop_map(|t| format!("TXT \"{t}\"")),
    ];
    (name(), 0..100_000_u32, data).prop_map(|(owner, ttl, data)| format!("{owner} {ttl} IN {data}"))
}

/// Octets, or a query with octets changed.
fn octets() -> impl Strategy<Value = Vec<u8>> {
    let query = (
        name(),
        0..300_u16,
        prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    )
        .prop_map(|(name, kind, changes)| {
            let mut out = vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
            for label in name.trim_end_matches('.').split('.') {
                out.push(label.len() as u8);
                out.extend(label.as_bytes());
            }
            out.push(0);
            out.extend(kind.to_be_bytes());
            out.extend([0, 1]);
            for (at, to) in changes {
                let at = at.index(out.len());
                out[at] = to;
            }
            out
        });
    prop_oneof![prop::collection::vec(any::<u8>(), 0..80), query]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn records_survive_the_wire(lines in prop::collection::vec(record(), 0..40), tcp: bool, payload in 512..=4096_u16) {
        let asked = [&[0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], &[1, b'x', 0, 0, 1, 0, 1]].concat();
        let receive::Received::Query(mut request) = receive::receive(&asked, &client(tcp)) else { panic!() };
        request.edns = Some(Edns { payload, dnssec_ok: false, version: 0 });
        let mut reply = Reply::to(&request, ResponseCode::NoError);
        reply.answer = lines.iter().filter_map(|l| text::parse(l)).collect();
        prop_assert_eq!(reply.answer.len(), lines.len());
        let (bytes, layout) = codec::encode(&reply, &request, Vec::new());
        prop_assert!(bytes.len() <= request.size());
        let (_, got) = codec::reply(&bytes).expect("a message");
        let got = got.expect("a question");
        prop_assert_eq!(got.tc, layout.cut);
        prop_assert_eq!(got.tc, got.answer.len() < lines.len());
        for (record, line) in got.answer.iter().zip(&lines) {
            prop_assert_eq!(&text::line(record), line);
        }
    }

    #[test]
    fn any_octets_get_a_reply_or_none(
        messages in prop::collection::vec((octets(), any::<bool>(), any::<bool>()), 1..20)
    ) {
        let mut dns = responder(COREFILE);
        for (bytes, tcp, answer) in messages {
            match dns.query(Instant::ZERO, &client(tcp), &bytes) {
                Outcome::Reply(reply) => {
                    prop_assert_eq!(reply.get(..2), bytes.get(..2));
                    prop_assert!(reply[2] & 0x80 != 0);
                }
                Outcome::Pending(_) | Outcome::Silence | Outcome::Transfer(_) => {}
            }
            if let Some(send) = dns.next_send().filter(|_| answer) {
                let reply = [&send.bytes[..2], bytes.get(2..).unwrap_or_default()].concat();
                dns.upstream_reply(Instant::ZERO, send.exchange, Arrival::Message(reply));
            }
        }
        dns.tick(Instant::from_secs(60));
        dns.tick(Instant::from_secs(120));
        prop_assert_eq!(dns.open(), 0);
    }

    #[test]
    fn any_text_is_a_corefile_or_a_finding(text in "[a-z .{}()\"#\\n$%:/0-9]{0,200}") {
        let (corefile, _) = Corefile::parse("Corefile", &text, &Default::default());
        let (mut dns, _) = Responder::new(&corefile, &Environment::default());
        dns.start(Instant::ZERO);
    }

    #[test]
    fn names_are_text_and_back(name in name()) {
        prop_assert_eq!(names::text(&names::parse(&name).unwrap()), name);
    }
}
