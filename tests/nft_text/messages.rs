//! What is said about input that cannot be read: place, what was expected, what stands there.

use podpath::nf::nft::{Ruleset, Script};

fn said(text: &str) -> String {
    let (_, findings) = Ruleset::parse("rules.nft", text);
    findings.iter().map(|f| format!("{f}\n")).collect()
}

#[test]
fn places_and_expectations() {
    let text = "table inet t {
	set s { type ipv4_addr; elements = { 10.0.0.1, 10.0.0.300 } }
	set u { type nonsense; }
	chain c {
		type filter hook inptu priority 0;
		tcp dport 70000 accept
		ip saddr 10.0.0.0/33 drop
		meta marc 5
		frobnicate the packet comment \"kept\"
		ct state neww accept
		tcp dport 80-22 accept
		counter accept
	}
";
    insta::assert_snapshot!(said(text));
}

#[test]
fn the_rest_loads() {
    let (set, findings) = Ruleset::parse(
        "rules.nft",
        "table ip t {\n\tchain c {\n\t\tfrob 1 comment \"x\"\n\t\taccept\n\t}\n}\n",
    );
    assert_eq!(findings.len(), 1);
    assert_eq!(findings[0].span.to_string(), "rules.nft:3:3");
    assert_eq!(
        set.to_text(),
        "table ip t {\n\tchain c {\n\t\tfrob 1 comment \"x\"\n\t\taccept\n\t}\n}\n"
    );
}

#[test]
fn refused_commands_change_nothing() {
    let mut set = Ruleset::default();
    let mut run = |text: &str| {
        let (script, findings) = Script::parse("script.nft", text, &set);
        let said: Vec<_> = findings.iter().map(ToString::to_string).collect();
        match set.apply(&script) {
            Ok(()) if said.is_empty() => Ok(()),
            Ok(()) => Err(said.join("\n")),
            Err(f) => Err(f.to_string()),
        }
    };
    assert_eq!(
        run("add table ip t\nadd chain ip t c\nadd set ip t s { type ipv4_addr; }"),
        Ok(())
    );
    let mut messages = String::new();
    for text in [
        "add rule ip t c accept\nadd rule ip t missing accept",
        "add rule ip t c jump nowhere",
        "create chain ip t c",
        "delete element ip t s { 1.2.3.4 }",
        "add element ip t nothere { 1.2.3.4 }",
        "delete rule ip t c handle 99",
        "insert rule ip t c index 7 accept",
        "delete table ip6 t",
        "add rule ip t c ip saddr @unknown accept",
        "include \"other.nft\"",
        "add rule ip t c tcp dport $port accept",
    ] {
        messages += &format!("{text:?}\n{}\n\n", run(text).unwrap_err());
    }
    insta::assert_snapshot!(messages);
    assert_eq!(
        run("destroy chain ip t missing\ndestroy table ip6 x"),
        Ok(())
    );
    let left = run(
        "define port = { 80, 443 }\nadd rule ip t c tcp dport $port accept\ninsert rule ip t c \\\n drop",
    );
    assert_eq!(left, Ok(()));
    assert_eq!(
        run("add element ip t s { 1.2.3.4, 1.2.3.5 }; delete element ip t s { 1.2.3.4 }"),
        Ok(())
    );
    insta::assert_snapshot!(set.to_text_with_handles());
}

fn said_of_json(text: &str) -> (Ruleset, String) {
    let (set, findings) = Ruleset::parse_json("rules.json", text);
    (set, findings.iter().map(|f| format!("{f}\n")).collect())
}

const JSON: &str = r#"{"nftables": [
  {"metainfo": {"version": "1.0.6", "json_schema_version": 1}},
  {"table": {"family": "ip", "name": "t", "handle": 1}},
  {"chain": {"family": "ip", "table": "t", "name": "c", "handle": 1}},
  {"chane": {"family": "ip", "table": "t", "name": "c", "handle": 1}},
  {"rule": {"family": "ip", "table": "t", "chain": "c", "expr": [{"frobnicate": 5}]}}, {"rule": 7},
  {"rule": {"family": "ip", "table": "nowhere", "chain": "c", "expr": [{"accept": null}]}},
  {"rule": {"family": "ip", "table": "t", "chain": "c", "comment": "]}", "expr": [{"accept": null}]}}
]}
"#;

#[test]
fn json_objects_are_told_at_their_place_and_the_rest_loads() {
    let (set, said) = said_of_json(JSON);
    insta::assert_snapshot!(said);
    let text = set.to_text();
    assert!(text.contains("accept comment \"]}\""), "{text}");
}

#[test]
fn json_that_is_cut_short_loads_as_far_as_it_goes() {
    let end = JSON
        .find("  {\"rule\": {\"family\": \"ip\", \"table\": \"now")
        .expect("a rule");
    let (set, said) = said_of_json(&JSON[..end + 30]);
    assert!(
        said.starts_with("rules.json:7:30: error: expected JSON: EOF"),
        "{said}"
    );
    assert!(set.to_text().contains("chain c {"), "{}", set.to_text());
    let (set, said) = said_of_json("{\"tables\": []}");
    assert!(
        said.starts_with("rules.json:1:1: error: expected an object"),
        "{said}"
    );
    assert!(set.tables.is_empty());
    let (_, said) = said_of_json("nonsense");
    assert!(said.starts_with("rules.json:1:"), "{said}");
}
