//! Clusters drawn: well-formed, the same twice, escaped, of reasonable size, and with what they are to show.

#![allow(missing_docs, reason = "a test binary")]

#[path = "common/big_cluster.rs"]
mod big_cluster;

use podpath::cluster::{Cluster, Scenario};
use podpath::kube::manifest::Input;
use podpath::kube::store::Store;
use podpath::path::Event;
use podpath::report::topo::{Options, dot, html, svg};
use std::io::Write as _;
use std::process::{Command, Stdio};

fn cluster(text: &str) -> Cluster {
    let input = Input::from_bytes("t.yaml", text.as_bytes()).expect("text");
    Cluster::build(Store::load(&[input]).0, 1).0
}

/// A topology of the folder, and one of its probes run.
fn topology(name: &str, probe: Option<&str>) -> (Cluster, Vec<Event>) {
    let root = format!("{}/topologies/{name}", env!("CARGO_MANIFEST_DIR"));
    let files = ["manifests.yaml", "podpath.yaml"];
    let read = |f: &&str| {
        let bytes = std::fs::read(format!("{root}/{f}")).expect("readable");
        Input::from_bytes(format!("{name}/{f}"), &bytes).expect("text")
    };
    let (store, _) = Store::load(&files.iter().map(read).collect::<Vec<_>>());
    let (mut s, _) = Scenario::start(Cluster::build(store, 1).0);
    let Some(probe) = probe else {
        return (s.cluster, Vec::new());
    };
    let p = s
        .cluster
        .store
        .probes
        .values()
        .find(|p| p.name.name == probe);
    let spec = p.expect("a probe of that name").spec.clone();
    let events = s.run_probe(probe, &spec).events;
    (s.cluster, events)
}

fn head(name: &str, cni: &str, more: &str) -> String {
    format!(
        "apiVersion: podpath.dev/v1alpha1\nkind: Cluster\nmetadata: {{name: {name}}}\n\
         spec:\n  cni: {cni}\n  podCIDRs: [10.244.0.0/16]\n{more}"
    )
}

fn node(name: &str, i: usize) -> String {
    format!(
        "---\napiVersion: v1\nkind: Node\nmetadata: {{name: {name}}}\nspec: {{podCIDR: 10.244.{i}.0/24}}\n\
         status: {{addresses: [{{type: InternalIP, address: 192.168.50.{}}}]}}\n",
        11 + i
    )
}

fn pod(name: &str, node: &str, host: bool) -> String {
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: shop}}\nspec:\n  nodeName: {node}\n  \
         hostNetwork: {host}\n  containers: [{{name: c, image: i, ports: [{{containerPort: 8080}}]}}]\n"
    )
}

/// What keeps a text from being well-formed XML: tags that do not match, loose `&` or `<`, bad quotes.
fn malformed(xml: &str) -> Option<String> {
    let mut open: Vec<&str> = Vec::new();
    let mut rest = xml;
    loop {
        let (text, tail) = rest.split_once('<').unwrap_or((rest, ""));
        if text.contains('>') && !text.contains("{") {
            return Some(format!("a loose > in {text:?}"));
        }
        for after in text.split('&').skip(1) {
            let known = ["amp;", "lt;", "gt;", "quot;", "#39;"];
            if !known.iter().any(|k| after.starts_with(k)) {
                return Some(format!("a loose & in {text:?}"));
            }
        }
        if text
            .chars()
            .any(|c| c.is_control() && c != '\n' && c != '\t')
        {
            return Some(format!("a control character in {text:?}"));
        }
        if tail.is_empty() {
            return open.pop().map(|t| format!("<{t}> is not closed"));
        }
        let Some((tag, after)) = tail.split_once('>') else {
            return Some(format!("<{tail:.40} does not end"));
        };
        rest = after;
        if let Some(name) = tag.strip_prefix('/') {
            if open.pop() != Some(name) {
                return Some(format!("</{name}> closes nothing"));
            }
            continue;
        }
        if tag.contains('<') || tag.matches('"').count() % 2 != 0 {
            return Some(format!("<{tag}>"));
        }
        if !tag.ends_with('/') {
            open.push(tag.split([' ', '\n']).next().unwrap_or(tag));
        }
    }
}

