//! What the API server would refuse in a NetworkPolicy, and the door to it for the store.
//!
//! kubernetes `pkg/apis/networking/validation/validation.go` (ValidateNetworkPolicySpec,
//! ValidateNetworkPolicyPort, ValidateNetworkPolicyPeer, ValidateIPBlock), apimachinery
//! `pkg/apis/meta/v1/validation` (ValidateLabelSelector). Bits behind a prefix are told and masked, not
//! refused: old objects hold them. The other kinds are [`super::check_crd`]'s.

use ipnetwork::IpNetwork;
use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::field::{Problem, Problems};
use crate::kube::store::Check;

/// The store's check of a NetworkPolicy.
pub(crate) fn network_policy(policy: &NetworkPolicy, check: &mut Check<'_>) {
    tell(problems(policy), check);
}

/// Hands problems to the store's report.
pub(super) fn tell(problems: Vec<Problem>, check: &mut Check<'_>) {
    for problem in problems {
        let (path, message, help) = (&problem.path, &problem.message, problem.help);
        if problem.refused {
            check.error(path, message, help);
        } else {
            check.warning(path, message, help);
        }
    }
}

/// What is wrong with a NetworkPolicy.
pub fn problems(policy: &NetworkPolicy) -> Vec<Problem> {
    let mut p = Problems::default();
    let empty = NetworkPolicySpec::default();
    let spec = policy.spec.as_ref().unwrap_or(&empty);
    if policy.spec.is_none() {
        let message = "a NetworkPolicy without a spec isolates every pod of its namespace";
        p.warn("spec", message, "write `spec: {}` if that is meant");
    }
    selector(spec.pod_selector.as_ref(), "spec.podSelector", &mut p);
    for (i, rule) in spec.ingress.iter().flatten().enumerate() {
        let at = format!("spec.ingress[{i}]");
        ports(rule.ports.as_deref().unwrap_or_default(), &at, &mut p);
        peers(
            rule.from.as_deref().unwrap_or_default(),
            &format!("{at}.from"),
            &mut p,
        );
    }
    for (i, rule) in spec.egress.iter().flatten().enumerate() {
        let at = format!("spec.egress[{i}]");
        ports(rule.ports.as_deref().unwrap_or_default(), &at, &mut p);
        peers(
            rule.to.as_deref().unwrap_or_default(),
            &format!("{at}.to"),
            &mut p,
        );
    }
    let types = spec.policy_types.as_deref().unwrap_or_default();
    if types.len() > 2 {
        let list = types.join(" ");
        let why = "may not specify more than two policyTypes";
        p.invalid("spec.policyTypes", format_args!("[{list}]"), why);
        return p.0;
    }
    for (i, word) in types.iter().enumerate() {
        if !matches!(word.as_str(), "Ingress" | "Egress") {
            let path = format!("spec.policyTypes[{i}]");
            p.not_supported(&path, word, &["Ingress", "Egress"]);
        }
    }
    p.0
}

fn ports(ports: &[NetworkPolicyPort], rule: &str, p: &mut Problems) {
    for (i, port) in ports.iter().enumerate() {
        let at = |field: &str| format!("{rule}.ports[{i}].{field}");
        protocol(port.protocol.as_deref(), &at("protocol"), p);
        match (&port.port, port.end_port) {
            (None, Some(end)) => {
                let why = "may not be specified when `port` is not specified";
                p.invalid(&at("endPort"), end, why);
            }
            (None, None) => {}
            (Some(IntOrString::Int(number)), end) => {
                p.port(&at("port"), *number);
                if let Some(end) = end {
                    if end < *number {
                        p.invalid(
                            &at("endPort"),
                            end,
                            "must be greater than or equal to `port`",
                        );
                    }
                    p.port(&at("endPort"), end);
                }
            }
            (Some(IntOrString::String(name)), end) => {
                if let Some(end) = end {
                    let why = "may not be specified when `port` is non-numeric";
                    p.invalid(&at("endPort"), end, why);
                }
                p.port_name(&at("port"), name);
                if name.parse::<u16>().is_ok() {
                    p.help("a number in quotes is a name: remove the quotes");
                }
            }
        }
    }
}

