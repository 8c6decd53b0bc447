//! The table as a whole: counts, thresholds, templates, states, time.

use super::*;
use crate::base::{NodeId, NsId};
use crate::net::NetNs;
use crate::nf::Hook;
use crate::wire::{Frame, build, checksum, proto};
use proptest::prelude::*;
use std::net::IpAddr;

const VIP: [u8; 4] = [10, 96, 0, 1];

struct Director {
    ns: NetNs,
    vs: Ipvs,
    now: Instant,
}

impl Director {
    fn new(rules: &str) -> Director {
        let (commands, bad) = text::parse(rules, "rules");
        assert!(bad.is_empty(), "{bad:?}");
        let mut vs = Ipvs::default();
        let refused = text::load(&mut vs, &commands, false, Instant::ZERO);
        assert!(refused.is_empty(), "{refused:?}");
        Director {
            ns: NetNs::new(NsId(0), "n", NodeId(0)),
            vs,
            now: Instant::ZERO,
        }
    }

    fn sysctl(&mut self, key: &str, value: &str) {
        let key = format!("net.ipv4.vs.{key}");
        self.ns.edit().sysctl_set(&key, value).unwrap();
    }

    fn do_(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        let c = text::command(&words).unwrap();
        text::run(&mut self.vs, &c, self.now).unwrap();
    }

    fn wait(&mut self, secs: u64) {
        self.now += Duration::from_secs(secs);
    }

    fn see(&mut self, f: &mut Frame, reply: bool) -> Verdict {
        self.vs.expire(self.now);
        let seen = Seen {
            ns: &self.ns,
            now: self.now,
            hook: if reply { Hook::Forward } else { Hook::Input },
            loopback: false,
            mark: f.mark,
        };
        match reply {
            true => self.vs.reply(f, &seen),
            false => self.vs.request(f, &seen),
        }
    }

    /// A client's segment; the last byte of the real server's address, 0 for none.
    fn tcp(&mut self, client: u8, port: u16, flags: u8) -> u8 {
        let mut f = segment([10, 1, 0, client], port, VIP, 80, flags);
        last(self.see(&mut f, false))
    }

    fn answer(&mut self, server: u8, client: u8, port: u16, flags: u8) -> Verdict {
        let mut f = segment([10, 0, 0, server], 8080, [10, 1, 0, client], port, flags);
        self.see(&mut f, true)
    }

    fn list(&mut self, words: &str) -> String {
        let words: Vec<&str> = words.split(' ').collect();
        let c = text::command(&words).unwrap();
        text::run(&mut self.vs, &c, self.now).unwrap()
    }

    /// Every count is what the connections say.
    fn consistent(&self) {
        for (id, d) in &self.vs.dests {
            let mine = || self.vs.conns.iter().filter(|(_, c)| c.dest == Some(*id));
            let count = |f: fn(&conn::Conn) -> bool| mine().filter(|(_, c)| f(c)).count() as u32;
            assert_eq!(d.active, count(|c| !c.template && !c.inactive));
            assert_eq!(d.inactive, count(|c| !c.template && c.inactive));
            assert_eq!(d.persistent, count(|c| c.template));
            assert_eq!(d.refs, mine().count() as u32);
            assert!(d.available || d.refs > 0);
        }
        for (id, c) in self.vs.conns.iter() {
            let own = self.vs.conns.iter().filter(|(_, o)| o.control == Some(id));
            assert_eq!(c.controls, own.count() as u32);
        }
    }
}

fn segment(src: [u8; 4], sport: u16, dst: [u8; 4], dport: u16, flags: u8) -> Frame {
    let (s, d): (IpAddr, IpAddr) = (src.into(), dst.into());
    let mut t = [sport.to_be_bytes(), dport.to_be_bytes()].concat();
    t.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 0, 0x50, flags, 1, 0, 0, 0, 0, 0]);
    let sum = checksum::sum(&t, checksum::pseudo(s, d, proto::TCP, t.len()));
    t[16..18].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    Frame::ip(&build::ip_packet(s, d, proto::TCP, 64, 0, 1, true, &t))
}

