//! Translation in a cluster's network: pods, nodes and a host outside, through the whole walk.

use crate::t2::{Backend, C, N1, Options, S2, T2, ip};
use podpath::endpoint::{App, Outcome};
use podpath::lab::Probe;
use podpath::nf::ct::{CtStatus, CtTuple, Dir};
use podpath::nf::{self, Family, RuleSet};
use podpath::wire::proto;
use std::time::Duration;

/// The topology with nat rules on node n1.
fn with(rules: &str) -> T2 {
    let mut o = Options::new(Backend::HostGw);
    o.gateway = true;
    let mut t = T2::new(o);
    let text = format!(
        "*nat\n:PREROUTING ACCEPT\n:INPUT ACCEPT\n:OUTPUT ACCEPT\n:POSTROUTING ACCEPT\n{rules}COMMIT\n"
    );
    let (set, bad) = RuleSet::parse("t", &text, Family::V4);
    assert!(bad.is_empty(), "{bad:?}");
    let nf = t.lab.world.ns_mut(t.n1).unwrap().nf_mut();
    nf.set_rules(Family::V4, nf::Backend::Legacy, set);
    t
}

/// The original and reply tuples of n1's one connection to a port of 10.96.0.1.
fn conn(t: &T2, dport: u16) -> (CtTuple, CtTuple, CtStatus) {
    let nf = t.lab.world.ns(t.n1).unwrap().nf().unwrap();
    let mut found = nf
        .ct
        .iter()
        .filter(|(_, c)| c.tuple(Dir::Original).dport == dport);
    let (_, c) = found.next().unwrap();
    assert!(found.next().is_none());
    (c.tuple(Dir::Original), c.tuple(Dir::Reply), c.status)
}

fn probe(t: &mut T2, p: Probe) -> Outcome {
    t.go(p.timeout(Duration::from_secs(5))).outcome
}

#[test]
fn a_pod_reaches_a_service_on_the_other_node() {
    let mut t = with(
        "-A PREROUTING -d 10.96.0.1 -p tcp --dport 80 -j DNAT --to-destination 10.244.2.2:8080\n",
    );
    let c = t.c;
    let p = Probe::tcp(c, ip("10.96.0.1"), 80).size(5000);
    assert_eq!(probe(&mut t, p), Outcome::Ok);
    let (orig, reply, status) = conn(&t, 80);
    assert_eq!((orig.src, orig.dst), (ip(C), ip("10.96.0.1")));
    assert_eq!((reply.src, reply.sport, reply.dst), (ip(S2), 8080, ip(C)));
    assert!(status.any(CtStatus::ASSURED));
}

#[test]
fn own_connections_are_rerouted() {
    let mut t =
        with("-A OUTPUT -d 10.96.0.1 -p tcp --dport 80 -j DNAT --to-destination 10.244.1.3:8080\n");
    let n1 = t.n1;
    let p = Probe::tcp(n1, ip("10.96.0.1"), 80).size(5000);
    assert_eq!(probe(&mut t, p), Outcome::Ok);
    let (_, reply, _) = conn(&t, 80);
    assert_eq!(reply.src, ip("10.244.1.3"));
}

#[test]
fn a_redirected_connection_ends_at_the_node() {
    let mut t = with(
        "-A PREROUTING -d 10.96.0.1 -p tcp -j REDIRECT --to-ports 8080\n-A OUTPUT -d 10.96.0.1 -p tcp -j REDIRECT --to-ports 8080\n",
    );
    let (c, n1) = (t.c, t.n1);
    assert_eq!(
        probe(&mut t, Probe::tcp(c, ip("10.96.0.1"), 81).size(100)),
        Outcome::Ok
    );
    assert_eq!(conn(&t, 81).1.src, ip("10.244.1.1"));
    assert_eq!(
        probe(&mut t, Probe::tcp(n1, ip("10.96.0.1"), 82).size(100)),
        Outcome::Ok
    );
    assert_eq!(conn(&t, 82).1.src, ip("127.0.0.1"));
}

/// A node port to an endpoint on another node: both sides translated, answers and errors both ways.
#[test]
fn a_node_port_is_masqueraded() {
    let mut t = with(
        "-A PREROUTING -d 192.168.56.11 -p tcp --dport 30080 -j DNAT --to-destination 10.244.2.2:8080\n\
        -A PREROUTING -d 192.168.56.11 -p udp --dport 30053 -j DNAT --to-destination 10.244.2.2:9\n\
        -A POSTROUTING -d 10.244.2.2 -j MASQUERADE\n",
    );
    let x = t.x;
    assert_eq!(
        probe(&mut t, Probe::tcp(x, ip(N1), 30080).size(5000)),
        Outcome::Ok
    );
    let (_, reply, _) = conn(&t, 30080);
    assert_eq!((reply.src, reply.dst), (ip(S2), ip(N1)));
    // Nobody listens there: the refusal comes back through both translations.
    let r = t.go(Probe::udp(x, ip(N1), 30053)
        .size(10)
        .timeout(Duration::from_secs(5)));
    assert_eq!(r.outcome, Outcome::Refused);
    assert_eq!(r.icmp.map(|i| i.from), Some(ip(N1)));
}

#[test]
fn a_pod_reaches_itself_through_its_service() {
    let mut t = with(
        "-A PREROUTING -d 10.96.0.1 -p tcp --dport 80 -j DNAT --to-destination 10.244.1.2:8080\n\
        -A POSTROUTING -s 10.244.1.2 -d 10.244.1.2 -j MASQUERADE\n",
    );
    let (c, n1) = (t.c, t.n1);
    t.lab.listen(c, None, proto::TCP, 8080, App::Echo).unwrap();
    t.run(n1, "bridge link set dev veth-c hairpin on");
    assert_eq!(
        probe(&mut t, Probe::tcp(c, ip("10.96.0.1"), 80).size(100)),
        Outcome::Ok
    );
    let (_, reply, _) = conn(&t, 80);
    assert_eq!((reply.src, reply.dst), (ip(C), ip("10.244.1.1")));
}

#[test]
fn sources_are_translated_on_the_way_in() {
    let mut t = with("-A INPUT -p tcp --dport 8080 -j SNAT --to-source 10.1.2.3\n");
    let c = t.c;
    assert_eq!(
        probe(&mut t, Probe::tcp(c, ip("10.244.1.1"), 8080).size(100)),
        Outcome::Ok
    );
    let (orig, reply, status) = conn(&t, 8080);
    assert_eq!((orig.src, reply.dst), (ip(C), ip("10.1.2.3")));
    assert!(status.any(CtStatus::SRC_NAT));
}

#[test]
fn echo_requests_are_translated_too() {
    let mut t = with(
        "-A PREROUTING -d 10.96.0.1 -j DNAT --to-destination 10.244.2.2\n-A POSTROUTING -o eth0 -j MASQUERADE\n",
    );
    let c = t.c;
    let p = Probe::ping(c, ip("10.96.0.1"));
    assert_eq!(probe(&mut t, p), Outcome::Ok);
    let nf = t.lab.world.ns(t.n1).unwrap().nf().unwrap();
    let (_, c) = nf
        .ct
        .iter()
        .find(|(_, c)| c.tuple(Dir::Original).is_icmp())
        .unwrap();
    assert_eq!(
        (c.tuple(Dir::Reply).src, c.tuple(Dir::Reply).dst),
        (ip(S2), ip(N1))
    );
}
