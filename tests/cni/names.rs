//! Names that the kernel or a plugin drew at random: link addresses and `vethXXXXXXXX`.
//!
//! A recorded one corresponds to one of ours, one to one, for the length of a case.

use podpath::wire::MacAddr;
use std::collections::BTreeMap;
use std::net::Ipv6Addr;

/// The correspondence.
#[derive(Default)]
pub struct Names {
    ours: BTreeMap<String, String>,
    recorded: BTreeMap<String, String>,
}

impl Names {
    /// Whether a recorded text may stand for ours; new random names are bound by the first comparison.
    pub fn same(&mut self, recorded: &str, ours: &str) -> bool {
        if let (Some(r), Some(o)) = (link_local_mac(recorded), link_local_mac(ours)) {
            return self.same(&r, &o);
        }
        if is_random(recorded) && is_random(ours) && recorded.len() == ours.len() {
            return match (self.ours.get(recorded), self.recorded.get(ours)) {
                (Some(o), Some(r)) => o == ours && r == recorded,
                (None, None) => {
                    self.ours.insert(recorded.into(), ours.into());
                    self.recorded.insert(ours.into(), recorded.into());
                    true
                }
                _ => false,
            };
        }
        self.translate(recorded) == ours
    }

    /// A recorded text with its random names replaced by ours.
    pub fn translate(&self, recorded: &str) -> String {
        let mut out = recorded.to_owned();
        for (r, o) in &self.ours {
            // The replacement contains no recorded name: both are random.
            out = out.replace(r.as_str(), o);
        }
        out
    }
}

fn is_random(s: &str) -> bool {
    let veth = s
        .strip_prefix("veth")
        .is_some_and(|h| h.len() == 8 && h.bytes().all(|b| b.is_ascii_hexdigit()));
    veth || (s.len() == 17
        && s != "00:00:00:00:00:00"
        && s != "ff:ff:ff:ff:ff:ff"
        && s.parse::<MacAddr>().is_ok())
}

/// The address that an EUI-64 link-local address (with or without `/64`) was made from.
fn link_local_mac(s: &str) -> Option<String> {
    let ip: Ipv6Addr = s.trim_end_matches("/64").parse().ok()?;
    let b = ip.octets();
    let eui = b[0] == 0xfe && b[1] == 0x80 && b[11] == 0xff && b[12] == 0xfe;
    eui.then(|| MacAddr([b[8] ^ 2, b[9], b[10], b[13], b[14], b[15]]).to_string())
}