fn last(v: Verdict) -> u8 {
    match v {
        Verdict::Send(Order {
            to: IpAddr::V4(a), ..
        }) => a.octets()[3],
        _ => 0,
    }
}

const RR: &str = "-A -t 10.96.0.1:80 -s rr
    -a -t 10.96.0.1:80 -r 10.0.0.1:8080 -m\n-a -t 10.96.0.1:80 -r 10.0.0.2:8080 -m";

#[test]
fn a_connection_lives_as_long_as_its_state() {
    let mut d = Director::new(RR);
    assert_eq!(d.tcp(2, 1000, 2), 2);
    assert_eq!(d.answer(2, 2, 1000, 0x12), d.answer(2, 2, 1000, 0x12));
    assert_eq!(d.tcp(2, 1000, 0x10), 2);
    d.wait(899);
    assert!(
        d.list("-Lnc")
            .contains("TCP 00:01  ESTABLISHED 10.1.0.2:1000")
    );
    d.wait(1);
    assert_eq!(d.list("-Lnc").lines().count(), 2);
    // Without a connection only a SYN begins one.
    assert_eq!(d.tcp(2, 1000, 0x10), 0);
    d.sysctl("sloppy_tcp", "1");
    assert_eq!(d.tcp(2, 1000, 0x10), 1);
    d.consistent();
}

#[test]
fn replies_come_from_the_virtual_address_with_right_checksums() {
    let mut d = Director::new(RR);
    d.tcp(2, 1000, 2);
    let mut f = segment([10, 0, 0, 2], 8080, [10, 1, 0, 2], 1000, 0x12);
    assert!(matches!(d.see(&mut f, true), Verdict::Translated(_)));
    let want = segment(VIP, 80, [10, 1, 0, 2], 1000, 0x12);
    assert_eq!(f.l3(), want.l3());
    // Another server's packet is nobody's.
    assert_eq!(d.answer(1, 2, 1000, 0x12), Verdict::Accept);
    d.sysctl("nat_icmp_send", "1");
    assert_eq!(d.answer(1, 2, 1000, 0x12), Verdict::Unreachable(None));
}

#[test]
fn thresholds_stop_and_start_a_server() {
    let mut d = Director::new(RR);
    d.do_("-e -t 10.96.0.1:80 -r 10.0.0.2:8080 -m -x 2 -y 1");
    let chosen: Vec<u8> = (0..5).map(|p| d.tcp(2, 1000 + p, 2)).collect();
    assert_eq!(chosen, [2, 1, 2, 1, 1]);
    d.wait(61);
    assert_eq!(d.tcp(3, 1000, 2), 2);
    d.consistent();
}

#[test]
fn a_template_keeps_a_client_and_its_net_together() {
    let mut d = Director::new(RR);
    d.do_("-E -t 10.96.0.1:80 -s rr -p 100 -M 255.255.255.254");
    assert_eq!((d.tcp(2, 1, 2), d.tcp(3, 1, 2), d.tcp(4, 1, 2)), (2, 2, 1));
    d.wait(99);
    assert_eq!(d.tcp(2, 2, 2), 2);
    // The template waits for its connection, a minute at a time.
    d.wait(101);
    assert_eq!(d.tcp(4, 9, 2), 2);
    d.do_("-e -t 10.96.0.1:80 -r 10.0.0.2:8080 -m -w 0");
    assert_eq!(d.tcp(4, 10, 2), 2);
    d.sysctl("expire_quiescent_template", "1");
    assert_eq!(d.tcp(4, 11, 2), 1);
    assert!(
        d.list("-Lnc")
            .contains("10.1.0.4:0         10.96.0.1:65535    10.0.0.2:65535")
    );
    d.consistent();
}

