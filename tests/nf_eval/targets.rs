//! Targets: what they change, that checksums hold, what goes on and what ends.

use crate::nf::{World, filter, is_sound, packet, syn, tcp, udp};
use podpath::net::{Binding, Owner, SocketId};
use podpath::nf::eval::{Effect, Verdict};
use podpath::nf::target::RejectWith;
use podpath::nf::{Backend, Family, Hook, TableName};
use podpath::wire::{Frame, proto};

fn mangle(rules: &str) -> String {
    let rules: String = rules
        .lines()
        .map(|l| format!("-A FORWARD {}\n", l.trim()))
        .collect();
    format!("*mangle\n:FORWARD ACCEPT [0:0]\n{rules}COMMIT\n")
}

/// The packet behind the rules, which have to let it on with good checksums.
fn changed(rules: &str, f: &Frame) -> Frame {
    let text = mangle(rules);
    let v6 = f.l3()[0] >> 4 == 6;
    let mut w = if v6 {
        World::v6(&text)
    } else {
        World::new(&text)
    };
    let mut f = f.clone();
    let verdict = w.at_hook(&mut f, TableName::Mangle, Hook::Forward, ("eth0", "cni0"));
    assert_eq!(verdict, Verdict::Accept, "{rules}");
    assert!(is_sound(&f), "{rules}");
    f
}

fn v6() -> Frame {
    tcp("fd00::9", "fd01::9", 1, 80, 2, &[2, 4, 0x05, 0xa0])
}

#[test]
fn marks() {
    for (target, mark) in [
        ("--set-mark 0x21", 0x21),
        ("--set-xmark 0x1/0xf", 0x41),
        ("--and-mark 0x40", 0x40),
        ("--or-mark 0x8", 0x4a),
        ("--xor-mark 0x2", 0x40),
    ] {
        let mut f = syn(80);
        f.mark = 0x42;
        assert_eq!(
            changed(&format!("-j MARK {target}"), &f).mark,
            mark,
            "{target}"
        );
    }
    assert_eq!(
        changed("-j CLASSIFY --set-class 1:a", &syn(80)).priority,
        0x1000a
    );
}

#[test]
fn the_header_with_its_checksum() {
    let mut f = syn(80);
    assert_eq!(changed("-j TTL --ttl-set 7", &f).l3()[8], 7);
    assert_eq!(changed("-j TTL --ttl-dec 4", &f).l3()[8], 60);
    assert_eq!(changed("-j TTL --ttl-dec 65", &f).l3()[8], 0);
    assert_eq!(changed("-j TTL --ttl-inc 200", &f).l3()[8], 255);
    assert_eq!(changed("-j TOS --set-tos 0x10/0xff", &f).l3()[1], 0x10);
    f = changed("-j TOS --set-tos 0x03/0xff", &f);
    assert_eq!(
        changed("-j DSCP --set-dscp-class EF", &f).l3()[1],
        0xbb,
        "ECN stays"
    );
    assert_eq!(changed("-j TOS --xor-tos 0x01", &f).l3()[1], 2);
    let f = v6();
    assert_eq!(changed("-j HL --hl-set 9", &f).l3()[7], 9);
    assert_eq!(
        changed("-j DSCP --set-dscp 0x2e", &f).l3()[..2],
        [0x6b, 0x80]
    );
    assert_eq!(
        changed("-j TOS --set-tos 0x21/0xff", &f).l3()[..2],
        [0x62, 0x10]
    );
    let f = udp("10.0.0.9", "10.1.0.9", 1, 2, b"x");
    assert_eq!(changed("-j CHECKSUM --checksum-fill", &f).l3(), f.l3());
}

const SYN: &str = "-p tcp --tcp-flags SYN,RST SYN -j TCPMSS";

