//! Matches on the packet's connection.
//!
//! As xt_conntrack.c, xt_state.c, xt_connmark.c, xt_connbytes.c, xt_connlabel.c, xt_helper.c,
//! xt_connlimit.c. Invariant: only `connlabel --set` changes the connection.

use super::chain::{Answer, Env};
use super::state::Slot;
use crate::base::limits;
use crate::nf::ct::{Conn, CtStatus, CtTuple, Dir};
use crate::nf::field::Is;
use crate::nf::flags::{CtStates, CtStatus as StatusSet};
use crate::nf::matches::{
    BytesDir, BytesMode, Connbytes, Connlabel, Connlimit, Connmark, Conntrack, CtDir, Helper,
    LimitSide, State,
};
use crate::nf::value::{AddrMask, HostOrNet, PortRange, Range};
use crate::wire::{CtInfo, CtRef, Frame};
use std::net::IpAddr;

/// The bit of a packet's relation to its connection (uapi xt_conntrack.h `XT_CONNTRACK_STATE_BIT`).
fn state_bit(ct: CtRef) -> u32 {
    let set = match ct {
        CtRef::None | CtRef::Orphan => CtStates::INVALID,
        CtRef::Untracked => CtStates::UNTRACKED,
        CtRef::Template { info, .. } | CtRef::Conn { info, .. } => match info {
            CtInfo::New => CtStates::NEW,
            CtInfo::Related | CtInfo::RelatedReply => CtStates::RELATED,
            CtInfo::Established | CtInfo::EstablishedReply => CtStates::ESTABLISHED,
        },
    };
    set.0
}

/// All that `--ctstate` asks of a packet, whose connection is `conn`.
pub(super) fn state_bits(ct: CtRef, conn: Option<&Conn>) -> u32 {
    let mut bits = state_bit(ct);
    if let Some(c) = conn {
        for (status, state) in [
            (CtStatus::SRC_NAT, CtStates::SNAT),
            (CtStatus::DST_NAT, CtStates::DNAT),
        ] {
            bits |= if c.status.any(status) { state.0 } else { 0 };
        }
    }
    bits
}

impl Env<'_, '_> {
    /// `conntrack_mt`
    pub fn conntrack(&mut self, f: &Frame, m: &Conntrack) -> bool {
        let conn = self.conn(f);
        // A packet that is carried may assure an open connection.
        let open =
            |c: &Conn| c.status.any(CtStatus::SEEN_REPLY) && !c.status.any(CtStatus::ASSURED);
        if m.status.is_some() && conn.is_some_and(|(c, _)| open(c)) {
            self.varies();
        }
        let conn = self.conn(f);
        if let Some(is) = m.state {
            let bits = state_bits(f.ct, conn.map(|(c, _)| c));
            if (is.value.0 & bits != 0) == is.not {
                return false;
            }
        }
        match conn {
            Some((c, info)) => self.conn_fits(c, info, m),
            None => m.state.is_some(),
        }
    }

    fn conn_fits(&self, c: &Conn, info: CtInfo, m: &Conntrack) -> bool {
        let (orig, reply) = (c.tuple(Dir::Original), c.tuple(Dir::Reply));
        let addr = |is: Option<Is<HostOrNet>>, a: IpAddr| {
            is.is_none_or(|is| is.value.0.contains(a) != is.not)
        };
        let port =
            |is: Option<Is<PortRange>>, p: u16| is.is_none_or(|is| is.value.contains(p) != is.not);
        let status = |is: Is<StatusSet>| (is.value.0 & c.status.0 != 0) != is.not;
        let expires = |is: Is<Range<u64>>| {
            // A connection that is not confirmed yet has its timeout where the others have their end.
            let left = match c.is_confirmed() {
                true => c.remaining(self.cx.now),
                false => c.timeout(),
            };
            is.value.contains(left.as_secs()) != is.not
        };
        m.dir.is_none_or(|d| (d == CtDir::Reply) == info.is_reply())
            && addr(m.origsrc, orig.src)
            && addr(m.origdst, orig.dst)
            && addr(m.replsrc, reply.src)
            && addr(m.repldst, reply.dst)
            && m.proto
                .is_none_or(|is| (orig.proto == is.value.0) != is.not)
            && port(m.origsrcport, orig.sport)
            && port(m.origdstport, orig.dport)
            && port(m.replsrcport, reply.sport)
            && port(m.repldstport, reply.dport)
            && m.status.is_none_or(status)
            && m.expire.is_none_or(expires)
    }