#[test]
fn a_removed_server_is_silent_or_forgotten() {
    let mut d = Director::new(RR);
    d.tcp(2, 1, 2);
    d.do_("-d -t 10.96.0.1:80 -r 10.0.0.2:8080");
    assert_eq!(d.tcp(2, 1, 0x10), 0);
    assert_eq!(d.vs.conns().len(), 1);
    // It comes back: its connections are there again.
    d.do_("-a -t 10.96.0.1:80 -r 10.0.0.2:8080 -m");
    assert_eq!(d.tcp(2, 1, 0x10), 2);
    d.do_("-d -t 10.96.0.1:80 -r 10.0.0.2:8080");
    d.sysctl("expire_nodest_conn", "1");
    assert_eq!(d.tcp(2, 1, 2), 1);
    d.wait(1);
    d.vs.expire(d.now);
    assert_eq!((d.vs.conns().len(), d.vs.dests.len()), (1, 1));
    d.consistent();
}

#[test]
fn a_mark_makes_a_service_of_many_ports() {
    let mut d =
        Director::new("-A -f 7 -s rr -p 50\n-a -f 7 -r 10.0.0.1:0 -g\n-a -f 7 -r 10.0.0.2:0 -g");
    let mut ask = |port, mark| {
        let mut f = segment([10, 1, 0, 2], 9, VIP, port, 2);
        f.mark = mark;
        d.see(&mut f, false)
    };
    let (a, b) = (ask(80, 7), ask(443, 7));
    assert_eq!((last(a), last(b), ask(81, 8)), (2, 2, Verdict::Accept));
    let Verdict::Send(o) = b else {
        panic!("not sent")
    };
    assert_eq!((o.port, o.fwd), (443, Forward::Droute));
    assert!(
        d.list("-Lnc")
            .contains("IP  00:50  NONE        10.1.0.2:0         0.0.0.7:0")
    );
}

#[test]
fn one_packet_scheduling_forgets_at_once() {
    let mut d = Director::new(
        "-A -u 10.96.0.1:53 -s rr -o\n-a -u 10.96.0.1:53 -r 10.0.0.1:53 -m
        -a -u 10.96.0.1:53 -r 10.0.0.2:53 -m",
    );
    let (s, v): (IpAddr, IpAddr) = ([10, 1, 0, 2].into(), VIP.into());
    let packet = build::ip_packet(
        s,
        v,
        proto::UDP,
        64,
        0,
        1,
        false,
        &build::udp(s, v, 9, 53, b"x"),
    );
    let mut ask = || {
        let mut f = Frame::ip(&packet);
        last(d.see(&mut f, false))
    };
    assert_eq!((ask(), ask(), ask()), (2, 1, 2));
}

proptest! {
    #[test]
    fn counts_are_the_connections(
        steps in proptest::collection::vec((0u8..8, 2u8..5, 1u16..4, 0u64..90), 1..120),
        persistent in any::<bool>(),
    ) {
        let mut d = Director::new(RR);
        if persistent {
            d.do_("-E -t 10.96.0.1:80 -s wlc -p 60");
        }
        for (what, client, port, secs) in steps {
            match what {
                0 | 1 => { d.tcp(client, port, 2); }
                2 => { d.tcp(client, port, 0x10); }
                3 => { d.tcp(client, port, 0x11); }
                4 => { d.tcp(client, port, 4); }
                5 => { d.answer(client % 2 + 1, client, port, 0x12); }
                6 => d.wait(secs),
                _ => {
                    let to = format!("-t 10.96.0.1:80 -r 10.0.0.{}:8080", client % 2 + 1);
                    let verb = if secs % 2 == 0 { "-d" } else { "-a" };
                    let words = format!("{verb} {to} -m -x {}", secs % 3);
                    let words: Vec<&str> = words.split(' ').collect();
                    let c = text::command(&words).unwrap();
                    let _ = text::run(&mut d.vs, &c, d.now);
                }
            }
            d.consistent();
        }
        d.wait(100_000);
        d.vs.expire(d.now);
        prop_assert!(d.vs.conns().is_empty());
        d.consistent();
    }
}