#[test]
fn the_segment_size_is_only_lowered() {
    let mss = |f: &Frame| u16::from_be_bytes([f.l3()[42], f.l3()[43]]);
    let f = tcp("10.0.0.9", "10.1.0.9", 1, 80, 2, &[2, 4, 0x05, 0xb4]);
    assert_eq!(mss(&changed(&format!("{SYN} --set-mss 1000"), &f)), 1000);
    assert_eq!(mss(&changed(&format!("{SYN} --set-mss 1461"), &f)), 1460);
    // Behind other options, at an odd offset as well.
    let odd = tcp(
        "10.0.0.9",
        "10.1.0.9",
        1,
        80,
        2,
        &[1, 2, 4, 0x05, 0xb4, 1, 1, 0],
    );
    let out = changed_unsound(&format!("{SYN} --set-mss 1000"), &odd);
    assert_eq!(out.l3()[43..45], 1000u16.to_be_bytes());
    let out = changed(&format!("{SYN} --set-mss 1000"), &v6());
    assert_eq!(out.l3()[62..64], 1000u16.to_be_bytes());
}

/// The kernel sums an option at an odd offset as if it were even, and so breaks the checksum.
fn changed_unsound(rules: &str, f: &Frame) -> Frame {
    let mut w = World::new(&mangle(rules));
    let mut f = f.clone();
    w.at_hook(&mut f, TableName::Mangle, Hook::Forward, ("eth0", "cni0"));
    f
}

#[test]
fn a_missing_segment_size_is_put_in_front() {
    let f = tcp("10.0.0.9", "10.1.0.9", 1, 80, 2, &[4, 2, 1, 1]);
    let out = changed(&format!("{SYN} --set-mss 1000"), &f);
    // 536 is what a host assumes that is told nothing.
    assert_eq!(out.l3()[40..48], [2, 4, 2, 24, 4, 2, 1, 1]);
    assert_eq!(out.l3().len(), f.l3().len() + 4);
    let small = changed(&format!("{SYN} --set-mss 500"), &f);
    assert_eq!(small.l3()[40..44], [2, 4, 1, 244]);
    let f = tcp("fd00::9", "fd01::9", 1, 80, 2, &[]);
    let out = changed(&format!("{SYN} --set-mss 1400"), &f);
    assert_eq!(out.l3()[60..64], [2, 4, 4, 196]);
    // No room, or data behind the header: left as it is.
    let full = tcp("10.0.0.9", "10.1.0.9", 1, 80, 2, &[1; 40]);
    assert_eq!(
        changed(&format!("{SYN} --set-mss 1000"), &full).l3(),
        full.l3()
    );
    let mut l4 = syn(80).l3()[20..].to_vec();
    l4.extend_from_slice(b"data");
    let data = packet("10.0.0.9", "10.1.0.9", proto::TCP, &l4);
    assert_eq!(
        changed(&format!("{SYN} --set-mss 1000"), &data).l3(),
        data.l3()
    );
}

#[test]
fn the_segment_size_fits_the_way_there_and_back() {
    let mss = |out: u32, back: u32| {
        let mut w = World::new(&mangle(&format!("{SYN} --clamp-mss-to-pmtu")));
        let (eth0, cni0) = (w.dev("eth0"), w.dev("cni0"));
        w.ns.edit().set_mtu(cni0, out).expect("an MTU");
        w.ns.edit().set_mtu(eth0, back).expect("an MTU");
        let mut f = tcp("10.0.0.9", "10.1.0.9", 1, 80, 2, &[2, 4, 0x05, 0xb4]);
        w.at_hook(&mut f, TableName::Mangle, Hook::Forward, ("eth0", "cni0"));
        assert!(is_sound(&f));
        u16::from_be_bytes([f.l3()[42], f.l3()[43]])
    };
    assert_eq!(
        (mss(1500, 1500), mss(1400, 1500), mss(1500, 1300)),
        (1460, 1360, 1260)
    );
}

#[test]
fn broken_tcp_headers_are_dropped() {
    let mut w = World::new(&mangle("-p tcp -j TCPMSS --set-mss 1000"));
    let mut f = syn(80);
    f.l3_mut()[32] = 0xf0;
    let verdict = w.at_hook(&mut f, TableName::Mangle, Hook::Forward, ("eth0", "cni0"));
    assert!(matches!(verdict, Verdict::Drop(_)));
}

