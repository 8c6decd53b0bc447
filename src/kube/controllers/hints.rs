//! Topology hints of EndpointSlices.
//!
//! kubernetes `staging/src/k8s.io/endpointslice`: `topologycache/topologycache.go` (AddHints, getAllocations,
//! SetNodes; annotation `service.kubernetes.io/topology-mode: Auto`), `topologycache/utils.go`
//! (redistributeHints, getGivingAndReceivingZones), `trafficdist/trafficdist.go` (trafficDistribution). The
//! annotation wins over the field. Where the controller walks a Go map, zones go by name here.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointHints, EndpointSlice, ForNode, ForZone};

use super::apiserver::is_control_plane;
use crate::kube::store::Store;

const ZONE: &str = "topology.kubernetes.io/zone";
const MODE: &str = "service.kubernetes.io/topology-mode";
const OLD_MODE: &str = "service.kubernetes.io/topology-aware-hints";
/// How much more load than its share an endpoint may get (overloadThreshold).
const OVERLOAD: f64 = 0.2;

/// The share of the nodes' CPUs that each zone has; else why it cannot be known.
pub(super) struct Topology {
    ratios: Result<BTreeMap<String, f64>, String>,
}

/// What a zone is to get of the endpoints.
struct Allocation {
    desired: f64,
}

impl Topology {
    /// TopologyCache.SetNodes.
    pub fn of(store: &Store) -> Topology {
        Topology {
            ratios: ratios(store),
        }
    }

    /// Gives the slices of one family their hints; why not, where the annotation asks in vain.
    pub fn hint(
        &self,
        annotations: &BTreeMap<String, String>,
        distribution: Option<&str>,
        slices: &mut [EndpointSlice],
    ) -> Option<String> {
        let mode = annotations.get(OLD_MODE).or_else(|| annotations.get(MODE));
        if mode.is_some_and(|mode| mode == "Auto" || mode == "auto") {
            let done = self.auto(slices);
            if done.is_err() {
                endpoints(slices).for_each(|e| e.hints = None);
            }
            return done.err();
        }
        match distribution {
            Some("PreferClose" | "PreferSameZone") => close(slices, false),
            Some("PreferSameNode") => close(slices, true),
            _ => {}
        }
        None
    }

    fn auto(&self, slices: &mut [EndpointSlice]) -> Result<(), String> {
        let ratios = self.ratios.as_ref().map_err(Clone::clone)?;
        let ready = endpoints(slices).filter(|e| is_ready(e)).count();
        let allocations = allocations(ratios, ready)?;
        let mut have: BTreeMap<String, usize> = BTreeMap::new();
        for endpoint in endpoints(slices).filter(|e| is_ready(e)) {
            let Some(zone) = endpoint.zone.clone().filter(|zone| !zone.is_empty()) else {
                let address = endpoint.addresses.first().cloned().unwrap_or_default();
                return Err(format!("endpoint {address} is on a node without a zone"));
            };
            endpoint.hints = Some(zone_hint(zone.clone()));
            *have.entry(zone).or_default() += 1;
        }
        let (mut giving, mut receiving) = giving_and_receiving(&allocations, &have);
        for endpoint in endpoints(slices).filter(|e| is_ready(e)) {
            let zone = endpoint.zone.clone().unwrap_or_default();
            if !giving.contains_key(&zone) {
                continue;
            }
            let Some(to) = receiving.keys().next().cloned() else {
                break;
            };
            endpoint.hints = Some(zone_hint(to.clone()));
            one_less(&mut giving, &zone);
            one_less(&mut receiving, &to);
        }
        Ok(())
    }
}

fn endpoints(slices: &mut [EndpointSlice]) -> impl Iterator<Item = &mut Endpoint> {
    slices
        .iter_mut()
        .flat_map(|slice| slice.endpoints.iter_mut())
}

fn is_ready(endpoint: &Endpoint) -> bool {
    endpoint.conditions.as_ref().and_then(|c| c.ready) == Some(true)
}

fn zone_hint(zone: String) -> EndpointHints {
    EndpointHints {
        for_zones: Some(vec![ForZone { name: zone }]),
        for_nodes: None,
    }
}

fn one_less(zones: &mut BTreeMap<String, usize>, zone: &str) {
    match zones.get_mut(zone) {
        Some(n) if *n > 1 => *n -= 1,
        _ => {
            zones.remove(zone);
        }
    }
}

