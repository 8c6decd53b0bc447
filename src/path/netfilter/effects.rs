//! What a target asks the walk to do besides its verdict: copies (TEE), a socket (TPROXY), log lines.

use crate::base::DevId;
use crate::nf::Hook;
use crate::nf::eval::{At, Effect, Paused, RuleRef};
use crate::nf::nft::eval::Halted;
use crate::path::observer::{Observer, Step};
use crate::path::walker::Walker;
use crate::wire::{CtRef, Frame, IpHeader, ip, proto};
use std::net::IpAddr;

/// Where an operation stopped, to go on once what it asked for has happened.
pub(super) enum From {
    /// A table of iptables.
    Table(Paused),
    /// A native chain.
    Native(Box<Halted>),
}

impl<O: Observer> Walker<'_, O> {
    /// Carries out what one operation asked for, in order; where it stopped, if it did.
    pub(super) fn nf_effects(&mut self, at: &At, f: &mut Frame, fx: Vec<Effect>) -> Option<From> {
        let mut paused = None;
        for e in fx {
            match e {
                Effect::Paused(p) => paused = Some(From::Table(*p)),
                Effect::Halted(h) => paused = Some(From::Native(h)),
                Effect::Log { rule, prefix, .. } => self.nf_note(at, f, &rule, "logged", &prefix),
                Effect::Nflog { rule, prefix, .. } => self.nf_note(at, f, &rule, "logged", &prefix),
                Effect::Audit { rule, .. } => self.nf_note(at, f, &rule, "audited", ""),
                Effect::Tproxy { socket, .. } => f.socket = Some(socket.0),
                Effect::Tee {
                    gateway, oif, copy, ..
                } => self.nf_tee(at, f, gateway, oif, *copy),
            }
        }
        paused
    }

    fn nf_note(&mut self, at: &At, f: &Frame, rule: &RuleRef, what: &str, prefix: &str) {
        if O::TRACING {
            let (by, _) = self.nf_rule(rule);
            let prefix = match prefix {
                "" => String::new(),
                p => format!(" \"{p}\""),
            };
            let dev = at.input.or(at.output);
            self.step(dev, f, |_| Step::Note(format!("{what}{prefix} by {by}")));
        }
    }

    /// A copy on its own way to `gateway`; a copy is not copied again (kernel: `nf_dup_ipv4`,
    /// `nf_dup_ipv6`, `nf_skb_duplicated`).
    fn nf_tee(
        &mut self,
        at: &At,
        f: &mut Frame,
        gateway: IpAddr,
        oif: Option<DevId>,
        mut copy: Frame,
    ) {
        if self.teeing {
            return;
        }
        let was = copy.has_eth().then(|| (copy.dst_mac(), copy.src_mac()));
        if let Some(b) = &mut copy.bridged {
            b.was = was.or(b.was);
        }
        copy.strip_link();
        let Ok(h) = IpHeader::parse_lax(copy.l3()) else {
            return;
        };
        copy.ct = CtRef::Untracked;
        // FLOWI_FLAG_KNOWN_NH: its route is to the gateway, which `rt_nexthop` and `rt6_nexthop` then name.
        copy.nexthop = Some(gateway);
        copy.looped = false;
        // A socket's datagram may be cut, a segment may not (kernel: `__ip6_make_skb`); the copy is as
        // its original.
        copy.ignore_df |= f.local && !h.is_v4() && h.proto != proto::TCP;
        copy.local = true;
        // Both share one nf_bridge_info: whichever goes up first, the original or a copy that comes by `lo`,
        // leaves PREROUTING out (`ip_sabotage_in`).
        if let (Some(own), Some(other)) = (&mut f.bridged, &mut copy.bridged) {
            if own.shared == 0 {
                own.shared = self.ns.bridge_shared.number();
            }
            other.shared = own.shared;
        }
        if h.is_v4() {
            ip::set_df(copy.l3_mut());
        } else {
            // What a socket of ours sent may be cut (`__ip6_make_skb`, `ip6_sk_ignore_df`), what came by not.
            copy.ignore_df |= f.local;
        }
        if matches!(at.hook, Hook::Prerouting | Hook::Input) {
            ip::decrease_ttl(copy.l3_mut());
        }
        let copy = self.child_of(f, copy);
        let found = match self.ns.route_output(None, gateway, oif, 0, h.tos) {
            Ok(found) => found,
            Err(e) => {
                self.output_failed(&copy, gateway, &e);
                return;
            }
        };
        (self.teeing, self.copy_rerouted) = (true, false);
        self.step(found.dev(), &copy, |_| {
            Step::Note(format!("a copy for {gateway} (TEE)"))
        });
        // Rules may route it anew: to where it is addressed, then, by whatever device (`ip_route_me_harder`
        // asks the device its socket is bound to, and it has none).
        if let Ok(Some((copy, found, anew))) = self.nf_output(copy, found, None)
            && let Ok(h) = IpHeader::parse_lax(copy.l3())
        {
            let to = if anew { h.dst } else { gateway };
            // A copy keeps the device its original had (`pskb_copy_for_clone`).
            let input = match at.hook {
                Hook::Postrouting => at.output,
                _ => at.input,
            };
            self.ip_output_by(&found, to, copy, (false, input));
        }
        self.teeing = false;
    }
}