#[test]
fn answers_of_reject() {
    for (with, want) in [
        ("icmp-net-unreachable", RejectWith::NetUnreachable),
        ("icmp-host-prohibited", RejectWith::HostProhibited),
        ("icmp-admin-prohibited", RejectWith::AdminProhibited),
        ("icmp-proto-unreachable", RejectWith::ProtoUnreachable),
    ] {
        let mut w = World::new(&format!("-j REJECT --reject-with {with}"));
        assert!(matches!(w.forward(&mut syn(80)), Verdict::Reject(w, _) if w == want));
    }
    let mut w = World::v6("-j REJECT");
    let verdict = w.forward(&mut v6());
    assert!(matches!(
        verdict,
        Verdict::Reject(RejectWith::V6PortUnreachable, _)
    ));
}

/// Kernel 6.18: nobody listens; behind a bypass the packet goes to the next table, not to the next rule.
#[test]
fn queues_without_listeners() {
    let mut w =
        World::new("-p tcp -j NFQUEUE --queue-num 3 --queue-bypass\n-j NFQUEUE --queue-num 3");
    assert_eq!(w.forward(&mut syn(80)), Verdict::Bypass);
    assert_eq!(w.packets("FORWARD"), [1, 0, 0]);
    let mut f = udp("10.0.0.9", "10.1.0.9", 1, 2, b"");
    assert!(matches!(w.forward(&mut f), Verdict::Queue(r) if r.rule == 1));
}

#[test]
fn what_is_only_told_goes_on() {
    let rules = "-j LOG --log-prefix \"p: \" --log-level 3\n-j NFLOG --nflog-group 4\n-j AUDIT --type drop\n-j DROP";
    let mut w = World::new(rules);
    assert!(matches!(w.forward(&mut syn(80)), Verdict::Drop(r) if r.rule == 3));
    let told: Vec<String> = w
        .effects
        .iter()
        .map(|e| match e {
            Effect::Log { prefix, level, .. } => format!("log {prefix}{level}"),
            Effect::Nflog { group, .. } => format!("nflog {group}"),
            Effect::Audit { kind, .. } => format!("audit {kind:?}"),
            other => format!("{other:?}"),
        })
        .collect();
    assert_eq!(told, ["log p: 3", "nflog 4", "audit Drop"]);
}

#[test]
fn a_tee_copies_the_packet_as_it_is_then() {
    let rules = "-j MARK --set-mark 1\n-j TEE --gateway 10.0.0.66\n-j TTL --ttl-set 1";
    let mut w = World::new(&mangle(rules));
    let mut f = syn(80);
    w.at_hook(&mut f, TableName::Mangle, Hook::Forward, ("eth0", "cni0"));
    let [
        Effect::Tee {
            gateway,
            copy,
            oif: None,
            ..
        },
    ] = &w.effects[..]
    else {
        panic!("{:?}", w.effects)
    };
    assert_eq!(gateway.to_string(), "10.0.0.66");
    assert_eq!((copy.l3()[8], copy.mark, f.l3()[8]), (64, 1, 1));
}

#[test]
fn tproxy_needs_a_transparent_socket() {
    let rules = "*mangle\n:PREROUTING ACCEPT [0:0]\n\
        -A PREROUTING -p tcp -j TPROXY --on-port 15001 --on-ip 127.0.0.1 --tproxy-mark 0x1/0x1\nCOMMIT\n";
    let mut w = World::new(rules);
    let show = |w: &mut World| {
        let mut f = syn(80);
        f.mark = 0x10;
        let verdict = w.at_hook(&mut f, TableName::Mangle, Hook::Prerouting, ("eth0", ""));
        (matches!(verdict, Verdict::Accept), f.mark)
    };
    assert_eq!(show(&mut w), (false, 0x10), "nobody listens");
    let b = Binding {
        proto: proto::TCP,
        port: 15001,
        local: Some("127.0.0.1".parse().unwrap()),
        remote: None,
    };
    w.ns.sockets_mut().bind(b, SocketId(5)).expect("free");
    assert_eq!(show(&mut w), (false, 0x10), "not transparent");
    let owner = Owner {
        transparent: true,
        ..Owner::default()
    };
    w.ns.sockets_mut().set_owner(SocketId(5), owner);
    assert_eq!(show(&mut w), (true, 0x11));
    assert!(matches!(
        w.effects[..],
        [Effect::Tproxy {
            socket: SocketId(5),
            ..
        }]
    ));
}

