//! Any bytes as a manifest: loading, looking up fields and typing raw objects must not panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use podpath::kube::manifest::Input;
use podpath::kube::store::Store;

fuzz_target!(|bytes: &[u8]| {
    let Ok(input) = Input::from_bytes("fuzz.yaml", bytes) else { return };
    let (store, _) = Store::load(&[input]);
    for pod in store.pods.values() {
        let _ = podpath::kube::listen::of_pod(pod);
        let _ = pod.source.origin_of("spec.containers[0].ports[0].containerPort");
    }
    for raw in store.unknown.values().flatten() {
        let _ = raw.parse::<serde_json::Value>();
    }
});
