//! `podpath proxy render`: the rules that a node's kube-proxy writes for the Services of the input.

use crate::base::Severity;
use crate::cli::args::{Global, ProxyArgs, ProxyCommand, RenderArgs, RenderFamily, RenderMode};
use crate::cli::{Exit, load, out};
use crate::cluster::Cluster;
use crate::kube::proxy::render_view;
use crate::kube::service::Family;
use crate::kube::store::Store;
use anyhow::bail;
use std::io::Write;

/// Runs the subcommand.
pub fn run(g: &Global, a: &ProxyArgs) -> anyhow::Result<Exit> {
    match &a.command {
        ProxyCommand::Render(r) => rules(g, r),
    }
}

fn rules(g: &Global, a: &RenderArgs) -> anyhow::Result<Exit> {
    let RenderMode::Iptables = a.mode;
    let inputs = load::inputs(g, None)?;
    let (store, findings) = Store::load(&inputs);
    if out::findings(&findings, g.quiet) {
        return Ok(Exit::Failed);
    }
    let Some(node) = store.node(&a.node) else {
        let names: Vec<String> = store.nodes.keys().map(ToString::to_string).collect();
        bail!("{}: no such node; there are {}", a.node, names.join(", "));
    };
    let families: &[Family] = match a.family {
        Some(RenderFamily::Ipv4) => &[Family::V4],
        Some(RenderFamily::Ipv6) => &[Family::V6],
        None => &Family::ALL,
    };
    // Pods without a status get their addresses when the cluster is built, Services theirs after that.
    let (cluster, mut findings) = Cluster::build(store.clone(), g.seed);
    findings.retain(|finding| finding.severity != Severity::Note);
    let mut text = String::new();
    for family in families {
        let view = cluster.desired.view(*family);
        let (desired, mut found) = render_view(&store, node, *family, &view);
        if families.len() > 1 {
            text.push_str(&format!("# {}\n", family.name()));
        }
        text.push_str(&desired.text());
        found.retain(|finding| !findings.contains(finding));
        findings.append(&mut found);
    }
    if out::findings(&findings, g.quiet) {
        return Ok(Exit::Failed);
    }
    write!(anstream::stdout(), "{text}")?;
    Ok(Exit::Clean)
}
