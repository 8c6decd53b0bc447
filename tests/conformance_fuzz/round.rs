//! One round as data: the rules, the frames that were put in, and what the kernel made of them.
//!
//! Everything a replay needs stands in it, so a round that once differed can be kept and judged without root.

use super::net::Shape;
use serde::{Deserialize, Serialize};

/// Which tools loaded the rules; legacy and nft are two sets of base chains in the kernel.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// `iptables-legacy-restore`
    Legacy,
    /// `iptables-nft-restore`
    Nft,
}

/// Where a frame is put in.
pub const LOCAL: &str = "local";

/// A frame put in.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Sent {
    /// Microseconds from the round's first frame.
    pub t_us: u64,
    /// The cable, or [`LOCAL`]: an IP packet of a process on the router.
    pub at: String,
    /// Its bytes.
    #[serde(with = "hex")]
    pub data: Vec<u8>,
    /// What is tried, for the reader.
    pub what: String,
}

/// A frame that came out.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Out {
    /// The cable.
    pub at: String,
    /// Its bytes.
    #[serde(with = "hex")]
    pub data: Vec<u8>,
}

/// What came of a round.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Outcome {
    /// Frames out of the router: cable by cable in order, no ARP, no neighbour or listener discovery.
    pub out: Vec<Out>,
    /// `iptables-save -c`.
    pub save: String,
    /// `conntrack -L -o extended`, a line each.
    pub conntrack: Vec<String>,
    /// `conntrack -E -e NEW`: what NAT decided.
    pub events: Vec<String>,
    /// `ipset save`.
    pub sets: String,
    /// `nft -j list ruleset`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub nft: String,
}

/// A round.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Round {
    /// The seed and number it was drawn from.
    pub seed: u64,
    /// Its number under that seed.
    pub number: u64,
    /// The router.
    pub shape: Shape,
    /// IPv6 rules and packets.
    pub v6: bool,
    /// Who loaded the rules.
    pub backend: Backend,
    /// Settings beside the usual ones.
    pub sysctl: Vec<(String, String)>,
    /// Input of `ipset restore`.
    pub sets: String,
    /// Input of `iptables-restore`.
    pub rules: String,
    /// Input of `nft -f`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub nft: String,
    /// It is loaded before the rules.
    #[serde(default, skip_serializing_if = "is_false")]
    pub nft_first: bool,
    /// Packets are of both families.
    #[serde(default, skip_serializing_if = "is_false")]
    pub dual: bool,
    /// Frames in order.
    pub sent: Vec<Sent>,
    /// What the kernel did.
    pub kernel: Outcome,
}

impl Round {
    /// Whether its rules make copies of packets.
    pub fn copies(&self) -> bool {
        self.rules.contains("-j TEE") || self.nft.contains("dup to")
    }

    /// Families of its packets: IPv6 if true.
    pub fn families(&self) -> &'static [bool] {
        match (self.dual, self.v6) {
            (true, _) => &[false, true],
            (_, false) => &[false],
            (_, true) => &[true],
        }
    }
}

fn is_false(b: &bool) -> bool {
    !b
}

mod hex {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(b: &[u8], s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&b.iter().map(|x| format!("{x:02x}")).collect::<String>())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(d)?;
        let pair = |i| {
            text.get(i..i + 2)
                .and_then(|p| u8::from_str_radix(p, 16).ok())
        };
        let bytes = (0..text.len()).step_by(2).map(pair);
        bytes
            .collect::<Option<_>>()
            .ok_or_else(|| D::Error::custom("hexadecimal digits, two for a byte"))
    }
}
