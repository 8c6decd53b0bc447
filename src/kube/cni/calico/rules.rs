//! Felix's NAT rules and the ipsets they ask: masquerade of what leaves the pools, and of what enters a
//! tunnel from a wrong address of the node.
//!
//! As of Calico 3.25 to 3.30, iptables data plane (felix/rules/nat.go `NATOutgoingChain`, static.go
//! `StaticNATTableChains`, felix/dataplane/linux/{masq_mgr,int_dataplane}.go); the comments are Felix's
//! rule hashes (felix/iptables/rules.go `RuleHashes`). Its filter, raw and mangle chains carry policy and
//! are not here. Invariant: a rule's hash is that of all rules of its chain up to it.

use super::node::CalicoNode;
use super::pool::{Encap, IpPool};
use crate::kube::cni::iptables::RuleOp;
use crate::nf::Family;
use sha2::{Digest, Sha224};

/// An ipset: its name and its members, as `ipset save` would list them sorted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CalicoSet {
    /// `cali40masq-ipam-pools`...
    pub name: String,
    /// IPv4 or IPv6; the type is `hash:net`.
    pub family: Family,
    /// Networks.
    pub members: Vec<ipnetwork::IpNetwork>,
}

impl CalicoSet {
    /// Input of `ipset restore` that makes it.
    pub fn to_restore(&self) -> String {
        let family = match self.family {
            Family::V4 => "inet",
            Family::V6 => "inet6",
        };
        // felix/ipsets/ipsets.go: MaxIpsetSize.
        let name = &self.name;
        let mut out = format!("create {name} hash:net family {family} maxelem 1048576\n");
        for m in &self.members {
            out += &format!("add {name} {m}\n");
        }
        out
    }
}

/// The sets the rules ask: all pools, and those with `natOutgoing` (masq_mgr.go).
pub fn sets(pools: &[IpPool]) -> Vec<CalicoSet> {
    let mut out = Vec::new();
    for (family, digit) in [(Family::V4, '4'), (Family::V6, '6')] {
        let of = |masq: bool| {
            let mine = pools.iter().filter(|p| Family::of(p.cidr.ip()) == family);
            let mut nets: Vec<_> = mine
                .filter(|p| !masq || p.nat_outgoing)
                .map(|p| p.cidr)
                .collect();
            nets.sort();
            nets
        };
        for (id, masq) in [("all-ipam-pools", false), ("masq-ipam-pools", true)] {
            let members = of(masq);
            out.push(CalicoSet {
                name: format!("cali{digit}0{id}"),
                family,
                members,
            });
        }
    }
    out
}

/// A chain of Felix's; each rule is its matches and its target.
struct Chain {
    name: &'static str,
    rules: Vec<String>,
}

fn chain(name: &'static str, rules: &[&str]) -> Chain {
    Chain {
        name,
        rules: rules.iter().map(|r| (*r).to_owned()).collect(),
    }
}

impl Chain {
    /// Its rules as commands, with their hashes as comments; `op` is `-A` or `-I`.
    fn lines(&self, op: &str) -> Vec<String> {
        let hashes = hashes(self.name, &self.rules);
        let rules = self.rules.iter().zip(hashes);
        let one = |(r, h): (&String, String)| {
            format!("{op} {} -m comment --comment \"cali:{h}\" {r}", self.name)
        };
        rules.map(one).collect()
    }
}

/// The hash of each rule: of the one before it, of the chain's name at first, and its own text.
pub(in crate::kube) fn hashes(chain: &str, rules: &[String]) -> Vec<String> {
    let mut last = Sha224::digest(chain.as_bytes()).to_vec();
    let mut out = Vec::new();
    for rule in rules {
        let mut sum = Sha224::new();
        sum.update(&last);
        sum.update(format!("-A {chain} HASH {rule}").as_bytes());
        last = sum.finalize().to_vec();
        let name = base64(&last);
        out.push(name.get(..16).unwrap_or(&name).to_owned());
    }
    out
}

/// URL-safe base64 without padding (RFC 4648 section 5).
pub(in crate::kube) fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut out = String::new();
    for group in bytes.chunks(3) {
        let byte = |i: usize| u32::from(group.get(i).copied().unwrap_or(0));
        let n = byte(0) << 16 | byte(1) << 8 | byte(2);
        for shift in [18, 12, 6, 0].into_iter().take(group.len() + 1) {
            let at = usize::try_from(n >> shift & 63).unwrap_or(0);
            out.push(LETTERS.get(at).map_or('A', |b| char::from(*b)));
        }
    }
    out
}

