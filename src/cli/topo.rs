//! `podpath topo`: the cluster as a drawing.

use crate::cli::args::{Drawing, Global, TopoArgs};
use crate::cli::{Exit, load, trace};
use crate::kube::podpath_v1alpha1::{ProbeProtocol, ProbeSpec};
use crate::report::topo::{self, Options};
use anyhow::anyhow;
use std::io::Write;

/// Draws.
pub fn run(g: &Global, a: &TopoArgs) -> anyhow::Result<Exit> {
    let inputs = load::inputs(g, a.topology.as_deref())?;
    let Some(mut s) = load::scenario(g, &inputs) else {
        return Ok(Exit::Failed);
    };
    let mut events = Vec::new();
    if let Some(path) = &a.path {
        let (from, to) = path
            .split_once(',')
            .ok_or_else(|| anyhow!("--path {path}: expected FROM,TO"))?;
        let (from, to) = (trace::target(g, from)?, trace::target(g, to)?);
        let protocol = if to.port.is_some() {
            ProbeProtocol::Tcp
        } else {
            ProbeProtocol::Icmp
        };
        let (size, df, ttl, count) = (None, None, None, None);
        let spec = ProbeSpec {
            from,
            to,
            protocol,
            port: None,
            source_port: None,
            size,
            df,
            ttl,
            family: None,
            count,
            timeout: None,
            libc: None,
            at: None,
            expect: None,
        };
        let c = s.run_probe("path", &spec);
        c.result.map_err(|e| anyhow!("{e}"))?;
        events = c.events;
    }
    let options = Options {
        path: (!events.is_empty()).then_some(&events[..]),
    };
    let text = match a.output {
        Drawing::Svg => topo::svg(&s.cluster, &options),
        Drawing::Dot => topo::dot(&s.cluster, &options),
    };
    write!(anstream::stdout(), "{text}")?;
    Ok(Exit::Clean)
}
