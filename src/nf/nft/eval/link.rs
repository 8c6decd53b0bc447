//! Rules below the IP layer: base chains of families bridge and netdev, and inet's ingress.
//!
//! As `nft_do_chain_bridge`, `nft_do_chain_netdev` and `nft_do_chain_inet_ingress` set up a packet for the
//! interpreter. Connections are not known to podpath there (`nf_conntrack_bridge`): `ct` is undecided.
//! Invariant: chains are sorted by priority, of equal ones the later one first.

use super::super::model::{Family as NftFamily, HookName};
use super::{ChainRef, Halted, Nft, Walk};
use crate::base::DevId;
use crate::net::NetNs;
use crate::nf::eval::chain::Env;
use crate::nf::eval::packet::Pkt;
use crate::nf::eval::{At, Cx, Effect, RuleRef, Verdict};
use crate::nf::{Backend, Family, Hook, Netfilter, TableName};
use crate::wire::{ETH_P_IP, ETH_P_IPV6, Frame};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// Where below the IP layer a frame is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LinkHook {
    /// In a bridge (uapi netfilter_bridge.h `NF_BR_*`).
    Bridge(Hook),
    /// Received by a device, before anybody else sees it (`nf_ingress`).
    Ingress,
    /// About to be sent by a device (`nf_hook_egress`).
    Egress,
}

/// `NF_BR_PRI_BRNF`: where a bridge shows its frames to the IP hooks.
pub const BRNF: i32 = 0;

/// Where a frame is while a chain runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LinkAt {
    /// The hook.
    pub hook: LinkHook,
    /// The port or device it came in by.
    pub input: Option<DevId>,
    /// The port or device it leaves by.
    pub output: Option<DevId>,
}

/// A base chain that hangs on such a hook.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LinkOp {
    /// Which.
    pub chain: ChainRef,
    /// Lower runs first.
    pub priority: i32,
    /// The only device whose frames it sees, for ingress and egress.
    pub device: Option<Arc<str>>,
    /// It belongs to an inet table: it sees IP packets only.
    pub ip_only: bool,
}

/// All of them, by hook.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(in crate::nf) struct LinkOps([Vec<LinkOp>; 7]);

impl LinkOps {
    pub(in crate::nf) fn of(nft: &Nft) -> LinkOps {
        let mut out = LinkOps::default();
        for (chain, table, _, base) in nft.base_chains() {
            let hook = match (table.family, base.hook) {
                (NftFamily::Bridge, h) => match super::hook_of(h) {
                    Some(h) => LinkHook::Bridge(h),
                    None => continue,
                },
                (NftFamily::Netdev | NftFamily::Inet, HookName::Ingress) => LinkHook::Ingress,
                (NftFamily::Netdev, HookName::Egress) => LinkHook::Egress,
                _ => continue,
            };
            let op = |device| LinkOp {
                chain,
                priority: base.priority,
                device,
                ip_only: table.family == NftFamily::Inet,
            };
            let ops = &mut out.0[index(hook)];
            match hook {
                LinkHook::Bridge(_) => ops.push(op(None)),
                _ => ops.extend(base.devices.iter().map(|d| op(Some(Arc::from(&**d))))),
            }
        }
        for ops in &mut out.0 {
            ops.reverse();
            ops.sort_by_key(|op| op.priority);
        }
        out
    }
}

fn index(hook: LinkHook) -> usize {
    match hook {
        LinkHook::Bridge(h) => h as usize,
        LinkHook::Ingress => 5,
        LinkHook::Egress => 6,
    }
}

/// What became of a frame.
#[derive(Debug)]
pub struct LinkOutcome {
    /// The chain's verdict.
    pub verdict: Verdict,
    /// Frames to be sent as they are (`dup`, `fwd`), in order.
    pub sent: Vec<(DevId, Frame)>,
    /// The frame itself was given away (`fwd`).
    pub stolen: bool,
}

/// What a walk keeps of a chain below the IP layer.
#[derive(Debug, Default)]
pub(super) struct Link {
    pub sent: Vec<(DevId, Frame)>,
    pub stolen: bool,
}

