//! FTP and TFTP through NAT: words, lengths, checksums, expectations and sequence numbers.

use crate::router::{Router, ip, tcp_data, tcp_flags, udp};
use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use podpath::base::{Instant, Rng};
use podpath::nf::ct::{Conntrack, CtStatus, CtTuple, Dir, ExpectNat, Expectation, Zones, seqadj};
use podpath::nf::nat::helper::{self, FtpKind, Refused};
use podpath::wire::{ConnId, Frame, IpHeader, proto};

/// What the master announces: the other side connects to `port` of the client as it sees it.
fn expectation(master: ConnId, dst: &str, port: u16) -> Expectation {
    Expectation {
        tuple: CtTuple {
            proto: proto::TCP,
            src: ip("10.62.0.2"),
            dst: ip(dst),
            sport: 0,
            dport: port,
        },
        from_source: true,
        zones: Zones::default(),
        master,
        helper: None,
        nat: None,
        expires: Instant::from_secs(300),
    }
}

/// A masqueraded control connection from 10.61.0.2 to 10.62.0.2:21, established.
fn control() -> (Router, ConnId) {
    let mut r = Router::new("", "-j SNAT --to-source 10.62.0.100");
    r.forward(&tcp_flags(
        "10.61.0.2",
        4000,
        "10.62.0.2",
        21,
        (1000, 0),
        "S",
    ))
    .unwrap();
    let answer = tcp_flags("10.62.0.2", 21, "10.62.0.100", 4000, (2000, 1001), "SA");
    r.backward(&answer).unwrap();
    r.forward(&tcp_flags(
        "10.61.0.2",
        4000,
        "10.62.0.2",
        21,
        (1001, 2001),
        "A",
    ))
    .unwrap();
    let id = r.nf.ct.iter().next().unwrap().0;
    (r, id)
}

/// The payload, once both checksums and the length are found right.
fn payload(p: &[u8]) -> String {
    let s = SlicedPacket::from_ip(p).unwrap();
    let (Some(NetSlice::Ipv4(v4)), Some(TransportSlice::Tcp(tcp))) = (&s.net, &s.transport) else {
        panic!("no TCP");
    };
    let head = v4.header().to_header();
    assert_eq!(head.header_checksum, head.calc_header_checksum());
    assert_eq!(usize::from(head.total_len), p.len());
    let (src, dst) = (head.source, head.destination);
    let check = tcp
        .to_header()
        .calc_checksum_ipv4_raw(src, dst, tcp.payload())
        .unwrap();
    assert_eq!(tcp.checksum(), check);
    String::from_utf8(tcp.payload().to_vec()).unwrap()
}

#[test]
fn port_is_rewritten_and_the_data_connection_follows() {
    let (mut r, id) = control();
    // As it stands behind SNAT when the helper sees it.
    let said = "PORT 10,61,0,2,195,80\r\n";
    let mut f = Frame::ip(&tcp_data(
        "10.62.0.100",
        4000,
        "10.62.0.2",
        21,
        (1001, 2001),
        said,
    ));
    let mut added = Vec::new();
    let mut expect = |_: &mut Conntrack, e: Expectation| {
        added.push(e);
        // The first port is expected by somebody else already.
        if added.len() == 1 {
            Err(Refused::Busy)
        } else {
            Ok(())
        }
    };
    let exp = expectation(id, "10.62.0.100", 50_000);
    let what = (FtpKind::Port, 5..21);
    let mut rng = Rng::new(5);
    assert!(helper::ftp(
        &mut r.nf.ct,
        &mut f,
        (id, Dir::Original),
        what,
        exp,
        (&mut rng, &mut expect),
    ));
    assert_eq!(added[0].tuple.dport, 50_000);
    let port = added[1].tuple.dport;
    assert!(port > 50_000);
    let nat = ExpectNat {
        dir: Dir::Reply,
        addr: ip("10.62.0.100"),
        port: 50_000,
    };
    assert_eq!(added[1].nat, Some(nat));
    let words = format!("PORT 10,62,0,100,{},{}\r\n", port >> 8, port & 255);
    assert_eq!(payload(f.l3()), words);
    // What follows is shifted by the difference, what the server acknowledges is shifted back.
    let conn = r.nf.ct.get(id).unwrap();
    assert!(conn.status.any(CtStatus::SEQ_ADJUST));
    let by = words.len() as i32 - said.len() as i32;
    assert_ne!(by, 0);
    let end = 1001 + said.len() as u32;
    let shift = |n: u32| n.wrapping_add(by as u32);
    let mut next = tcp_data(
        "10.62.0.100",
        4000,
        "10.62.0.2",
        21,
        (end, 2001),
        "LIST\r\n",
    );
    seqadj::adjust(&mut next[20..], &conn.seqadj, Dir::Original).unwrap();
    let moved = tcp_data(
        "10.62.0.100",
        4000,
        "10.62.0.2",
        21,
        (shift(end), 2001),
        "LIST\r\n",
    );
    assert_eq!(next, moved);
    let mut ack = tcp_flags("10.62.0.2", 21, "10.61.0.2", 4000, (2001, shift(end)), "A");
    seqadj::adjust(&mut ack[20..], &conn.seqadj, Dir::Reply).unwrap();
    let back = tcp_flags("10.62.0.2", 21, "10.61.0.2", 4000, (2001, end), "A");
    assert_eq!(ack, back);
}

