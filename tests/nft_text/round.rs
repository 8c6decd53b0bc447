//! Round trips: JSON in and out against the recordings, text of generated rules, speed.

use super::{apply, differs, none, text};
use podpath::nf::nft::{Ruleset, Script};
use proptest::prelude::*;
use serde_json::{Value, json};

/// Without what nft 1.0.6 leaves out: comments of tables and chains, single devices, `dynamic`, `auto-
/// merge`, sizes of meters' sets.
fn as_nft_106(j: &mut Value) {
    for o in j["nftables"].as_array_mut().into_iter().flatten() {
        for kind in ["table", "chain", "counter"] {
            if let Some(t) = o.get_mut(kind).and_then(Value::as_object_mut) {
                t.remove("comment");
                t.remove("dev");
            }
        }
        for kind in ["set", "map"] {
            let Some(s) = o.get_mut(kind).and_then(Value::as_object_mut) else {
                continue;
            };
            s.remove("auto-merge");
            if let Some(f) = s.get_mut("flags").and_then(Value::as_array_mut) {
                f.retain(|f| f != "dynamic");
            }
        }
    }
}

/// The first place where two JSON values differ.
fn place(want: &Value, got: &Value, path: &str) -> Option<String> {
    match (want, got) {
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => a
            .iter()
            .zip(b)
            .enumerate()
            .find_map(|(i, (a, b))| place(a, b, &format!("{path}[{i}]"))),
        (Value::Object(a), Value::Object(b))
            if a.len() == b.len() && a.keys().all(|k| b.contains_key(k)) =>
        {
            a.keys()
                .find_map(|k| place(&a[k], &b[k], &format!("{path}.{k}")))
        }
        (a, b) if a == b => None,
        // 1.0.6 leaves the family of `ct original ip saddr` out, and prints changes of maps as text.
        (Value::String(a), Value::String(b))
            if matches!(b.strip_suffix(a.as_str()), Some("ip " | "ip6 ")) =>
        {
            None
        }
        (Value::String(a), Value::Object(b))
            if a.starts_with("update @") && b.contains_key("map") =>
        {
            None
        }
        (a, b) => Some(format!("{path}\n  kernel  {a}\n  podpath {b}")),
    }
}

#[test]
fn json_is_what_nft_prints() {
    let mut bad = Vec::new();
    for s in super::data("scripts")
        .iter()
        .filter(|s| !s["json"].is_null())
    {
        let (set, _) = Ruleset::parse("listing", text(s, "handles"));
        let (mut got, mut want) = (set.to_json(), s["json"].clone());
        // Handles of tables are counted by the kernel, not by the namespace.
        for j in [&mut got, &mut want] {
            as_nft_106(j);
            let tables = j["nftables"].as_array_mut().into_iter().flatten();
            tables
                .filter_map(|o| o.get_mut("table"))
                .for_each(|t| t["handle"] = json!(0));
        }
        bad.extend(place(&want, &got, text(s, "name")));
    }
    none(bad);
}

#[test]
fn json_of_every_rule_is_what_nft_prints() {
    let mut bad = Vec::new();
    for r in super::data("rules") {
        let table = text(&r, "table");
        let family = table.trim_end_matches("snat").trim_end_matches("nat");
        let script = format!(
            "table {family} t {{\nchain c {{\n{}\n}}\n}}\n",
            text(&r, "listed")
        );
        let (set, _) = Ruleset::parse("rule", &script);
        let j = set.to_json();
        let rule = j["nftables"]
            .as_array()
            .and_then(|a| a.iter().find_map(|o| o.get("rule")));
        let got = rule.map_or(Value::Null, |r| r["expr"].clone());
        if let Some(d) = place(&r["json"], &got, "") {
            bad.push(format!("{table} | {} | {d}", text(&r, "listed")));
        }
        // And in again.
        let (again, findings) = Ruleset::parse_json("rule.json", &j.to_string());
        bad.extend(
            findings
                .iter()
                .map(|f| format!("{}: {f}", text(&r, "listed"))),
        );
        bad.extend(
            differs(&set.to_text(), &again.to_text())
                .map(|d| format!("{} in | {d}", text(&r, "listed"))),
        );
    }
    none(bad);
}

