//! `ipMasq`: one iptables chain per attachment and family, which masquerades what leaves the subnet
//! (containernetworking/plugins 1.1.1 pkg/ip/ipmasq_linux.go `SetupIPMasq`, `TeardownIPMasq`;
//! pkg/utils/utils.go).
//!
//! Invariant: what teardown of an address removes is what setup of it made, with the errors iptables gives
//! when it is not there.

use crate::kube::cni::error::CniError;
use crate::kube::cni::host::Host;
use crate::kube::cni::iptables::{Failed, Iptables, words};
use crate::kube::cni::json::quote;
use ipnetwork::IpNetwork;
use sha2::{Digest, Sha512};

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
pub fn setup(
    host: &mut Host<'_>,
    network: &str,
    container: &str,
    address: IpNetwork,
) -> Result<(), CniError> {
    let tool = Iptables::new(address.is_ipv4());
    let (chain, comment) = (chain_name(network, container), comment(network, container));
    let said = ["-m", "comment", "--comment", &comment];
    let multicast = if address.is_ipv4() {
        "224.0.0.0/4"
    } else {
        "ff00::/8"
    };
    tool.ensure_chain(host, "nat", &chain)?;
    let net = address.to_string();
    let inside = [&["-d", net.as_str(), "-j", "ACCEPT"][..], &said].concat();
    tool.add_unique(host, ("nat", &chain), false, &words(&inside))?;
    let outside = [&["!", "-d", multicast, "-j", "MASQUERADE"][..], &said].concat();
    tool.add_unique(host, ("nat", &chain), false, &words(&outside))?;
    let entry = entry(&address.ip().to_string(), &chain, &comment);
    Ok(tool.add_unique(host, ("nat", "POSTROUTING"), false, &entry)?)
}

fn entry(source: &str, chain: &str, comment: &str) -> Vec<String> {
    words(&[
        "-s",
        source,
        "-j",
        chain,
        "-m",
        "comment",
        "--comment",
        comment,
    ])
}

/// `TeardownIPMasq` for one address. The chain goes with the first; for a chain that is not there iptables
/// (1.8, nf_tables) exits with 2, which the plugin does not take for "already gone".
pub fn teardown(
    host: &mut Host<'_>,
    network: &str,
    container: &str,
    address: IpNetwork,
) -> Result<(), CniError> {
    let tool = Iptables::new(address.is_ipv4());
    let (chain, comment) = (chain_name(network, container), comment(network, container));
    let gone = |done: Result<(), Failed>| match done {
        Err(f) if !f.is_not_exist() => Err(f),
        _ => Ok(()),
    };
    // The second is how older versions wrote it.
    for source in [address.ip().to_string(), address.to_string()] {
        let rule = entry(&source, &chain, &comment);
        gone(tool.delete(host, "nat", "POSTROUTING", &rule))?;
    }
    gone(tool.clear_chain(host, "nat", &chain))?;
    Ok(gone(tool.delete_chain(host, "nat", &chain))?)
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
