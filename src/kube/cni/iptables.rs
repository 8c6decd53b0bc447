//! The `iptables` and `ip6tables` of a node as the plugins call them: through coreos/go-iptables.
//!
//! Same commands in the same order, so that rules come to stand where the real plugins put them
//! (coreos/go-iptables 0.6.0 iptables/iptables.go; containernetworking/plugins pkg/utils/iptables.go).
//! Commands go to the nft back end unless the node has only legacy rules. Invariant: a failed command
//! changes nothing and its error reads as the library's.

use crate::kube::cni::error::CniError;
use crate::kube::cni::host::Host;
use crate::kube::cni::plan::Where;
use crate::net::NetNs;
use crate::nf::apply::{self, Outcome, Refused, Tool};
use crate::nf::{Family, RuleSet};

/// One family's tool on the node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Iptables {
    v4: bool,
}

/// A command that failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failed {
    /// The exit status.
    pub status: u8,
    /// `running [...]: exit status N: ...`
    pub text: String,
    gone: bool,
}

impl Failed {
    /// `IsNotExist`: the rule or chain is not there.
    pub fn is_not_exist(&self) -> bool {
        self.gone
    }
}

impl From<Failed> for String {
    fn from(f: Failed) -> Self {
        f.text
    }
}

impl From<Failed> for CniError {
    fn from(f: Failed) -> Self {
        f.text.into()
    }
}

type Done<T> = Result<T, Failed>;

/// Carries out a command on a namespace; one that has no netfilter gets it only if there is a table after.
pub fn run(
    ns: &mut NetNs,
    family: Family,
    args: &[&str],
    origin: &crate::base::Origin,
) -> Result<Outcome, Refused> {
    let tool = Tool {
        family,
        backend: apply::usual_backend(ns.nf(), family),
    };
    if ns.nf().is_some() {
        return apply::on_netns(ns.nf_mut(), tool, |set| apply::run(set, tool, args, origin));
    }
    let mut set = RuleSet::new(family);
    let done = apply::run(&mut set, tool, args, origin);
    if !set.tables.is_empty() {
        ns.nf_mut().set_rules(family, tool.backend, set);
    }
    done
}

impl Iptables {
    /// `iptables` for IPv4, `ip6tables` for IPv6.
    pub fn new(v4: bool) -> Self {
        Iptables { v4 }
    }

    fn family(self) -> Family {
        if self.v4 { Family::V4 } else { Family::V6 }
    }

    /// Runs it with these words; what it prints.
    pub fn run(self, host: &mut Host<'_>, args: &[&str]) -> Done<String> {
        let name = if self.v4 { "iptables" } else { "ip6tables" };
        let origin = host.origin.clone();
        let Some(ns) = host.ns_mut(&Where::Node) else {
            return Ok(String::new());
        };
        match run(ns, self.family(), args, &origin) {
            Ok(out) => Ok(out.stdout),
            Err(r) => {
                let words = args.join(" ");
                let (status, said) = (r.status, r.stderr);
                let gone = ["Bad rule (does a matching rule", "No chain/target/match by"];
                Err(Failed {
                    status,
                    gone: status == 1 && gone.iter().any(|g| said.contains(g)),
                    text: format!(
                        "running [/usr/sbin/{name} {words} --wait]: exit status {status}: {said}"
                    ),
                })
            }
        }
    }

    fn rule(self, host: &mut Host<'_>, head: &[&str], rule: &[String]) -> Done<String> {
        let words: Vec<&str> = head
            .iter()
            .copied()
            .chain(rule.iter().map(String::as_str))
            .collect();
        self.run(host, &words)
    }

    /// `Exists`.
    pub fn exists(
        self,
        host: &mut Host<'_>,
        table: &str,
        chain: &str,
        rule: &[String],
    ) -> Done<bool> {
        match self.rule(host, &["-t", table, "-C", chain], rule) {
            Ok(_) => Ok(true),
            Err(f) if f.status == 1 => Ok(false),
            Err(f) => Err(f),
        }
    }

