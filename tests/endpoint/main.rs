//! Two stacks on a virtual link: what a Linux client and server would show on the wire.

mod errors;
mod garbled;
mod net;

use bytes::Bytes;
use net::*;
use podpath::base::Instant;
use podpath::endpoint::{
    App, ClientEvent, Config, Delivery, Errno, Outcome, PingRequest, Reply, Stack, TcpRequest,
};
use podpath::wire::{IpHeader, build, proto};
use std::net::SocketAddr;
use std::time::Duration;

#[test]
fn echo_of_64_kib_and_close() {
    let mut net = Net::new(1, 1500);
    net.stacks[1].listen_tcp(None, 80, App::Echo).unwrap();
    let body = pattern(65_536);
    let id = net.connect(body.clone(), Reply::Len(65_536), 30);
    let start = net.now;
    net.run(start + Duration::from_secs(5));
    assert_eq!(net.data(id), body);
    assert!(
        net.done(id).since(start) < Duration::from_millis(20),
        "no timeout was needed"
    );
    let states: Vec<_> = net
        .stacks
        .iter()
        .map(|s| s.sockets().last().map(|s| s.state))
        .collect();
    assert_eq!(
        states,
        [Some("TIME-WAIT"), Some("LISTEN")],
        "{}",
        net.dump()
    );
    net.run(start + Duration::from_secs(70));
    assert_eq!(net.stacks[0].sockets(), [], "TIME-WAIT ends after 60 s");
    assert_eq!(net.stacks[0].poll_at(), None);
    assert_eq!(net.stacks[1].poll_at(), None);
}

#[test]
fn the_handshake_looks_like_linux() {
    let mut net = Net::new(1, 1450);
    net.stacks[1]
        .listen_tcp(None, 80, App::Http { name: "web".into() })
        .unwrap();
    let id = net.connect(
        "GET / HTTP/1.1\r\nHost: w\r\n\r\n".into(),
        Reply::UntilClose,
        5,
    );
    net.run(net.now + Duration::from_secs(1));
    net.done(id);
    let reply = String::from_utf8(net.data(id)).unwrap();
    assert!(reply.ends_with("web sees 10.244.1.10:40000\n"), "{reply}");
    // Recording vxlan-port-blocked: SYN win 64860 MSS 1410, SYN-ACK win 64308, both 74 bytes on Ethernet.
    let options = |p: &[u8]| p[40..].to_vec();
    let (syn, synack) = (&net.wire[0].2, &net.wire[1].2);
    assert_eq!((syn.len(), synack.len()), (60, 60));
    assert_eq!(
        options(syn)[..8],
        [2, 4, 5, 130, 4, 2, 8, 10],
        "MSS 1410, SACK, timestamps"
    );
    assert_eq!(options(synack)[16..], [1, 3, 3, 7], "NOP, window scale 7");
    let window = |p: &[u8]| u16::from_be_bytes([p[34], p[35]]);
    assert_eq!((window(syn), window(synack)), (64_860, 64_308));
    assert_eq!(window(&net.wire[2].2), 64_860 >> 7);
    for (_, _, p) in &net.wire {
        let h = IpHeader::parse(p).unwrap();
        assert!(h.df && h.ttl == 64 && h.tos == 0, "{h:?}");
    }
    let flags: Vec<_> = net
        .wire
        .iter()
        .map(|(_, i, p)| (*i, tcp_flags(p)))
        .collect();
    let want = [(0, 0x02), (1, 0x12), (0, 0x10), (0, 0x18), (1, 0x10)];
    assert_eq!(flags[..5], want, "{}", net.dump());
    let fins = flags.iter().filter(|(_, f)| f & 1 == 1).count();
    assert_eq!(fins, 2, "one FIN each way\n{}", net.dump());
}

