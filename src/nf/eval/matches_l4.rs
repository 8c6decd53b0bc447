//! Matches on the upper layer: protocol, ports, flags, ICMP types, SCTP chunks.
//!
//! As net/netfilter/xt_tcpudp.c, xt_multiport.c, xt_sctp.c and `ip_packet_match`. Invariant: a header
//! that is cut short drops the packet where the kernel sets `par->hotdrop`.

use super::chain::{Answer, Env};
use super::packet::{Pkt, dsfield};
use crate::nf::field::Is;
use crate::nf::matches::{ChunkTypes, Ecn, Multiport, Ports, Sctp, Tcp, TcpFlags, Udp};
use crate::nf::value::{PortRange, Protocol};
use crate::nf::{Backend, Family};
use crate::wire::Frame;

fn port(range: &Option<Is<PortRange>>, port: u16) -> bool {
    range.is_none_or(|r| r.value.contains(port) != r.not)
}

fn be16(b: &[u8], at: usize) -> u16 {
    let byte = |i: usize| b.get(i).copied().unwrap_or_default();
    u16::from_be_bytes([byte(at), byte(at + 1)])
}

fn flags_fit(is: Is<TcpFlags>, flags: u8) -> bool {
    (u32::from(flags) & is.value.mask.0 == is.value.set.0) != is.not
}

impl Env<'_, '_> {
    /// `-p` (`ip_packet_match`, `ip6_packet_match`).
    pub fn protocol(&self, is: &Is<Protocol>) -> Answer {
        match self.pkt.proto {
            _ if is.value.0 == 0 => Answer::Yes,
            Ok(proto) => ((proto == is.value.0) != is.not).into(),
            Err(true) if !self.is_native() => Answer::HotDrop,
            Err(_) => Answer::No,
        }
    }

    /// Whether iptables-nft writes nf_tables' own expressions: they fail where `par->hotdrop` would drop.
    fn is_native(&self) -> bool {
        self.rule.backend == Backend::Nft
    }

    /// Ports and TCP flags as iptables-nft 1.8.9 asks for them: each field is loaded by itself, and one
    /// that is not there fails the rule (kernel: `nft_payload_eval`, NFT_BREAK). A later fragment's
    /// payload is
    /// read as if it were the header: `nft_payload_fast_eval` does not ask for `fragoff` (seen on 6.18); in
    /// IPv6 `ipv6_find_hdr` leaves `thoff` at 0 there, so it is the IPv6 header that is read.
    fn native(
        &self,
        f: &Frame,
        ports: [Option<Is<PortRange>>; 2],
        flags: Option<Is<TcpFlags>>,
    ) -> bool {
        let load = |at: usize, n: usize| match self.pkt.family {
            Family::V6 if self.pkt.fragoff != 0 => f.l3().get(at..at + n),
            _ => self.pkt.l4(f, at, n),
        };
        let fits = |(i, is): (usize, Option<Is<PortRange>>)| {
            is.is_none() || load(2 * i, 2).is_some_and(|b| port(&is, be16(b, 0)))
        };
        let set = |is: Is<TcpFlags>| load(13, 1).is_some_and(|b| flags_fit(is, b[0]));
        ports.into_iter().enumerate().all(fits) && flags.is_none_or(set)
    }

    /// `tcp_mt`
    pub fn tcp(&self, f: &Frame, m: &Tcp) -> Answer {
        if self.is_native() && m.option.is_none() {
            return self.native(f, [m.sport, m.dport], m.flags).into();
        }
        match self.pkt.fragoff {
            0 => {}
            // The second eight bytes of a header, sent by themselves: an old attack.
            1 => return Answer::HotDrop,
            _ => return Answer::No,
        }
        let Some(h) = self.pkt.l4(f, 0, 20) else {
            return Answer::HotDrop;
        };
        let ports = port(&m.sport, be16(h, 0)) && port(&m.dport, be16(h, 2));
        if !ports || !m.flags.is_none_or(|is| flags_fit(is, h[13])) {
            return Answer::No;
        }
        match &m.option {
            Some(option) => tcp_option(&self.pkt, f, usize::from(h[12] >> 4) * 4, option),
            None => Answer::Yes,
        }
    }

    /// `udp_mt`
    pub fn udp(&self, f: &Frame, m: &Udp) -> Answer {
        if self.is_native() {
            return self.native(f, [m.sport, m.dport], None).into();
        }
        if self.pkt.fragoff != 0 {
            return Answer::No;
        }
        match self.pkt.l4(f, 0, 8) {
            Some(h) => (port(&m.sport, be16(h, 0)) && port(&m.dport, be16(h, 2))).into(),
            None => Answer::HotDrop,
        }
    }

