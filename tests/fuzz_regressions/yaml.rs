//! Any bytes as a manifest: loading, looking up fields and typing raw objects.

use podpath::kube::listen;
use podpath::kube::manifest::Input;
use podpath::kube::store::Store;

/// No panic, whatever the document holds.
pub fn run(data: &[u8]) {
    let Ok(input) = Input::from_bytes("fuzz.yaml", data) else {
        return;
    };
    let (store, _) = Store::load(&[input]);
    for pod in store.pods.values() {
        let _ = listen::of_pod(pod);
        let _ = pod
            .source
            .origin_of("spec.containers[0].ports[0].containerPort");
    }
    for raw in store.unknown.values().flatten() {
        let _ = raw.parse::<serde_json::Value>();
    }
}
