//! `TCPMSS`: the segment size that a SYN announces.
//!
//! As xt_TCPMSS.c. Invariant: a value is only ever lowered; length fields and checksums follow an option
//! that is put in.

use super::Verdict;
use super::chain::Env;
use crate::base::DevId;
use crate::net::fib::FlowL4;
use crate::net::fib::{Flow, Found};
use crate::net::{DeviceKind, RouteKind, Scope};
use crate::nf::target::Tcpmss;
use crate::nf::{Family, Hook};
use crate::wire::{Frame, checksum};
use std::net::IpAddr;

/// TCPOLEN_MSS
const OPTION: usize = 4;
/// No MTU is larger (kernel: `IP_MAX_MTU`).
const LOCAL_MTU: usize = 65_535;

/// `tcpmss_tg4`, `tcpmss_tg6`
pub(super) fn run(env: &Env<'_, '_>, f: &mut Frame, m: &Tcpmss) -> Option<Verdict> {
    if env.pkt.fragoff != 0 {
        return None;
    }
    let headers = match env.pkt.family {
        Family::V4 => 40,
        Family::V6 => 60,
    };
    let drop = Some(Verdict::Drop(env.rule));
    let wanted = match (m.clamp, m.mss) {
        (true, _) => match env.path_mtu(f).checked_sub(headers).filter(|n| *n > 0) {
            Some(mss) => mss,
            None => return drop,
        },
        (false, Some(mss)) => usize::from(mss),
        (false, None) => return None,
    };
    let wanted = u16::try_from(wanted).unwrap_or(u16::MAX);
    match mangle(f, env.pkt.l4, env.pkt.family, wanted) {
        Some(()) => None,
        None => drop,
    }
}

impl Env<'_, '_> {
    fn lo_mtu(&self) -> usize {
        let lo = self
            .ns
            .devices()
            .find(|d| matches!(d.kind, DeviceKind::Loopback));
        lo.map_or(LOCAL_MTU, |d| (d.mtu as usize).min(LOCAL_MTU))
    }

    /// The smaller of the MTUs of the packet's way and of the way back (`tcpmss_reverse_mtu`).
    pub fn path_mtu(&self, f: &Frame) -> usize {
        let mtu = |dst: IpAddr, found: Found| match found.route.kind {
            // Its device is `lo`, whichever has the address (`__mkroute_output`, `ip6_rt_get_dev_rcu`).
            RouteKind::Local | RouteKind::Anycast => self.lo_mtu(),
            _ => self.ns.path_mtu(dst, &found, self.cx.now),
        };
        let there = match self
            .at
            .input
            .filter(|_| self.at.hook == Hook::Forward || !f.local)
        {
            Some(input) => self.ns.route(&Flow {
                src: Some(self.pkt.src),
                dst: self.pkt.dst,
                iif_name: self.ns.dev_name(input),
                oif: None,
                oif_name: None,
                mark: f.mark,
                tos: super::packet::dsfield(f),
                l4: FlowL4::default(),
                multipath: self.ns.sysctl().multipath(),
                scope: Scope::Universe,
            }),
            None => self
                .ns
                .route_output(Some(self.pkt.src), self.pkt.dst, None, f.mark, 0),
        };
        let back = self.ns.route_output(None, self.pkt.src, None, 0, 0);
        let lo = |d: DevId| {
            let d = self.ns.dev(d);
            d.is_some_and(|d| matches!(d.kind, DeviceKind::Loopback))
        };
        let by_another = |r: &Found, out: DevId| match r.route.kind {
            RouteKind::Local | RouteKind::Anycast => !lo(out),
            _ => r.dev() != Some(out),
        };
        // One that was routed anew within OUTPUT has its new way, `out` is as it was.
        let anew = f.rerouted.filter(|_| self.at.hook == Hook::Output);
        let there = match (there, anew.or(self.at.output)) {
            // A TEE copy goes where its gateway is, not where it is addressed; a packet to a group by the
            // route that its socket asked for, without a source.
            (Ok(r), Some(out)) if by_another(&r, out) => match self.ns.dev(out) {
                Some(d) => (d.mtu as usize).min(LOCAL_MTU),
                None => mtu(self.pkt.dst, r),
            },
            (Ok(r), _) => mtu(self.pkt.dst, r),
            (Err(_), _) => usize::MAX,
        };
        there.min(back.map_or(usize::MAX, |r| mtu(self.pkt.src, r)))
    }
}

fn word(b: &[u8], at: usize) -> u16 {
    match b.get(at..at + 2) {
        Some(w) => u16::from_be_bytes([w[0], w[1]]),
        None => 0,
    }
}

fn put(b: &mut [u8], at: usize, value: u16) {
    if let Some(w) = b.get_mut(at..at + 2) {
        w.copy_from_slice(&value.to_be_bytes());
    }
}

/// `tcpmss_mangle_packet`; `None` drops.
fn mangle(f: &mut Frame, l4: usize, family: Family, wanted: u16) -> Option<()> {
    let tcp = f.l3_mut().get_mut(l4..)?;
    let header = usize::from(tcp.get(12)? >> 4) * 4;
    if header < 20 || tcp.len() < header {
        return None;
    }
    let mut at = 20;
    while at + OPTION <= header {
        if tcp[at] == 2 && tcp[at + 1] == OPTION as u8 {
            let old = word(tcp, at + 2);
            if old > wanted {
                put(tcp, at + 2, wanted);
                // The option may stand at an odd offset, which swaps the bytes in the sum; the kernel
                // takes no notice of that (`inet_proto_csum_replace2`).
                let check = checksum::update(word(tcp, 16), old, wanted);
                put(tcp, 16, check);
            }
            return Some(());
        }
        at += match tcp[at] {
            0 | 1 => 1,
            _ => usize::from(tcp[at + 1]).max(1),
        };
    }
    // An option can be put in only where no data follows, and only as far as the header may grow.
    if tcp.len() > header || header >= 60 {
        return Some(());
    }
    // What a host assumes that was told nothing (RFC 1122 section 4.2.2.6, RFC 8200 section 5).
    let assumed = if family == Family::V4 { 536 } else { 1_220 };
    insert(f, l4, family, wanted.min(assumed));
    Some(())
}

/// Puts the option in front of the others.
fn insert(f: &mut Frame, l4: usize, family: Family, mss: u16) {
    let mut packet = f.l3().to_vec();
    let len = (packet.len() - l4) as u16;
    let m = mss.to_be_bytes();
    packet.splice(l4 + 20..l4 + 20, [2, OPTION as u8, m[0], m[1]]);
    let Some(tcp) = packet.get_mut(l4..) else {
        return;
    };
    let offset = word(tcp, 12);
    tcp[12] += 0x10;
    let mut check = checksum::update(word(tcp, 16), len, len + OPTION as u16);
    check = checksum::update(check, 0, 0x0204);
    check = checksum::update(check, 0, mss);
    check = checksum::update(check, offset, word(tcp, 12));
    put(tcp, 16, check);
    let at = if family == Family::V4 { 2 } else { 4 };
    let total = word(&packet, at);
    put(&mut packet, at, total.wrapping_add(OPTION as u16));
    if family == Family::V4 {
        let check = checksum::update(word(&packet, 10), total, total.wrapping_add(OPTION as u16));
        put(&mut packet, 10, check);
    }
    f.replace_l3(&packet);
}
