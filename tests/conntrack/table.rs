//! The table's own rules: who is found, who clashes, who is pushed out, what survives a walk.

use super::packet::packet;
use super::replay::Player;
use podpath::base::{Instant, NodeId, NsId, Rng};
use podpath::net::NetNs;
use podpath::nf::ct::tcp::TcpState;
use podpath::nf::ct::{
    Confirmed, Conntrack, CtDrop, CtStatus, CtTuple, Dir, ProtoState, Template, Tracked, Zones,
};
use podpath::nf::eval::{At, Cx};
use podpath::nf::{Family, Hook};
use podpath::wire::{ConnId, CtInfo, CtRef, Frame};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::time::Duration;

/// A namespace in which each hook is called by hand.
struct Bench {
    ns: NetNs,
    ct: Conntrack,
    now: Instant,
    rng: Rng,
}

impl Bench {
    fn new(settings: &[&str]) -> Bench {
        let mut ns = NetNs::new(NsId(0), "n", NodeId(0));
        for s in settings {
            let (key, value) = s.split_once('=').unwrap();
            let key = format!("net.netfilter.nf_conntrack_{key}");
            ns.edit().sysctl_set(&key, value).unwrap();
        }
        Bench {
            ns,
            ct: Conntrack::default(),
            now: Instant::from_secs(100),
            rng: Rng::new(7),
        }
    }

