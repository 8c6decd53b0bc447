//! `kind: Probe`: who tries to reach whom, how, and what should happen.
//!
//! Outcomes and dispositions are the closed lists of the walker and of a Linux client; a probe names
//! them as they are printed.

use core::time::Duration;

use serde::Deserialize;

use super::Probe;
use super::target::{Peer, Target};
use super::units;
use crate::kube::dns::client::Libc;
use crate::kube::store::Check;

/// `spec` of a Probe.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProbeSpec {
    /// Who sends.
    #[serde(deserialize_with = "units::parsed")]
    pub from: Target,
    /// Who is meant to answer.
    #[serde(deserialize_with = "units::parsed")]
    pub to: Target,
    /// With what.
    #[serde(default)]
    pub protocol: ProbeProtocol,
    /// The destination port, if `to` has none.
    #[serde(default)]
    pub port: Option<u16>,
    /// The client's own port, as `nc -p` binds it; one that is free when absent.
    #[serde(default)]
    pub source_port: Option<u16>,
    /// Payload bytes; the protocol's usual (ping 56, others none) when absent.
    #[serde(default)]
    pub size: Option<u32>,
    /// Don't fragment; the kernel's default (on for TCP, by PMTU discovery for UDP) when absent.
    #[serde(default)]
    pub df: Option<bool>,
    /// TTL or hop limit; the kernel's when absent.
    #[serde(default)]
    pub ttl: Option<u8>,
    /// Which family, when both ends have both.
    #[serde(default)]
    pub family: Option<Family>,
    /// How many times; once when absent.
    #[serde(default)]
    pub count: Option<u32>,
    /// How long the client waits.
    #[serde(default, deserialize_with = "units::some_duration")]
    pub timeout: Option<Duration>,
    /// Which libc looks up the name in `to`; glibc when absent.
    #[serde(default, deserialize_with = "units::some_parsed")]
    pub libc: Option<Libc>,
    /// The earliest time at which it starts; as soon as the probes before it have ended when absent.
    #[serde(default, deserialize_with = "units::some_duration")]
    pub at: Option<Duration>,
    /// What should happen; nothing is checked when absent.
    #[serde(default)]
    pub expect: Option<Expect>,
}

impl ProbeSpec {
    /// The destination port, wherever it is written.
    pub fn port(&self) -> Option<u16> {
        self.to.port.or(self.port)
    }
}

/// `spec.protocol`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProbeProtocol {
    /// A TCP connection that is opened and closed.
    #[default]
    Tcp,
    /// A UDP datagram that is answered.
    Udp,
    /// An echo request.
    Icmp,
}

/// `spec.family`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

/// `spec.expect`: every given field must hold.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Expect {
    /// What the client sees.
    pub outcome: Option<Outcome>,
    /// The DNS return code of a `dns-error`, as dig prints it (`NXDOMAIN`); `no reply` where none came.
    pub rcode: Option<String>,
    /// When it sees it.
    pub delay: Option<Delay>,
    /// Where the packet ends.
    pub hop: Option<ExpectedHop>,
    /// How it ends there.
    pub disposition: Option<DispositionName>,
}

/// What a client sees.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It worked.
    Ok,
    /// ECONNREFUSED: a RST, or port unreachable.
    Refused,
    /// ECONNRESET.
    Reset,
    /// EHOSTUNREACH.
    NoRoute,
    /// ENETUNREACH.
    NetUnreachable,
    /// Nothing came back in time.
    Timeout,
    /// The name did not resolve.
    DnsError,
    /// It depends on something that podpath cannot know.
    Depends,
}

/// `spec.expect.delay`: bounds in virtual time, each optional.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Delay {
    /// Not before.
    #[serde(deserialize_with = "units::some_duration")]
    pub at_least: Option<Duration>,
    /// Not after.
    #[serde(deserialize_with = "units::some_duration")]
    pub at_most: Option<Duration>,
}

/// `spec.expect.hop`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ExpectedHop {
    /// On this node, or
    pub node: Option<String>,
    /// in this pod, `namespace/name`.
    pub pod: Option<String>,
    /// At this device.
    pub device: Option<String>,
    /// For this reason, as a trace prints it.
    pub reason: Option<String>,
}

