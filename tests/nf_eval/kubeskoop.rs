//! Eleven rule sets that KubeSkoop's model answers wrongly, each with what the kernel does.

use crate::nf::{World, filter, packet, syn, tcp, udp};
use podpath::nf::eval::{At, NfStep, Verdict};
use podpath::nf::target::RejectWith;
use podpath::nf::{Backend, Family, Hook, TableName};
use podpath::wire::{CtInfo, CtRef, Frame, proto};

const CLIENT: &str = "10.0.0.9";
const POD: &str = "10.1.0.9";

fn reply() -> Frame {
    tcp(POD, CLIENT, 80, 40000, 0x12, &[])
}

fn dropped(v: Verdict) -> bool {
    matches!(v, Verdict::Drop(_))
}

/// Shows a packet to conntrack and to FORWARD, and enters its connection if it gets through.
fn through(w: &mut World, f: &mut Frame) -> Verdict {
    w.track(f, Hook::Prerouting);
    let verdict = w.forward(f);
    if verdict == Verdict::Accept {
        w.confirm(f);
    }
    verdict
}

#[test]
fn only_established_may_pass() {
    let rules = filter("-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT");
    let mut w = World::new(&rules.replace("FORWARD ACCEPT", "FORWARD DROP"));
    assert!(dropped(through(&mut w, &mut syn(80))));
    // The answer of a connection that was let in by the node itself passes, and then the rest.
    let mut f = syn(80);
    w.track(&mut f, Hook::Prerouting);
    w.confirm(&mut f);
    assert_eq!(through(&mut w, &mut reply()), Verdict::Accept);
    let mut ack = tcp(CLIENT, POD, 40000, 80, 0x10, &[]);
    assert_eq!(through(&mut w, &mut ack), Verdict::Accept);
}

#[test]
fn invalid_is_dropped() {
    let mut w = World::new("-m conntrack --ctstate INVALID -j DROP");
    assert!(
        dropped(through(&mut w, &mut reply())),
        "SYN-ACK out of nowhere"
    );
    assert_eq!(through(&mut w, &mut syn(80)), Verdict::Accept);
    let mut bad = udp(CLIENT, POD, 7, 8, b"x");
    bad.l3_mut()[27] ^= 0xff;
    assert!(dropped(through(&mut w, &mut bad)), "wrong checksum");
}

#[test]
fn reject_is_told_to_the_sender() {
    let mut w = World::new("-p tcp -j REJECT --reject-with tcp-reset\n-j REJECT");
    let verdict = w.forward(&mut syn(80));
    assert!(matches!(verdict, Verdict::Reject(RejectWith::TcpReset, r) if r.rule == 0));
    let verdict = w.forward(&mut udp(CLIENT, POD, 1, 2, b""));
    assert!(matches!(verdict, Verdict::Reject(RejectWith::PortUnreachable, r) if r.rule == 1));
}

fn nat(rule: &str) -> String {
    format!("*nat\n:PREROUTING ACCEPT [0:0]\n:POSTROUTING ACCEPT [0:0]\n{rule}\nCOMMIT\n")
}

#[test]
fn masquerade_takes_the_address_of_the_way_out() {
    let mut w = World::new(&nat("-A POSTROUTING -o eth0 -s 10.1.0.0/24 -j MASQUERADE"));
    let mut f = tcp(POD, "10.0.0.77", 5000, 80, 2, &[]);
    w.track(&mut f, Hook::Prerouting);
    assert_eq!(
        w.nat(&mut f, Hook::Postrouting, "cni0", "eth0"),
        Verdict::Accept
    );
    assert_eq!(f.l3()[12..16], [10, 0, 0, 1]);
    assert!(crate::nf::is_sound(&f));
    assert_eq!(w.packets("POSTROUTING"), [1, 0]);
}