impl Netfilter {
    /// The base chains at a hook below the IP layer, in order.
    pub fn link_ops(&self, hook: LinkHook) -> &[LinkOp] {
        &self.link.0[index(hook)]
    }
}

/// Carries a frame through a base chain; `nf` was taken out of `ns` by the walker. It stops behind each `dup`
/// ([`Effect::Halted`]); `from` is where it did.
#[allow(
    clippy::too_many_arguments,
    reason = "the kernel's hook state, skb and private data"
)]
pub fn run(
    nf: &mut Netfilter,
    ns: &NetNs,
    f: &mut Frame,
    at: &LinkAt,
    op: &LinkOp,
    from: Option<Halted>,
    cx: &mut Cx<'_>,
    fx: &mut Vec<Effect>,
) -> LinkOutcome {
    let ip = matches!(f.ethertype(), ETH_P_IP | ETH_P_IPV6);
    if op.ip_only && !ip {
        return LinkOutcome {
            verdict: Verdict::Accept,
            sent: Vec::new(),
            stolen: false,
        };
    }
    let ip_at = at.as_ip(f);
    let mut nft = core::mem::take(&mut nf.nft);
    let program = Arc::clone(&nft.program);
    let rule = RuleRef {
        family: ip_at.family,
        backend: Backend::Nft,
        table: TableName::Filter,
        chain: op.chain.chain,
        rule: 0,
        native: Some(op.chain.table),
    };
    let env = Env {
        nf,
        ns,
        at: &ip_at,
        cx,
        fx,
        pkt: packet(f, at.hook),
        rule,
        chance: None,
    };
    let mut walk = Walk::new(env, &mut nft, &program, op.chain);
    walk.link = Some(Link::default());
    walk.halts = true;
    let verdict = walk.run(f, from);
    let (sent, stolen) = walk.link.map(|l| (l.sent, l.stolen)).unwrap_or_default();
    nf.nft = nft;
    LinkOutcome {
        verdict,
        sent,
        stolen,
    }
}

impl LinkAt {
    /// The hook of the IP layer that has the same devices.
    pub fn as_ip(&self, f: &Frame) -> At {
        At {
            hook: match self.hook {
                LinkHook::Bridge(h) => h,
                LinkHook::Ingress => Hook::Prerouting,
                LinkHook::Egress => Hook::Output,
            },
            family: family(f),
            input: self.input,
            output: self.output,
        }
    }
}

fn family(f: &Frame) -> Family {
    match f.ethertype() {
        ETH_P_IPV6 => Family::V6,
        _ => Family::V4,
    }
}

/// `nft_set_pktinfo_ipv4_validate`, `nft_set_pktinfo_ipv6_validate`; all else is `nft_set_pktinfo_unspec`: it
/// has no upper layer. A frame about to be sent begins at its link header.
fn packet(f: &Frame, hook: LinkHook) -> Pkt {
    let (b, family) = (f.l3(), family(f));
    let whole = match (f.ethertype(), b) {
        (ETH_P_IP, [v, _, hi, lo, ..]) => {
            let (header, total) = (
                usize::from(v & 15) * 4,
                u16::from_be_bytes([*hi, *lo]).into(),
            );
            v >> 4 == 4 && header >= 20 && total >= header && b.len() >= total
        }
        (ETH_P_IPV6, [v, _, _, _, hi, lo, ..]) => {
            v >> 4 == 6 && b.len() >= 40 + usize::from(u16::from_be_bytes([*hi, *lo]))
        }
        _ => false,
    };
    let nobody = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let unspec = Pkt {
        family,
        src: nobody,
        dst: nobody,
        proto: Err(false),
        l4: 0,
        fragoff: 0,
        len: 0,
    };
    let pkt = Pkt::native(f, family).filter(|_| whole);
    Pkt {
        len: match hook {
            LinkHook::Egress => f.len(),
            _ => b.len(),
        },
        ..pkt.unwrap_or(unspec)
    }
}