fn nat_table(rule: &str) -> String {
    format!(
        "*nat\n:PREROUTING ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:POSTROUTING ACCEPT [0:0]\n{rule}\nCOMMIT\n"
    )
}

#[test]
fn mappings() {
    for (rule, hook, devs, field, want) in [
        (
            "-A POSTROUTING -j SNAT --to-source 10.0.0.77",
            Hook::Postrouting,
            ("cni0", "eth0"),
            12,
            [10, 0, 0, 77],
        ),
        (
            "-A PREROUTING -p tcp -j REDIRECT --to-ports 15006",
            Hook::Prerouting,
            ("eth0", ""),
            16,
            [10, 0, 0, 1],
        ),
        (
            "-A PREROUTING -j NETMAP --to 10.7.0.0/24",
            Hook::Prerouting,
            ("eth0", ""),
            16,
            [10, 7, 0, 9],
        ),
        (
            "-A OUTPUT -p tcp -j REDIRECT --to-ports 15001",
            Hook::Output,
            ("", "eth0"),
            16,
            [127, 0, 0, 1],
        ),
    ] {
        let mut w = World::new(&nat_table(rule));
        let mut f = syn(80);
        w.track(
            &mut f,
            if hook == Hook::Output {
                hook
            } else {
                Hook::Prerouting
            },
        );
        assert_eq!(
            w.nat(&mut f, hook, devs.0, devs.1),
            Verdict::Accept,
            "{rule}"
        );
        assert_eq!(f.l3()[field..field + 4], want, "{rule}");
        assert!(is_sound(&f), "{rule}");
    }
    // MASQUERADE without an address on the way out drops.
    let mut w = World::new(&nat_table("-A POSTROUTING -j MASQUERADE"));
    let cni0 = w.dev("cni0");
    let eth0 = w.dev("eth0");
    for (dev, net) in [(cni0, "10.1.0.1/24"), (eth0, "10.0.0.1/24")] {
        w.ns.edit().addr_del(dev, net.parse().unwrap()).expect("it");
    }
    let mut f = syn(80);
    w.track(&mut f, Hook::Prerouting);
    assert!(matches!(
        w.nat(&mut f, Hook::Postrouting, "cni0", "eth0"),
        Verdict::Drop(_)
    ));
}

#[test]
fn sets_are_asked_and_changed() {
    let rules = filter(
        "-m set --match-set seen src -j DROP\n-m set ! --match-set ports dst,dst -j SET --add-set seen src\n\
         -m set --match-set gone src -j DROP",
    );
    let mut w = World::new("");
    let mut ipset = |words: &str| {
        let words: Vec<&str> = words.split(' ').collect();
        w.nf.sets.command(&words, w.now).expect("a good command");
    };
    ipset("create seen hash:ip");
    ipset("create ports hash:ip,port");
    ipset("add ports 10.1.0.9,tcp:80");
    w.load(&rules, Family::V4, Backend::Legacy);
    // The third rule's set is not there: nobody knows.
    assert!(matches!(w.forward(&mut syn(80)), Verdict::Depends(r) if r.rule == 2));
    assert!(matches!(w.forward(&mut syn(81)), Verdict::Depends(r) if r.rule == 2));
    assert!(matches!(w.forward(&mut syn(81)), Verdict::Drop(r) if r.rule == 0));
}
