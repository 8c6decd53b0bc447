//! `kind: Fault`: something breaks at a moment of virtual time, and may heal.
//!
//! Either commands are run in a node's or a pod's network namespace, or the underlay changes.

use core::time::Duration;

use serde::Deserialize;

use super::cluster::Blocked;
use super::cluster_check::{check_mtu, check_percent};
use super::{Fault, units};
use crate::kube::store::Check;

/// `spec` of a Fault.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct FaultSpec {
    /// When it begins; the world's beginning when absent.
    #[serde(default, deserialize_with = "units::duration")]
    pub at: Duration,
    /// When it ends: what it changed is put back. Never when absent.
    #[serde(default, deserialize_with = "units::some_duration")]
    pub until: Option<Duration>,
    /// The node whose namespace the commands run in.
    #[serde(default)]
    pub node: Option<String>,
    /// The pod whose namespace they run in, `namespace/name`.
    #[serde(default)]
    pub pod: Option<String>,
    /// The link that `underlay` is about: a node's or `host/NAME`'s uplink. All links when absent.
    #[serde(default)]
    pub link: Option<String>,
    /// `ip`, `bridge` and `sysctl` command lines, run in order.
    #[serde(default)]
    pub commands: Vec<String>,
    /// What changes on the underlay.
    #[serde(default)]
    pub underlay: Option<UnderlayFault>,
}

/// `spec.underlay` of a Fault: every field replaces the Cluster's while the fault lasts.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct UnderlayFault {
    /// Traffic that is dropped, in addition to the Cluster's.
    pub blocked: Vec<Blocked>,
    /// Share of frames that are lost, 0 to 100.
    pub loss_percent: Option<f64>,
    /// One-way delay.
    #[serde(deserialize_with = "units::some_duration")]
    pub latency: Option<Duration>,
    /// Largest IP packet that is carried.
    pub mtu: Option<u32>,
}

impl Fault {
    /// What serde cannot see: fields that contradict each other.
    pub(crate) fn check(&self, check: &mut Check<'_>) {
        let spec = &self.spec;
        if spec.until.is_some_and(|until| until <= spec.at) {
            check.error(
                "spec.until",
                "it ends before it begins",
                "set `until` after `at`",
            );
        }
        if spec.node.is_some() && spec.pod.is_some() {
            check.error(
                "spec.pod",
                "expected a node or a pod, found both",
                "write two Faults",
            );
        }
        if spec.commands.is_empty() == spec.underlay.is_none() {
            let found = if spec.commands.is_empty() {
                "neither"
            } else {
                "both"
            };
            check.error(
                "spec",
                format_args!("expected `commands` or `underlay`, found {found}"),
                "",
            );
        }
        if !spec.commands.is_empty() && spec.node.is_none() && spec.pod.is_none() {
            check.error(
                "spec.commands",
                "commands need a node or a pod to run in",
                "add `node:` or `pod:`",
            );
        }
        if spec.link.is_some() && spec.underlay.is_none() {
            check.error(
                "spec.link",
                "a link is only meant by `underlay`",
                "remove it, or use `node:`",
            );
        }
        if let Some(pod) = spec.pod.as_deref().filter(|pod| !pod.contains('/')) {
            check.error(
                "spec.pod",
                format_args!("expected namespace/name, found \"{pod}\""),
                "",
            );
        }
        let Some(underlay) = &spec.underlay else {
            return;
        };
        for (index, blocked) in underlay.blocked.iter().enumerate() {
            blocked.check(&format!("spec.underlay.blocked[{index}]"), check);
        }
        if let Some(percent) = underlay.loss_percent {
            check_percent("spec.underlay.lossPercent", percent, check);
        }
        if let Some(mtu) = underlay.mtu {
            check_mtu("spec.underlay.mtu", mtu, check);
        }
    }
}
