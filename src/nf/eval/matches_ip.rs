//! Matches on the IP header, the mark and what the link layer told.
//!
//! As xt_mark.c, xt_iprange.c, xt_length.c, xt_hl.c, xt_dscp.c, xt_mac.c, xt_pkttype.c, xt_physdev.c,
//! xt_realm.c, xt_cpu.c. Invariant: none of them changes anything.

use super::chain::Env;
use super::packet::{dsfield, ttl};
use crate::net::DeviceKind;
use crate::nf::Family;
use crate::nf::field::Is;
use crate::nf::matches::{
    Cast, Cpu, DscpMatch, IpRange, Length, MacSource, Mark, Physdev, Pkttype, Realm, TosMatch,
};
use crate::nf::value::{AddrRange, IfName};
use crate::wire::{Frame, PacketType};
use std::net::IpAddr;

/// `--xy-eq`, `--xy-lt`, `--xy-gt`.
pub(super) type HopLimit = (Option<Is<u8>>, Option<u8>, Option<u8>);

impl Env<'_, '_> {
    /// `mark_mt`
    pub fn mark(&self, f: &Frame, m: &Mark) -> bool {
        m.mark
            .is_none_or(|is| (f.mark & is.value.mask == is.value.value) != is.not)
    }

    /// `iprange_mt4`, `iprange_mt6`
    pub fn iprange(&self, m: &IpRange) -> bool {
        let inside = |is: Option<Is<AddrRange>>, a: IpAddr| {
            is.is_none_or(|is| (is.value.from <= a && a <= is.value.to) != is.not)
        };
        inside(m.src, self.pkt.src) && inside(m.dst, self.pkt.dst)
    }

    /// `length_mt`, `length_mt6`: what the header says.
    pub fn length(&self, f: &Frame, m: &Length) -> bool {
        let word = |at: usize| match f.l3().get(at..at + 2) {
            Some(b) => u16::from_be_bytes([b[0], b[1]]),
            None => 0,
        };
        let len = match self.pkt.family {
            Family::V4 => word(2),
            Family::V6 => word(4).saturating_add(40),
        };
        m.length.is_none_or(|is| is.value.contains(len) != is.not)
    }

    /// `ttl_mt`, `hl_mt6`
    pub fn ttl(&self, f: &Frame, (eq, lt, gt): HopLimit) -> bool {
        let now = ttl(f, self.pkt.family);
        eq.is_none_or(|is| (now == is.value) != is.not)
            && lt.is_none_or(|n| now < n)
            && gt.is_none_or(|n| now > n)
    }

    /// `tos_mt`
    pub fn tos(&self, f: &Frame, m: &TosMatch) -> bool {
        m.tos
            .is_none_or(|is| (dsfield(f) & is.value.mask == is.value.value) != is.not)
    }

    /// `dscp_mt`, `dscp_mt6`
    pub fn dscp(&self, f: &Frame, m: &DscpMatch) -> bool {
        m.dscp
            .is_none_or(|is| (dsfield(f) >> 2 == is.value.0) != is.not)
    }

    /// `mac_mt`: only what came in by an Ethernet device has an address to compare.
    pub fn mac(&self, f: &Frame, m: &MacSource) -> bool {
        let dev = self.at.input.and_then(|d| self.ns.dev(d));
        let ethernet =
            dev.is_some_and(|d| !d.is_layer3() && !matches!(d.kind, DeviceKind::Loopback));
        ethernet && f.has_eth() && m.mac.is_none_or(|is| (f.src_mac() == is.value) != is.not)
    }

    /// `pkttype_mt`
    pub fn pkttype(&self, f: &Frame, m: &Pkttype) -> bool {
        let same = |c: Cast| match c {
            Cast::Unicast => f.pkt_type == PacketType::Host,
            Cast::Broadcast => f.pkt_type == PacketType::Broadcast,
            Cast::Multicast => f.pkt_type == PacketType::Multicast,
        };
        m.kind.is_none_or(|is| same(is.value) != is.not)
    }

    /// `realm_mt`: routes have no realm here, which is 0.
    pub fn realm(&self, m: &Realm) -> bool {
        m.realm.is_none_or(|is| (is.value.value == 0) != is.not)
    }

    /// `cpu_mt`: everything happens on the first one.
    pub fn cpu(&self, m: &Cpu) -> bool {
        m.cpu.is_none_or(|is| (is.value == 0) != is.not)
    }

    /// `physdev_mt`
    pub fn physdev(&self, f: &Frame, m: &Physdev) -> bool {
        let not = |is: &Option<Is<IfName>>| is.as_ref().is_none_or(|i| i.not);
        let Some(bridged) = f.bridged else {
            // Nothing is known of ports: only what is asked against holds.
            let flags = [m.is_bridged, m.is_in, m.is_out];
            return flags.iter().all(|is| is.is_none_or(|i| i.not))
                && not(&m.input)
                && not(&m.output);
        };
        let name = |d: Option<crate::base::DevId>| d.map(|d| self.ns.dev_name(d));
        let (input, output) = (name(bridged.physin), name(bridged.physout));
        let is = [
            (m.is_bridged, output.is_some()),
            (m.is_in, input.is_some()),
            (m.is_out, output.is_some()),
        ];
        if is
            .iter()
            .any(|(is, there)| is.is_some_and(|i| *there == i.not))
        {
            return false;
        }
        let fits = |is: &Is<IfName>, dev: &str| is.value.matches(dev) != is.not;
        // Without an incoming port `--physdev-in` is passed over, without an outgoing one `--physdev-out`
        // fails, even with `!`.
        let input = m
            .input
            .as_ref()
            .zip(input)
            .is_none_or(|(is, d)| fits(is, d));
        input
            && m.output
                .as_ref()
                .is_none_or(|is| output.is_some_and(|d| fits(is, d)))
    }
}