#[test]
fn nfts_json_loads_as_its_text() {
    let mut bad = Vec::new();
    for s in super::data("scripts")
        .iter()
        .filter(|s| !s["json"].is_null())
    {
        let (set, findings) = Ruleset::parse_json("ruleset.json", &s["json"].to_string());
        bad.extend(findings.iter().map(|f| format!("{}: {f}", text(s, "name"))));
        let (mut again, mut want) = (set.to_json(), s["json"].clone());
        as_nft_106(&mut again);
        as_nft_106(&mut want);
        bad.extend(place(&want, &again, text(s, "name")));
    }
    none(bad);
}

fn literal() -> impl Strategy<Value = String> {
    prop_oneof![
        (any::<u32>(), 1u8..=32)
            .prop_map(|(a, len)| format!("ip saddr {}/{len}", std::net::Ipv4Addr::from(a))),
        any::<u128>().prop_map(|a| format!("ip6 daddr != {}", std::net::Ipv6Addr::from(a))),
        (any::<u16>(), any::<u16>()).prop_map(|(a, b)| format!(
            "tcp dport {}-{}",
            a.min(b),
            a.max(b)
        )),
        prop::collection::btree_set(any::<u16>(), 2..6).prop_map(|p| format!("udp sport {p:?}")),
        any::<u32>().prop_map(|m| format!("meta mark & {m} == {m}")),
        any::<u32>().prop_map(|m| format!("ct mark set {m}")),
        "[a-z][a-z0-9]{0,10}".prop_map(|n| format!("iifname \"{n}\"")),
        (1u32..1000, 0u32..9).prop_map(|(m, o)| format!("numgen random mod {m} offset {o} {o}")),
        (1u64..1000, 1u32..99)
            .prop_map(|(r, b)| format!("limit rate {r}/minute burst {b} packets")),
        Just("ct state established,related".to_owned()),
        Just("counter accept".to_owned()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_printed_is_read_back(rules in prop::collection::vec(prop::collection::vec(literal(), 1..4), 1..6)) {
        let body: Vec<String> = rules.iter().map(|r| format!("add rule inet t c {}", r.join(" "))).collect();
        let set = apply(&format!("add table inet t\nadd chain inet t c\n{}\n", body.join("\n"))).unwrap();
        let listing = set.to_text();
        let (again, findings) = Ruleset::parse("again", &listing);
        prop_assert!(findings.is_empty(), "{findings:?}");
        prop_assert_eq!(&listing, &again.to_text());
        // The kernel's form is its own kernel's form.
        let (script, _) = Script::parse("again", &listing, &Ruleset::default());
        let mut twice = Ruleset::default();
        twice.apply(&script).unwrap();
        prop_assert_eq!(&listing, &twice.to_text());
        let (json, findings) = Ruleset::parse_json("json", &set.to_json().to_string());
        prop_assert!(findings.is_empty(), "{findings:?}");
        prop_assert_eq!(&listing, &json.to_text());
    }

    #[test]
    fn no_text_is_too_strange(text in "(table|add|chain|rule|ip|[{}();,.:@$#*\"\\\\ \n-]|[a-z0-9]{1,4}){0,60}") {
        let (set, _) = Ruleset::parse("strange", &text);
        let _ = set.to_text();
    }
}

/// 10,000 Services: the maps alone are 80,000 elements.
#[test]
fn a_large_dump_loads_in_time_that_grows_with_its_size() {
    let dump = |services: u32| {
        let mut text = "table ip kube-proxy {\n\tmap service-ips {\n\t\ttype ipv4_addr . inet_proto . inet_service : verdict\n\t\telements = { ".to_owned();
        for i in 0..services * 8 {
            let addr = std::net::Ipv4Addr::from(0x0a60_0000 + i / 8);
            text += &format!(
                "{addr} . tcp . {} : goto service-{}-ns/svc{}/tcp/p,\n\t\t\t     ",
                80 + i % 8,
                i,
                i
            );
        }
        text + " }\n\t}\n}\n"
    };
    let time = |text: &str| {
        let start = std::time::Instant::now();
        let (set, findings) = Ruleset::parse("large", text);
        assert_eq!(findings, []);
        let elements = set
            .tables
            .values()
            .flat_map(|t| t.sets.values())
            .map(|s| s.elements.len())
            .sum::<usize>();
        (start.elapsed(), elements)
    };
    let (small, large) = (dump(1_000), dump(10_000));
    let (a, n) = time(&small);
    assert_eq!(n, 8_000);
    let (b, n) = time(&large);
    assert_eq!(n, 80_000);
    assert!(
        b < a * 40 + std::time::Duration::from_millis(200),
        "1,000 services {a:?}, 10,000 services {b:?}"
    );
    eprintln!("1,000 services {a:?}, 10,000 services {b:?}");
}
