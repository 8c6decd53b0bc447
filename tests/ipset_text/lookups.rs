//! Lookups of packets: what each type takes from a packet, prefixes, exceptions, timeouts, lists, counters.

use core::time::Duration;
use std::net::IpAddr;

use podpath::base::Instant;
use podpath::nf::ipset::{
    Answer, Compare, Found, L4, Packet, Refused, SetRef, Sets, TestFlags, Unknown,
};
use podpath::wire::MacAddr;

use crate::{NOW, run, sets};

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn set(name: &str, dims: &str) -> SetRef {
    SetRef {
        name: name.to_owned(),
        src: dims.split(',').map(|d| d == "src").collect(),
    }
}

fn packet() -> Packet<'static> {
    let mac = |n| MacAddr([2, 0, 0, 0, 0, n]);
    Packet {
        l4: Some(L4 {
            proto: 6,
            src: 40_000,
            dst: 80,
        }),
        mac: Some((mac(1), mac(2))),
        in_dev: "eth0",
        out_dev: "cali1",
        mark: 0x163,
        len: 60,
        ..Packet::new(ip("10.0.0.1"), ip("10.1.2.3"))
    }
}

fn ask(s: &mut Sets, name: &str, dims: &str, packet: &Packet<'_>) -> Found {
    let found = s.test(&set(name, dims), packet, &TestFlags::default(), NOW);
    found.expect("a known set")
}

#[test]
fn each_type_takes_its_dimensions_from_the_packet() {
    let text = "create m hash:mac\nadd m 02:00:00:00:00:01\ncreate im hash:ip,mac\nadd im 10.1.2.3,02:00:00:00:00:01\n\
        create nn hash:net,net\nadd nn 10.0.0.0/8,10.1.0.0/16\nadd nn 10.0.0.0/24,10.1.2.0/24 nomatch\n\
        create npn hash:net,port,net\nadd npn 0.0.0.0/0,tcp:80,10.1.0.0/16\ncreate k hash:ip,mark markmask 0xff\nadd k 10.0.0.1,0x63\n\
        create ni hash:net,iface\nadd ni 10.0.0.0/8,cali wildcard\ncreate bp bitmap:port range 0-100\nadd bp 80\n";
    let mut s = sets(text);
    for (name, dims, expected) in [
        ("m", "src", true),
        ("m", "dst", false),
        ("m", "src,dst", true),
        ("im", "dst,src", true),
        ("im", "src,src", false),
        ("im", "dst", false),
        ("nn", "src,dst", false),
        ("nn", "dst,dst", true),
        ("npn", "src,dst,dst", true),
        ("npn", "src,src,dst", false),
        ("npn", "src,dst", false),
        ("k", "src,src", true),
        ("k", "dst,src", false),
        ("ni", "src,dst", true),
        ("ni", "src,src", false),
        ("bp", "dst", true),
        ("bp", "src", false),
    ] {
        assert_eq!(
            ask(&mut s, name, dims, &packet()).matched,
            expected,
            "{name} {dims}"
        );
    }
    let none = Packet {
        l4: None,
        mac: None,
        ..packet()
    };
    assert_eq!(
        ask(&mut s, "m", "src", &none).why_not,
        Some(Refused::NotInPacket)
    );
    assert_eq!(
        ask(&mut s, "bp", "dst", &none).why_not,
        Some(Refused::NotInPacket)
    );
    let sctp = Packet {
        l4: Some(L4 {
            proto: 132,
            src: 1,
            dst: 80,
        }),
        ..packet()
    };
    assert!(
        !ask(&mut s, "bp", "dst", &sctp).matched,
        "bitmap:port knows TCP and UDP"
    );
    let v6 = Packet::new(ip("fe80::1"), ip("fe80::2"));
    assert_eq!(
        ask(&mut s, "nn", "src,dst", &v6).why_not,
        Some(Refused::NotInPacket)
    );
}

