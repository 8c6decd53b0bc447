//! REJECT: an ICMP error or a TCP reset to the sender (kernel: `nf_reject_ipv4.c`, `nf_reject_ipv6.c`).

use super::attach;
use crate::net::{DeviceKind, RouteKind};
use crate::nf::Hook;
use crate::nf::eval::{At, RuleRef};
use crate::nf::target::RejectWith;
use crate::path::observer::{Observer, Step};
use crate::path::reason::{DropReason, IcmpSent};
use crate::path::walker::Walker;
use crate::wire::{ETH_P_IP, Frame, IpHeader, build, checksum, proto};
use std::net::IpAddr;

/// ICMP code 3/x or ICMPv6 code 1/x (kernel: `reject_tg`, `reject_tg6`); `None` for a reset.
pub(super) fn code(with: RejectWith) -> Option<u8> {
    use RejectWith::*;
    Some(match with {
        NetUnreachable => 0,
        HostUnreachable => 1,
        ProtoUnreachable => 2,
        PortUnreachable => 3,
        NetProhibited => 9,
        HostProhibited => 10,
        AdminProhibited => 13,
        V6NoRoute => 0,
        V6AdmProhibited => 1,
        V6AddrUnreachable => 3,
        V6PortUnreachable => 4,
        V6PolicyFail => 5,
        V6RejectRoute => 6,
        TcpReset => return None,
    })
}

impl<O: Observer> Walker<'_, O> {
    pub(super) fn nf_reject(&mut self, at: &At, f: Frame, with: RejectWith, rule: &RuleRef) {
        let dev = at.input.or(at.output);
        let (text, origin) = self.nf_rule(rule);
        match code(with) {
            Some(code) => {
                let sent = self.nf_send_unreach(at, &f, code);
                self.rejected(dev, &f, sent, DropReason::NetfilterReject, origin, |_| text);
            }
            None => {
                let reset = self.nf_reset(at, self.unrouted(at), &f);
                let answered = reset.is_some();
                self.drop_with(
                    dev,
                    &f,
                    DropReason::NetfilterReject,
                    origin,
                    |_| match answered {
                        true => format!("{text}: answered with RST"),
                        false => text,
                    },
                );
                if let Some(packet) = reset {
                    self.nf_send_reset(&f, &packet);
                }
            }
        }
    }

    /// kernel: `nf_send_unreach`, `nf_send_unreach6`
    fn nf_send_unreach(&mut self, at: &At, f: &Frame, code: u8) -> Option<IcmpSent> {
        let h = IpHeader::parse_lax(f.l3()).ok()?;
        let why = if h.frag_off > 0 {
            Some("not for a later fragment")
        } else if !summed(at, f) && !checksum_ok(&h, f.l3()) {
            Some("its checksum is wrong")
        } else if self.routed_here(at) && self.no_source(&h) {
            Some("its destination, which a rule wrote, is no source of ours")
        } else {
            None
        };
        if let Some(why) = why {
            self.step(at.input, f, |_| Step::IcmpSuppressed { why });
            return None;
        }
        let typ = if h.is_v4() { 3 } else { 1 };
        // Not routed yet: `nf_reject_fill_skb_dst` gives it the route to its sender.
        self.route_back = self.unrouted(at);
        // br_netfilter leaves IP6CB(skb)->iif at 0: the device tells nothing (`icmp6_send`).
        let bridged = self.route_back && !h.is_v4() && f.bridged.is_some();
        let input = at.input.filter(|_| !bridged);
        let sent = self.icmp_error(f, input, typ, code, 0);
        self.route_back = false;
        sent
    }

    /// Whether the route a packet came here by is one to this host: what comes by loopback has it before
    /// routing.
    fn routed_here(&self, at: &At) -> bool {
        match at.hook {
            Hook::Input => true,
            Hook::Prerouting => !self.unrouted(at),
            Hook::Forward | Hook::Output | Hook::Postrouting => false,
        }
    }

    /// Whether a packet has no route yet; one that came by loopback keeps the one it was sent by.
    fn unrouted(&self, at: &At) -> bool {
        let input = at.input.and_then(|d| self.device(d));
        let loopback = input.is_some_and(|d| matches!(d.kind, DeviceKind::Loopback));
        at.hook == Hook::Prerouting && !loopback
    }

    /// The reset for a segment, as an IP packet (kernel: `nf_send_reset`, `nf_send_reset6`); `early`: before
    /// routing.
    pub(super) fn nf_reset(&self, at: &At, early: bool, f: &Frame) -> Option<Vec<u8>> {
        let h = IpHeader::parse_lax(f.l3()).ok()?;
        let whole = h.proto == proto::TCP && h.frag_off == 0;
        if !whole || !summed(at, f) && !checksum_ok(&h, f.l3()) {
            return None;
        }
        let group = |ip: IpAddr| match ip {
            IpAddr::V4(_) => matches!(
                self.ns.fib.address_kind(ip),
                RouteKind::Broadcast | RouteKind::Multicast
            ),
            IpAddr::V6(a) => a.is_multicast() || a.is_unspecified(),
        };
        // IPv4 asks the packet's route: a TEE copy's leads to the gateway, before routing it is the one to
        // its sender.
        let asked = match h.is_v4() {
            true if early => group(h.src),
            true => !self.by_gateway() && group(h.dst),
            false => group(h.dst) || group(h.src),
        };
        if asked {
            return None;
        }
        let segment = build::tcp_reset(&h, f.l3())?;
        let ttl = self.default_ttl(h.is_v4(), None);
        Some(build::ip_packet(
            h.dst,
            h.src,
            proto::TCP,
            ttl,
            0,
            0,
            true,
            &segment,
        ))
    }

    fn nf_send_reset(&mut self, f: &Frame, packet: &[u8]) {
        let mut r = self.child_of(f, Frame::ip(packet));
        if self.ns.sysctl.fwmark_reflect != 0 {
            r.mark = f.mark;
        }
        // Only IPv4's has its sum finished by the device (`nf_reject_ip_tcphdr_put`).
        r.partial = r.ethertype_of_l3() == ETH_P_IP;
        attach(&mut r, f);
        self.nf_closing(f);
        self.step(None, f, |_| Step::Answer { what: "TCP reset" });
        match f.bridged.and_then(|b| b.physin) {
            // Straight out of the port it came in by, as if the other end had sent it: no hook sees it
            // and nothing translates it back (kernel: CONFIG_BRIDGE_NETFILTER in nf_send_reset).
            Some(port) => {
                let proto = r.ethertype_of_l3();
                let (dst, src) = match f.bridged.and_then(|b| b.was) {
                    Some(was) if !f.has_eth() => was,
                    _ => (f.dst_mac(), f.src_mac()),
                };
                r.set_ethernet(src, dst, proto);
                self.transmit(port, r);
            }
            None => {
                // Its sender is the kernel; OUTPUT tells what became of it.
                let _ = self.local_out(r, None);
            }
        }
    }
}

