//! What `ipMasq` asks for: one iptables chain per attachment and family.
//!
//! The rules themselves come with netfilter; here is which chain, for which addresses and with which
//! comment, so that they can be made, and the error that iptables gives when the chain is not there
//! (containernetworking/plugins pkg/ip/ipmasq_linux.go, pkg/utils/utils.go).

use crate::kube::cni::error::CniError;
use crate::kube::cni::host::CniState;
use crate::kube::cni::json::quote;
use ipnetwork::IpNetwork;
use sha2::{Digest, Sha512};

/// One attachment's masquerade.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Masquerade {
    /// Comment on each rule.
    pub comment: String,
    /// Addresses with their subnets: not masqueraded inside the subnet.
    pub sources: Vec<IpNetwork>,
}

/// `CNI-` and 24 hexadecimal digits of SHA-512 over network name and container id.
pub fn chain_name(network: &str, container: &str) -> String {
    hashed_name("CNI-", network, container)
}

/// A chain name of 28 characters: `prefix`, then as much of the hash as fits.
pub fn hashed_name(prefix: &str, network: &str, container: &str) -> String {
    let sum = Sha512::digest(format!("{network}{container}").as_bytes());
    let hex: String = sum.iter().map(|b| format!("{b:02x}")).collect();
    format!("{prefix}{hex}").chars().take(28).collect()
}

fn comment(network: &str, container: &str) -> String {
    format!("name: {} id: {}", quote(network), quote(container))
}

/// `SetupIPMasq` for one address.
pub fn setup(state: &mut CniState, network: &str, container: &str, address: IpNetwork) {
    let key = (chain_name(network, container), address.is_ipv4());
    let m = state.masquerades.entry(key).or_insert_with(|| Masquerade {
        comment: comment(network, container),
        sources: Vec::new(),
    });
    if !m.sources.contains(&address) {
        m.sources.push(address);
    }
}

/// `TeardownIPMasq` for one address. The chain goes with the first; for a chain that is not there iptables
/// (1.8, nf_tables) exits with 2, which the plugin does not take for "already gone".
pub fn teardown(
    state: &mut CniState,
    network: &str,
    container: &str,
    address: IpNetwork,
) -> Result<(), CniError> {
    let chain = chain_name(network, container);
    if state
        .masquerades
        .remove(&(chain.clone(), address.is_ipv4()))
        .is_some()
    {
        return Ok(());
    }
    let tool = if address.is_ipv4() {
        "iptables"
    } else {
        "ip6tables"
    };
    let args = format!(
        "/usr/sbin/{tool} -t nat -D POSTROUTING -s {} -j {chain} -m comment --comment {} --wait",
        address.ip(),
        comment(network, container)
    );
    Err(format!(
        "running [{args}]: exit status 2: {tool} v1.8.9 (nf_tables): Chain '{chain}' does not exist\n\
         Try `{tool} -h' or '{tool} --help' for more information.\n"
    )
    .into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chain_is_named_as_recorded() {
        assert_eq!(
            chain_name("podnet", "cont-b"),
            "CNI-bd1538076e8ef1e415235cbc"
        );
        assert_eq!(
            hashed_name("CNI-DN-", "podnet", "cont-a"),
            "CNI-DN-dbfcb1c990523515447a8"
        );
    }
}