/// `TCP`, `UDP` or `SCTP`, or nothing.
pub(super) fn protocol(text: Option<&str>, path: &str, p: &mut Problems) {
    if let Some(text) = text.filter(|text| !matches!(*text, "TCP" | "UDP" | "SCTP")) {
        p.not_supported(path, text, &["TCP", "UDP", "SCTP"]);
        let upper = text.to_ascii_uppercase();
        if matches!(upper.as_str(), "TCP" | "UDP" | "SCTP") {
            p.help(format!("did you mean `{upper}`?"));
        }
    }
}

fn peers(peers: &[NetworkPolicyPeer], list: &str, p: &mut Problems) {
    for (i, peer) in peers.iter().enumerate() {
        let path = format!("{list}[{i}]");
        let NetworkPolicyPeer {
            ip_block,
            namespace_selector,
            pod_selector,
        } = peer;
        selector(pod_selector.as_ref(), &format!("{path}.podSelector"), p);
        selector(
            namespace_selector.as_ref(),
            &format!("{path}.namespaceSelector"),
            p,
        );
        if let Some(block) = ip_block {
            self::ip_block(block, &format!("{path}.ipBlock"), p);
        }
        let selects = pod_selector.is_some() || namespace_selector.is_some();
        match (selects, ip_block.is_some()) {
            (false, false) => {
                p.required(&path, "must specify a peer");
                p.help("`podSelector: {}` is every pod of the namespace; leave the list out for everyone");
            }
            (true, true) => p.forbidden(&path, "may not specify both ipBlock and another peer"),
            _ => {}
        }
    }
}

fn ip_block(block: &IPBlock, path: &str, p: &mut Problems) {
    let at = format!("{path}.cidr");
    if block.cidr.is_empty() {
        return p.required(&at, "");
    }
    let Some(cidr) = p.cidr(&at, &block.cidr) else {
        return;
    };
    for (i, text) in block.except.iter().flatten().enumerate() {
        let at = format!("{path}.except[{i}]");
        let Some(except) = p.cidr(&at, text) else {
            continue;
        };
        if !is_strict_subset(except, cidr) {
            p.invalid_text(&at, text, "must be a strict subset of `cidr`");
        }
    }
}

/// A longer prefix within `cidr`; families are never within each other.
fn is_strict_subset(except: IpNetwork, cidr: IpNetwork) -> bool {
    except.is_ipv4() == cidr.is_ipv4()
        && cidr.contains(except.network())
        && cidr.prefix() < except.prefix()
}

/// A label selector (ValidateLabelSelector).
pub(super) fn selector(selector: Option<&LabelSelector>, path: &str, p: &mut Problems) {
    let Some(selector) = selector else { return };
    let labels = format!("{path}.matchLabels");
    for (key, value) in selector.match_labels.iter().flatten() {
        p.label_key(&labels, key);
        p.label_value(&labels, value);
    }
    for (i, expression) in selector.match_expressions.iter().flatten().enumerate() {
        let at = |field: &str| format!("{path}.matchExpressions[{i}].{field}");
        let values = expression.values.as_deref().unwrap_or_default();
        match expression.operator.as_str() {
            "In" | "NotIn" if values.is_empty() => {
                let why = "must be specified when `operator` is 'In' or 'NotIn'";
                p.required(&at("values"), why);
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                p.forbidden(&at("values"), why);
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => p.invalid_text(&at("operator"), other, "not a valid selector operator"),
        }
        p.label_key(&at("key"), &expression.key);
        for (v, value) in values.iter().enumerate() {
            p.label_value(&at(&format!("values[{v}]")), value);
        }
    }
}
