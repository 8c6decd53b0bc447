//! A connection's mappings are set up: by a rule, by an expectation, or to itself.
//!
//! Follows `nf_nat_setup_info`, `nf_nat_alloc_null_binding` and `nf_nat_follow_master`. Only connections
//! that are not confirmed yet are mapped. Invariant: a connection with a mapping's DONE bit keeps that
//! mapping as long as it lives.

use super::unique::{self, Mappings, Wish};
use super::{Manip, NatTarget, inverse};
use crate::nf::ct::tcp::TcpState;
use crate::nf::ct::{Conn, Conntrack, CtStatus, CtTuple, Dir, ProtoState};
use crate::nf::eval::{Cx, NfStep, RuleRef};
use crate::nf::forced::{Forced, Place};
use crate::wire::shard::{FlowKey, Shard};
use crate::wire::{ConnId, Tuple, proto};
use core::fmt;
use std::net::{IpAddr, SocketAddr};

/// Why NAT itself drops a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoNat {
    /// MASQUERADE: the output device has no address ("ate my IP address").
    NoSource,
    /// REDIRECT: the input device has no address.
    NoDestination,
    /// A masqueraded connection leaves by another device now; it was ended (`nf_nat_oif_changed`).
    OifChanged,
    /// The header is too short to be translated, or a GRE version that is not known.
    Header,
    /// An ICMP error that cannot be translated: cut off, a wrong checksum, a redirect of a mapped
    /// connection (`nf_nat_icmp_reply_translation`).
    IcmpError,
    /// FTP or TFTP announced a connection whose address cannot be translated, or none can be expected.
    Announcement,
    /// The connection is gone, or has this mapping already.
    Mapped,
}

impl fmt::Display for NoNat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NoNat::NoSource => "the output device has no address to masquerade with",
            NoNat::NoDestination => "the input device has no address to redirect to",
            NoNat::OifChanged => "the masqueraded connection left by another device before",
            NoNat::Header => "the header is too short to be translated",
            NoNat::IcmpError => "the ICMP error cannot be translated",
            NoNat::Announcement => "the announced connection cannot be translated",
            NoNat::Mapped => "the connection is mapped already",
        })
    }
}

/// Sets up mappings in one namespace's table.
#[derive(Debug)]
pub struct Nat<'a> {
    /// The connections.
    pub ct: &'a mut Conntrack,
    /// What is decided beforehand.
    pub forced: &'a Forced,
    /// The rule that asks.
    pub rule: Option<RuleRef>,
}

impl Nat<'_> {
    /// Maps one side of a connection (kernel: `nf_nat_setup_info`).
    pub fn setup(
        &mut self,
        id: ConnId,
        range: &NatTarget,
        manip: Manip,
        cx: &mut Cx<'_>,
    ) -> Result<(), NoNat> {
        let conn = self.ct.get(id).ok_or(NoNat::Mapped)?;
        if conn.is_confirmed() {
            return Ok(());
        }
        if initialized(conn, manip) {
            return Err(NoNat::Mapped);
        }
        let (orig, zone) = (conn.tuple(Dir::Original), conn.zones().orig);
        let current = inverse(&conn.tuple(Dir::Reply));
        let wish = Wish {
            current,
            range,
            manip,
            zone: if zone != 0 { zone } else { conn.zones().reply },
            expected: conn.master().is_some(),
            forced: self.wanted(&orig, &current, range, manip),
        };
        let shard = self.ct.shard.filter(|_| chooses(&wish));
        let mut live = Live {
            id,
            ct: self.ct,
            shard,
        };
        let new = unique::choose(&wish, &mut live, cx.rng);
        if new != current {
            self.ct.alter_reply(id, inverse(&new));
        }
        if let Some(c) = self.ct.get_mut(id) {
            let (changed, done) = bits(manip);
            c.status
                .set(if new != current { changed | done } else { done });
        }
        if manip == Manip::Src {
            self.ct.add_by_source(id);
        }
        self.tell(manip, &current, &new, cx);
        Ok(())
    }

    /// Maps one side to what it is; its port changes if the tuple is taken, ports being free to choose
    /// (kernel: `nf_nat_alloc_null_binding`).
    pub fn null_binding(&mut self, id: ConnId, manip: Manip, cx: &mut Cx<'_>) -> Result<(), NoNat> {
        let conn = self.ct.get(id).ok_or(NoNat::Mapped)?;
        let ip = manip.addr(&inverse(&conn.tuple(Dir::Reply)));
        self.setup(id, &NatTarget::to(ip), manip, cx)
    }

    fn wanted(
        &self,
        orig: &CtTuple,
        current: &CtTuple,
        range: &NatTarget,
        manip: Manip,
    ) -> Option<Place> {
        let choice = self.forced.choice(orig);
        match (manip, choice.snat) {
            (Manip::Src, snat) => snat,
            // An echo's id is one for both directions: what draws it may be the destination's mapping.
            (Manip::Dst, Some((_, id))) if orig.is_icmp() && range.draws() => {
                Some((choice.dnat.map_or(current.dst, |(ip, _)| ip), id))
            }
            (Manip::Dst, _) => choice.dnat,
        }
    }

    fn tell(&self, manip: Manip, from: &CtTuple, to: &CtTuple, cx: &mut Cx<'_>) {
        if let Some(steps) = &mut cx.steps
            && (self.rule.is_some() || from != to)
        {
            steps.push(NfStep::NatSetup {
                manip,
                rule: self.rule,
                from: place(from, manip),
                to: place(to, manip),
            });
        }
    }
}