    /// `icmp_match`, `icmp6_match`
    pub fn icmp(&self, f: &Frame, kind: Option<(bool, Option<u8>, Option<u8>)>) -> Answer {
        if self.pkt.fragoff != 0 {
            return Answer::No;
        }
        let Some(h) = self.pkt.l4(f, 0, 8) else {
            return Answer::HotDrop;
        };
        let Some((not, kind, code)) = kind else {
            return Answer::Yes;
        };
        let same = kind.is_none_or(|k| k == h[0] && code.is_none_or(|c| c == h[1]));
        (same != not).into()
    }

    /// `sctp_mt`
    pub fn sctp(&self, f: &Frame, m: &Sctp) -> Answer {
        if self.pkt.fragoff != 0 {
            return Answer::No;
        }
        let Some(h) = self.pkt.l4(f, 0, 12) else {
            return Answer::HotDrop;
        };
        if !port(&m.sport, be16(h, 0)) || !port(&m.dport, be16(h, 2)) {
            return Answer::No;
        }
        match &m.chunks {
            None => Answer::Yes,
            Some(is) => match chunks(&self.pkt, f, &is.value) {
                Some(found) => (found != is.not).into(),
                None => Answer::HotDrop,
            },
        }
    }

    /// `multiport_mt`
    pub fn multiport(&self, f: &Frame, m: &Multiport) -> Answer {
        if self.pkt.fragoff != 0 {
            return Answer::No;
        }
        let Some((s, d)) = self.pkt.ports(f) else {
            return Answer::HotDrop;
        };
        let any = |is: &Option<Is<Ports>>, hit: &dyn Fn(&PortRange) -> bool| {
            is.as_ref()
                .is_none_or(|is| is.value.0.iter().any(hit) != is.not)
        };
        let found = any(&m.sports, &|p| p.contains(s))
            && any(&m.dports, &|p| p.contains(d))
            && any(&m.ports, &|p| p.contains(s) || p.contains(d));
        found.into()
    }

    /// `ecn_mt4`, `ecn_mt6`
    pub fn ecn(&self, f: &Frame, m: &Ecn) -> bool {
        if m.ect.is_some_and(|e| (dsfield(f) & 3 == e.value) == e.not) {
            return false;
        }
        if m.ece.is_none() && m.cwr.is_none() {
            return true;
        }
        let Some(h) = self
            .pkt
            .l4(f, 0, 20)
            .filter(|_| self.pkt.fragoff == 0 || self.pkt.family == Family::V4)
        else {
            return false;
        };
        let ece = m.ece.is_none_or(|e| (h[13] & 0x40 != 0) != e.not);
        ece && m.cwr.is_none_or(|c| (h[13] & 0x80 != 0) != c.not)
    }
}

/// `tcp_find_option`
fn tcp_option(pkt: &Pkt, f: &Frame, header: usize, option: &Is<u8>) -> Answer {
    let Some(len) = header.checked_sub(20) else {
        return Answer::HotDrop;
    };
    let Some(options) = pkt.l4(f, 20, len) else {
        return Answer::HotDrop;
    };
    let mut at = 0;
    while let Some(kind) = options.get(at) {
        if *kind == option.value {
            return (!option.not).into();
        }
        at += match (*kind, options.get(at + 1)) {
            (0 | 1, _) | (_, None | Some(0)) => 1,
            (_, Some(len)) => usize::from(*len),
        };
    }
    option.not.into()
}

/// Bit of a flag letter, by chunk (libxt_sctp.c `valid_flags`: `----IUBE`, `-------T`).
fn chunk_flag(letter: char) -> u8 {
    match letter.to_ascii_uppercase() {
        'E' | 'T' => 1,
        'B' => 2,
        'U' => 4,
        'I' => 8,
        _ => 0,
    }
}

/// xt_sctp.c `match_packet`; `None` drops.
fn chunks(pkt: &Pkt, f: &Frame, wanted: &ChunkTypes) -> Option<bool> {
    let flags_fit = |want: &str, have: u8| {
        want.chars()
            .all(|c| (have & chunk_flag(c) != 0) == c.is_ascii_uppercase())
    };
    let (mut at, mut seen) = (12, 0u32);
    loop {
        let h = pkt.l4(f, at, 4)?;
        let (kind, flags, len) = (h[0], h[1], usize::from(be16(h, 2)));
        if len == 0 {
            return None;
        }
        at += len.next_multiple_of(4);
        let listed = wanted.chunks.iter().position(|c| c.0 == kind);
        let fits = |i: usize| wanted.chunks.get(i).is_some_and(|c| flags_fit(&c.1, flags));
        match (wanted.how.as_str(), listed) {
            ("any", Some(i)) if fits(i) => return Some(true),
            ("all", Some(i)) if fits(i) => seen |= 1 << (i & 31),
            ("only", Some(i)) if fits(i) => {}
            ("only", _) => return Some(false),
            _ => {}
        }
        if pkt.l4 + at >= pkt.len {
            break;
        }
    }
    Some(match wanted.how.as_str() {
        "all" => (0..wanted.chunks.len()).all(|i| seen & (1 << (i & 31)) != 0),
        "only" => true,
        _ => false,
    })
}