#[test]
fn dnat_rewrites_address_and_port() {
    let mut w = World::new(&nat(
        "-A PREROUTING -d 10.96.0.10 -p tcp --dport 80 -j DNAT --to-destination 10.1.0.9:8080",
    ));
    let mut f = tcp(CLIENT, "10.96.0.10", 5000, 80, 2, &[]);
    w.track(&mut f, Hook::Prerouting);
    assert_eq!(w.nat(&mut f, Hook::Prerouting, "eth0", ""), Verdict::Accept);
    assert_eq!(f.l3()[16..20], [10, 1, 0, 9]);
    assert_eq!(f.l3()[22..24], 8080u16.to_be_bytes());
    assert!(crate::nf::is_sound(&f));
}

#[test]
fn a_mark_is_seen_by_the_rules_behind_it() {
    let mut w = World::new(
        "-p tcp -j MARK --set-xmark 0x4000/0x4000\n-m mark --mark 0x4000/0x4000 -j DROP",
    );
    assert!(dropped(w.forward(&mut syn(80))));
    assert_eq!(w.forward(&mut udp(CLIENT, POD, 1, 2, b"")), Verdict::Accept);
}

#[test]
fn a_chance_of_one_in_ten_thousand_is_just_that() {
    let mut w = World::new("-m statistic --mode random --probability 0.0001 -j DROP");
    let hits = (0..100_000)
        .filter(|_| dropped(w.forward(&mut syn(80))))
        .count();
    assert!((2..=25).contains(&hits), "{hits} of 100,000");
    // And a trace says how likely it was.
    let mut w = World::new("-m statistic --mode random --probability 1 -j DROP");
    assert!(dropped(w.forward(&mut syn(80))));
    let chance = Some(1 << 31);
    assert!(matches!(w.steps[..], [NfStep::Rule { chance: c, .. }] if c == chance));
}

#[test]
fn a_log_rule_does_not_end_the_chain() {
    let mut w = World::new("-j LOG --log-prefix \"seen \"\n-p tcp -j DROP");
    assert!(dropped(w.forward(&mut syn(80))));
    assert_eq!(w.effects.len(), 1);
}

#[test]
fn an_interface_may_end_in_a_wildcard() {
    let mut w = World::new("-o cni+ -j DROP");
    assert!(dropped(w.forward(&mut syn(80))));
    let mut w = World::new("-i cni+ -j DROP");
    assert_eq!(w.forward(&mut syn(80)), Verdict::Accept);
    let at = At {
        hook: Hook::Forward,
        family: Family::V4,
        input: Some(w.dev("cni0")),
        output: Some(w.dev("eth0")),
    };
    let verdict = w.ask(&mut reply(), &at, Backend::Legacy, TableName::Filter);
    assert!(dropped(verdict));
}

#[test]
fn a_port_range_has_both_its_ends() {
    let mut w = World::new("-p tcp --dport 1:1000 -j DROP");
    for (port, want) in [
        (0, false),
        (1, true),
        (80, true),
        (1000, true),
        (1001, false),
    ] {
        assert_eq!(dropped(w.forward(&mut syn(port))), want, "{port}");
    }
    let mut f = packet(CLIENT, POD, proto::UDP, &[0; 8]);
    assert_eq!(w.forward(&mut f), Verdict::Accept);
}

#[test]
fn a_goto_does_not_come_back() {
    let mut w = World::new(":G - [0:0]\n-p tcp -g G\n-j DROP\n-A G -p tcp --dport 443 -j REJECT");
    assert_eq!(w.forward(&mut syn(80)), Verdict::Accept);
    assert!(matches!(w.forward(&mut syn(443)), Verdict::Reject(..)));
    assert!(dropped(w.forward(&mut udp(CLIENT, POD, 1, 2, b""))));
}

#[test]
fn what_conntrack_says_stays_on_the_frame() {
    let mut w = World::new("-m conntrack --ctstate NEW");
    let mut f = syn(80);
    through(&mut w, &mut f);
    assert!(matches!(
        f.ct,
        CtRef::Conn {
            info: CtInfo::New,
            ..
        }
    ));
}