/// Whether a side is mapped already, be it to itself (kernel: `nf_nat_initialized`).
pub fn initialized(conn: &Conn, manip: Manip) -> bool {
    conn.status.any(bits(manip).1)
}

/// The status bits that say that packets are changed, and that it is decided whether they are.
fn bits(manip: Manip) -> (u32, u32) {
    match manip {
        Manip::Src => (CtStatus::SRC_NAT, CtStatus::SRC_NAT_DONE),
        Manip::Dst => (CtStatus::DST_NAT, CtStatus::DST_NAT_DONE),
    }
}

/// One side of a tuple, as a trace prints it.
fn place(t: &CtTuple, manip: Manip) -> String {
    let ip = manip.addr(t);
    match t.proto {
        proto::TCP | proto::UDP | proto::SCTP => SocketAddr::new(ip, manip.port(t)).to_string(),
        proto::ICMP | proto::ICMPV6 => format!("{ip} id {}", t.sport),
        _ => ip.to_string(),
    }
}

/// An expected connection is translated as its master is: it comes from where the master's packets go to and
/// goes to where they come from (kernel: `nf_nat_follow_master`). Does nothing if NAT did not look at the
/// announcement, or the master is gone.
pub(super) fn follow_master(nat: &mut Nat<'_>, id: ConnId, cx: &mut Cx<'_>) -> Result<(), NoNat> {
    let conn = nat
        .ct
        .get(id)
        .filter(|c| !c.status.any(CtStatus::NAT_DONE_MASK));
    let announced = conn.and_then(|c| Some((nat.ct.get(c.master()?)?, c.expectation()?)));
    let Some((master, exp)) = announced else {
        return Ok(());
    };
    let reply = master.tuple(exp.dir.other());
    nat.setup(id, &NatTarget::to(reply.dst), Manip::Src, cx)?;
    let dst = NatTarget {
        ports: Some((exp.port, exp.port)),
        ..NatTarget::to(reply.src)
    };
    nat.setup(id, &dst, Manip::Dst, cx)
}

/// The table as the choice of a mapping asks it.
struct Live<'a> {
    ct: &'a mut Conntrack,
    id: ConnId,
    /// Whose the replies have to be.
    shard: Option<Shard>,
}

/// Whether the source is about to change and its port may be any: of several workers one takes a port such
/// that replies come to it.
fn chooses(w: &Wish<'_>) -> bool {
    let other = |(a, b): (IpAddr, IpAddr)| !(a..=b).contains(&w.current.src);
    w.manip == Manip::Src
        && w.range.addrs.is_some_and(other)
        && w.range.ports.is_none_or(|(a, b)| a != b)
}