/// preferCloseHeuristic: an endpoint's own zone, with `node` its own node too.
fn close(slices: &mut [EndpointSlice], node: bool) {
    for endpoint in endpoints(slices).filter(|e| is_ready(e)) {
        let zones = endpoint.zone.clone().map(|name| vec![ForZone { name }]);
        let nodes = endpoint.node_name.clone().filter(|_| node);
        let nodes = nodes.map(|name| vec![ForNode { name }]);
        let some = zones.is_some() || nodes.is_some();
        endpoint.hints = some.then_some(EndpointHints {
            for_zones: zones,
            for_nodes: nodes,
        });
    }
}

/// getAllocations: each zone's share, if every zone can have at least 1/1.2 of it.
fn allocations(
    ratios: &BTreeMap<String, f64>,
    endpoints: usize,
) -> Result<BTreeMap<String, Allocation>, String> {
    let zones = ratios.len();
    if zones > endpoints {
        return Err(format!(
            "fewer ready endpoints than zones ({endpoints} endpoints, {zones} zones)"
        ));
    }
    let mut least = 0.0;
    let mut out = BTreeMap::new();
    for (zone, ratio) in ratios {
        let share = ratio * count(endpoints);
        let minimum = (share * (1.0 / (1.0 + OVERLOAD))).ceil();
        least += minimum;
        let desired = share.max(minimum);
        out.insert(zone.clone(), Allocation { desired });
    }
    if least > count(endpoints) {
        return Err(format!(
            "some zone would be overloaded by more than 20% ({endpoints} endpoints, {zones} zones)"
        ));
    }
    Ok(out)
}

#[allow(
    clippy::cast_precision_loss,
    reason = "endpoints are far fewer than 2^52"
)]
fn count(n: usize) -> f64 {
    n as f64
}

type Counts = BTreeMap<String, usize>;

/// getGivingAndReceivingZones: whole endpoints that go from zones with too many to those with too few.
fn giving_and_receiving(wanted: &BTreeMap<String, Allocation>, have: &Counts) -> (Counts, Counts) {
    let (mut give, mut want) = (BTreeMap::new(), BTreeMap::new());
    for (zone, allocation) in wanted {
        let more = count(have.get(zone).copied().unwrap_or(0)) - allocation.desired;
        if more > 0.0 {
            give.insert(zone.clone(), more);
        } else if more < 0.0 {
            want.insert(zone.clone(), -more);
        }
    }
    let (mut giving, mut receiving) = (Counts::new(), Counts::new());
    while let (Some((from, n)), Some((to, m))) = (most(&give), most(&want)) {
        if (n < 1.0 && m < 1.0) || n < 0.5 || m < 0.5 {
            break;
        }
        *giving.entry(from.clone()).or_default() += 1;
        *receiving.entry(to.clone()).or_default() += 1;
        give.insert(from, n - 1.0);
        want.insert(to, m - 1.0);
    }
    (giving, receiving)
}

/// The first zone with the largest number above zero.
fn most(zones: &BTreeMap<String, f64>) -> Option<(String, f64)> {
    let mut best: Option<(&String, f64)> = None;
    for (zone, n) in zones {
        if *n > best.map_or(0.0, |(_, n)| n) {
            best = Some((zone, *n));
        }
    }
    best.map(|(zone, n)| (zone.clone(), n))
}

fn ratios(store: &Store) -> Result<BTreeMap<String, f64>, String> {
    let mut by_zone: BTreeMap<String, u64> = BTreeMap::new();
    for node in store.nodes.values() {
        if is_control_plane(node) || !is_node_ready(node) {
            continue;
        }
        let labels = node.metadata.labels.as_ref();
        let zone = labels.and_then(|l| l.get(ZONE)).filter(|z| !z.is_empty());
        let Some(zone) = zone else {
            return Err(format!("node {} has no label {ZONE}", node.name));
        };
        let milli = cpu(node).filter(|milli| *milli > 0);
        let Some(milli) = milli else {
            return Err(format!("node {} has no status.allocatable.cpu", node.name));
        };
        *by_zone.entry(zone.clone()).or_default() += milli;
    }
    if by_zone.len() < 2 {
        return Err("the ready worker nodes are in fewer than two zones".into());
    }
    let total: u64 = by_zone.values().sum();
    #[allow(
        clippy::cast_precision_loss,
        reason = "milli-CPUs are far fewer than 2^52"
    )]
    let ratio = |milli: u64| milli as f64 / total as f64;
    Ok(by_zone
        .into_iter()
        .map(|(zone, milli)| (zone, ratio(milli)))
        .collect())
}

/// A node without conditions was never on a cluster and is taken for ready.
fn is_node_ready(node: &Node) -> bool {
    let status = node.status.as_ref();
    let conditions = status
        .and_then(|s| s.conditions.as_deref())
        .unwrap_or_default();
    let ready = conditions.iter().find(|c| c.type_ == "Ready");
    conditions.is_empty() || ready.is_some_and(|c| c.status == "True")
}

