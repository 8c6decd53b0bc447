//! ClusterIPs: stated ones are reserved, missing ones drawn from the Service CIDRs.
//!
//! kubernetes `pkg/registry/core/service/storage/alloc.go` (allocateClusterIPs, initIPFamilyFields),
//! `pkg/apis/core/v1/defaults.go` (SetDefaults_Service). ExternalName Services get nothing, headless ones
//! families only. What the input states is used even where the API server would have refused it.

use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::Run;
use super::families::{Families, families, is_headless, stated};
use super::ranges::{Addresses, Refused};
use crate::base::Finding;
use crate::kube::service::{Family, lenient};
use crate::kube::store::Name;

/// Who gives addresses and ports.
pub(super) const WHO: &str = "kube-apiserver";
/// kubeadm gives the cluster's DNS the tenth address (cmd/kubeadm constants.GetDNSIP).
const DNS: u128 = 10;

/// Fills in defaults, families and ClusterIPs of all Services.
pub(super) fn allocate(run: &mut Run<'_>) {
    let mut ranges: Vec<Addresses> = run
        .settings
        .service_cidrs
        .iter()
        .map(|net| Addresses::new(*net))
        .collect();
    let configured = run.settings.families();
    let names: Vec<Name> = run.out.services.keys().cloned().collect();
    let mut missing: Vec<(Name, usize, Family)> = Vec::new();
    for name in names {
        let Some(spec) = spec_mut(run, &name) else {
            continue;
        };
        defaults(spec);
        if spec.type_.as_deref() == Some("ExternalName") {
            continue;
        }
        let decided = families(spec, &configured);
        write_families(spec, &decided);
        if let Some((field, message)) = decided.wrong {
            let help =
                "the API server would refuse it; correct the Service or the Cluster's serviceCIDRs";
            run.warn(&name, field, message, help);
        }
        reserve(run, &name, &decided.list, &mut ranges, &mut missing);
    }
    if !missing.is_empty() && !run.settings.stated {
        let cidrs: Vec<String> = ranges.iter().map(|r| r.net.to_string()).collect();
        let message = format!(
            "no Service CIDR is stated: {} is assumed for Services without an address",
            cidrs.join(", ")
        );
        let span = missing
            .first()
            .and_then(|(name, ..)| run.out.services.get(name));
        let span = span.map(|s| s.source.span_of("spec")).unwrap_or_default();
        run.findings.push(Finding::note(span, message));
    }
    for (name, index, family) in missing {
        draw(run, &name, index, family, &mut ranges);
    }
}

/// A Service's spec.
pub(super) fn spec_mut<'s>(run: &'s mut Run<'_>, name: &Name) -> Option<&'s mut ServiceSpec> {
    run.out.services.get_mut(name)?.body.spec.as_mut()
}

fn defaults(spec: &mut ServiceSpec) {
    let empty = |text: &Option<String>| text.as_deref().unwrap_or_default().is_empty();
    if empty(&spec.type_) {
        spec.type_ = Some("ClusterIP".into());
    }
    let external = spec.external_ips.iter().flatten().next().is_some();
    let kind = spec.type_.as_deref().unwrap_or_default();
    let outside = matches!(kind, "NodePort" | "LoadBalancer") || (kind == "ClusterIP" && external);
    if outside && empty(&spec.external_traffic_policy) {
        spec.external_traffic_policy = Some("Cluster".into());
    }
    if kind != "ExternalName" && empty(&spec.internal_traffic_policy) {
        spec.internal_traffic_policy = Some("Cluster".into());
    }
    for port in spec.ports.iter_mut().flatten() {
        if empty(&port.protocol) {
            port.protocol = Some("TCP".into());
        }
        let unset = match &port.target_port {
            None => true,
            Some(IntOrString::Int(number)) => *number == 0,
            Some(IntOrString::String(name)) => name.is_empty(),
        };
        if unset {
            port.target_port = Some(IntOrString::Int(port.port));
        }
    }
}