    /// `state_mt`
    pub fn state(&self, f: &Frame, m: &State) -> bool {
        m.state
            .is_none_or(|is| (is.value.0 & state_bit(f.ct) != 0) != is.not)
    }

    /// `connmark_mt`: without a connection it fails, even with `!`.
    pub fn connmark(&self, f: &Frame, m: &Connmark) -> bool {
        let (Some((c, _)), Some(is)) = (self.conn(f), m.mark) else {
            return false;
        };
        (c.mark & is.value.mask == is.value.value) != is.not
    }

    /// `connbytes_mt`; the match turns accounting on when it is loaded.
    pub fn connbytes(&self, f: &Frame, m: &Connbytes) -> bool {
        let (Some((c, _)), Some(is), Some(mode), Some(dir)) =
            (self.conn(f), m.amount, m.mode, m.dir)
        else {
            return false;
        };
        let Some([orig, reply]) = c.acct() else {
            return false;
        };
        let (packets, bytes) = match dir {
            BytesDir::Original => (orig.packets, orig.bytes),
            BytesDir::Reply => (reply.packets, reply.bytes),
            BytesDir::Both => (
                orig.packets.saturating_add(reply.packets),
                orig.bytes.saturating_add(reply.bytes),
            ),
        };
        let what = match mode {
            BytesMode::Packets => packets,
            BytesMode::Bytes => bytes,
            BytesMode::AvgPkt => bytes.checked_div(packets).unwrap_or(0),
        };
        is.value.0.contains(what) != is.not
    }

    /// `connlabel_mt`; names are those of /etc/xtables/connlabel.conf, which is not read: only numbers
    /// are known.
    pub fn connlabel(&mut self, f: &Frame, m: &Connlabel) -> Answer {
        let Some(is) = &m.label else {
            return Answer::Unknown;
        };
        let Some(bit) = is.value.0.parse::<u32>().ok().filter(|b| *b < 128) else {
            return Answer::Unknown;
        };
        let not = is.not;
        let Some(c) = self.conn_mut(f) else {
            return not.into();
        };
        let had = c.labels() & (1 << bit) != 0;
        if m.set {
            c.add_labels(1 << bit);
        }
        ((had || m.set) != not).into()
    }

    /// `helper_mt`: the helper of the connection that expected this one.
    pub fn helper(&self, f: &Frame, m: &Helper) -> bool {
        let Some(is) = &m.name else { return true };
        let master = self.conn(f).and_then(|(c, _)| self.nf.ct.get(c.master()?));
        match master.and_then(|c| c.helper()) {
            // The kernel compares as many letters as the helper's name has.
            Some(name) if is.value.0.is_empty() || is.value.0.starts_with(name) => !is.not,
            _ => is.not,
        }
    }

    /// `connlimit_mt`, `nf_conncount_count`: the connections of the packet's group that still live, with
    /// this one.
    pub fn connlimit(&mut self, f: &Frame, m: &Connlimit, slot: Option<&mut Slot>) -> Answer {
        let Some(Slot::Connlimit(list)) = slot else {
            return Answer::Unknown;
        };
        let side = match m.side {
            Some(LimitSide::Dest) => self.pkt.dst,
            _ => self.pkt.src,
        };
        let group = AddrMask::net(side, m.mask.unwrap_or(128)).addr;
        let conn = self.conn(f);
        let zone = conn.map_or(0, |(c, _)| c.zones().orig);
        let own = match conn {
            Some((c, _)) => c.tuple(Dir::Original),
            None => self.packet_tuple(f),
        };
        let ct = &self.nf.ct;
        list.retain(|(_, zone, t)| *t == own || ct.find(t, *zone).is_some());
        let mine = (group, zone, own);
        if !list.contains(&mine) {
            if list.len() >= limits::NF_CONNLIMIT_MAX {
                return Answer::HotDrop;
            }
            list.push(mine);
        }
        let count = list
            .iter()
            .filter(|(g, z, _)| (*g, *z) == (group, zone))
            .count() as u64;
        match (m.upto, m.above) {
            (Some(n), _) => (count <= u64::from(n)).into(),
            (None, n) => (count > u64::from(n.unwrap_or(0))).into(),
        }
    }

    /// The packet's own tuple, for packets without a connection.
    pub fn packet_tuple(&self, f: &Frame) -> CtTuple {
        let (sport, dport) = match self.pkt.fragoff {
            0 => self.pkt.ports(f).unwrap_or_default(),
            _ => (0, 0),
        };
        CtTuple {
            proto: self.pkt.proto.unwrap_or(0),
            src: self.pkt.src,
            dst: self.pkt.dst,
            sport,
            dport,
        }
    }
}
