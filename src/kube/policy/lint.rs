//! Mistakes in policies that the API server takes: what matches nothing, what never decides, what is
//! forgotten.
//!
//! Each finding is a [`Lint`] with its kind, its policy and the place. Looks at policies together with
//! pods, Services and the CNI; decides nothing that the evaluator would decide otherwise. Checks that need
//! pods are silent about a cluster without any.

use super::Policies;
use super::model::{Policy, PolicyKey};
use super::pods::Inventory;
use crate::base::{Finding, Span};
use crate::kube::proxy::View;
use crate::kube::store::Store;
use core::fmt;

mod cover;
mod selectors;
mod traffic;

/// A kind of mistake.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum LintKind {
    /// The policy selects no pod.
    NoSubject,
    /// A peer means no pod or node.
    PeerMatchesNothing,
    /// No container port has the name.
    UnknownPortName,
    /// Pods that may not ask DNS any more.
    DnsForgotten,
    /// DNS over UDP only: long answers are cut off and asked for again over TCP.
    DnsUdpOnly,
    /// An earlier rule decides everything this one could.
    Shadowed,
    /// Another rule allows everything this one does.
    Redundant,
    /// An ipBlock has pods in it.
    BlockCoversPods,
    /// An ipBlock has Services in it, which policies never see.
    BlockCoversServices,
    /// `from: []` or `to: []`: everybody, not nobody.
    EmptyPeers,
    /// The subject's labels are on hostNetwork pods too.
    HostNetworkSelected,
    /// The CNI enforces no policies.
    NotEnforced,
    /// The rule has the Service's port where the pod's differs.
    ServicePort,
    /// Rules of a direction that policyTypes leaves out.
    RulesIgnored,
    /// Two policies of one tier and priority on the same pods.
    EqualPriority,
    /// A podSelector for pods that exist only in other namespaces.
    OtherNamespace,
}

impl fmt::Display for LintKind {
    /// `no-subject`, `dns-forgotten`...
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LintKind::NoSubject => "no-subject",
            LintKind::PeerMatchesNothing => "peer-matches-nothing",
            LintKind::UnknownPortName => "unknown-port-name",
            LintKind::DnsForgotten => "dns-forgotten",
            LintKind::DnsUdpOnly => "dns-udp-only",
            LintKind::Shadowed => "shadowed",
            LintKind::Redundant => "redundant",
            LintKind::BlockCoversPods => "block-covers-pods",
            LintKind::BlockCoversServices => "block-covers-services",
            LintKind::EmptyPeers => "empty-peers",
            LintKind::HostNetworkSelected => "host-network-selected",
            LintKind::NotEnforced => "not-enforced",
            LintKind::ServicePort => "service-port",
            LintKind::RulesIgnored => "rules-ignored",
            LintKind::EqualPriority => "equal-priority",
            LintKind::OtherNamespace => "other-namespace",
        })
    }
}

/// One mistake.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lint {
    /// Which kind.
    pub kind: LintKind,
    /// In which policy; none for the cluster as a whole.
    pub policy: Option<PolicyKey>,
    /// Where, what, and what to do.
    pub finding: Finding,
}

/// What lints look at.
pub struct Linted<'l> {
    /// The objects.
    pub store: &'l Store,
    /// The policies.
    pub policies: &'l Policies,
    /// The pods.
    pub inventory: &'l Inventory,
    /// Services and endpoints of both families.
    pub views: &'l [View],
}

/// Findings in the making.
struct Lints<'l, 'o> {
    on: &'o Linted<'l>,
    out: Vec<Lint>,
}

impl Lints<'_, '_> {
    fn say(&mut self, kind: LintKind, policy: &Policy, path: &str, message: String, help: &str) {
        let span = policy.source.span_of(path);
        let message = match path {
            "" => format!("{}: {message}", policy.key),
            path => format!("{}: {path}: {message}", policy.key),
        };
        self.out.push(Lint {
            kind,
            policy: Some(policy.key.clone()),
            finding: Finding::warning(span, message, help),
        });
    }

    fn say_all(&mut self, kind: LintKind, span: Span, message: String, help: &str) {
        let finding = Finding::warning(span, message, help);
        self.out.push(Lint {
            kind,
            policy: None,
            finding,
        });
    }
}

/// Every mistake, in the order of the files.
pub fn lint(on: &Linted<'_>) -> Vec<Lint> {
    let mut lints = Lints {
        on,
        out: Vec::new(),
    };
    selectors::check(&mut lints);
    cover::check(&mut lints);
    traffic::check(&mut lints);
    lints.out.sort_by(|a, b| {
        let place = |l: &Lint| (l.finding.span.clone(), l.kind);
        place(a).cmp(&place(b))
    });
    lints.out
}