#[test]
fn the_longest_prefix_decides_and_exceptions_can_be_asked_for() {
    let mut s = sets(
        "create n hash:net counters\nadd n 10.0.0.0/8\nadd n 10.0.0.0/24 nomatch\nadd n 10.0.0.7\n",
    );
    let from = |a: &str| Packet::new(ip(a), ip("192.0.2.1"));
    assert!(ask(&mut s, "n", "src", &from("10.0.0.7")).matched);
    assert!(ask(&mut s, "n", "src", &from("10.9.0.7")).matched);
    let found = ask(&mut s, "n", "src", &from("10.0.0.1"));
    let hit = found.hit.expect("an exception");
    assert!(!found.matched && hit.nomatch);
    assert_eq!(s.hit_text(&hit), "10.0.0.0/24");
    let flags = TestFlags {
        return_nomatch: true,
        ..TestFlags::default()
    };
    let mut inverted = |a: &str| {
        s.test(&set("n", "src"), &from(a), &flags, NOW)
            .expect("known")
            .matched
    };
    assert!(inverted("10.0.0.1") && !inverted("10.0.0.7") && !inverted("11.0.0.1"));
}

#[test]
fn an_interface_in_a_shorter_prefix_is_hidden_by_a_longer_one() {
    // `multi` of mtype_test_cidrs: 10.0.0.0/24 is there, though with another interface.
    let mut s = sets("create ni hash:net,iface\nadd ni 10.0.0.0/8,eth0\nadd ni 10.0.0.0/24,eth1\n");
    assert!(!ask(&mut s, "ni", "src,src", &packet()).matched);
    assert_eq!(
        run(&mut s, "del ni 10.0.0.0/24,eth1", NOW),
        Ok(Answer::Done)
    );
    assert!(ask(&mut s, "ni", "src,src", &packet()).matched);
}

#[test]
fn elements_end_and_are_added_by_packets() {
    let mut s = sets(
        "create a hash:ip timeout 10 counters maxelem 2\nadd a 10.0.0.1 timeout 3\nadd a 10.0.0.2 timeout 0\n",
    );
    let at = |secs| NOW + Duration::from_millis(secs);
    let mut hit = |ms| {
        s.test(&set("a", "src"), &packet(), &TestFlags::default(), at(ms))
            .expect("known")
            .matched
    };
    assert!(
        hit(0) && hit(3_000) && !hit(3_001),
        "the moment it ends still counts"
    );
    assert_eq!(
        s.add(&set("a", "dst"), &packet(), None, false, at(2_000)),
        Err(Refused::Full)
    );
    assert_eq!(
        s.add(&set("a", "dst"), &packet(), Some(7), false, at(4_000)),
        Ok(()),
        "what ended makes room"
    );
    assert_eq!(
        s.add(&set("a", "dst"), &packet(), None, false, at(5_000)),
        Err(Refused::Exists)
    );
    assert_eq!(
        s.add(&set("a", "dst"), &packet(), Some(5), true, at(5_000)),
        Ok(())
    );
    let save = s.save(at(6_000));
    assert!(save.ends_with("add a 10.0.0.2 timeout 0 packets 0 bytes 0\nadd a 10.1.2.3 timeout 4 packets 1 bytes 60\n"), "{save}");
    assert_eq!(s.del(&set("a", "dst"), &packet(), at(6_000)), Ok(()));
    assert_eq!(
        s.del(&set("a", "dst"), &packet(), at(6_000)),
        Err(Refused::Missing)
    );
}

#[test]
fn networks_are_added_with_the_longest_prefix_there_is() {
    let mut s = sets("create n hash:net\n");
    assert_eq!(s.add(&set("n", "src"), &packet(), None, false, NOW), Ok(()));
    assert_eq!(run(&mut s, "flush n", NOW), Ok(Answer::Done));
    for line in ["add n 192.168.0.0/16", "add n 172.16.0.0/24"] {
        assert_eq!(run(&mut s, line, NOW), Ok(Answer::Done));
    }
    assert_eq!(s.add(&set("n", "dst"), &packet(), None, false, NOW), Ok(()));
    assert!(
        s.save(NOW).ends_with("add n 10.1.2.0/24\n"),
        "{}",
        s.save(NOW)
    );
}