#[test]
fn syn_retransmissions_are_the_measured_ones() {
    let measured = [0.0, 1.0, 2.1, 3.1, 4.1, 5.1, 7.1, 11.2, 19.4, 35.6];
    let mut net = Net::new(1, 1500);
    net.loss = |_, _, _| true;
    let start = net.now;
    let id = net.connect(Bytes::new(), Reply::Len(0), 1000);
    net.run(start + Duration::from_secs(40));
    let times: Vec<_> = net
        .wire
        .iter()
        .map(|(at, ..)| at.since(start).as_secs_f64())
        .collect();
    assert_eq!(times.len(), measured.len(), "{times:?}");
    for (got, want) in times.iter().zip(measured) {
        // The table has one decimal: no digit may differ, give or take the 5 ms of a capture.
        assert!((got - want).abs() < 0.055, "{got} for {want}");
    }
    let seqs: Vec<_> = net
        .wire
        .iter()
        .map(|(_, _, p)| p[24..28].to_vec())
        .collect();
    assert!(seqs.iter().all(|s| *s == seqs[0]), "one SYN, repeated");
    net.run(start + Duration::from_secs(200));
    // tcp_syn_retries=6 + 4 linear: the last SYN nominally at 67 s, ETIMEDOUT at 131 s, and the wheel.
    assert_eq!(net.wire.len(), 11);
    let (outcome, errno, at) = net.failure(id, start);
    assert_eq!((outcome, errno), (Outcome::Timeout, Some(Errno::TimedOut)));
    assert!((131.0..135.0).contains(&at), "{at}");
}

#[test]
fn older_kernels_double_from_the_first_syn() {
    let mut config = Config::new(9, 1500);
    config.tcp.syn_linear_timeouts = 0;
    let mut net = Net::new(1, 1500);
    net.stacks[0] = Stack::new(config);
    net.loss = |_, _, _| true;
    let start = net.now;
    let id = net.connect(Bytes::new(), Reply::Len(0), 1000);
    net.run(start + Duration::from_secs(200));
    let times: Vec<_> = net
        .wire
        .iter()
        .map(|(at, ..)| at.since(start).as_secs_f64().round())
        .collect();
    assert_eq!(
        times,
        [0.0, 1.0, 3.0, 7.0, 15.0, 31.0, 64.0],
        "0 1 3 7 15 31 63 and the wheel"
    );
    let (_, errno, at) = net.failure(id, start);
    assert_eq!(errno, Some(Errno::TimedOut));
    assert!((127.0..134.0).contains(&at), "{at}");
}

#[test]
fn a_closed_port_refuses_at_once_and_a_deadline_is_kept() {
    let mut net = Net::new(1, 1500);
    let start = net.now;
    let id = net.connect(Bytes::new(), Reply::Len(0), 5);
    net.run(start + Duration::from_secs(1));
    let (outcome, errno, at) = net.failure(id, start);
    assert_eq!(
        (outcome, errno),
        (Outcome::Refused, Some(Errno::ConnRefused))
    );
    assert!(at < 0.001, "{at}");

    net.loss = |_, _, _| true;
    let start = net.now;
    let id = net.connect(Bytes::new(), Reply::Len(0), 5);
    net.run(start + Duration::from_secs(60));
    assert_eq!(net.failure(id, start), (Outcome::Timeout, None, 5.0));
    assert_eq!(net.stacks[0].sockets(), []);
}

#[test]
fn losses_are_repaired() {
    let mut net = Net::new(1, 1500);
    net.loss = |n, _, _| n % 7 == 5;
    net.stacks[1].listen_tcp(None, 80, App::Echo).unwrap();
    let body = pattern(200_000);
    let id = net.connect(body.clone(), Reply::Len(body.len()), 300);
    net.run(net.now + Duration::from_secs(400));
    net.done(id);
    assert!(net.data(id) == body);
    let alive: Vec<_> = net
        .stacks
        .iter()
        .flat_map(Stack::sockets)
        .filter(|s| s.state != "LISTEN")
        .collect();
    assert_eq!(alive, [], "both sides finished");
}

