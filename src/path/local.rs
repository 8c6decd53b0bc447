//! Delivery to this host: reassembly, ICMP, UDP, TCP, tunnels (kernel: `ip_local_deliver`, `icmp_rcv`,
//! `__udp4_lib_rcv`, `tcp_v4_rcv` and their IPv6 brothers).

use crate::base::{DevId, Origin};
use crate::net::SocketId;
use crate::net::frag::FragResult;
use crate::nf::Hook;
use crate::path::netfilter::LOCAL_DELIVER;
use crate::path::observer::{Observer, Step};
use crate::path::reason::{Disposition, DropReason};
use crate::path::walker::{Output, Walker};
use crate::wire::{CtRef, Frame, IpHeader, PacketType, build, checksum, options, proto};
use std::net::IpAddr;

/// A sum that does not fit is made anew only for datagrams that are no longer (kernel: `CHECKSUM_BREAK`,
/// `udp6_csum_init`, which believes the sum that software made of the others).
const CHECKSUM_BREAK: usize = 76;

impl<O: Observer> Walker<'_, O> {
    /// A packet for this host.
    pub(crate) fn deliver(&mut self, dev: DevId, h: &IpHeader, f: Frame, group: bool) {
        if !h.is_fragment() {
            return self.input(dev, h, f, group);
        }
        // IPv6 takes fragments to INPUT as they are (kernel: ip6_input before ip6_protocol_deliver_rcu).
        let passed = match h.is_v4() {
            true => Some((*h, f)),
            false => self.nf_hook_h(Hook::Input, *h, f, Some(dev), None),
        };
        let Some((h, f)) = passed else { return };
        let life = self.fragment_life(h.is_v4());
        let shown = f.clone();
        match self.ns.frags.add(f, &h, LOCAL_DELIVER, dev, self.now, life) {
            FragResult::Queued => self.step(Some(dev), &shown, |_| Step::FragmentQueued),
            FragResult::Whole(w) => {
                self.ns.snmp.reasm_ok += 1;
                self.step(Some(dev), &w, |_| Step::Reassembled { len: w.l3().len() });
                match IpHeader::parse_lax(w.l3()) {
                    Ok(h) if h.is_v4() => self.input(dev, &h, w, group),
                    Ok(h) => self.deliver_whole(dev, &h, w, group),
                    Err(_) => {}
                }
            }
            FragResult::Bad(f) => self.drop(Some(dev), &f, DropReason::FragmentBad),
            FragResult::Problem(f, at) => {
                let sent = self.icmp_error(&f, Some(dev), 4, 0, at);
                self.rejected(
                    Some(dev),
                    &f,
                    sent,
                    DropReason::FragmentBad,
                    Origin::Kernel,
                    |_| String::new(),
                );
            }
            FragResult::Duplicate(f) => self.drop(Some(dev), &f, DropReason::FragmentDuplicate),
        }
    }

    /// INPUT, then whoever it is for.
    fn input(&mut self, dev: DevId, h: &IpHeader, f: Frame, group: bool) {
        if let Some((h, f)) = self.nf_hook_h(Hook::Input, *h, f, Some(dev), None) {
            self.deliver_whole(dev, &h, f, group);
        }
    }

    /// A queue died with its first fragment in it (kernel: `ip_expire`, `ip6frag_expire_frag_queue`).
    pub(crate) fn reassembly_timed_out(&mut self, dev: DevId, f: Frame) {
        let v4 = IpHeader::parse_lax(f.l3()).is_ok_and(|h| h.is_v4());
        let sent = self.icmp_error(&f, Some(dev), if v4 { 11 } else { 3 }, 1, 0);
        self.rejected(
            Some(dev),
            &f,
            sent,
            DropReason::FragmentTimeout,
            Origin::Kernel,
            |_| String::new(),
        );
    }

    /// IPv6 extension headers of a packet for us (RFC 8200 section 4; kernel: `ip6_protocol_deliver_rcu`):
    /// false when one of them ended its way.
    fn extension_headers(&mut self, dev: DevId, h: &IpHeader, f: &Frame) -> bool {
        let p = f.l3();
        let (mut next_at, mut at) = (6, 40);
        while at < h.header_len {
            let (kind, Some(len)) = (p[next_at], p.get(at + 1).map(|l| (usize::from(*l) + 1) * 8))
            else {
                return true;
            };
            let problem = match kind {
                0 if at > 40 => Some((1, next_at)),
                60 => self.destination_options(h, p, at, len),
                43 if p.get(at + 3).is_some_and(|left| *left > 0) => Some((0, at + 2)),
                _ => None,
            };
            if let Some((code, pointer)) = problem {
                let sent = if code == u8::MAX {
                    None
                } else {
                    self.icmp_error(f, Some(dev), 4, code, pointer as u32)
                };
                self.rejected(
                    Some(dev),
                    f,
                    sent,
                    DropReason::IpHeader,
                    Origin::Kernel,
                    |_| format!("extension header {kind} at offset {at}"),
                );
                return false;
            }
            (next_at, at) = (at, at + if kind == 44 { 8 } else { len });
        }
        true
    }

    /// An unknown option says by its two top bits what becomes of the packet (RFC 8200 section 4.2).
    fn destination_options(
        &self,
        h: &IpHeader,
        p: &[u8],
        at: usize,
        len: usize,
    ) -> Option<(u8, usize)> {
        let end = (at + len).min(p.len());
        let mut i = at + 2;
        while i < end {
            let kind = p[i];
            if kind == 0 {
                i += 1;
                continue;
            }
            let Some(n) = p.get(i + 1).map(|n| usize::from(*n)) else {
                return Some((u8::MAX, 0));
            };
            let group = matches!(h.dst, IpAddr::V6(a) if a.is_multicast());
            match kind >> 6 {
                _ if matches!(kind, 1 | 4 | 0xc9) => {}
                0 => {}
                1 => return Some((u8::MAX, 0)),
                3 if group => return Some((u8::MAX, 0)),
                _ => return Some((2, i)),
            }
            i += 2 + n;
        }
        None
    }

    fn deliver_whole(&mut self, dev: DevId, h: &IpHeader, mut f: Frame, group: bool) {
        // These let go of the connection before they look for a socket, so that an error about the packet
        // is not attached to it (kernel: `nf_reset_ct` in `__udp4_lib_rcv`, `ip6_protocol_deliver_rcu`).
        if matches!(
            h.proto,
            proto::TCP | proto::UDP | proto::ICMP | proto::ICMPV6
        ) {
            f.ct = CtRef::None;
        }
        if !h.is_v4() && h.header_len > 40 && !self.extension_headers(dev, h, &f) {
            return;
        }
        match h.proto {
            proto::ICMP if h.is_v4() => self.icmp_receive(dev, h, f, group),
            proto::ICMPV6 if !h.is_v4() => self.icmp_receive(dev, h, f, group),
            proto::UDP => self.udp_receive(dev, h, f, group),
            proto::TCP => self.tcp_receive(dev, h, f, group),
            proto::IPIP if h.is_v4() && self.ipip_known() => self.ipip_receive(dev, h, f),
            2 if h.is_v4() => self.end(Some(dev), &f, Disposition::Consumed("IGMP")),
            59 if !h.is_v4() => self.drop(Some(dev), &f, DropReason::NoProtocol), // no next header
            _ => self.no_protocol(dev, h, f),
        }
    }

    fn no_protocol(&mut self, dev: DevId, h: &IpHeader, f: Frame) {
        if let Some(s) = self.find_socket(h, &f) {
            return self.hand_to_socket(dev, s, f);
        }
        let sent = if self.no_source(h) {
            None
        } else if h.is_v4() {
            self.icmp_error(&f, Some(dev), 3, 2, 0)
        } else {
            self.icmp_error(&f, Some(dev), 4, 1, h.proto_at as u32)
        };
        let p = h.proto;
        self.rejected(
            Some(dev),
            &f,
            sent,
            DropReason::NoProtocol,
            Origin::Kernel,
            |_| format!("protocol {p}"),
        );
    }

    pub(crate) fn hand_to_socket(&mut self, dev: DevId, socket: SocketId, mut f: Frame) {
        self.end(Some(dev), &f, Disposition::Delivered(socket));
        f.strip_link();
        f.scrub();
        self.cx.out.push(Output::Socket {
            ns: self.ns.id,
            socket,
            frame: f,
        });
    }

    fn udp_receive(&mut self, dev: DevId, h: &IpHeader, mut f: Frame, group: bool) {
        let p = h.payload(f.l3());
        let claimed = p
            .get(4..6)
            .map_or(0, |l| usize::from(u16::from_be_bytes([l[0], l[1]])));
        if p.len() < 8 || claimed < 8 || claimed > p.len() {
            return self.drop(Some(dev), &f, DropReason::IpTruncated);
        }
        // What follows the datagram inside the packet is cut (kernel: `pskb_trim_rcsum` in `__udp4_lib_rcv`).
        f.trim_l3(h.header_len + claimed);
        let h = &IpHeader {
            total_len: h.header_len + claimed,
            ..*h
        };
        let no_csum6 =
            !h.is_v4() && f.l3().get(h.header_len + 6..h.header_len + 8) == Some(&[0, 0]);
        let stale = claimed > CHECKSUM_BREAK
            && f.summed.is_some_and(|s| {
                let now = checksum::sum(f.l3().get(..8).unwrap_or(&[]), 0);
                !h.is_v4() && checksum::sum(&s, 0) != now
            });
        if no_csum6 || stale || !build::l4_checksum_ok(h, f.l3()) {
            return self.drop(Some(dev), &f, DropReason::L4Checksum);
        }
        let port = h.ports(f.l3()).map_or(0, |p| p.1);
        if self.vxlan_listens(port) {
            return self.vxlan_receive(dev, h, f);
        }
        if let Some(s) = self.find_socket(h, &f) {
            return self.hand_to_socket(dev, s, f);
        }
        if group {
            return self.drop(Some(dev), &f, DropReason::NoSocket);
        }
        let (typ, code) = if h.is_v4() { (3, 3) } else { (1, 4) };
        let sent = match self.no_source(h) {
            true => None,
            false => self.icmp_error(&f, Some(dev), typ, code, 0),
        };
        self.rejected(
            Some(dev),
            &f,
            sent,
            DropReason::NoSocket,
            Origin::Kernel,
            |_| format!("UDP port {port}"),
        );
    }

    fn tcp_receive(&mut self, dev: DevId, h: &IpHeader, f: Frame, group: bool) {
        let p = h.payload(f.l3());
        let doff = p.get(12).map_or(0, |b| usize::from(b >> 4) * 4);
        if group || p.len() < 20 || doff < 20 || doff > p.len() {
            return self.drop(Some(dev), &f, DropReason::IpTruncated);
        }
        if f.pkt_type != PacketType::Host {
            return self.drop(Some(dev), &f, DropReason::NotForUs); // tcp_v4_rcv, tcp_v6_rcv
        }
        if !build::l4_checksum_ok(h, f.l3()) {
            return self.drop(Some(dev), &f, DropReason::L4Checksum);
        }
        if let Some(s) = self.find_socket(h, &f) {
            return self.hand_to_socket(dev, s, f);
        }
        let port = h.ports(f.l3()).map_or(0, |p| p.1);
        let reset = build::tcp_reset(h, f.l3());
        // A destination that rules wrote into it in INPUT is no source: ip_route_output_key_hash_rcu wants
        // one of its own.
        let reset = reset.filter(|_| !h.is_v4() || self.is_own(h.dst));
        self.drop_with(
            Some(dev),
            &f,
            DropReason::NoSocket,
            Origin::Kernel,
            |_| match reset {
                Some(_) => format!("TCP port {port}: answered with RST"),
                None => format!("TCP port {port}"),
            },
        );
        let Some(reset) = reset else { return };
        let ttl = self.answer_ttl(h.src, None);
        let packet = build::ip_packet(h.dst, h.src, proto::TCP, ttl, h.tos & !3, 0, true, &reset);
        let mut r = self.child_of(&f, Frame::ip(&packet));
        // IPv6's is left to the device (`tcp_v6_send_response`), IPv4's is not (`ip_send_unicast_reply`).
        r.partial = !h.is_v4();
        self.step(Some(dev), &f, |_| Step::Answer { what: "TCP reset" });
        let oif = self.answer_oif(h, dev);
        let _ = self.local_out(r, oif);
    }

    /// Answers to link-local peers leave where the question came in.
    fn answer_oif(&self, h: &IpHeader, dev: DevId) -> Option<DevId> {
        matches!(h.src, IpAddr::V6(a) if crate::net::addr::is_link_local(a)).then_some(dev)
    }

    fn icmp_receive(&mut self, dev: DevId, h: &IpHeader, f: Frame, group: bool) {
        let m = h.payload(f.l3());
        if m.len() < 8 {
            return self.drop(Some(dev), &f, DropReason::IcmpMalformed);
        }
        if !build::l4_checksum_ok(h, f.l3()) {
            return self.drop(Some(dev), &f, DropReason::L4Checksum);
        }
        let (typ, code) = (m[0], m[1]);
        match (h.is_v4(), typ) {
            (true, 8) | (false, 128) => self.echo(dev, h, f, group),
            (true, 0) | (false, 129) => match self.find_socket(h, &f) {
                Some(s) => self.hand_to_socket(dev, s, f),
                None => self.end(
                    Some(dev),
                    &f,
                    Disposition::Consumed("echo reply nobody waits for"),
                ),
            },
            (true, 13) => self.timestamp(dev, h, f, group),
            (true, 3 | 4 | 5 | 11 | 12) => self.icmp_error_received(dev, h, f, typ, code),
            (false, 1..=4) => self.icmp_error_received(dev, h, f, typ, code),
            (false, 135 | 136) => self.nd_receive(dev, h, f),
            _ => self.drop_with(
                Some(dev),
                &f,
                DropReason::IcmpIgnored,
                Origin::Kernel,
                |_| format!("type {typ}"),
            ),
        }
    }

    /// kernel: `icmp_echo`, `icmpv6_echo_reply`
    fn echo(&mut self, dev: DevId, h: &IpHeader, f: Frame, group: bool) {
        let s = &self.ns.sysctl;
        let ignored = h.is_v4()
            && (s.icmp_echo_ignore_all != 0 || (group && s.icmp_echo_ignore_broadcasts != 0));
        if ignored {
            return self.drop(Some(dev), &f, DropReason::IcmpIgnored);
        }
        let src = if group {
            self.answer_source(dev, h)
        } else {
            // What a rule in INPUT wrote there is no source of ours (ip_route_output_key_hash_rcu).
            Some(h.dst).filter(|a| a.is_ipv6() || self.is_own(*a))
        };
        let Some(src) = src else {
            return self.drop(Some(dev), &f, DropReason::NoSourceAddress);
        };
        let mut m = h.payload(f.l3()).to_vec();
        m[0] = if h.is_v4() { 0 } else { 129 };
        build::fill_icmp_checksum(&mut m, src, h.src);
        self.icmp_answer(dev, h, src, &m, f, "echo reply");
    }

    /// The address to answer a group with (kernel: `fib_compute_spec_dst`).
    fn answer_source(&self, dev: DevId, h: &IpHeader) -> Option<IpAddr> {
        match h.src {
            IpAddr::V4(_) => {
                let r = self.ns.route_output(None, h.src, None, 0, 0).ok();
                r.and_then(|r| self.ns.source_for(&r, h.src))
            }
            IpAddr::V6(a) => self.ns.select_addr6(dev, a).map(IpAddr::V6),
        }
    }

    /// kernel: `icmp_timestamp`; the times are virtual, milliseconds since the world began.
    fn timestamp(&mut self, dev: DevId, h: &IpHeader, f: Frame, group: bool) {
        let m = h.payload(f.l3());
        if m.len() < 12 || (group && self.ns.sysctl.icmp_echo_ignore_broadcasts != 0) {
            return self.drop(Some(dev), &f, DropReason::IcmpIgnored);
        }
        let mut r = m[..12].to_vec();
        r[0] = 14;
        let ms = (self.now.as_micros() / 1000) as u32;
        r.extend_from_slice(&ms.to_be_bytes());
        r.extend_from_slice(&ms.to_be_bytes());
        build::fill_icmp_checksum(&mut r, h.dst, h.src);
        self.icmp_answer(dev, h, h.dst, &r, f, "timestamp reply");
    }

    fn icmp_answer(
        &mut self,
        dev: DevId,
        h: &IpHeader,
        src: IpAddr,
        m: &[u8],
        f: Frame,
        what: &'static str,
    ) {
        let oif = self.answer_oif(h, dev);
        let ttl = self.answer_ttl(h.src, Some(dev));
        let (p, tos) = if h.is_v4() {
            (proto::ICMP, h.tos)
        } else {
            (proto::ICMPV6, h.tos)
        };
        let id = self.ns.next_ip_id();
        let mut packet = build::ip_packet(src, h.src, p, ttl, tos, id, false, m);
        if let IpAddr::V4(a) = src {
            options::insert(&mut packet, &options::echo(f.l3(), &f.options, a));
        }
        let mut r = self.child_of(&f, Frame::ip(&packet));
        if self.ns.sysctl.fwmark_reflect != 0 {
            r.mark = f.mark;
        }
        self.step(Some(dev), &f, |_| Step::Answer { what });
        self.end(Some(dev), &f, Disposition::Consumed("echo request"));
        self.icmp_out(r, oif);
    }

    /// An error about something this host sent: the path MTU is learned, the socket told
    /// (kernel: `icmp_unreach`, `icmpv6_notify`).
    fn icmp_error_received(&mut self, dev: DevId, h: &IpHeader, f: Frame, typ: u8, code: u8) {
        let quoted = h.payload(f.l3()).get(8..).unwrap_or(&[]).to_vec();
        let Ok(q) = IpHeader::parse_lax(&quoted) else {
            return self.drop(Some(dev), &f, DropReason::IcmpMalformed);
        };
        let m = h.payload(f.l3());
        let word = u32::from_be_bytes([m[4], m[5], m[6], m[7]]);
        let mtu = match (h.is_v4(), typ, code) {
            (true, 3, 4) => Some(word & 0xffff),
            (false, 2, _) => Some(word),
            _ => None,
        };
        let tuple = crate::wire::Tuple::of(&q, &quoted).reply();
        let socket = self.ns.sockets.lookup(&tuple);
        // A tunnel believes it only if its own header is quoted too (kernel: `vxlan_err_lookup`).
        let vxlan = q.proto == proto::UDP && quoted.len() >= q.header_len + 16;
        let own_tunnel = vxlan && self.vxlan_listens(tuple.sport) || q.proto == proto::IPIP;
        let echo = matches!(q.proto, proto::ICMP | proto::ICMPV6);
        if let Some(mtu) = mtu.filter(|_| socket.is_some() || own_tunnel || echo) {
            let now = self.now;
            let found = self.ns.route_output(Some(q.src), q.dst, None, 0, 0);
            let current = found.map_or(65_535, |r| self.ns.path_mtu(q.dst, &r, now));
            self.cx.learned += 1;
            self.ns.learn_pmtu(q.dst, mtu, current, now);
            self.step(Some(dev), &f, |_| Step::PmtuLearned { dst: q.dst, mtu });
        }
        match socket {
            Some(s) => self.hand_to_socket(dev, s, f),
            None => self.end(Some(dev), &f, Disposition::Consumed("ICMP error")),
        }
    }
}