fn write_families(spec: &mut ServiceSpec, decided: &Families) {
    spec.ip_families = Some(decided.list.iter().map(|f| f.name().to_owned()).collect());
    spec.ip_family_policy = Some(decided.policy.to_owned());
    if is_headless(spec) {
        spec.cluster_ip = Some("None".into());
        spec.cluster_ips = Some(vec!["None".into()]);
        return;
    }
    let mut ips: Vec<String> = stated(spec).into_iter().map(str::to_owned).collect();
    ips.truncate(decided.list.len());
    spec.cluster_ip = ips.first().cloned();
    spec.cluster_ips = Some(ips);
}

/// Reserves what a Service states; what it lacks goes to `missing`.
fn reserve(
    run: &mut Run<'_>,
    name: &Name,
    list: &[Family],
    ranges: &mut [Addresses],
    missing: &mut Vec<(Name, usize, Family)>,
) {
    let Some(spec) = spec_mut(run, name) else {
        return;
    };
    if is_headless(spec) {
        return;
    }
    let ips: Vec<String> = spec.cluster_ips.clone().unwrap_or_default();
    for (index, family) in list.iter().enumerate() {
        let Some(text) = ips.get(index) else {
            missing.push((name.clone(), index, *family));
            continue;
        };
        let field = field_of(run, name, index);
        // What is no address was said when the manifest was read.
        let Some(ip) = lenient::ip(text) else {
            continue;
        };
        let mut refused = Some(Refused::Outside);
        for range in ranges.iter_mut() {
            match range.take(ip, name) {
                Err(Refused::Outside) => {}
                other => refused = other.err(),
            }
        }
        match refused {
            None => {}
            Some(Refused::Taken(owner)) => {
                let message = format!("its address {ip} is Service {owner}'s already");
                let help = "the API server gives an address once: remove or change one of the two";
                run.warn(name, &field, message, help);
            }
            Some(Refused::Outside) if run.settings.stated => {
                let cidrs: Vec<String> = ranges.iter().map(|r| r.net.to_string()).collect();
                let message = format!(
                    "its address {ip} is in none of the Service CIDRs {}",
                    cidrs.join(", ")
                );
                let help = "correct the address, or serviceCIDRs of the Cluster document";
                run.warn(name, &field, message, help);
            }
            Some(Refused::Outside) => {}
        }
    }
}

/// The field that states an address: the list where it is written, else the single one.
fn field_of(run: &Run<'_>, name: &Name, index: usize) -> String {
    let written = run.store.services.get(name).and_then(|s| s.spec.as_ref());
    let listed = written.and_then(|spec| spec.cluster_ips.as_ref());
    match listed {
        Some(_) => format!("spec.clusterIPs[{index}]"),
        None => "spec.clusterIP".to_owned(),
    }
}

fn draw(run: &mut Run<'_>, name: &Name, index: usize, family: Family, ranges: &mut [Addresses]) {
    let mut rng = run.rng(family.name(), name);
    let range = ranges.iter_mut().find(|r| Family::of(r.net.ip()) == family);
    let Some(range) = range else {
        return; // said with the families
    };
    let dns = *name == Name::new("kube-system", "kube-dns");
    let tenth = range
        .nth(DNS)
        .filter(|ip| dns && range.take(*ip, name).is_ok());
    let Some(ip) = tenth.or_else(|| range.next(&mut rng, name)) else {
        let message = format!("no address is left in Service CIDR {}", range.net);
        run.warn(
            name,
            "spec",
            message,
            "widen serviceCIDRs in the Cluster document",
        );
        return;
    };
    if let Some(spec) = spec_mut(run, name) {
        give(spec, ip.to_string(), index);
    }
    run.made(
        WHO,
        name,
        format!("spec.clusterIPs[{index}]"),
        ip.to_string(),
    );
}

fn give(spec: &mut ServiceSpec, ip: String, index: usize) {
    let ips = spec.cluster_ips.get_or_insert_default();
    // A family whose range is full leaves no gap: kube-proxy goes by the position.
    ips.resize(index.max(ips.len()), String::new());
    match ips.get_mut(index) {
        Some(slot) => *slot = ip,
        None => ips.push(ip),
    }
    spec.cluster_ip = ips.first().cloned();
}

/// Whether a Service has a spec that says it is only a name.
pub(super) fn is_external_name(service: &Service) -> bool {
    let spec = service.spec.as_ref();
    spec.and_then(|s| s.type_.as_deref()) == Some("ExternalName")
}
