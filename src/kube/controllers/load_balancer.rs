//! Addresses of load balancers, where the Cluster document names a pool (`loadBalancer.cidrs`).
//!
//! Stands in for a cloud's or MetalLB's controller: the first free address of the pool of each family, in
//! the order of names, `spec.loadBalancerIP` where it is free. Without a pool a Service stays without one,
//! as on a cluster that has no such controller (`<pending>`). A status that is present is believed.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use k8s_openapi::api::core::v1::{LoadBalancerIngress, Service};

use super::Run;
use super::ranges::address;
use crate::kube::service::{Family, lenient};
use crate::kube::store::Name;

const WHO: &str = "load-balancer";
/// Addresses of a pool that are looked at.
const POOL_MAX: u128 = 1 << 16;

/// Assigns addresses to Services that lack one.
pub(super) fn assign(run: &mut Run<'_>) {
    let pools = run.settings.pools.clone();
    if pools.is_empty() {
        return;
    }
    let mut taken: BTreeSet<IpAddr> = BTreeSet::new();
    for service in run.out.services.values() {
        let present = ingress(service).iter().filter_map(|i| i.ip.as_deref());
        taken.extend(present.filter_map(lenient::ip));
    }
    let names: Vec<Name> = run.out.services.keys().cloned().collect();
    for name in names {
        let Some(service) = run.out.services.get(&name) else {
            continue;
        };
        let Some(spec) = service.spec.as_ref() else {
            continue;
        };
        let wants = spec.type_.as_deref() == Some("LoadBalancer") && ingress(service).is_empty();
        if !wants {
            continue;
        }
        let asked = spec.load_balancer_ip.as_deref().and_then(lenient::ip);
        let families: Vec<Family> = Family::ALL
            .into_iter()
            .filter(|f| spec.ip_families.iter().flatten().any(|t| t == f.name()))
            .collect();
        let mut given = Vec::new();
        for family in families {
            let in_pool = |ip: &IpAddr| pools.iter().any(|pool| pool.contains(*ip));
            let own = asked.filter(|ip| Family::of(*ip) == family && in_pool(ip));
            let own = own.filter(|ip| !taken.contains(ip));
            if let Some(ip) = own.or_else(|| first_free(&pools, family, &taken)) {
                taken.insert(ip);
                given.push(ip);
            }
        }
        if given.is_empty() {
            let message = "no address is left for it in loadBalancer.cidrs".to_owned();
            run.warn(
                &name,
                "spec.type",
                message,
                "it stays without one; widen the pool",
            );
        }
        give(run, &name, &given);
    }
}

fn ingress(service: &Service) -> &[LoadBalancerIngress] {
    let status = service.status.as_ref();
    status
        .and_then(|s| s.load_balancer.as_ref()?.ingress.as_deref())
        .unwrap_or_default()
}

fn first_free(pools: &[IpNetwork], family: Family, taken: &BTreeSet<IpAddr>) -> Option<IpAddr> {
    let of_family = pools.iter().filter(|pool| Family::of(pool.ip()) == family);
    let mut all = of_family.flat_map(|pool| {
        let bits = if pool.is_ipv4() { 32 } else { 128 } - u32::from(pool.prefix());
        let size = (1_u128 << bits.min(64)).min(POOL_MAX);
        (0..size).map(|n| address(*pool, n))
    });
    all.find(|ip| !taken.contains(ip))
}

fn give(run: &mut Run<'_>, name: &Name, ips: &[IpAddr]) {
    if let Some(service) = run.out.services.get_mut(name).filter(|_| !ips.is_empty()) {
        let status = service.body.status.get_or_insert_default();
        let balancer = status.load_balancer.get_or_insert_default();
        let entry = |ip: &IpAddr| LoadBalancerIngress {
            ip: Some(ip.to_string()),
            ip_mode: Some("VIP".into()),
            ..LoadBalancerIngress::default()
        };
        balancer.ingress = Some(ips.iter().map(entry).collect());
    }
    for (i, ip) in ips.iter().enumerate() {
        let field = format!("status.loadBalancer.ingress[{i}].ip");
        run.made(WHO, name, field, ip.to_string());
    }
}
