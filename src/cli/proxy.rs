//! `podpath proxy render`: what a node's kube-proxy writes for the Services of the input; `proxy compare`:
//! where its modes differ.

use crate::base::Severity;
use crate::cli::args::{
    CompareArgs, Format, Global, ProxyArgs, ProxyCommand, RenderArgs, RenderFamily, RenderLayout,
    RenderMode,
};
use crate::cli::{Exit, load};
use crate::cluster::{Cluster, kube_proxy};
use crate::kube::podpath_v1alpha1::ProxyMode;
use crate::kube::proxy::compare::Cause;
use crate::kube::proxy::nftables::Layout;
use crate::kube::proxy::{Mode, settings_of, text};
use crate::kube::service::Family;
use crate::kube::store::Store;
use crate::report::proxy_compare;
use anyhow::bail;
use std::io::Write;

/// Runs the subcommand.
pub fn run(g: &Global, a: &ProxyArgs) -> anyhow::Result<Exit> {
    match &a.command {
        ProxyCommand::Render(r) => rules(g, r),
        ProxyCommand::Compare(c) => compare(g, c),
    }
}

fn rules(g: &Global, a: &RenderArgs) -> anyhow::Result<Exit> {
    let inputs = load::inputs(g, None)?;
    let (store, findings) = Store::load(&inputs);
    if crate::cli::out::findings(&findings, g.quiet) {
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
    let mode = a.mode.map(Mode::from).or(asked(cluster.proxy_mode));
    let mut out = String::new();
    for family in families {
        let view = cluster.desired.view(*family);
        let (mut settings, mut found) = settings_of(&store, node, *family, mode);
        settings.layout = a.layout.map_or(settings.layout, Layout::from);
        if families.len() > 1 {
            out.push_str(&format!("# {}\n", family.name()));
        }
        out.push_str(&text(&view, &settings));
        found.retain(|finding| !findings.contains(finding));
        findings.append(&mut found);
    }
    if crate::cli::out::findings(&findings, g.quiet) {
        return Ok(Exit::Failed);
    }
    write!(anstream::stdout(), "{out}")?;
    Ok(Exit::Clean)
}

/// Differences with a known cause are how the modes are: only others make it fail.
fn compare(g: &Global, a: &CompareArgs) -> anyhow::Result<Exit> {
    let inputs = load::inputs(g, None)?;
    let (store, findings) = Store::load(&inputs);
    if crate::cli::out::findings(&findings, g.quiet) {
        return Ok(Exit::Failed);
    }
    let (cluster, mut findings) = Cluster::build(without_proxy(store), g.seed);
    findings.retain(|finding| finding.severity != Severity::Note);
    if crate::cli::out::findings(&findings, g.quiet) {
        return Ok(Exit::Failed);
    }
    if let Some(name) = a.node.as_ref().filter(|n| !cluster.nodes.contains_key(*n)) {
        let names: Vec<&str> = cluster.nodes.keys().map(String::as_str).collect();
        bail!("{name}: no such node; there are {}", names.join(", "));
    }
    let report =
        kube_proxy::compare(&cluster, a.node.as_deref(), a.classes).map_err(anyhow::Error::msg)?;
    let text = match a.output {
        Format::Text => proxy_compare::text(&report, a.all, a.classes),
        Format::Json => format!("{:#}\n", proxy_compare::json(&report, a.classes)),
    };
    write!(anstream::stdout(), "{text}")?;
    let unknown = report.by_cause().contains_key(&Cause::Unknown);
    Ok(if unknown { Exit::Failed } else { Exit::Clean })
}

/// The modes are compared by what they would write: none of them needs to run.
fn without_proxy(mut store: Store) -> Store {
    for cluster in store.clusters.values_mut() {
        cluster.body.spec.proxy.mode = Some(ProxyMode::None);
    }
    store
}

/// The mode that the input asks for; none where it leaves that to the configuration.
fn asked(mode: ProxyMode) -> Option<Mode> {
    match mode {
        ProxyMode::None => None,
        ProxyMode::Iptables => Some(Mode::Iptables),
        ProxyMode::Nftables => Some(Mode::Nftables),
        ProxyMode::Ipvs => Some(Mode::Ipvs),
    }
}

impl From<RenderMode> for Mode {
    fn from(mode: RenderMode) -> Mode {
        match mode {
            RenderMode::Iptables => Mode::Iptables,
            RenderMode::Nftables => Mode::Nftables,
            RenderMode::Ipvs => Mode::Ipvs,
        }
    }
}

impl From<RenderLayout> for Layout {
    fn from(layout: RenderLayout) -> Layout {
        match layout {
            RenderLayout::Older => Layout::Older,
            RenderLayout::Split => Layout::Split,
        }
    }
}