#[test]
fn data_retransmissions_back_off_from_the_minimal_rto() {
    let mut net = Net::new(1, 1500);
    net.stacks[1].listen_tcp(None, 80, App::Sink).unwrap();
    // The black hole of a path MTU: what is larger than 1000 bytes disappears.
    net.loss = |_, _, p| p.len() > 1000;
    let start = net.now;
    let id = net.connect(pattern(6000), Reply::Len(1), 20);
    net.run(start + Duration::from_secs(25));
    assert_eq!(net.failure(id, start).0, Outcome::Timeout);
    let big: Vec<_> = net
        .wire
        .iter()
        .filter(|(_, _, p)| p.len() > 1000)
        .map(|(t, ..)| *t)
        .collect();
    let rounds: Vec<_> = big
        .iter()
        .fold(Vec::new(), |mut v: Vec<(Instant, u32)>, t| {
            match v.last_mut() {
                Some((last, n)) if last == t => *n += 1,
                _ => v.push((*t, 1)),
            }
            v
        });
    assert_eq!(
        rounds[0].1, 4,
        "6000 bytes leave at once: four full segments and a small one"
    );
    assert!(
        rounds[1..].iter().all(|(_, n)| *n == 1),
        "one segment for each timeout: {rounds:?}"
    );
    let gaps: Vec<_> = rounds
        .windows(2)
        .map(|w| w[1].0.since(w[0].0).as_millis())
        .collect();
    for (got, want) in gaps.iter().zip([208u128, 436, 832, 1664, 3328]) {
        assert!(got.abs_diff(want) <= 64, "{gaps:?}");
    }
}

#[test]
fn a_large_datagram_is_one_packet_without_df() {
    for addr in [addr as fn(u8, u16) -> SocketAddr, addr6] {
        let mut net = Net::new(1, 1500);
        net.mtu = 70_000;
        net.stacks[1].listen_udp(None, 7, App::Echo).unwrap();
        let ids = [20, 1472, 1473, 3000, 65_507].map(|n| {
            (
                n,
                udp_client(&mut net, addr(0, n as u16), addr(1, 7), pattern(n), 5),
            )
        });
        net.run(net.now + Duration::from_secs(1));
        for (n, id) in ids {
            net.done(id);
            assert!(net.data(id) == pattern(n), "{n}");
        }
        assert_eq!(net.wire.len(), 10, "a packet per datagram");
        for (_, _, p) in net.wire.iter().filter(|(_, _, p)| p[0] >> 4 == 4) {
            assert_eq!(
                IpHeader::parse(p).unwrap().df,
                p.len() <= 1500,
                "{}",
                p.len()
            );
        }
    }
}

#[test]
fn a_too_large_datagram_is_emsgsize_once() {
    let mut net = Net::new(1, 1500);
    net.mtu = 1450;
    net.stacks[1].listen_udp(None, 7, App::Echo).unwrap();
    // Recording vxlan-mtu-mismatch: 1400 answered, 1440 EMSGSIZE, then cached: 1440 leaves without DF.
    let start = net.now;
    let first = udp_client(&mut net, addr(0, 40_021), addr(1, 7), pattern(1440), 1);
    net.run(start + Duration::from_secs(2));
    assert_eq!(net.failure(first, start).1, Some(Errno::MsgSize));
    let again = udp_client(&mut net, addr(0, 40_021), addr(1, 7), pattern(1440), 1);
    net.run(net.now + Duration::from_millis(1));
    let sent: Vec<_> = net.wire.iter().filter(|(_, i, _)| *i == 0).collect();
    assert!(!IpHeader::parse(&sent.last().unwrap().2).unwrap().df);
    net.run(net.now + Duration::from_secs(2));
    assert!(
        net.end(again).is_some(),
        "answered or timed out, but not left behind"
    );
}

