//! podpath's own kinds: what Kubernetes has no object for.
//!
//! `Cluster` (CNI, CIDRs, underlay), `Probe` (what is tried and what should happen), `Fault` (what is
//! broken and when). docs/manifests.md describes every field; a test loads its example. Unknown fields
//! are warnings, wrong values errors, through the same reader as every other kind. Plain data: nothing
//! here acts.

mod cluster;
mod cluster_check;
mod dns;
mod fault;
mod network_policy;
mod probe;
mod target;
mod units;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;
use serde::de::IgnoredAny;

pub use cluster::*;
pub use dns::*;
pub use fault::*;
pub use network_policy::*;
pub use probe::*;
pub use target::*;
pub use units::parse_duration;

/// A document of group `podpath.dev/v1alpha1`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Resource<S> {
    #[serde(rename = "apiVersion", default)]
    _api_version: IgnoredAny,
    #[serde(rename = "kind", default)]
    _kind: IgnoredAny,
    /// Name, labels, annotations, as everywhere.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// What the document says.
    pub spec: S,
}

/// The cluster's network: at most one document.
pub type Cluster = Resource<ClusterSpec>;
/// One connection that is tried.
pub type Probe = Resource<ProbeSpec>;
/// Something that breaks.
pub type Fault = Resource<FaultSpec>;
