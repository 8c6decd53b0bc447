//! `proxy compare` on a cluster of 2,000 Services: read, built, compared and printed within two seconds.
//!
//! In release with the number and bound; in debug a tenth of it, where the times mean nothing and only
//! the answer counts. Prints the time of each part.

#![allow(missing_docs, reason = "a test binary")]

#[path = "common/all_services.rs"]
mod all_services;

use podpath::cluster::{Cluster, kube_proxy};
use podpath::kube::manifest::Input;
use podpath::kube::proxy::compare::Cause;
use podpath::kube::store::Store;
use podpath::report::proxy_compare;
use std::time::{Duration, Instant};

#[test]
fn two_thousand_services() {
    let services = if cfg!(debug_assertions) { 200 } else { 2000 };
    let text = all_services::list(services, vec![]);
    let start = Instant::now();
    let (store, _) = Store::load(&[Input::new("objects.json", text)]);
    let read = start.elapsed();
    let (cluster, _) = Cluster::build(store, 1);
    let built = start.elapsed();
    let report = kube_proxy::compare(&cluster, None, false).expect("rules that can be read");
    let compared = start.elapsed();
    let printed = proxy_compare::text(&report, false, false);
    let took = start.elapsed();
    println!(
        "{services} Services, {} classes: {took:.2?} (read {read:.2?}, built {:.2?}, compared {:.2?})\n{printed}",
        report.classes(),
        built - read,
        compared - built,
    );
    let known = [
        Cause::UndefinedPort,
        Cause::Unallocated,
        Cause::RangesWithoutEndpoints,
        Cause::LocalWithoutLocal,
    ];
    let causes: Vec<Cause> = report.by_cause().into_keys().collect();
    assert_eq!(causes, known);
    assert!(report.classes() > 3 * 4 * services, "{}", report.classes());
    if !cfg!(debug_assertions) {
        assert!(took < Duration::from_secs(2), "{took:?}");
    }
}
