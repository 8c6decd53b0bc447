//! Which endpoints a service port uses on one node.
//!
//! kubernetes `pkg/proxy/topology.go` (CategorizeEndpoints, topologyModeFromHints); KEP 2433 (zone hints),
//! 3015 (PreferSameNode), 1669 (serving and terminating endpoints when none is ready). Neither the Service's
//! trafficDistribution nor its annotations are read: the EndpointSlice controller has made hints of them.

use std::collections::BTreeMap;

use crate::kube::service::{Endpoint, ServicePort};

/// Where and how endpoints are chosen.
#[derive(Clone, Copy, Debug)]
pub struct Place<'p> {
    /// The node's name.
    pub node: &'p str,
    /// Its `topology.kubernetes.io/zone`; empty for none.
    pub zone: &'p str,
    /// Whether node hints are obeyed (gate PreferSameTrafficDistribution: on since 1.34).
    pub node_hints: bool,
}

/// The endpoints by use.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Categorized<'e> {
    /// Those of policy Cluster; none where no traffic follows it.
    pub cluster: Option<Vec<&'e Endpoint>>,
    /// Those of policy Local; none where no traffic follows it.
    pub local: Option<Vec<&'e Endpoint>>,
    /// Both together, without repetition, in order of address.
    pub reachable: Vec<&'e Endpoint>,
    /// Whether anything could be reached on any node.
    pub any: bool,
}

/// See the module.
pub fn categorize<'e>(
    endpoints: &'e [Endpoint],
    port: &ServicePort,
    place: Place<'_>,
) -> Categorized<'e> {
    let mode = Mode::of(endpoints, place);
    let cluster = port.uses_cluster_endpoints().then(|| {
        let chosen = |e: &&Endpoint| e.ready && mode.allows(e, place);
        or_fallback(endpoints, chosen, |_| true)
    });
    let local = port.uses_local_endpoints().then(|| {
        let here = |e: &&Endpoint| e.is_local(place.node);
        or_fallback(endpoints, |e| e.ready && here(e), here)
    });
    let anywhere = |e: &Endpoint| e.ready || e.is_fallback();
    let any = cluster.as_ref().is_some_and(|set| !set.is_empty())
        || (local.is_some() && endpoints.iter().any(anywhere));
    let both = cluster.iter().flatten().chain(local.iter().flatten());
    let reachable: BTreeMap<String, &Endpoint> = both.map(|e| (e.address(), *e)).collect();
    Categorized {
        reachable: reachable.into_values().collect(),
        cluster,
        local,
        any,
    }
}

/// Those chosen; where there is none, what serves while it terminates.
fn or_fallback<'e>(
    endpoints: &'e [Endpoint],
    chosen: impl Fn(&&'e Endpoint) -> bool,
    within: impl Fn(&&'e Endpoint) -> bool,
) -> Vec<&'e Endpoint> {
    let first: Vec<&Endpoint> = endpoints.iter().filter(chosen).collect();
    if !first.is_empty() {
        return first;
    }
    endpoints
        .iter()
        .filter(|e| e.is_fallback() && within(e))
        .collect()
}

/// Which hints hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mode {
    None,
    SameZone,
    SameNode,
}

impl Mode {
    /// A mode holds when every ready endpoint has its hint and one names this place.
    fn of(endpoints: &[Endpoint], place: Place<'_>) -> Mode {
        let holds = |mode: Mode, hinted: fn(&Endpoint) -> bool| {
            let mut ready = endpoints.iter().filter(|e| e.ready);
            let all = ready.clone().all(hinted);
            all && ready.any(|e| mode.allows(e, place))
        };
        if place.node_hints && holds(Mode::SameNode, |e| !e.node_hints.is_empty()) {
            return Mode::SameNode;
        }
        if !place.zone.is_empty() && holds(Mode::SameZone, |e| !e.zone_hints.is_empty()) {
            return Mode::SameZone;
        }
        Mode::None
    }

    fn allows(self, endpoint: &Endpoint, place: Place<'_>) -> bool {
        match self {
            Mode::None => true,
            Mode::SameZone => endpoint.zone_hints.contains(place.zone),
            Mode::SameNode => endpoint.node_hints.contains(place.node),
        }
    }
}
