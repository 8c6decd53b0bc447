//! ICMP errors about connections (kernel: `ip_vs_in_icmp`, `ip_vs_out_icmp` and their IPv6 brothers).
//!
//! Errors about this host's own IPIP packets go on to the IP layer as any error. Invariant: `None` means
//! that the packet is no error and the hook goes on with it.

use super::Ipvs;
use super::conn::Key;
use super::hook::{Packet, Seen, Verdict};
use super::service::Forward;
use super::xmit;
use crate::nf::Hook;
use crate::wire::{Frame, IpHeader, proto};

/// An error and what it quotes.
struct About {
    h: IpHeader,
    quoted: Packet,
}

/// What kind of packet it is.
enum Kind {
    /// No ICMP error.
    Other,
    /// An error that quotes nothing IPVS knows.
    Foreign,
    /// An error about such a packet.
    Error(About),
}

fn kind(l3: &[u8]) -> Kind {
    let Ok(h) = IpHeader::parse_lax(l3) else {
        return Kind::Other;
    };
    let typ = h.payload(l3).first().copied();
    let error = match (h.proto, typ) {
        (proto::ICMP, Some(t)) if h.is_v4() => matches!(t, 3 | 4 | 11),
        (proto::ICMPV6, Some(t)) if !h.is_v4() => t & 0x80 == 0,
        _ => false,
    };
    if !error {
        return Kind::Other;
    }
    let quoted = h.payload(l3).get(8..).and_then(Packet::of);
    match quoted {
        Some(quoted) => Kind::Error(About { h, quoted }),
        None => Kind::Foreign,
    }
}

impl Ipvs {
    /// An error towards a real server: the quoted packet went from the virtual address to the client.
    pub(super) fn request_icmp(&mut self, f: &mut Frame, seen: &Seen<'_>) -> Option<Verdict> {
        let about = match kind(f.l3()) {
            Kind::Other => return None,
            Kind::Foreign => return Some(Verdict::Accept),
            Kind::Error(about) => about,
        };
        let q = &about.quoted;
        let key = Key {
            proto: q.h.proto,
            caddr: q.h.dst,
            cport: q.dport,
            vaddr: q.h.src,
            vport: q.sport,
        };
        let id = self.conns.find_in(&key)?;
        let order = self.order(id, true)?;
        if !about.h.is_v4() && seen.hook == Hook::Output && order.fwd != Forward::Masq {
            return Some(Verdict::Accept);
        }
        if !crate::wire::build::l4_checksum_ok(&about.h, f.l3()) {
            return Some(Verdict::Drop("an ICMP error with a wrong checksum"));
        }
        self.count_in(id, about.h.total_len);
        Some(Verdict::Send(order))
    }

    /// At FORWARD: errors to anywhere (`ip_vs_forward_icmp`).
    pub fn forward_icmp(&mut self, f: &mut Frame, seen: &Seen<'_>) -> Verdict {
        if seen.ns.sysctl().vs.backup_only != 0 || f.ipvs {
            return Verdict::Accept;
        }
        self.request_icmp(f, seen).unwrap_or(Verdict::Accept)
    }

    /// An error from a real server or on the way to it: the quoted packet went from the client to it.
    pub(super) fn reply_icmp(&mut self, f: &mut Frame, _seen: &Seen<'_>) -> Option<Verdict> {
        let about = match kind(f.l3()) {
            Kind::Other => return None,
            Kind::Foreign => return Some(Verdict::Accept),
            Kind::Error(about) => about,
        };
        let q = &about.quoted;
        let found = self
            .conns
            .find_out(q.h.proto, q.h.dst, q.dport, q.h.src, q.sport);
        let Some((id, order)) = found.and_then(|id| self.order(id, true).map(|o| (id, o))) else {
            return Some(Verdict::Accept);
        };
        if order.fwd != Forward::Masq {
            return Some(Verdict::Accept);
        }
        if !crate::wire::build::l4_checksum_ok(&about.h, f.l3()) {
            return Some(Verdict::Drop("an ICMP error with a wrong checksum"));
        }
        if !xmit::translate_error(f.l3_mut(), &order, xmit::Side::Reply) {
            return Some(Verdict::Drop("its header is cut off"));
        }
        self.count_out(id, about.h.total_len);
        Some(Verdict::Translated(order))
    }
}