    /// `InsertUnique`: at the end, or at the beginning; `AppendUnique` is the former.
    pub fn add_unique(
        self,
        host: &mut Host<'_>,
        (table, chain): (&str, &str),
        first: bool,
        rule: &[String],
    ) -> Done<()> {
        if self.exists(host, table, chain, rule)? {
            return Ok(());
        }
        let head: &[&str] = match first {
            true => &["-t", table, "-I", chain, "1"],
            false => &["-t", table, "-A", chain],
        };
        self.rule(host, head, rule).map(|_| ())
    }

    /// `Delete`.
    pub fn delete(
        self,
        host: &mut Host<'_>,
        table: &str,
        chain: &str,
        rule: &[String],
    ) -> Done<()> {
        self.rule(host, &["-t", table, "-D", chain], rule)
            .map(|_| ())
    }

    /// `List`: a chain and its rules as `-S` prints them.
    pub fn list(self, host: &mut Host<'_>, table: &str, chain: &str) -> Done<Vec<String>> {
        let text = self.run(host, &["-t", table, "-S", chain])?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// Whether `ListChains` has it (`utils.ChainExists`).
    pub fn chain_exists(self, host: &mut Host<'_>, table: &str, chain: &str) -> Done<bool> {
        let text = self.run(host, &["-t", table, "-S"])?;
        let chains = text
            .lines()
            .take_while(|l| l.starts_with("-P") || l.starts_with("-N"))
            .filter_map(|l| l.split_whitespace().nth(1));
        Ok({ chains }.any(|c| c == chain))
    }

    /// `utils.EnsureChain`.
    pub fn ensure_chain(self, host: &mut Host<'_>, table: &str, chain: &str) -> Done<()> {
        match self.chain_exists(host, table, chain)? {
            true => Ok(()),
            false => self.run(host, &["-t", table, "-N", chain]).map(|_| ()),
        }
    }

    /// `ClearChain`: made, or emptied if it is there.
    pub fn clear_chain(self, host: &mut Host<'_>, table: &str, chain: &str) -> Done<()> {
        match self.run(host, &["-t", table, "-N", chain]) {
            Err(f) if f.status == 1 => self.run(host, &["-t", table, "-F", chain]).map(|_| ()),
            other => other.map(|_| ()),
        }
    }

    /// `DeleteChain`.
    pub fn delete_chain(self, host: &mut Host<'_>, table: &str, chain: &str) -> Done<()> {
        self.run(host, &["-t", table, "-X", chain]).map(|_| ())
    }
}

/// A rule's words.
pub fn words(rule: &[&str]) -> Vec<String> {
    rule.iter().map(|w| (*w).to_owned()).collect()
}

/// One call of a node agent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RuleOp {
    /// `iptables` or `ip6tables` with these words.
    Command(Family, Vec<String>),
    /// `iptables-restore --noflush` or `ip6tables-restore --noflush` with this input.
    Restore(Family, String),
}

impl RuleOp {
    /// A command of one family.
    pub fn command(v4: bool, args: &[&str]) -> Self {
        RuleOp::Command(if v4 { Family::V4 } else { Family::V6 }, words(args))
    }
}

/// Carries out an agent's calls on a namespace; what failed, in the tools' words, the rest is done.
pub fn carry_out(ns: &mut NetNs, ops: &[RuleOp], origin: &crate::base::Origin) -> Vec<String> {
    let mut failed = Vec::new();
    for op in ops {
        let done = match op {
            RuleOp::Command(family, args) => {
                let args: Vec<&str> = args.iter().map(String::as_str).collect();
                run(ns, *family, &args, origin).map(|_| ())
            }
            RuleOp::Restore(family, text) => {
                let tool = Tool {
                    family: *family,
                    backend: apply::usual_backend(ns.nf(), *family),
                };
                let options = apply::Restore {
                    noflush: true,
                    ..apply::Restore::default()
                };
                apply::on_netns(ns.nf_mut(), tool, |set| {
                    apply::restore(set, tool, options, "-", text, Some(origin))
                })
                .map(|_| ())
            }
        };
        failed.extend(done.err().map(|r| r.stderr.trim_end().to_owned()));
    }
    failed
}
