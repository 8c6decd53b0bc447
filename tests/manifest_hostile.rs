//! Manifests made to hurt: mutations of good ones and inputs that would be slow for a careless reader.
//! Nothing may panic, and time stays linear in the text.

use std::time::{Duration, Instant};

use podpath::base::Rng;
use podpath::kube::listen;
use podpath::kube::manifest::Input;
use podpath::kube::store::Store;

/// Everything that reads an input, and how long it took.
fn read(input: Input) -> Duration {
    let start = Instant::now();
    let (store, _) = Store::load(&[input]);
    for pod in store.pods.values() {
        let _ = listen::of_pod(pod);
        let _ = pod.source.origin_of("spec.containers[0].name");
    }
    for raw in store.unknown.values().flatten() {
        let _ = raw.parse::<serde_json::Value>();
        let _ = raw.source.origin_of("metadata.name");
    }
    start.elapsed()
}

const ANCHORS: &str = "apiVersion: v1\nkind: List\nitems:\n- &a\n  apiVersion: v1\n  kind: Pod\n  metadata: &m\n    \
    name: a\n    labels: &l {app: web}\n  spec: &s\n    nodeName: n1\n- <<: [*a, *m]\n  metadata:\n    <<: *m\n    \
    name: b\n- apiVersion: q/v1\n  kind: Pod\n  metadata: {name: c, labels: *l}\n  spec: *s\n";
const JSON: &str = r#"{"apiVersion":"v1","kind":"List","items":[{"apiVersion":"v1","kind":"Pod","metadata":
    {"name":"a\u00e9"},"spec":{"nodeName":"n","containers":[{"name":"x","ports":[{"containerPort":80}]}]}},
    {"apiVersion":"x/v1","kind":"Y"}]}"#;
const TOKENS: &[&[u8]] = &[
    b"---\n",
    b"&a ",
    b"*a",
    b"<<: ",
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b"'",
    b": ",
    b"- ",
    b"\n",
    b"\t",
    b"|\n",
    b">\n",
    b"!!str ",
    b"{{",
    b"\\u",
    b"\\ud83d",
    b"\xff",
    b"\xef\xbb\xbf",
    b"null",
    b"99999999999999999999",
    b"? ",
    b"%YAML 1.2\n",
    b"...\n",
    b"#",
    b"\r\n",
    b"\xc3\xa9",
];

/// One random edit.
fn mutate(bytes: &mut Vec<u8>, rng: &mut Rng) {
    let place = |rng: &mut Rng, bytes: &Vec<u8>| rng.below(bytes.len() as u64 + 1) as usize;
    let at = place(rng, bytes);
    match rng.below(5) {
        0 if at < bytes.len() => drop(bytes.remove(at)),
        1 if at < bytes.len() => bytes[at] = rng.below(256) as u8,
        2 => drop(
            bytes.splice(
                at..at,
                TOKENS[rng.below(TOKENS.len() as u64) as usize]
                    .iter()
                    .copied(),
            ),
        ),
        3 => bytes.truncate(at),
        _ => {
            let end = (at + rng.below(60) as usize).min(bytes.len());
            let copy = bytes[at..end].to_vec();
            let to = place(rng, bytes);
            drop(bytes.splice(to..to, copy));
        }
    }
}

#[test]
fn mutated_manifests() {
    let page = include_str!("../docs/manifests.md");
    let example = page
        .split("```yaml\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next())
        .unwrap();
    let pod = include_str!("data/kubectl_pod.yaml.in").replace("{{}}", "{}");
    let list = format!("items:\n{pod}{pod}apiVersion: v1\nkind: List\n");
    let seeds = [example, &list, JSON, ANCHORS];
    let mut rng = Rng::new(2);
    for _ in 0..600 {
        let mut bytes = seeds[rng.below(4) as usize].as_bytes().to_vec();
        for _ in 0..rng.range(1, 8) {
            mutate(&mut bytes, &mut rng);
        }
        let text = String::from_utf8_lossy(&bytes);
        read(Input::from_bytes("f", &bytes).unwrap_or_else(|_| Input::new("f", &*text)));
    }
}

#[test]
fn long_ones() {
    let head = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n";
    let keys = |line: fn(u32) -> String| (0..20_000).map(line).collect::<String>();
    let raw = "{\"apiVersion\":\"x/v1\",\"kind\":\"Y\"}";
    let mut inputs = vec![
        format!("{head}data:\n{}", keys(|i| format!("  k{i}: &x{i} v\n"))),
        format!(
            "{head}data:\n{}  <<: [{}]\n",
            keys(|i| format!("  k{i}: v\n")),
            "{},".repeat(20_000)
        ),
        format!("{head}{}", keys(|i| format!("k{i}: v\n"))),
        format!("{head}data:\n{}", keys(|_| "  k: v\n".into())),
        format!("{head}data:\n{}", keys(|i| format!("  k{i}: 5\n"))),
        format!(
            "{{\"apiVersion\":\"v1\",\"kind\":\"List\",\"items\":[{}1]}}",
            format!("{raw},").repeat(5_000)
        ),
        raw.repeat(5_000),
    ];
    for piece in [
        "- ",
        "[",
        "{",
        "[{\"a\":",
        "a: ",
        "'",
        "\"",
        "#\n",
        "---\n",
        "{{\n---\n",
        "\\",
        "&a ",
        "*a ",
        " ",
        "\n",
        "a: |\n",
        "? ",
        "[,",
        ",",
        "!a ",
        "a\n",
        "%A\n",
        "...\n",
    ] {
        inputs.push(piece.repeat(50_000));
    }
    for text in inputs {
        let start: String = text.chars().take(40).collect();
        // Unoptimised and on a busy machine each takes less than a second; quadratic ones take minutes.
        let took = read(Input::new("f", text));
        assert!(took < Duration::from_secs(20), "{took:?} for {start:?}");
    }
}
