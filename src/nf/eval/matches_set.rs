//! `-m set` and `-j SET`: sets of addresses, ports and the rest.
//!
//! As xt_set.c; the sets themselves are [`crate::nf::ipset`]'s. Invariant: a set that is not there or not
//! understood makes the rule not understood, never a guess.

use super::Verdict;
use super::chain::{Answer, Env};
use crate::nf::Family;
use crate::nf::ipset::{L4, Packet, Refused, SkbInfo, TestFlags};
use crate::nf::matches::Set;
use crate::nf::target::SetTarget;
use crate::wire::{Frame, proto};

/// UDP-Lite.
const UDPLITE: u8 = 136;

impl Env<'_, '_> {
    /// `set_match_v4`
    pub fn set(&mut self, f: &Frame, m: &Set) -> Answer {
        let Some(is) = &m.set else {
            return Answer::Unknown;
        };
        let mut sets = core::mem::take(&mut self.nf.sets);
        let packet = self.set_packet(f);
        let found = sets.test(&is.value, &packet, &TestFlags::from(m), self.cx.now);
        self.nf.sets = sets;
        found.map_or(Answer::Unknown, |found| (found.matched != is.not).into())
    }

    /// `set_target_v3`: add, delete, then take from the element what is asked for.
    pub fn set_target(&mut self, f: &mut Frame, m: &SetTarget) -> Option<Verdict> {
        let now = self.cx.now;
        self.nf.sets_changed += 1;
        let mut sets = core::mem::take(&mut self.nf.sets);
        let packet = self.set_packet(f);
        let add = m
            .add
            .as_ref()
            .map(|s| sets.add(s, &packet, m.timeout, m.exist, now));
        let del = m.del.as_ref().map(|s| sets.del(s, &packet, now));
        let flags = TestFlags::default();
        let map = m.map.as_ref().map(|s| sets.test(s, &packet, &flags, now));
        self.nf.sets = sets;
        // A set that refuses an element is no matter of the packet; one that is not there is.
        let missing = |done: Option<Result<(), Refused>>| {
            matches!(done, Some(Err(Refused::NoSuchSet | Refused::Unknown)))
        };
        match map {
            _ if missing(add) || missing(del) => return Some(Verdict::Depends(self.rule)),
            Some(Err(_)) => return Some(Verdict::Depends(self.rule)),
            Some(Ok(found)) if found.matched => {
                take_mapped(f, m, found.hit.and_then(|h| h.skb).unwrap_or_default());
            }
            _ => {}
        }
        None
    }

    fn set_packet(&self, f: &Frame) -> Packet<'_> {
        let name = |d| self.ns.dev_name(d);
        let port = |d: Option<crate::base::DevId>| d.map(name);
        Packet {
            src: self.pkt.src,
            dst: self.pkt.dst,
            l4: self.set_l4(f),
            mac: f.has_eth().then(|| (f.src_mac(), f.dst_mac())),
            in_dev: self.in_dev(),
            out_dev: self.out_dev(),
            phys_in: port(f.bridged.and_then(|b| b.physin)),
            phys_out: port(f.bridged.and_then(|b| b.physout)),
            mark: f.mark,
            len: u32::try_from(self.pkt.len).unwrap_or(u32::MAX),
        }
    }

    /// ip_set_getport.c `ip_set_get_ip4_port`, `ip_set_get_ip6_port`
    fn set_l4(&self, f: &Frame) -> Option<L4> {
        let proto = self.pkt.proto.ok()?;
        let (need, v6) = (
            match proto {
                proto::TCP => 20,
                proto::SCTP => 12,
                proto::UDP | UDPLITE => 8,
                proto::ICMP if self.pkt.family == Family::V4 => 8,
                proto::ICMPV6 if self.pkt.family == Family::V6 => 8,
                _ => 0,
            },
            self.pkt.family == Family::V6,
        );
        if self.pkt.fragoff != 0 && (need > 0 || v6) {
            return None;
        }
        if need == 0 {
            let (src, dst) = (0, 0);
            return Some(L4 { proto, src, dst });
        }
        self.pkt.l4(f, 0, need)?;
        let (src, dst) = self.pkt.ports(f)?;
        Some(match proto {
            // Type and code stand where the source port is.
            proto::ICMP | proto::ICMPV6 => L4 {
                proto,
                src,
                dst: src,
            },
            _ => L4 { proto, src, dst },
        })
    }
}

/// What `--map-set` takes from the element.
fn take_mapped(f: &mut Frame, m: &SetTarget, info: SkbInfo) {
    if m.map_mark {
        f.mark = (f.mark & !info.mask) ^ info.mark;
    }
    if m.map_prio {
        f.priority = info.prio;
    }
}