#[test]
fn a_list_asks_its_members_in_order_and_counts() {
    let mut s = sets(
        "create p hash:ip,port counters\nadd p 10.1.2.3,80\ncreate a hash:ip counters\nadd a 10.1.2.3\n\
        create l list:set counters skbinfo\nadd l a skbmark 0x7\nadd l p before a\n",
    );
    let mut by = |dims: &str, flags: TestFlags| {
        let found = s
            .test(&set("l", dims), &packet(), &flags, NOW)
            .expect("known");
        found
            .hit
            .filter(|_| found.matched)
            .map(|h| (h.set.to_string(), h.skb.map(|k| k.mark)))
    };
    let plain = TestFlags::default();
    assert_eq!(
        by("dst", plain),
        Some(("a".to_owned(), Some(7))),
        "too few directions for p"
    );
    assert_eq!(by("dst,dst", plain), Some(("p".to_owned(), Some(0))));
    let kept = TestFlags {
        keep_subcounters: true,
        ..plain
    };
    assert_eq!(by("dst,dst", kept), Some(("p".to_owned(), Some(0))));
    let many = TestFlags {
        packets: Compare::Gt(3),
        ..plain
    };
    assert_eq!(
        by("dst,dst", many),
        None,
        "p is at 3 in the list, and a at 2"
    );
    let save = s.save(NOW);
    for line in [
        "add p 10.1.2.3,tcp:80 packets 2 bytes 120",
        "add l p packets 3 bytes 180",
        "add l a packets 2 bytes 120",
    ] {
        assert!(save.contains(line), "{line} in\n{save}");
    }
}

#[test]
fn a_packet_completes_an_element_without_its_link_layer_address() {
    let mut s =
        sets("create bm bitmap:ip,mac range 10.0.0.0/24 timeout 60\nadd bm 10.0.0.1 timeout 20\n");
    let at = NOW + Duration::from_secs(1_000);
    let found = s.test(&set("bm", "src,src"), &packet(), &TestFlags::default(), at);
    assert!(found.expect("known").matched, "its time has not begun");
    assert!(
        s.save(at)
            .ends_with("add bm 10.0.0.1,02:00:00:00:00:01 timeout 20\n"),
        "{}",
        s.save(at)
    );
}

#[test]
fn what_is_not_known_is_said_so() {
    let (mut s, _) = Sets::parse(
        "u",
        "create u hash:new\ncreate l list:set\nadd l u\ncreate o hash:ip frob 1\n",
        NOW,
    );
    let mut unknown = |name: &str| {
        s.test(&set(name, "src"), &packet(), &TestFlags::default(), NOW)
            .expect_err("unknown")
    };
    assert_eq!(unknown("u"), Unknown::Type("u".to_owned()));
    assert_eq!(unknown("l"), Unknown::Type("u".to_owned()));
    assert_eq!(unknown("o"), Unknown::Type("o".to_owned()));
    assert_eq!(unknown("gone"), Unknown::NoSuchSet("gone".to_owned()));
}

/// Counts work, not time: a lookup in a set of 50,000 finds its key without walking (see `Store::exact`), so
/// two hundred thousand of them are a matter of moments even without optimisation.
#[test]
fn a_large_set_is_asked_at_once() {
    let mut text = String::from("create big hash:ip,port\n");
    for n in 0..50_000u32 {
        text.push_str(&format!(
            "add big 10.{}.{}.{},tcp:80\n",
            n >> 16,
            n >> 8 & 255,
            n & 255
        ));
    }
    let mut s = sets(&text);
    let mut found = 0;
    let began = std::time::Instant::now();
    for n in 0..200_000u32 {
        let dst = IpAddr::from([10, (n >> 16) as u8, (n >> 8) as u8, n as u8]);
        let p = Packet { dst, ..packet() };
        found += u32::from(ask(&mut s, "big", "dst,dst", &p).matched);
    }
    let took = began.elapsed();
    assert_eq!(found, 50_000);
    assert!(
        took < Duration::from_secs(20),
        "{took:?} for 200,000 lookups: a walk of the set takes minutes"
    );
    println!("{took:?} for 200,000 lookups in 50,000 elements");
}

/// Time is the caller's: nothing here reads a clock of the set's own.
#[test]
fn an_old_moment_gives_the_old_answer() {
    let mut s = sets("create a hash:ip timeout 5\nadd a 10.0.0.1\n");
    let mut hit = |now: Instant| {
        s.test(&set("a", "src"), &packet(), &TestFlags::default(), now)
            .expect("known")
            .matched
    };
    let late = NOW + Duration::from_secs(6);
    assert!(!hit(late) && hit(NOW));
}