impl Live<'_> {
    /// Whether replies would go to another worker.
    fn elsewhere(&self, reply: &CtTuple) -> bool {
        let Some(shard) = self.shard else {
            return false;
        };
        let (sport, dport) = match reply.is_icmp() {
            true => (reply.sport, reply.sport),
            false => (reply.sport, reply.dport),
        };
        let (proto, src, dst) = (reply.proto, reply.src, reply.dst);
        !shard.owns(&FlowKey::of(&Tuple {
            proto,
            src,
            dst,
            sport,
            dport,
        }))
    }
}

impl Mappings for Live<'_> {
    fn taken(&mut self, reply: &CtTuple) -> bool {
        self.ct.tuple_taken(reply, self.id) || self.elsewhere(reply)
    }

    /// Where both ends began at once, the second connection is the first one's reply and may be entered as
    /// it is (kernel: `nf_nat_used_tuple_new`).
    fn taken_unchanged(&mut self, reply: &CtTuple) -> bool {
        if !self.taken(reply) {
            return false;
        }
        let Some(own) = self.ct.get(self.id) else {
            return true;
        };
        let uses_nat = CtStatus::NAT_MASK | CtStatus::SEQ_ADJUST;
        if !allows_clash(own.tuple(Dir::Original).proto) || own.status.any(uses_nat) {
            return true;
        }
        let zone = own.zones();
        let tuple = inverse(reply);
        let found = self.ct.find_zones(&tuple, zone);
        let found = found.or_else(|| self.ct.find_zones(reply, zone));
        let Some((other, _)) = found else {
            return false;
        };
        let (Some(own), Some(other)) = (self.ct.get(self.id), self.ct.get(other)) else {
            return true;
        };
        let [orig, reply] = own.tuples();
        let mirrored = other.tuples() == [reply, orig];
        other.status.any(uses_nat) || !mirrored
    }

    /// A connection in TIME_WAIT or closed gives its port up to a SYN that is beyond its last byte
    /// (kernel: `nf_nat_used_tuple_harder`, `nf_nat_may_kill`, `nf_seq_has_advanced`).
    fn taken_after_all(&mut self, reply: &CtTuple) -> bool {
        if self.elsewhere(reply) {
            return true;
        }
        let Some((zone, end)) = self.ct.get(self.id).and_then(|own| match own.proto() {
            ProtoState::Tcp(t) if t.state == TcpState::SynSent => {
                Some((own.zones(), t.sides[0].end))
            }
            _ => None,
        }) else {
            return self.taken(reply);
        };
        let Some((id, dir)) = self.ct.find_zones(reply, zone) else {
            return false;
        };
        let Some(other) = self
            .ct
            .get(id)
            .filter(|_| dir == Dir::Reply && id != self.id)
        else {
            return true;
        };
        let ProtoState::Tcp(old) = other.proto() else {
            return true;
        };
        let over = matches!(old.state, TcpState::TimeWait | TcpState::Close);
        let refused = other.status.any(CtStatus::FIXED_TIMEOUT | CtStatus::DYING)
            || !other.status.any(CtStatus::SRC_NAT);
        let advanced = end.wrapping_sub(old.sides[0].end) as i32 > 0;
        if !over || refused || !advanced {
            return true;
        }
        self.ct.kill(id);
        false
    }

    fn of_source(&mut self, t: &CtTuple, fits: &dyn Fn(&CtTuple) -> bool) -> Option<CtTuple> {
        let zone = self.ct.get(self.id).map_or(0, |c| c.zones().orig);
        let mut replies = self.ct.by_source(t, zone).map(|(_, c)| c.tuple(Dir::Reply));
        replies.find(fits)
    }
}

/// Protocols whose second connection for the same flow may be merged with the first (kernel: `allow_clash`).
fn allows_clash(number: u8) -> bool {
    !matches!(
        number,
        proto::TCP | proto::ICMP | proto::ICMPV6 | proto::SCTP | super::GRE
    )
}