/// How a walk ends, by the walker's names.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DispositionName {
    /// A socket took it.
    Delivered,
    /// It left by an uplink to a place that is not modelled.
    LeftTheCluster,
    /// It was dropped.
    Dropped,
    /// It was answered with an ICMP error or a RST.
    Rejected,
    /// The kernel itself used it up (ARP, a fragment).
    Consumed,
    /// It went in circles.
    Loop,
    /// podpath cannot know.
    Unknown,
}

impl Probe {
    /// What serde cannot see: fields that contradict each other.
    pub(crate) fn check(&self, check: &mut Check<'_>) {
        let spec = &self.spec;
        if let (Some(inside), Some(field)) = (spec.to.port, spec.port)
            && inside != field
        {
            check.error(
                "spec.port",
                format_args!("{field} is not the port in spec.to, {inside}"),
                "remove one",
            );
        }
        if spec.from.port.is_some() {
            check.error(
                "spec.from",
                "the sender has no port here",
                "write it without `:port`",
            );
        }
        if matches!(spec.from.peer, Peer::Service { .. }) {
            check.error(
                "spec.from",
                "a Service sends nothing",
                "name one of its pods",
            );
        }
        if matches!(spec.from.peer, Peer::Name(_)) {
            check.error(
                "spec.from",
                "a name sends nothing",
                "name a pod, node or host",
            );
        }
        self.check_port(check);
        if let (Peer::Ip(ip), Some(family)) = (&spec.to.peer, spec.family)
            && ip.is_ipv4() != (family == Family::Ipv4)
        {
            check.error(
                "spec.family",
                format_args!("{ip} is of the other family"),
                "remove it",
            );
        }
        if spec.size.is_some_and(|size| size > 65_507) {
            check.error(
                "spec.size",
                "expected at most 65507 bytes",
                "an IPv4 datagram ends there",
            );
        }
        for (path, zero) in [
            ("spec.count", spec.count == Some(0)),
            ("spec.ttl", spec.ttl == Some(0)),
            ("spec.sourcePort", spec.source_port == Some(0)),
        ] {
            if zero {
                check.error(path, "expected one at least, found 0", "");
            }
        }
        if let Some(expect) = &spec.expect {
            expect.check(check);
        }
    }

    fn check_port(&self, check: &mut Check<'_>) {
        let spec = &self.spec;
        if spec.protocol == ProbeProtocol::Icmp && spec.source_port.is_some() {
            check.error("spec.sourcePort", "icmp has no ports", "remove it");
        }
        match (spec.protocol, spec.port()) {
            (ProbeProtocol::Icmp, Some(_)) => {
                let path = if spec.port.is_some() {
                    "spec.port"
                } else {
                    "spec.to"
                };
                check.error(
                    path,
                    "icmp has no ports",
                    "remove the port, or set protocol tcp or udp",
                );
            }
            // A Service's port may have a name, or be its only one: known when its objects are.
            (_, None) if matches!(spec.to.peer, Peer::Service { .. }) => {}
            (ProbeProtocol::Tcp | ProbeProtocol::Udp, None) => {
                check.error(
                    "spec.to",
                    "tcp and udp need a port",
                    "add `port:`, or set protocol icmp",
                );
            }
            _ => {}
        }
    }
}

impl Expect {
    fn check(&self, check: &mut Check<'_>) {
        if self.rcode.is_some() && self.outcome != Some(Outcome::DnsError) {
            check.error(
                "spec.expect.rcode",
                "only the outcome dns-error has one",
                "",
            );
        }
        if let Some(Delay {
            at_least: Some(least),
            at_most: Some(most),
        }) = &self.delay
            && least > most
        {
            check.error(
                "spec.expect.delay",
                format_args!("atLeast {least:?} is above atMost {most:?}"),
                "",
            );
        }
        if let Some(ExpectedHop {
            node: Some(_),
            pod: Some(_),
            ..
        }) = &self.hop
        {
            check.error(
                "spec.expect.hop",
                "expected a node or a pod, found both",
                "remove one",
            );
        }
    }
}