#[test]
fn every_form_names_the_address() {
    let forms = [
        (FtpKind::Port, "10,62,0,100,195,80"),
        (FtpKind::Pasv, "10,62,0,100,195,80"),
        (FtpKind::Eprt, "|1|10.62.0.100|50000|"),
        (FtpKind::Epsv, "|||50000|"),
    ];
    for (kind, words) in forms {
        let (mut r, id) = control();
        let mut f = Frame::ip(&tcp_data(
            "10.62.0.100",
            4000,
            "10.62.0.2",
            21,
            (1001, 2001),
            "x WORDS y",
        ));
        let exp = expectation(id, "10.62.0.100", 50_000);
        let mut rng = Rng::new(1);
        let mut expect = |_: &mut Conntrack, _| Ok(());
        let place = (id, Dir::Original);
        assert!(helper::ftp(
            &mut r.nf.ct,
            &mut f,
            place,
            (kind, 2..7),
            exp,
            (&mut rng, &mut expect)
        ));
        assert_eq!(payload(f.l3()), format!("x {words} y"));
    }
}

#[test]
fn words_that_are_not_there_and_full_tables_drop() {
    let (mut r, id) = control();
    let packet = tcp_data(
        "10.62.0.100",
        4000,
        "10.62.0.2",
        21,
        (1001, 2001),
        "PORT 1\r\n",
    );
    let place = (id, Dir::Original);
    let mut rng = Rng::new(1);
    for (at, answer, tries) in [
        (5..99, Ok(()), 0),
        (5..6, Err(Refused::Full), 1),
        (5..6, Err(Refused::Busy), 129),
    ] {
        let mut asked = 0;
        let mut f = Frame::ip(&packet);
        let mut expect = |_: &mut Conntrack, _| {
            asked += 1;
            answer
        };
        let exp = expectation(id, "10.62.0.100", 50_000);
        let what = (FtpKind::Port, at);
        assert!(!helper::ftp(
            &mut r.nf.ct,
            &mut f,
            place,
            what,
            exp,
            (&mut rng, &mut expect)
        ));
        assert_eq!(asked, tries);
        assert_eq!(f.l3(), packet);
    }
}

#[test]
fn a_tftp_answer_comes_back_to_the_asking_port() {
    let mut r = Router::new("", "-j SNAT --to-source 10.62.0.100");
    let sent = udp("10.61.0.2", 4000, "10.62.0.2", 69);
    let out = r.forward(&sent).unwrap();
    assert_eq!(IpHeader::parse_lax(&out).unwrap().src, ip("10.62.0.100"));
    let id = r.nf.ct.iter().next().unwrap().0;
    let mut added = None;
    let mut expect = |_: &mut Conntrack, e| {
        added = Some(e);
        Ok(())
    };
    let exp = expectation(id, "10.62.0.100", 4000);
    assert!(helper::tftp(&mut r.nf.ct, id, exp, &mut expect));
    let nat = added.and_then(|e: Expectation| e.nat).unwrap();
    assert_eq!((nat.dir, nat.port), (Dir::Reply, 4000));
}
