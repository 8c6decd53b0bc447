//! Which IP families a Service has: `ipFamilyPolicy` and `ipFamilies` as the API server fills them in.
//!
//! kubernetes `pkg/registry/core/service/storage/alloc.go` (initIPFamilyFields) and
//! `pkg/apis/core/v1/defaults.go`. Invariant: at least one family comes out.

use k8s_openapi::api::core::v1::ServiceSpec;

use crate::kube::service::{Family, lenient};

/// What was decided.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Families {
    /// In order; `clusterIPs[i]` is of the i-th.
    pub list: Vec<Family>,
    /// `ipFamilyPolicy`.
    pub policy: &'static str,
    /// What cannot be as asked: field, what is wrong.
    pub wrong: Option<(&'static str, String)>,
}

const SINGLE: &str = "SingleStack";
const PREFER: &str = "PreferDualStack";
const REQUIRE: &str = "RequireDualStack";

/// Whether `clusterIP: None` is asked for.
pub(super) fn is_headless(spec: &ServiceSpec) -> bool {
    let listed = spec.cluster_ips.as_deref().unwrap_or_default().first();
    spec.cluster_ip.as_deref() == Some("None") || listed.is_some_and(|first| first == "None")
}

/// Whether pods are chosen by label.
pub(super) fn has_selector(spec: &ServiceSpec) -> bool {
    spec.selector.as_ref().is_some_and(|s| !s.is_empty())
}

/// The addresses that a Service states, `None` and empty ones left out.
pub(super) fn stated(spec: &ServiceSpec) -> Vec<&str> {
    let listed = spec.cluster_ips.as_deref().unwrap_or_default();
    let single = spec.cluster_ip.as_deref().filter(|_| listed.is_empty());
    let all = listed.iter().map(String::as_str).chain(single);
    all.filter(|text| !matches!(*text, "" | "None")).collect()
}

/// Decides. `configured` are the families of the cluster's Service CIDRs, the primary one first.
pub(super) fn families(spec: &ServiceSpec, configured: &[Family]) -> Families {
    let primary = configured.first().copied().unwrap_or(Family::V4);
    let other = |family: Family| match family {
        Family::V4 => Family::V6,
        Family::V6 => Family::V4,
    };
    let named = spec.ip_families.iter().flatten();
    let mut list: Vec<Family> = named
        .filter_map(|text| Family::ALL.into_iter().find(|f| f.name() == text))
        .collect();
    let ips = stated(spec).into_iter().filter_map(lenient::ip);
    list.extend(ips.map(Family::of).skip(list.len()));
    list.truncate(2);
    let asked = match spec.ip_family_policy.as_deref() {
        Some("SingleStack") => Some(SINGLE),
        Some("PreferDualStack") => Some(PREFER),
        Some("RequireDualStack") => Some(REQUIRE),
        _ => None,
    };
    let bare = is_headless(spec) && !has_selector(spec);
    // Headless and without a selector: both families unless one is asked for, whatever the cluster has.
    let policy = match asked {
        Some(policy) => policy,
        None if bare || list.len() == 2 => REQUIRE,
        None => SINGLE,
    };
    let mut wrong = None;
    if list.is_empty() {
        list.push(primary);
    }
    let first = list.first().copied().unwrap_or(primary);
    if policy == SINGLE {
        if list.len() == 2 {
            let message = "two families or addresses, but ipFamilyPolicy is SingleStack";
            wrong = Some(("spec.ipFamilyPolicy", message.to_owned()));
        }
    } else if list.len() == 1 {
        if bare || configured.contains(&other(first)) {
            list.push(other(first));
        } else if policy == REQUIRE {
            let message = "RequireDualStack, but this cluster has Service CIDRs of one family only";
            wrong = Some(("spec.ipFamilyPolicy", message.to_owned()));
        }
    }
    let missing = list
        .iter()
        .find(|family| !bare && !configured.contains(family));
    if let (Some(family), None) = (missing, &wrong) {
        let message = format!("this cluster has no Service CIDR of {}", family.name());
        wrong = Some(("spec.ipFamilies", message));
    }
    Families {
        list,
        policy,
        wrong,
    }
}

#[cfg(test)]
mod tests {
    use super::Family::{V4, V6};
    use super::*;

    fn of(spec: serde_json::Value, configured: &[Family]) -> (Vec<Family>, &'static str, bool) {
        let spec: ServiceSpec = serde_json::from_value(spec).unwrap();
        let f = families(&spec, configured);
        (f.list, f.policy, f.wrong.is_some())
    }

    #[test]
    fn as_the_api_server_fills_them_in() {
        use serde_json::json;
        let sel = json!({"a": "b"});
        for (spec, configured, list, policy, wrong) in [
            (
                json!({"selector": sel}),
                [V4, V6].as_slice(),
                vec![V4],
                SINGLE,
                false,
            ),
            (json!({}), &[V6, V4], vec![V6], SINGLE, false),
            (
                json!({"ipFamilyPolicy": PREFER}),
                &[V4, V6],
                vec![V4, V6],
                PREFER,
                false,
            ),
            (
                json!({"ipFamilyPolicy": PREFER}),
                &[V4],
                vec![V4],
                PREFER,
                false,
            ),
            (
                json!({"ipFamilyPolicy": REQUIRE}),
                &[V4],
                vec![V4],
                REQUIRE,
                true,
            ),
            (
                json!({"ipFamilyPolicy": REQUIRE, "ipFamilies": ["IPv6"]}),
                &[V4, V6],
                vec![V6, V4],
                REQUIRE,
                false,
            ),
            (
                json!({"ipFamilies": ["IPv6", "IPv4"]}),
                &[V4, V6],
                vec![V6, V4],
                REQUIRE,
                false,
            ),
            (
                json!({"clusterIP": "fd00::1"}),
                &[V4, V6],
                vec![V6],
                SINGLE,
                false,
            ),
            (
                json!({"clusterIPs": ["10.0.0.1", "fd00::1"]}),
                &[V4, V6],
                vec![V4, V6],
                REQUIRE,
                false,
            ),
            (
                json!({"ipFamilies": ["IPv6"]}),
                &[V4],
                vec![V6],
                SINGLE,
                true,
            ),
            (
                json!({"clusterIP": "None"}),
                &[V4],
                vec![V4, V6],
                REQUIRE,
                false,
            ),
            (
                json!({"clusterIP": "None", "selector": sel}),
                &[V4],
                vec![V4],
                SINGLE,
                false,
            ),
            (
                json!({"ipFamilyPolicy": SINGLE, "ipFamilies": ["IPv4", "IPv6"]}),
                &[V4, V6],
                vec![V4, V6],
                SINGLE,
                true,
            ),
        ] {
            assert_eq!(
                of(spec.clone(), configured),
                (list, policy, wrong),
                "{spec}"
            );
        }
    }
}
