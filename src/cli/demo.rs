//! The built-in demo: a two-node VXLAN cluster and a real capture, both inside the binary.

use crate::cli::args::{Format, Global};
use crate::cli::{Exit, load, out, replay};
use crate::kube::manifest::Input;
use crate::replay::pcap::read_all;
use crate::replay::{Attach, replay as play};
use std::io::Write;

const MANIFESTS: [(&str, &str); 2] = [
    (
        "topologies/two-node-vxlan/manifests.yaml",
        include_str!("../../topologies/two-node-vxlan/manifests.yaml"),
    ),
    (
        "topologies/two-node-vxlan/podpath.yaml",
        include_str!("../../topologies/two-node-vxlan/podpath.yaml"),
    ),
];
const CAPTURE: &[u8] = include_bytes!("../../pcaps/ping-paths.pcap");

/// Runs it.
pub fn run(g: &Global) -> anyhow::Result<Exit> {
    let inputs: Vec<Input> = MANIFESTS.iter().map(|(n, t)| Input::new(*n, *t)).collect();
    let Some(mut s) = load::scenario(g, &inputs) else {
        return Ok(Exit::Failed);
    };
    let mut o = anstream::stdout();
    let c = &s.cluster;
    writeln!(
        o,
        "{}podpath demo{}: {}, {} nodes, {} pods, from ordinary manifests",
        out::BOLD,
        out::RESET,
        c.cni,
        c.nodes.len(),
        c.pods.len()
    )?;
    for n in c.nodes.values() {
        let pods: Vec<String> = c
            .pods
            .values()
            .filter(|p| p.node == n.name)
            .map(|p| {
                format!(
                    "{} {}",
                    p.name.name,
                    p.ips.first().map(|i| i.to_string()).unwrap_or_default()
                )
            })
            .collect();
        let ip = n
            .addresses
            .first()
            .map(|a| a.ip().to_string())
            .unwrap_or_default();
        writeln!(
            o,
            "  {}{}{} {ip}: {}",
            out::BOLD,
            n.name,
            out::RESET,
            pods.join(", ")
        )?;
    }
    writeln!(
        o,
        "replaying pcaps/ping-paths.pcap, recorded on Linux 6.18 in pod a1 of such a cluster\n"
    )?;
    let (capture, findings) = read_all("ping-paths.pcap", CAPTURE);
    out::findings(&findings, g.quiet);
    let mut watch = replay::Watch::new(capture.records.len());
    let all = play(
        &mut s.cluster.lab.world,
        &capture,
        &Attach::ByAddress,
        &mut watch,
    );
    replay::print(&s.cluster, &capture, &all, &watch, true, Format::Text)?;
    writeln!(
        o,
        "\nnext: {}podpath trace default/a1 default/b1:8080 -t topologies/two-node-vxlan{}, podpath --help",
        out::BOLD,
        out::RESET
    )?;
    Ok(Exit::Clean)
}
