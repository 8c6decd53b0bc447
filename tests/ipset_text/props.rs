//! Generated sets: what is saved is read back as the same bytes, and what was added is found.

use proptest::prelude::*;

use podpath::nf::ipset::{Answer, Sets};

use crate::{NOW, run};

fn v4() -> impl Strategy<Value = String> {
    (1u32..).prop_map(|a| std::net::Ipv4Addr::from(a).to_string())
}

fn v6() -> impl Strategy<Value = String> {
    (1u128..).prop_map(|a| std::net::Ipv6Addr::from(a).to_string())
}

fn net(v6_net: bool) -> BoxedStrategy<String> {
    match v6_net {
        true => (v6(), 1u8..=128)
            .prop_map(|(a, p)| format!("{a}/{p}"))
            .boxed(),
        false => (v4(), 1u8..=32)
            .prop_map(|(a, p)| format!("{a}/{p}"))
            .boxed(),
    }
}

fn addr(v6_addr: bool) -> BoxedStrategy<String> {
    if v6_addr { v6().boxed() } else { v4().boxed() }
}

fn port() -> impl Strategy<Value = String> {
    prop_oneof![
        (
            any::<u16>(),
            prop::sample::select(vec!["tcp", "udp", "sctp", "udplite"])
        )
            .prop_map(|(n, p)| format!("{p}:{n}")),
        (59u8..)
            .prop_map(|n| n)
            .prop_filter("with ports", |n| ![132, 136].contains(n))
            .prop_map(|n| format!("{n}:0")),
        Just("gre:0".to_owned()),
    ]
}

fn mac() -> impl Strategy<Value = String> {
    any::<[u8; 6]>()
        .prop_filter("not zero", |m| m.iter().any(|b| *b != 0))
        .prop_map(|m| {
            let bytes: Vec<String> = m.iter().map(|b| format!("{b:02X}")).collect();
            bytes.join(":")
        })
}

/// A type, its family, and elements of it.
fn set() -> BoxedStrategy<(String, Vec<String>)> {
    let kinds = vec![
        "hash:ip",
        "hash:mac",
        "hash:ip,mac",
        "hash:net",
        "hash:net,net",
        "hash:net,port",
        "hash:net,iface",
        "hash:net,port,net",
        "hash:ip,port",
        "hash:ip,port,ip",
        "hash:ip,port,net",
        "hash:ip,mark",
    ];
    let of = |(kind, v6): (&'static str, bool)| {
        let dims = kind.trim_start_matches("hash:").split(',');
        let parts: Vec<BoxedStrategy<String>> = dims
            .map(|d| match d {
                "ip" => addr(v6),
                "net" => net(v6),
                "port" => port().boxed(),
                "mac" => mac().boxed(),
                "mark" => any::<u32>().prop_map(|m| format!("{m}")).boxed(),
                _ => "(physdev:)?[a-z]{1,15}".boxed(),
            })
            .collect();
        let family = if v6 && kind != "hash:mac" {
            " family inet6"
        } else {
            ""
        };
        let element = parts.prop_map(|p| p.join(","));
        let all = prop::collection::vec(element, 0..20);
        all.prop_map(move |e| (format!("{kind}{family}"), e))
    };
    (prop::sample::select(kinds), any::<bool>())
        .prop_flat_map(of)
        .boxed()
}

/// Extensions of an element.
fn options() -> impl Strategy<Value = String> {
    let comment = prop::option::of("[ -!#-~]{1,30}");
    let numbers = (
        0u32..2_147_483,
        any::<u64>(),
        any::<u32>(),
        any::<u32>(),
        any::<u16>(),
    );
    (comment, numbers).prop_map(|(comment, (timeout, packets, mark, prio, queue))| {
        let comment = comment.map_or(String::new(), |c| format!(" comment \"{c}\""));
        let prio = format!("{:x}:{:x}", prio >> 16, prio & 0xffff);
        format!(" timeout {timeout} packets {packets} bytes 7{comment} skbmark 0x{mark:x}/0xff skbprio {prio} skbqueue {queue}")
    })
}

proptest! {
    #[test]
    fn save_is_read_back((kind, elements) in set(), options in prop::collection::vec(options(), 20)) {
        let mut text = format!("create s {kind} timeout 5 counters comment skbinfo\n");
        for (element, options) in elements.iter().zip(&options) {
            text.push_str(&format!("-exist add s {element}{options}\n"));
        }
        let (mut sets, findings) = Sets::parse("p", &text, NOW);
        prop_assert_eq!(&findings, &[]);
        let save = sets.save(NOW);
        let (again, findings) = Sets::parse("again", &save, NOW);
        prop_assert_eq!(&findings, &[]);
        prop_assert_eq!(again.save(NOW), save);
        for element in &elements {
            let found = run(&mut sets, &format!("test s {element}"), NOW);
            prop_assert_eq!(found, Ok(Answer::InSet(true)), "{}", element);
        }
        for element in &elements {
            let gone = run(&mut sets, &format!("-exist del s {element}"), NOW);
            prop_assert_eq!(gone, Ok(Answer::Done), "{}", element);
        }
        prop_assert_eq!(sets.save(NOW).lines().count(), 1);
    }

    #[test]
    fn no_words_are_too_strange(words in prop::collection::vec("[a-z0-9:,./\" -]{0,12}", 0..8)) {
        let mut sets = crate::sets("create a hash:ip,port\ncreate l list:set\n");
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        for verb in ["create", "add", "del", "test", "swap", "rename", "destroy", "list"] {
            let mut all = vec![verb, "a"];
            all.extend(&words);
            let _ = sets.command(&all, NOW);
        }
        let _ = sets.command(&words, NOW);
    }
}
