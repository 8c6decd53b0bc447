//! `podpath dns`: [`ask`] looks up from a pod; `serve` puts the responder behind real sockets, so that dig
//! and dnsperf can judge it.
//!
//! [`source`] reads the Corefile and what it names, and makes the objects; [`serve`] has the sockets. What is
//! answered is decided in `kube::dns` alone.

mod ask;
pub(super) mod serve;
mod source;
mod tcp;
mod upstream;

use crate::base::{Finding, Instant};
use crate::cli::args::{DnsArgs, DnsCommand, DnsServeArgs, Global};
use crate::cli::{Exit, out};
use crate::kube::dns::Responder;
use serve::Listener;
use source::Source;
use std::io::Write;

/// Runs the subcommand.
pub fn run(g: &Global, a: &DnsArgs) -> anyhow::Result<Exit> {
    match &a.command {
        Some(DnsCommand::Serve(s)) => serve(g, s),
        None => ask::run(g, a),
    }
}

fn serve(g: &Global, a: &DnsServeArgs) -> anyhow::Result<Exit> {
    let source = Source::new(g, a);
    let mut made = source.read()?;
    let (mut responder, more) = Responder::new(&made.corefile, &made.environment);
    made.findings.extend(more);
    if out::findings(&made.findings, g.quiet) || made.findings.iter().any(Finding::is_error) {
        return Ok(Exit::Failed);
    }
    responder.learn(Instant::ZERO, &made.objects);
    let listener = Listener::open(a.listen, responder)?;
    let at = listener.at();
    writeln!(
        anstream::stderr(),
        "podpath dns: listening on {at} (UDP and TCP)"
    )?;
    listener.run(a.duration, Some((source, made.text, made.stamp)))
}
