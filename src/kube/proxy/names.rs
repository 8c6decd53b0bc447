//! Chain names that kube-proxy derives by hash.
//!
//! kubernetes `pkg/proxy/iptables/proxier.go` (portProtoHash, servicePortEndpointChainName),
//! `pkg/proxy/nftables/proxier.go` (hashAndTruncate, servicePortChainNameBase). Base32 is RFC 4648 section 6.

use sha2::{Digest, Sha256};

use crate::kube::service::PortName;

/// Characters of the hash in an iptables chain name: 28 are allowed for all of it.
const IPTABLES_HASH: usize = 16;
/// Characters of the hash in an nftables name.
const NFT_HASH: usize = 8;
/// An nftables name without its prefix (chainNameBaseLengthMax).
const NFT_BASE_MAX: usize = 240;

/// The chains that a service port may have in iptables mode.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum ChainKind {
    /// `KUBE-SVC-`: any endpoint.
    Cluster,
    /// `KUBE-SVL-`: endpoints of this node.
    Local,
    /// `KUBE-EXT-`: traffic from outside.
    External,
    /// `KUBE-FW-`: source ranges.
    Firewall,
}

impl ChainKind {
    fn prefix(self) -> &'static str {
        match self {
            ChainKind::Cluster => "KUBE-SVC-",
            ChainKind::Local => "KUBE-SVL-",
            ChainKind::External => "KUBE-EXT-",
            ChainKind::Firewall => "KUBE-FW-",
        }
    }
}

/// What all endpoint chains begin with.
const ENDPOINT: &str = "KUBE-SEP-";

/// A service port's chain.
pub fn chain(kind: ChainKind, port: &PortName) -> String {
    format!("{}{}", kind.prefix(), hash(port, ""))
}

/// An endpoint's chain; `endpoint` is `IP:port`.
pub fn endpoint_chain(port: &PortName, endpoint: &str) -> String {
    format!("{ENDPOINT}{}", hash(port, endpoint))
}

/// The 16 characters that tell service ports and endpoints apart.
pub fn hash(port: &PortName, endpoint: &str) -> String {
    base32(&format!("{port}{}{endpoint}", port.protocol), IPTABLES_HASH)
}

/// Whether a chain is one of those, and so kube-proxy's to delete (isServiceChainName).
pub fn is_service_chain(chain: &str) -> bool {
    use ChainKind::{Cluster, External, Firewall, Local};
    let kinds = [Cluster, Local, External, Firewall];
    let mut prefixes = kinds.map(ChainKind::prefix).into_iter().chain([ENDPOINT]);
    prefixes.any(|prefix| chain.starts_with(prefix))
}

/// What the names of a service port's chains in nftables mode end with; with an endpoint (`IP:port`), those
/// of the endpoint's.
pub fn nft_base(port: &PortName, endpoint: Option<&str>) -> String {
    let service = &port.service;
    let (namespace, name) = (&service.namespace, &service.name);
    let mut text = format!("{namespace}/{name}/{}/{}", port.protocol, port.port);
    if let Some((ip, number)) = endpoint.and_then(|endpoint| endpoint.rsplit_once(':')) {
        // A name may hold no colon or bracket.
        let ip = ip.trim_matches(['[', ']']).replace(':', ".");
        text.push_str(&format!("__{ip}/{number}"));
    }
    let mut base = format!("{}-{text}", base32(&text, NFT_HASH));
    if base.len() > NFT_BASE_MAX {
        base = base.chars().take(NFT_BASE_MAX - 3).collect::<String>() + "...";
    }
    base
}

/// The probability with which rule `n` from the last takes the packet: 1/n, ten decimals
/// (computeProbability).
pub fn probability(n: usize) -> String {
    // Endpoint counts are far below 2^52: the conversion is exact.
    #[allow(clippy::cast_precision_loss, reason = "see above")]
    let n = n as f64;
    format!("{:.10}", 1.0 / n)
}

/// The first `length` characters of the SHA-256 of `text` in base 32.
pub(in crate::kube) fn base32(text: &str, length: usize) -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let sum = Sha256::digest(text.as_bytes());
    let (mut bits, mut held, mut out) = (0_u32, 0_u32, String::new());
    for byte in sum {
        bits = (bits << 8) | u32::from(byte);
        held += 8;
        while held >= 5 && out.len() < length {
            held -= 5;
            let digit = (bits >> held) & 31;
            out.extend(ALPHABET.get(digit as usize).map(|c| char::from(*c)));
        }
        bits &= (1 << held) - 1;
        if out.len() == length {
            break;
        }
    }
    out
}