/// Whether nobody looks at the checksum any more: conntrack summed the packet, and behind the input hooks
/// `nf_ip_checksum` passes over what has been summed (`CHECKSUM_COMPLETE`), be it right or wrong.
fn summed(at: &At, f: &Frame) -> bool {
    f.summed.is_some() && !matches!(at.hook, Hook::Prerouting | Hook::Input)
}

/// Whether the packet's checksum lets it be answered (kernel: `nf_reject_verify_csum`, `nf_ip_checksum`,
/// `nf_ip6_checksum`): protocols without a plain checksum pass, unknown ones are summed up all the same.
pub(super) fn checksum_ok(h: &IpHeader, packet: &[u8]) -> bool {
    /// GRE, ESP, AH, DCCP, SCTP, UDP-Lite.
    const OTHER: [u8; 6] = [47, 50, 51, 33, proto::SCTP, 136];
    let p = h.payload(packet);
    if OTHER.contains(&h.proto) || h.proto == proto::UDP && p.get(6..8) == Some(&[0, 0]) {
        return true;
    }
    // The whole packet is summed up, its header too, which has a sum of 0: but if it is broken still, below
    // the IP layer or by a rule that wrote bits into it.
    let header = packet.get(..h.header_len).unwrap_or(&[]);
    if h.is_v4() && checksum::sum(header, 0) != 0xffff {
        return false;
    }
    // nf_ip_checksum leaves the pseudo header out for all but TCP and UDP, nf_ip6_checksum for none.
    let pseudo = if h.is_v4() && !matches!(h.proto, proto::TCP | proto::UDP) {
        0
    } else {
        checksum::pseudo(h.src, h.dst, h.proto, p.len())
    };
    checksum::sum(p, pseudo) == 0xffff
}