/// Thousandths of a CPU that pods may use.
fn cpu(node: &Node) -> Option<u64> {
    let allocatable = node.status.as_ref()?.allocatable.as_ref()?;
    milli(&allocatable.get("cpu")?.0)
}

/// A CPU quantity in thousandths: `4`, `3920m`, `1.5`.
pub(crate) fn milli(text: &str) -> Option<u64> {
    if let Some(number) = text.strip_suffix('m') {
        return number.parse().ok();
    }
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let fraction: String = fraction.chars().chain("000".chars()).take(3).collect();
    let whole: u64 = whole.parse().ok()?;
    whole.checked_mul(1000)?.checked_add(fraction.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(zones: &[(&str, usize)]) -> Vec<EndpointSlice> {
        let ready = |zone: &str, i: usize| {
            let value = serde_json::json!({"addresses": [format!("10.0.0.{i}")], "zone": zone,
                "nodeName": format!("n-{zone}"), "conditions": {"ready": true}});
            serde_json::from_value::<Endpoint>(value).unwrap()
        };
        let all = zones
            .iter()
            .flat_map(|(zone, n)| (0..*n).map(move |i| ready(zone, i)));
        vec![EndpointSlice {
            endpoints: all.collect(),
            ..EndpointSlice::default()
        }]
    }

    fn topology(zones: &[(&str, f64)]) -> Topology {
        let ratios = zones.iter().map(|(z, r)| ((*z).to_owned(), *r)).collect();
        Topology { ratios: Ok(ratios) }
    }

    fn hinted(slices: &[EndpointSlice]) -> BTreeMap<String, usize> {
        let mut out = BTreeMap::new();
        for e in &slices[0].endpoints {
            for z in e.hints.iter().flat_map(|h| h.for_zones.iter().flatten()) {
                *out.entry(z.name.clone()).or_default() += 1;
            }
        }
        out
    }

    /// The controller's own case of uneven zones (topologycache_test.go): 1 of 5 endpoints moves.
    #[test]
    fn zones_get_their_share() {
        let auto = BTreeMap::from([(MODE.to_owned(), "Auto".to_owned())]);
        let thirds = [("a", 1.0 / 3.0), ("b", 1.0 / 3.0), ("c", 1.0 / 3.0)];
        let mut slices = slice(&[("a", 5), ("b", 1)]);
        assert_eq!(topology(&thirds).hint(&auto, None, &mut slices), None);
        let want = [("a", 2), ("b", 2), ("c", 2)].map(|(z, n)| (z.to_owned(), n));
        assert_eq!(hinted(&slices), BTreeMap::from(want));
        // Two endpoints cannot serve three zones; nor one CPU-heavy zone without overload.
        let mut few = slice(&[("a", 1), ("b", 1)]);
        assert!(topology(&thirds).hint(&auto, None, &mut few).is_some());
        assert_eq!(hinted(&few), BTreeMap::new());
        let mut uneven = slice(&[("a", 1), ("b", 1)]);
        let heavy = [("a", 0.9), ("b", 0.1)];
        let why = topology(&heavy).hint(&auto, None, &mut uneven);
        assert!(why.is_some_and(|w| w.contains("overloaded")));
    }

    #[test]
    fn distribution_names_the_endpoints_own_zone_and_node() {
        let mut slices = slice(&[("a", 1), ("b", 1)]);
        let t = topology(&[]);
        assert_eq!(
            t.hint(&BTreeMap::new(), Some("PreferSameNode"), &mut slices),
            None
        );
        let nodes = |s: &[EndpointSlice]| {
            let hints = s[0].endpoints.iter().filter_map(|e| e.hints.as_ref());
            hints
                .filter_map(|h| Some(h.for_nodes.as_ref()?[0].name.clone()))
                .collect::<Vec<_>>()
        };
        assert_eq!(nodes(&slices), ["n-a", "n-b"]);
        let mut slices = slice(&[("a", 1), ("b", 1)]);
        t.hint(&BTreeMap::new(), Some("PreferClose"), &mut slices);
        assert_eq!((nodes(&slices).len(), hinted(&slices).len()), (0, 2));
    }

    #[test]
    fn quantities() {
        for (text, want) in [
            ("4", Some(4000)),
            ("3920m", Some(3920)),
            ("1.5", Some(1500)),
            ("x", None),
        ] {
            assert_eq!(milli(text), want, "{text}");
        }
    }
}