    fn with<T>(
        &mut self,
        hook: Hook,
        f: impl FnOnce(&mut Conntrack, &NetNs, &At, &mut Cx<'_>) -> T,
    ) -> T {
        let assume = BTreeMap::new();
        let at = At {
            hook,
            family: Family::V4,
            input: None,
            output: None,
        };
        let mut cx = Cx {
            now: self.now,
            rng: &mut self.rng,
            steps: None,
            assume: &assume,
        };
        f(&mut self.ct, &self.ns, &at, &mut cx)
    }

    /// A packet after PREROUTING.
    fn track(&mut self, words: &str, client: bool, ct: CtRef) -> (Frame, Tracked) {
        let words: Vec<&str> = words.split_whitespace().collect();
        let mut f = Frame::ip(&packet(&words, false, client));
        f.ct = ct;
        let said = self.with(Hook::Prerouting, |ct, ns, at, cx| {
            ct.track(ns, &mut f, at, cx)
        });
        (f, said)
    }

    fn confirm(&mut self, f: &mut Frame) -> Confirmed {
        self.with(Hook::Postrouting, |ct, ns, at, cx| {
            ct.confirm(ns, f, at, cx)
        })
    }

    /// A packet all the way through.
    fn pass(&mut self, words: &str) -> Tracked {
        let (mut f, said) = self.track(words, true, CtRef::None);
        if said == Tracked::Accept {
            self.confirm(&mut f);
        }
        self.ct.end_walk();
        said
    }
}

fn conn(f: &Frame) -> (ConnId, CtInfo) {
    match f.ct {
        CtRef::Conn { id, info } => (id, info),
        other => panic!("no connection: {other:?}"),
    }
}

fn tuple(src: &str, sport: u16, dst: &str, dport: u16) -> CtTuple {
    CtTuple {
        proto: 17,
        src: src.parse().unwrap(),
        dst: dst.parse().unwrap(),
        sport,
        dport,
    }
}

#[test]
fn what_is_not_confirmed_is_forgotten_unless_it_is_held() {
    let mut b = Bench::new(&[]);
    let (f, _) = b.track("udp", true, CtRef::None);
    let (id, _) = conn(&f);
    b.ct.hold(id);
    b.ct.end_walk();
    assert!(b.ct.get(id).is_some());
    b.ct.release(id);
    b.ct.end_walk();
    assert!(b.ct.get(id).is_none());
    assert_eq!(b.ct.count(), 0);
    // The slot's next life is another connection.
    let (f, _) = b.track("udp", true, CtRef::None);
    assert_eq!((conn(&f).0.slot, conn(&f).0 == id), (id.slot, false));
}

#[test]
fn a_killed_connection_lives_until_the_walk_ends() {
    let mut b = Bench::new(&[]);
    b.pass("tcp S seq=1 mss");
    let (f, _) = b.track("tcp RA seq=0 ack=2", false, CtRef::None);
    let (id, info) = conn(&f);
    assert_eq!(info, CtInfo::EstablishedReply);
    let status = b.ct.get(id).unwrap().status;
    assert!(status.any(CtStatus::DYING));
    assert_eq!(b.ct.iter().count(), 0);
    b.ct.end_walk();
    assert!(b.ct.get(id).is_none());
}

/// Two sockets' threads send at once; both packets are tracked before either is confirmed.
#[test]
fn equal_twins_become_one() {
    let mut b = Bench::new(&["acct=1"]);
    let (mut first, _) = b.track("udp", true, CtRef::None);
    let (mut second, _) = b.track("udp", true, CtRef::None);
    assert_ne!(conn(&first).0, conn(&second).0);
    assert_eq!(b.confirm(&mut first), Confirmed::Accept);
    assert_eq!(b.confirm(&mut second), Confirmed::Accept);
    assert_eq!(conn(&first).0, conn(&second).0);
    let acct = b.ct.get(conn(&first).0).unwrap().acct().unwrap();
    assert_eq!((acct[0].packets, b.ct.stats().clash_resolve), (2, 1));
}

/// The two were sent to different endpoints by DNAT: the second gets an entry for its answer alone.
#[test]
fn a_clash_of_different_mappings_leaves_a_short_lived_entry() {
    let mut b = Bench::new(&[]);
    let (mut first, _) = b.track("udp", true, CtRef::None);
    let (mut second, _) = b.track("udp", true, CtRef::None);
    let reply = |host| tuple(host, 80, "10.1.0.2", 40000);
    for (f, host) in [(&first, "10.9.0.1"), (&second, "10.9.0.2")] {
        let (id, _) = conn(f);
        assert!(b.ct.alter_reply(id, reply(host)));
        b.ct.get_mut(id)
            .unwrap()
            .status
            .set(CtStatus::DST_NAT_DONE | CtStatus::DST_NAT);
    }
    assert_eq!(b.confirm(&mut first), Confirmed::Accept);
    assert_eq!(b.confirm(&mut second), Confirmed::Accept);
    let (winner, loser) = (conn(&first).0, conn(&second).0);
    let orig = tuple("10.1.0.2", 40000, "10.2.0.2", 80);
    assert_eq!(b.ct.find(&orig, 0), Some((winner, Dir::Original)));
    assert_eq!(b.ct.find(&reply("10.9.0.2"), 0), Some((loser, Dir::Reply)));
    let status = b.ct.get(loser).unwrap().status;
    assert!(status.any(CtStatus::NAT_CLASH) && status.any(CtStatus::FIXED_TIMEOUT));
    b.now += Duration::from_secs(1);
    b.ct.expire(b.now);
    assert_eq!(b.ct.find(&reply("10.9.0.2"), 0), None);
    assert!(b.ct.find(&orig, 0).is_some());
}

#[test]
fn a_tcp_clash_is_dropped() {
    let mut b = Bench::new(&[]);
    let (mut first, _) = b.track("tcp S seq=1 mss", true, CtRef::None);
    let (mut second, _) = b.track("tcp S seq=1 mss", true, CtRef::None);
    assert_eq!(b.confirm(&mut first), Confirmed::Accept);
    assert_eq!(b.confirm(&mut second), Confirmed::Drop(CtDrop::Clash));
    let s = b.ct.stats();
    assert_eq!((s.insert_failed, s.drop), (1, 1));
}

#[test]
fn zones_keep_equal_tuples_apart() {
    let mut b = Bench::new(&[]);
    let zones = [
        Zones::both(5),
        Zones { orig: 6, reply: 0 },
        Zones::default(),
    ];
    for z in zones {
        let template = Template {
            zones: z,
            ..Template::default()
        };
        let t = b.ct.new_template(Family::V4, template).unwrap();
        let (mut f, _) = b.track("udp", true, CtRef::template(Some(t)));
        let said = b.confirm(&mut f);
        // Zones 6/0 and 0/0 share the reply's zone: the later clashes.
        let alone = z != Zones::default();
        assert_eq!(said == Confirmed::Accept, alone, "{z:?}");
        b.ct.end_walk();
    }
    let orig = tuple("10.1.0.2", 40000, "10.2.0.2", 80);
    let reply = orig.invert().unwrap();
    assert!(b.ct.find(&orig, 5).is_some() && b.ct.find(&orig, 6).is_some());
    assert!(b.ct.find(&reply, 0).is_some() && b.ct.find(&reply, 6).is_none());
    assert!(b.ct.find(&orig, 0).is_none());
}

#[test]
fn what_is_over_makes_room_for_others() {
    let mut b = Bench::new(&["max=2", "udp_timeout=30"]);
    b.pass("udp sport=1");
    b.now += Duration::from_secs(20);
    b.pass("udp sport=2");
    b.now += Duration::from_secs(11);
    // The first is over, and nobody looked for it.
    b.pass("udp sport=3");
    assert_eq!((b.ct.count(), b.ct.stats().early_drop), (2, 0));
}

#[test]
fn a_full_table_pushes_out_what_is_not_assured() {
    let mut b = Bench::new(&["max=3", "buckets=1"]);
    for port in 1..=3 {
        assert_eq!(b.pass(&format!("udp sport={port}")), Tracked::Accept);
    }
    assert_eq!(b.pass("udp sport=4"), Tracked::Accept);
    assert_eq!((b.ct.count(), b.ct.stats().early_drop), (3, 1));
    let ids: Vec<ConnId> = b.ct.iter().map(|(id, _)| id).collect();
    for id in ids {
        b.ct.get_mut(id).unwrap().status.set(CtStatus::ASSURED);
    }
    assert_eq!(b.pass("udp sport=5"), Tracked::Drop(CtDrop::TableFull));
    assert_eq!((b.ct.count(), b.ct.stats().drop), (3, 1));
    // What is known goes on.
    let (f, _) = b.track("udp sport=4", true, CtRef::None);
    assert_eq!(conn(&f).1, CtInfo::New);
}

#[test]
fn taken_tuples_and_sources_are_known() {
    let mut b = Bench::new(&[]);
    b.pass("udp");
    let (held, _) = b.ct.iter().next().unwrap();
    b.ct.add_by_source(held);
    let (f, _) = b.track("udp dport=81", true, CtRef::None);
    let (new, _) = conn(&f);
    let reply = tuple("10.2.0.2", 80, "10.1.0.2", 40000);
    assert!(b.ct.tuple_taken(&reply, new));
    assert!(!b.ct.tuple_taken(&reply, held), "its own");
    let same_source = tuple("10.1.0.2", 40000, "10.7.0.7", 99);
    let found: Vec<ConnId> = b.ct.by_source(&same_source, 0).map(|(id, _)| id).collect();
    assert_eq!(found, [held]);
    b.now += Duration::from_secs(31);
    b.ct.expire(b.now);
    assert!(!b.ct.tuple_taken(&reply, new));
    assert_eq!(b.ct.by_source(&same_source, 0).count(), 0);
}

#[test]
fn a_reset_in_an_ends_name_closes() {
    let mut b = Bench::new(&[]);
    b.pass("tcp A seq=1 ack=1");
    let (f, _) = b.track("tcp A seq=1 ack=1", true, CtRef::None);
    let (id, _) = conn(&f);
    assert_eq!(
        Conntrack::attach(f.ct),
        CtRef::Conn {
            id,
            info: CtInfo::RelatedReply
        }
    );
    b.ct.set_closing(&b.ns, id, b.now);
    let c = b.ct.get(id).unwrap();
    assert!(matches!(c.proto(), ProtoState::Tcp(t) if t.state == TcpState::Close));
    assert_eq!(c.remaining(b.now).as_secs(), 10);
    b.now += Duration::from_secs(10);
    b.ct.expire(b.now);
    assert_eq!(b.ct.count(), 0);
}

fn any_packet() -> impl Strategy<Value = (bool, Vec<u8>)> {
    let tcp = (0u8..64, 0u32..3, 0u32..3, 0u16..3).prop_map(|(flags, seq, ack, port)| {
        let letters = "FSRPAU"
            .char_indices()
            .filter(move |(i, _)| flags >> i & 1 == 1);
        let letters: String = letters.map(|(_, c)| c).collect();
        let letters = if letters.is_empty() {
            "-".into()
        } else {
            letters
        };
        format!(
            "tcp {letters} seq={} ack={} sport={port} dport={port}",
            seq * 1000,
            ack * 1000
        )
    });
    let udp = (0u16..3, any::<bool>()).prop_map(|(p, bad)| {
        format!(
            "udp sport={p} dport={p}{}",
            if bad { " badsum" } else { "" }
        )
    });
    let icmp = (0u8..20, 0u16..3).prop_map(|(t, id)| format!("icmp type={t} id={id}"));
    let error = (0u16..3).prop_map(|p| format!("icmperr type=3 code=3 of udp sport={p} dport={p}"));
    let sctp = (0u32..3, 0usize..4).prop_map(|(tag, c)| {
        let chunk = ["INIT:1", "INIT_ACK:2", "HEARTBEAT", "ABORT"][c];
        format!("sctp vtag={tag} chunks={chunk}")
    });
    let words = prop_oneof![4 => tcp, 2 => udp, 1 => icmp, 1 => error, 1 => sctp];
    let damage = proptest::option::weighted(0.2, (any::<usize>(), any::<u8>()));
    (any::<bool>(), words, damage).prop_map(|(client, words, damage)| {
        let words: Vec<&str> = words.split_whitespace().collect();
        let mut bytes = packet(&words, false, client);
        if let Some((at, to)) = damage {
            let at = at % bytes.len();
            bytes[at] = to;
            bytes.truncate(if to % 3 == 0 { at } else { bytes.len() });
        }
        (client, bytes)
    })
}

/// Each confirmed connection is found by both tuples, and nobody else has them.
fn table_is_sound(ct: &Conntrack) {
    let mut seen = BTreeMap::new();
    for (id, c) in ct.iter() {
        for dir in [Dir::Original, Dir::Reply] {
            let t = c.tuple(dir);
            assert_eq!(ct.find_zones(&t, c.zones()), Some((id, dir)), "{t:?}");
            assert!(
                seen.insert((c.zones().of(dir), t), id).is_none(),
                "{t:?} twice"
            );
        }
    }
    assert_eq!(ct.iter().count(), ct.count());
}

proptest! {
    #[test]
    fn the_table_stays_sound(
        packets in proptest::collection::vec((any_packet(), 0u64..40), 1..120),
    ) {
        let mut p = Player::new(false);
        for ((_, bytes), seconds) in packets {
            p.send(&bytes);
            p.pass(Duration::from_secs(seconds / 10));
            p.ct.expire(p.now);
            table_is_sound(&p.ct);
        }
        p.ct.flush();
        p.ct.end_walk();
        prop_assert_eq!(p.ct.count(), 0);
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120), v6: bool) {
        let mut p = Player::new(v6);
        p.send(&bytes);
    }
}