/// The nat tables of a node.
pub fn nat_rules(pools: &[IpPool], me: &CalicoNode) -> Vec<RuleOp> {
    let uses = |encap: &dyn Fn(&IpPool) -> bool, v4: bool| {
        let mine = pools.iter().filter(|p| p.cidr.is_ipv4() == v4);
        { mine }.any(encap)
    };
    let vxlan = |p: &IpPool| p.vxlan != Encap::Never;
    let mut ops = Vec::new();
    for v4 in [true, false] {
        let mine = || pools.iter().filter(|p| p.cidr.is_ipv4() == v4);
        if !v4 && mine().next().is_none() {
            continue;
        }
        let mut tunnels = Vec::new();
        if v4 && uses(&|p| p.ipip != Encap::Never, true) && me.ipip_tunnel.is_some() {
            tunnels.push("tunl0");
        }
        if v4 && uses(&vxlan, true) && me.vxlan_tunnel.is_some() {
            tunnels.push("vxlan.calico");
        }
        if !v4 && uses(&vxlan, false) && me.vxlan_v6_tunnel.is_some() {
            tunnels.push("vxlan-v6.calico");
        }
        let masq = mine().any(|p| p.nat_outgoing);
        ops.push(RuleOp::Restore(
            if v4 { Family::V4 } else { Family::V6 },
            nat_table(v4, masq, &tunnels),
        ));
    }
    ops
}

/// One family's nat table as iptables-restore input: own chains filled, then the jumps to them:
/// first in PREROUTING and OUTPUT, last in POSTROUTING, after kube-proxy's.
fn nat_table(v4: bool, masq: bool, tunnels: &[&str]) -> String {
    let digit = if v4 { 4 } else { 6 };
    let outgoing = format!(
        "-m set --match-set cali{digit}0masq-ipam-pools src -m set ! --match-set \
         cali{digit}0all-ipam-pools dst --jump MASQUERADE --random-fully"
    );
    let mut post = chain(
        "cali-POSTROUTING",
        &["--jump cali-fip-snat", "--jump cali-nat-outgoing"],
    );
    post.rules.extend(tunnels.iter().map(|t| {
        format!(
            "--out-interface {t} -m addrtype ! --src-type LOCAL --limit-iface-out -m addrtype \
             --src-type LOCAL --jump MASQUERADE --random-fully"
        )
    }));
    let only = [outgoing.as_str()];
    let own = [
        chain("cali-PREROUTING", &["--jump cali-fip-dnat"]),
        post,
        chain("cali-OUTPUT", &["--jump cali-fip-dnat"]),
        chain("cali-fip-dnat", &[]),
        chain("cali-fip-snat", &[]),
        chain("cali-nat-outgoing", if masq { &only } else { &[] }),
    ];
    let mut lines = vec!["*nat".to_owned()];
    lines.extend(own.iter().map(|c| format!(":{} - [0:0]", c.name)));
    lines.extend(own.iter().flat_map(|c| c.lines("-A")));
    lines.extend(chain("PREROUTING", &["--jump cali-PREROUTING"]).lines("-I"));
    lines.extend(chain("OUTPUT", &["--jump cali-OUTPUT"]).lines("-I"));
    lines.extend(chain("POSTROUTING", &["--jump cali-POSTROUTING"]).lines("-A"));
    lines.push("COMMIT\n".to_owned());
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The comments that every cluster with Calico's iptables data plane has.
    #[test]
    fn hashes_are_felix_s() {
        let one = |c: &str, r: &str| hashes(c, &[r.to_owned()]).remove(0);
        assert_eq!(
            one("PREROUTING", "--jump cali-PREROUTING"),
            "6gwbT8clXdHdC1b1"
        );
        assert_eq!(one("OUTPUT", "--jump cali-OUTPUT"), "tVnHkvAo15HuiPy0");
        assert_eq!(
            one("POSTROUTING", "--jump cali-POSTROUTING"),
            "O3lYWMrLQYEMJtB5"
        );
        assert_eq!(
            one("cali-OUTPUT", "--jump cali-fip-dnat"),
            "GBTAv2p5CwevEyJm"
        );
        assert_eq!(
            one("cali-PREROUTING", "--jump cali-fip-dnat"),
            "r6XmIziWUJsdOK6Z"
        );
        let text = nat_table(true, true, &[]);
        for h in ["Z-c7XtVd2Bq7s_hA", "nYKhEzDlr11Jccal", "flqWnvo8yq4ULQLa"] {
            assert!(text.contains(&format!("cali:{h}")), "{h} in {text}");
        }
    }
}