fn good(c: &Cluster, o: &Options<'_>) -> String {
    let a = svg(c, o);
    assert_eq!(malformed(&a), None);
    assert_eq!(a, svg(c, o), "twice the same");
    assert_eq!(dot(c, o), dot(c, o), "twice the same");
    graphviz(&dot(c, o));
    a
}

/// Lets Graphviz read the graph, where it is installed.
fn graphviz(text: &str) {
    let child = Command::new("dot")
        .arg("-Tcanon")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = child else {
        println!("SKIPPED: dot is not installed");
        return;
    };
    let mut input = child.stdin.take().expect("a pipe");
    let text = text.to_owned();
    let writer = std::thread::spawn(move || input.write_all(text.as_bytes()));
    let out = child.wait_with_output().expect("dot ends");
    writer.join().expect("written").expect("dot reads it");
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(
        out.status.success() && !said.contains("Error") && !said.contains("Warning"),
        "{said}"
    );
}

#[test]
fn the_checker_finds_what_is_wrong() {
    for bad in [
        "<a><b></a></b>",
        "<a>",
        "<a>&</a>",
        "<a x=\"1>y</a>",
        "</a>",
        "<a>\u{1}</a>",
    ] {
        assert!(malformed(bad).is_some(), "{bad}");
    }
    assert_eq!(malformed("<a x=\"1\"><b/>&amp;</a>"), None);
}

#[test]
fn two_nodes_with_vxlan() {
    let (c, _) = topology("two-node-vxlan", None);
    let s = good(&c, &Options::default());
    for want in [
        "flannel.1",
        "cni0",
        "VXLAN 1 · udp/8472",
        "10.244.2.10",
        "192.168.50.11/24",
        "prefers-color-scheme",
    ] {
        assert!(s.contains(want), "{want}");
    }
    for trouble in ["class=\"bad\"", "class=\"warn\"", "<script"] {
        assert!(!s.contains(trouble), "{trouble}");
    }
    insta::assert_snapshot!(dot(&c, &Options::default()));
}

/// The page without what HTML allows and XML does not.
#[test]
fn the_page_is_well_formed() {
    let (c, _) = topology("two-node-vxlan", None);
    let page = html(&c, &Options::default());
    let void = [
        "<meta charset=\"utf-8\">",
        "<meta name=\"color-scheme\" content=\"light dark\">",
    ];
    let strict = void
        .iter()
        .fold(page.replace("<!DOCTYPE html>", ""), |p, v| p.replace(v, ""));
    assert_eq!(malformed(&strict), None);
}

/// What the README shows is what the command draws; PODPATH_UPDATE_DOCS=1 writes it anew.
#[test]
fn the_readme_shows_this() {
    let (c, events) = topology("two-node-vxlan", Some("a1-to-b1-ping"));
    let s = good(
        &c,
        &Options {
            path: Some(&events),
        },
    );
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/img/two-node-vxlan.svg");
    if std::env::var_os("PODPATH_UPDATE_DOCS").is_some() {
        std::fs::write(file, &s).expect("written");
    }
    let there = std::fs::read_to_string(file).is_ok_and(|f| f == s);
    assert!(there, "{file} is old: run with PODPATH_UPDATE_DOCS=1");
}

#[test]
fn healthy_topologies_show_no_trouble() {
    for name in [
        "single-node-bridge",
        "two-node-host-gw",
        "calico-ipip-blocks",
        "dual-stack",
    ] {
        let s = good(&topology(name, None).0, &Options::default());
        assert!(
            !s.contains("class=\"bad\"") && !s.contains("class=\"warn\""),
            "{name}"
        );
    }
}

