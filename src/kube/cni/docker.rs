//! The rules that a Docker daemon lays on a node: its chains, the default bridge's masquerade, and FORWARD's
//! policy DROP, which hits what other plugins forward.
//!
//! Two generations: up to 27 (moby libnetwork/drivers/bridge/setup_ip_tables_linux.go `setupIPChains`,
//! `setupIPTablesInternal`, `setINC`; firewall_linux.go `arrangeUserFilterRule`) and from 28 on (moby
//! integration/network/bridge/iptablesdoc/generated/new-daemon.md). IPv4 alone, userland proxy on, no
//! container with published ports. Invariant: rules that are there stay behind Docker's in FORWARD, as it
//! inserts.

use crate::kube::cni::iptables::RuleOp;
use crate::nf::Family;
use ipnetwork::Ipv4Network;

/// Which daemon.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Generation {
    /// Up to 27: DOCKER-ISOLATION-STAGE-1 and -2.
    Isolation,
    /// 28 and later: DOCKER-FORWARD.
    Forward,
}

/// A daemon with its default network.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Docker {
    /// Which.
    pub generation: Generation,
    /// `docker0`
    pub bridge: String,
    /// `172.17.0.0/16`
    pub subnet: Ipv4Network,
    /// Whether the daemon turned forwarding on itself, and so set FORWARD's policy to DROP.
    pub forward_drop: bool,
}

impl Docker {
    /// The default network of a daemon that set FORWARD to DROP; `None` only if the subnet were no subnet.
    pub fn usual(generation: Generation) -> Option<Self> {
        Some(Docker {
            generation,
            bridge: "docker0".to_owned(),
            subnet: "172.17.0.0/16".parse().ok()?,
            forward_drop: true,
        })
    }

    /// What it does with iptables.
    pub fn rules(&self) -> Vec<RuleOp> {
        let filter = match self.generation {
            Generation::Isolation => self.isolation(),
            Generation::Forward => self.forward(),
        };
        let policy = if self.forward_drop {
            "-P FORWARD DROP\n"
        } else {
            ""
        };
        let nat = self.nat();
        let text = format!("*nat\n{nat}COMMIT\n*filter\n{policy}{filter}COMMIT\n");
        vec![RuleOp::Restore(Family::V4, text)]
    }

    fn nat(&self) -> String {
        let (br, net) = (&self.bridge, self.subnet);
        // With the userland proxy, containers do not reach published ports by DNAT; 28 dropped the rule.
        let skip = match self.generation {
            Generation::Isolation => format!("-I DOCKER -i {br} -j RETURN\n"),
            Generation::Forward => String::new(),
        };
        format!(
            ":DOCKER - [0:0]\n\
             -I POSTROUTING -s {net} ! -o {br} -j MASQUERADE\n{skip}\
             -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER\n\
             -A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER\n"
        )
    }

    /// Each insertion goes to the head of FORWARD, so the last stands first.
    fn isolation(&self) -> String {
        let br = &self.bridge;
        format!(
            ":DOCKER - [0:0]\n:DOCKER-ISOLATION-STAGE-1 - [0:0]\n:DOCKER-ISOLATION-STAGE-2 - [0:0]\n\
             :DOCKER-USER - [0:0]\n\
             -A DOCKER-ISOLATION-STAGE-1 -j RETURN\n\
             -A DOCKER-ISOLATION-STAGE-2 -j RETURN\n\
             -I FORWARD -i {br} -o {br} -j ACCEPT\n\
             -I FORWARD -i {br} ! -o {br} -j ACCEPT\n\
             -I FORWARD -o {br} -j DOCKER\n\
             -I FORWARD -o {br} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n\
             -I FORWARD -j DOCKER-ISOLATION-STAGE-1\n\
             -I DOCKER-ISOLATION-STAGE-1 -i {br} ! -o {br} -j DOCKER-ISOLATION-STAGE-2\n\
             -I DOCKER-ISOLATION-STAGE-2 -o {br} -j DROP\n\
             -A DOCKER-USER -j RETURN\n\
             -I FORWARD -j DOCKER-USER\n"
        )
    }

    fn forward(&self) -> String {
        let br = &self.bridge;
        format!(
            ":DOCKER - [0:0]\n:DOCKER-BRIDGE - [0:0]\n:DOCKER-CT - [0:0]\n:DOCKER-FORWARD - [0:0]\n\
             :DOCKER-INTERNAL - [0:0]\n:DOCKER-USER - [0:0]\n\
             -I FORWARD -j DOCKER-FORWARD\n\
             -I DOCKER-FORWARD -j DOCKER-BRIDGE\n\
             -I DOCKER-FORWARD -j DOCKER-INTERNAL\n\
             -I DOCKER-FORWARD -j DOCKER-CT\n\
             -A DOCKER-FORWARD -i {br} -j ACCEPT\n\
             -A DOCKER ! -i {br} -o {br} -j DROP\n\
             -A DOCKER-BRIDGE -o {br} -j DOCKER\n\
             -A DOCKER-CT -o {br} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n\
             -I FORWARD -j DOCKER-USER\n"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{NodeId, NsId, Origin};
    use crate::kube::cni::iptables::carry_out;
    use crate::net::NetNs;

    fn filter_rules(generation: Generation) -> Vec<String> {
        let mut ns = NetNs::new(NsId(0), "n1", NodeId(0));
        let before = [RuleOp::command(true, &["-A", "FORWARD", "-j", "ACCEPT"])];
        carry_out(&mut ns, &before, &Origin::Kernel);
        let docker = Docker::usual(generation).unwrap();
        assert_eq!(
            carry_out(&mut ns, &docker.rules(), &Origin::Kernel),
            [""; 0]
        );
        let set = ns
            .nf()
            .unwrap()
            .rule_set(Family::V4, crate::nf::Backend::Nft)
            .unwrap();
        let text = set.to_save(false);
        assert!(text.contains(":FORWARD DROP"));
        text.lines()
            .filter(|l| l.starts_with("-A"))
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn docker_s_rules_stand_before_those_that_were_there() {
        assert_eq!(
            filter_rules(Generation::Forward)[..3],
            [
                "-A FORWARD -j DOCKER-USER",
                "-A FORWARD -j DOCKER-FORWARD",
                "-A FORWARD -j ACCEPT"
            ]
        );
        assert_eq!(
            filter_rules(Generation::Isolation)[..7],
            [
                "-A FORWARD -j DOCKER-USER",
                "-A FORWARD -j DOCKER-ISOLATION-STAGE-1",
                "-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
                "-A FORWARD -o docker0 -j DOCKER",
                "-A FORWARD -i docker0 ! -o docker0 -j ACCEPT",
                "-A FORWARD -i docker0 -o docker0 -j ACCEPT",
                "-A FORWARD -j ACCEPT"
            ]
        );
        let new = filter_rules(Generation::Forward).join("\n");
        let order = "-A DOCKER-FORWARD -j DOCKER-CT\n-A DOCKER-FORWARD -j DOCKER-INTERNAL\n\
                     -A DOCKER-FORWARD -j DOCKER-BRIDGE\n-A DOCKER-FORWARD -i docker0 -j ACCEPT";
        assert!(new.contains(order), "{new}");
    }
}
