//! Calico: block-affinity IPAM, the CNI plugins `calico` and `calico-ipam`, and what Felix and BIRD lay on a
//! node.
//!
//! [`pool`] reads IPPool CRs, [`ipam`] hands out addresses by blocks, [`plugin`] makes a pod's veth,
//! [`node`] plans tunnels and routes. Facts: projectcalico/calico, paths beside the code.

pub mod ipam;
pub mod node;
pub mod plugin;
pub mod pool;
pub mod rules;
pub mod selector;

pub use ipam::{Ipam, IpamError};
pub use node::{CalicoNode, plan};
pub use pool::{Encap, IpPool};

use sha1::{Digest, Sha1};

/// The node's end of a pod's veth: `cali` and 11 hexadecimal digits of SHA-1 over `NAMESPACE.POD`
/// (libcalico-go lib/backend/k8s/conversion/workload_endpoint_default.go).
pub fn veth_name(namespace: &str, pod: &str) -> String {
    let sum = Sha1::digest(format!("{namespace}.{pod}").as_bytes());
    let hex: String = sum.iter().take(6).map(|b| format!("{b:02x}")).collect();
    format!("cali{}", hex.get(..11).unwrap_or(&hex))
}

#[cfg(test)]
mod tests {
    #[test]
    fn veths_are_named_as_calico_names_them() {
        // libcalico-go lib/backend/k8s/conversion/conversion_test.go expects this hash.
        assert_eq!(super::veth_name("namespace", "podname"), "cali82111e10a96");
    }
}
