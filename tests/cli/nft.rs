//! `show WHO nft`: what `nft list ruleset` and `nft -j list ruleset` print there, with what was counted.

use crate::start::{Folder, root};
use podpath::nf::nft::Ruleset;

/// A rule of the node's own beside kube-proxy's.
const COUNTED: &str = "---
apiVersion: podpath.dev/v1alpha1
kind: Fault
metadata: {name: own}
spec:
  node: n1
  commands:
  - |
    nft -f - <<EOF
    table inet own {
      set seen { type ipv4_addr; flags dynamic, timeout; timeout 1h; }
      chain pre {
        type filter hook prerouting priority raw;
        tcp dport 30080 counter comment \"door\"
        tcp dport 30080 update @seen { ip saddr }
      }
    }
    EOF
";

fn folder() -> Folder {
    let read = |f: &str| {
        let path = root().join("topologies/services-vxlan").join(f);
        std::fs::read_to_string(path).expect("a file")
    };
    let cluster = read("podpath.yaml").replace("{mode: iptables}", "{mode: nftables}") + COUNTED;
    let folder = Folder::new();
    folder.file("c/manifests.yaml", read("manifests.yaml"));
    folder.file("c/podpath.yaml", cluster);
    folder
}

#[test]
fn rules_are_shown_with_what_they_counted() {
    let folder = folder();
    let before = folder
        .podpath(&["show", "n1", "nft", "-t", "c"])
        .exits(0)
        .out;
    assert!(before.contains("table ip kube-proxy {") && before.contains("table ip6 kube-proxy {"));
    let counter = |text: &str| -> u64 {
        let line = text
            .lines()
            .find(|l| l.contains("\"door\""))
            .expect("the rule");
        let (_, rest) = line.split_once("counter packets ").expect("a counter");
        let number = rest.split(' ').next().and_then(|n| n.parse().ok());
        number.expect("a number")
    };
    assert_eq!(counter(&before), 0);
    let after = ["show", "n1", "nft", "-t", "c", "--after-probes"];
    let after = folder.podpath(&after).exits(0).out;
    assert!(counter(&after) > 0, "{after}");
    assert!(after.contains("192.168.50.200 expires "), "{after}");
    // It reads back as what it was printed from.
    let (set, findings) = Ruleset::parse("n1", &after);
    assert!(findings.is_empty(), "{findings:?}");
    assert_eq!(set.to_text(), after);
    // A pod has no rules.
    assert_eq!(
        folder
            .podpath(&["show", "client", "nft", "-t", "c"])
            .exits(0)
            .out,
        ""
    );
}

#[test]
fn json_is_that_of_nft() {
    let folder = folder();
    let text = folder
        .podpath(&["show", "n1", "nft", "-t", "c"])
        .exits(0)
        .out;
    let run = folder
        .podpath(&["show", "n1", "nft", "-t", "c", "-o", "json"])
        .exits(0);
    let json = run.json();
    let all = json["nftables"].as_array().expect("a list");
    assert_eq!(all[0]["metainfo"]["json_schema_version"], 1);
    assert!(all.iter().any(|o| o["rule"]["comment"] == "door"));
    let (set, findings) = Ruleset::parse_json("n1", &run.out);
    assert!(findings.is_empty(), "{findings:?}");
    assert_eq!(set.to_text(), text);
    let short = folder
        .podpath(&["show", "n1", "nft", "-t", "c", "-j"])
        .exits(0)
        .out;
    assert_eq!(short, run.out);
}