#[test]
fn ping_is_answered_or_says_why() {
    let mut net = Net::new(1, 1500);
    let ping = |seq| PingRequest {
        local: addr(0, 0).ip(),
        remote: addr(1, 0).ip(),
        id: 77,
        seq,
        payload: pattern(56),
        ttl: 3,
        df: true,
        deadline: Instant::from_secs(10),
    };
    let ids = [1, 2, 3].map(|seq| net.stacks[0].ping(ping(seq)).unwrap());
    net.run(net.now);
    let request = net.wire[0].2.clone();
    let h = IpHeader::parse(&request).unwrap();
    assert_eq!((h.ttl, h.df, h.total_len), (3, true, 84));
    let (src, dst) = (addr(0, 0).ip(), addr(1, 0).ip());
    let reply = build::icmp_message(dst, src, 0, 0, 77 << 16 | 1, &pattern(56));
    let reply = build::ip_packet(dst, src, proto::ICMP, 64, 0, 0, false, &reply);
    assert_eq!(net.stacks[0].receive(net.now, &reply), Delivery::Taken);
    assert_eq!(
        net.stacks[0].receive(net.now, &reply),
        Delivery::NoSocket,
        "answered already"
    );
    let router = addr(9, 1).ip();
    let expired = icmp(router, 11, 0, 0, &net.wire[1].2.clone());
    net.stacks[0].receive(net.now, &expired);
    net.run(Instant::from_secs(20));
    assert_eq!(net.data(ids[0]), pattern(56));
    net.done(ids[0]);
    match net.end(ids[1]) {
        Some(ClientEvent::Failed {
            errno,
            icmp: Some(seen),
            ..
        }) => {
            assert_eq!(
                (*errno, seen.from, seen.typ),
                (Some(Errno::HostUnreach), router, 11)
            );
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(
        net.end(ids[2]),
        Some(ClientEvent::Failed { errno: None, .. })
    ));
}

#[test]
fn many_connections_at_once_and_ipv6() {
    let mut net = Net::new(1, 1500);
    let reply = pattern(5000);
    net.stacks[1]
        .listen_tcp(None, 80, App::Fixed(reply.clone()))
        .unwrap();
    let mut ids = Vec::new();
    for port in 0..150 {
        let addr = if port % 2 == 0 { addr } else { addr6 };
        let (local, remote) = (addr(0, 20_000 + port), addr(1, 80));
        ids.push(net.connect_from(local, remote, "hello".into(), Reply::UntilClose, 9));
    }
    net.run(net.now + Duration::from_secs(8));
    for id in ids {
        net.done(id);
        assert!(net.data(id) == reply);
    }
}

#[test]
fn the_server_resets_what_nobody_reads() {
    let mut net = Net::new(1, 1500);
    net.stacks[1].listen_tcp(None, 80, App::Close).unwrap();
    net.latency = Duration::from_millis(10);
    let id = net.connect(pattern(10), Reply::Len(10), 9);
    net.run(net.now + Duration::from_secs(5));
    assert!(matches!(
        net.end(id),
        Some(ClientEvent::Failed {
            outcome: Outcome::Reset,
            ..
        })
    ));
    assert!(
        net.wire
            .iter()
            .any(|(_, i, p)| *i == 1 && tcp_flags(p) & 4 != 0),
        "{}",
        net.dump()
    );
    let alive: Vec<_> = net.stacks.iter().flat_map(Stack::sockets).collect();
    assert_eq!(alive.len(), 1, "only the listener: {alive:?}");
}

#[test]
fn strangers_find_no_socket() {
    let mut net = Net::new(1, 1500);
    net.stacks[1]
        .listen_tcp(Some(addr(1, 80).ip()), 80, App::Sink)
        .unwrap();
    assert_eq!(
        net.stacks[1].listen_tcp(None, 80, App::Sink),
        Err(Errno::AddrInUse)
    );
    let t = |flags| {
        let mut s = vec![
            0x9c, 0x40, 0, 80, 0, 0, 0, 1, 0, 0, 0, 9, 0x50, flags, 9, 9, 0, 0, 0, 0,
        ];
        let (a, b) = (addr(0, 0).ip(), addr(1, 0).ip());
        let c = podpath::wire::checksum::l4(a, b, proto::TCP, &s);
        s[16..18].copy_from_slice(&c.to_be_bytes());
        build::ip_packet(a, b, proto::TCP, 64, 0, 0, true, &s)
    };
    for flags in [0x10, 0x12, 0x04, 0x14, 0x11] {
        assert_eq!(
            net.stacks[1].receive(net.now, &t(flags)),
            Delivery::NoSocket,
            "{flags:x}"
        );
    }
    let mut bad = t(0x02);
    bad[25] ^= 1;
    assert_eq!(net.stacks[1].receive(net.now, &bad), Delivery::Malformed);
    assert_eq!(net.stacks[1].poll(net.now), Vec::<Vec<u8>>::new());
    assert_eq!(net.stacks[1].receive(net.now, &t(0x02)), Delivery::Taken);
    assert_eq!(net.stacks[1].sockets().len(), 2);
    net.stacks[1].receive(net.now, &t(0x04));
}

#[test]
fn same_seed_same_bytes() {
    let run = |seed| {
        let mut net = Net::new(seed, 1450);
        net.loss = |n, _, _| n % 11 == 3;
        net.stacks[1].listen_tcp(None, 80, App::Echo).unwrap();
        net.stacks[1].listen_udp(None, 7, App::Echo).unwrap();
        net.connect(pattern(30_000), Reply::Len(30_000), 30);
        udp_client(&mut net, addr(0, 9), addr(1, 7), pattern(3000), 4);
        net.run(net.now + Duration::from_secs(60));
        net.wire
    };
    assert!(run(5) == run(5));
    assert!(run(5) != run(6), "the seed is used");
}

#[test]
fn a_listening_stack_is_tiny() {
    let size = std::mem::size_of::<Stack>();
    assert!(size <= 512, "{size} bytes");
}

#[test]
fn a_namespace_talks_to_itself() {
    let mut stack = Stack::new(Config::new(3, 65_536));
    stack.listen_tcp(None, 80, App::Echo).unwrap();
    let r = TcpRequest {
        local: "127.0.0.1:5000".parse().unwrap(),
        remote: "127.0.0.1:80".parse().unwrap(),
        request: pattern(100_000),
        reply: Reply::Len(100_000),
        deadline: Instant::from_secs(9),
        path_mtu: None,
    };
    let id = stack.connect_tcp(Instant::ZERO, r).unwrap();
    let (mut now, mut got) = (Instant::ZERO, Vec::new());
    let mut done = false;
    while let Some(at) = stack.poll_at().filter(|_| !done) {
        now = now.max(at);
        for packet in stack.poll(now) {
            assert_eq!(stack.receive(now, &packet), Delivery::Taken);
        }
        for (who, event) in stack.events() {
            assert_eq!(who, id);
            match event {
                ClientEvent::Data { data, .. } => got.extend_from_slice(&data),
                ClientEvent::Done { at } => {
                    done = true;
                    assert!(at < Instant::from_millis(1), "no timeout was needed: {at}");
                }
                other => assert!(matches!(other, ClientEvent::Connected { .. }), "{other:?}"),
            }
        }
    }
    assert!(got == pattern(100_000));
}

#[test]
fn time_wait_answers_a_repeated_fin_and_yields_to_a_new_syn() {
    let mut net = Net::new(1, 1500);
    net.stacks[1]
        .listen_tcp(None, 80, App::Fixed(pattern(10)))
        .unwrap();
    net.stacks[0].listen_tcp(None, 40_000, App::Sink).unwrap();
    let id = net.connect("x".into(), Reply::Len(10), 5);
    net.run(net.now + Duration::from_secs(1));
    net.done(id);
    // Who closes first keeps TIME-WAIT: the server, after its reply.
    let states = |net: &Net, i: usize| -> Vec<_> {
        let all = net.stacks[i].sockets().into_iter().map(|s| s.state);
        all.filter(|s| *s != "LISTEN").collect()
    };
    assert_eq!(states(&net, 1), ["TIME-WAIT"], "{}", net.dump());
    let fin = net
        .wire
        .iter()
        .rfind(|(_, i, p)| *i == 0 && tcp_flags(p) & 1 == 1)
        .unwrap()
        .2
        .clone();
    let before = net.wire.len();
    net.deliver(1, &fin);
    net.run(net.now);
    assert_eq!(net.wire.len(), before + 1, "acknowledged again");
    let again = net.connect("x".into(), Reply::Len(10), 5);
    net.run(net.now + Duration::from_secs(1));
    net.done(again);
}