#[test]
fn a_trace_is_drawn_there_and_back() {
    let (c, events) = topology("two-node-vxlan", Some("a1-to-b1"));
    let o = Options {
        path: Some(&events),
    };
    let s = good(&c, &o);
    // a1, cni0, flannel.1, eth0, switch, eth0, flannel.1, cni0, b1.
    assert_eq!(s.matches("class=\"fwdfill\"").count(), 9);
    assert_eq!(s.matches("class=\"repfill\"").count(), 9);
    assert!(!s.contains("class=\"cross\""));
    let graph = dot(&c, &o);
    assert_eq!(graph.matches("dir=forward").count(), 16);
}

#[test]
fn a_lost_packet_has_a_cross_and_a_reason() {
    let (c, events) = topology("two-node-vxlan-broken-fdb", Some("a1-to-b1"));
    let o = Options {
        path: Some(&events),
    };
    let s = good(&c, &o);
    assert_eq!(s.matches("class=\"cross\"").count(), 2);
    assert!(s.contains("vxlan-no-fdb") && s.contains("class=\"overlaybad\""));
    assert_eq!(
        s.matches("class=\"fwdfill\"").count(),
        3,
        "a1, cni0, flannel.1"
    );
    assert!(dot(&c, &o).contains("✕ "));
}

#[test]
fn what_is_down_is_red_and_what_does_not_fit_is_amber() {
    let more = "  nodes:\n    a: {commands: [ip link set flannel.1 down]}\n    b: {commands: [ip link set eth0 mtu 1400]}\n";
    let text = head("c", "{plugin: flannel, backend: vxlan}", more) + &node("a", 0) + &node("b", 1);
    let s = good(&cluster(&text), &Options::default());
    assert!(s.contains("a: flannel.1 is down") && s.contains("class=\"bad\""));
    assert!(
        s.contains("b: flannel.1 mtu 1450 + 50 is more than eth0&#39;s 1400")
            && s.contains("class=\"warn\"")
    );
}

#[test]
fn odd_names_break_out_of_nothing() {
    let mut c = cluster(&(head("c", "{plugin: bridge}", "") + &node("a", 0)));
    let host = c.nodes["a"].ns;
    c.hosts.insert("x\"><script>&amp;\u{7}\\".into(), host);
    let s = good(&c, &Options::default());
    assert!(!s.contains("<script") && s.matches("</svg>").count() == 1);
    assert!(malformed(&s).is_none());
}

#[test]
fn many_pods_are_counted() {
    let mut text = head("c", "{plugin: bridge}", "") + &node("a", 0) + &pod("proxy", "a", true);
    for i in 0..59 {
        text += &pod(&format!("p{i:02}"), "a", false);
    }
    let c = cluster(&text);
    let s = good(&c, &Options::default());
    assert!(s.contains("60 pods") && s.contains("+ 13 more"));
}

#[test]
fn host_pods_are_marked() {
    let text = head("c", "{plugin: bridge}", "") + &node("a", 0) + &pod("proxy", "a", true);
    let s = good(&cluster(&text), &Options::default());
    assert!(s.contains(">hostNetwork<") && s.contains("class=\"hostpod\""));
}

#[test]
fn two_hundred_nodes_are_tiles() {
    let text = big_cluster::manifests(200, 400);
    let c = cluster(&text);
    let s = good(&c, &Options::default());
    assert!(s.len() < 150_000, "{} bytes", s.len());
    assert!(s.contains("full mesh of 200 nodes"));
    let graph = dot(&c, &Options::default());
    assert!(graph.len() < 100_000, "{} bytes", graph.len());
}

#[test]
fn nothing_at_all_is_a_picture_too() {
    let s = good(&cluster(""), &Options::default());
    assert!(s.contains("0 nodes"));
}
