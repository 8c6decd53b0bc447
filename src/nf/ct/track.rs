//! A packet meets the table: it is looked up, a connection is made, its protocol's tracker judges
//! (kernel: `nf_conntrack_in`, `resolve_normal_ct`, `init_conntrack`).
//!
//! Invariant: after [`Conntrack::track`] a frame has a connection, is untracked, or has none: INVALID.

use super::conn::{Conn, CtStatus, Zones};
use super::event::EventBits;
use super::packet::Packet;
use super::sysctl::CtSysctl;
use super::tcp::TcpState;
use super::tuple::{CtTuple, Dir, GRE, UDPLITE};
use super::tuples::Key;
use super::{Conntrack, CtDrop, helper, icmp, sctp, tcp, udp};
use crate::base::{Instant, limits};
use crate::net::NetNs;
use crate::nf::eval::{At, Cx};
use crate::nf::{Counters, Family, Hook};
use crate::wire::{ConnId, CtInfo, CtRef, Frame, proto};
use core::time::Duration;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What a tracker looks at besides connection and packet.
#[derive(Clone, Copy)]
pub(super) struct Env<'a> {
    pub now: Instant,
    pub sysctl: &'a CtSysctl,
    pub hook: Hook,
}

impl Env<'_> {
    /// Kernel: `nf_ct_refresh_acct`.
    pub fn refresh(&self, conn: &mut Conn, dir: Dir, p: &Packet<'_>, life: Duration) {
        conn.refresh(self.now, life);
        conn.account(dir, p.counted());
    }
}

/// A tracker's answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Seen {
    /// The packet belongs to the connection.
    Accept,
    /// It belongs, and it was the last: the connection leaves the table.
    AcceptAndKill,
    /// It does not belong to the connection; it goes on without one.
    Invalid,
    /// It begins a new connection in place of this one, which is over.
    Reopen,
}

/// What became of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tracked {
    /// It goes on; the frame says with which connection.
    Accept,
    /// It is dropped.
    Drop(CtDrop),
}

/// A template of `-j CT` (kernel: `struct xt_ct_target_info_v1`).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Template {
    /// Zones of the connection to come.
    pub zones: Zones,
    /// `--zone mark`, `--zone-orig mark`, `--zone-reply mark`: the packet's mark is the zone, in the
    /// directions given.
    pub zone_from_mark: Option<[bool; 2]>,
    /// `--helper`
    pub helper: Option<&'static str>,
    /// `--ctevents`: only these events are told; `None` for all.
    pub events: Option<u32>,
}

impl Template {
    /// Kernel: `nf_ct_zone_tmpl`.
    fn zones(&self, mark: u32) -> Zones {
        match self.zone_from_mark {
            Some([orig, reply]) => Zones {
                orig: if orig { mark as u16 } else { 0 },
                reply: if reply { mark as u16 } else { 0 },
            },
            None => self.zones,
        }
    }
}

/// IPv4 protocols whose trackers sum the packet up (kernel: callers of `nf_checksum`, `nf_ip_checksum`).
const SUMMED4: [u8; 3] = [proto::ICMP, proto::TCP, proto::UDP];

impl Conntrack {
    /// The reference a frame of that family gets from a `-j CT` rule; equal templates are one.
    pub fn new_template(&mut self, family: Family, t: Template) -> Option<u32> {
        let any = match family {
            Family::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            Family::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let same =
            |(known, conn): &(Template, Conn)| *known == t && conn.tuple(Dir::Original).src == any;
        let at = self.templates.iter().position(same);
        if at.is_none() && self.templates.len() >= limits::CT_TEMPLATES_MAX {
            return None;
        }
        let at = at.unwrap_or_else(|| {
            let nobody = CtTuple {
                src: any,
                dst: any,
                proto: 0,
                sport: 0,
                dport: 0,
            };
            let mut conn = Conn::new(nobody, nobody, t.zones);
            conn.mark_status(CtStatus::CONFIRMED);
            self.templates.push((t, conn));
            self.templates.len() - 1
        });
        u32::try_from(at).ok()
    }

    /// The template as the connection that matches and targets take it for until conntrack runs (kernel:
    /// `nf_ct_get` gives templates too; `xt_ct_tg_check` sets `IPS_CONFIRMED`).
    pub fn template(&self, at: u32) -> Option<&Conn> {
        self.templates.get(at as usize).map(|t| &t.1)
    }

    /// What a packet's reference names: a connection, or a template (kernel: `nf_ct_get`).
    pub fn of(&self, ct: CtRef) -> Option<(&Conn, CtInfo)> {
        match ct {
            CtRef::Conn { id, info } => Some((self.get(id)?, info)),
            CtRef::Template { id, info } => Some((self.template(id)?, info)),
            CtRef::None | CtRef::Orphan | CtRef::Untracked => None,
        }
    }

    /// The same to be changed: what CONNMARK writes stays with the rule.
    pub fn template_mut(&mut self, at: u32) -> Option<&mut Conn> {
        self.templates.get_mut(at as usize).map(|t| &mut t.1)
    }

    /// What a packet carries that answers another for this host, as REJECT's do (kernel:
    /// `nf_conntrack_attach`).
    pub fn attach(cause: CtRef) -> CtRef {
        let turned = |info: CtInfo| match info.is_reply() {
            true => CtInfo::Related,
            false => CtInfo::RelatedReply,
        };
        match cause {
            CtRef::Conn { id, info } => CtRef::Conn {
                id,
                info: turned(info),
            },
            // Conntrack then looks for the answer's connection where the template says.
            CtRef::Template { id, info } => CtRef::Template {
                id,
                info: turned(info),
            },
            CtRef::Untracked | CtRef::Orphan => CtRef::Orphan,
            CtRef::None => CtRef::None,
        }
    }

    /// A reset was sent in the name of one end: a TCP connection closes (kernel:
    /// `nf_conntrack_tcp_set_closing`), but one that is not confirmed yet: seen on 6.18, where a SYN that
    /// is reset at INPUT, and whose reset OUTPUT rejects in turn, leaves SYN_SENT.
    pub fn set_closing(&mut self, ns: &NetNs, id: ConnId, now: Instant) {
        let life = ns.sysctl().ct.tcp_timeout(TcpState::Close);
        let Some(conn) = self.get_mut(id).filter(|c| c.is_confirmed()) else {
            return;
        };
        let Some(t) = conn.tcp_mut() else {
            return;
        };
        let open = t.state != TcpState::Close;
        t.state = TcpState::Close;
        if open {
            conn.refresh(now, life);
            conn.events.set(EventBits::PROTOINFO);
            self.table.alarm(id);
        }
    }

    /// Finds or makes the connection of a packet and sets the frame's reference to it.
    pub fn track(&mut self, ns: &NetNs, f: &mut Frame, at: &At, cx: &mut Cx<'_>) -> Tracked {
        let template = match f.ct {
            CtRef::Conn { .. } | CtRef::Untracked => return Tracked::Accept,
            CtRef::Template { id, .. } => self.templates.get(id as usize).map(|t| t.0.clone()),
            CtRef::None | CtRef::Orphan => None,
        };
        self.now = cx.now;
        f.ct = match f.ct {
            CtRef::Orphan => CtRef::Orphan,
            _ => CtRef::None,
        };
        let env = Env {
            now: cx.now,
            sysctl: &ns.sysctl().ct,
            hook: at.hook,
        };
        let zones = template
            .as_ref()
            .map_or(Zones::default(), |t| t.zones(f.mark));
        let checks = at.hook == Hook::Prerouting && env.sysctl.checksum != 0;
        let summed = match at.family {
            Family::V6 => true,
            Family::V4 => f.l3().get(9).is_some_and(|p| SUMMED4.contains(p)),
        };
        if checks && summed {
            f.summed = f.l3().first_chunk().copied();
        }
        let Some(p) = Packet::parse(f.l3()) else {
            self.stats.invalid += 1;
            return Tracked::Accept;
        };
        if matches!(p.proto, proto::ICMP | proto::ICMPV6) {
            match icmp::early(self, &p, at.family, zones, &env) {
                icmp::Early::Lookup => {}
                icmp::Early::Error => {
                    self.stats.error += 1;
                    return Tracked::Accept;
                }
                icmp::Early::Untracked => {
                    f.ct = CtRef::Untracked;
                    return Tracked::Accept;
                }
                icmp::Early::Related(id, info) => {
                    f.ct = CtRef::Conn { id, info };
                    return Tracked::Accept;
                }
            }
        }
        match self.follow(&p, zones, template.as_ref(), &env, cx) {
            Ok(Some(ct)) => {
                f.ct = ct;
                Tracked::Accept
            }
            Ok(None) => {
                self.stats.invalid += 1;
                Tracked::Accept
            }
            Err(why) => {
                self.stats.drop += 1;
                Tracked::Drop(why)
            }
        }
    }

    /// The lookup, the tracker, and once more if the tracker says that the connection is over.
    fn follow(
        &mut self,
        p: &Packet<'_>,
        zones: Zones,
        template: Option<&Template>,
        env: &Env<'_>,
        cx: &mut Cx<'_>,
    ) -> Result<Option<CtRef>, CtDrop> {
        // A connection that was just reopened cannot be reopened again.
        for _ in 0..2 {
            let Some((id, info)) = self.resolve(p, zones, template, env, cx)? else {
                break;
            };
            let dir = dir_of(info);
            let Some(conn) = self.get_mut(id) else { break };
            let seen = judge(conn, dir, p, env);
            // A shorter life may have begun.
            self.table.alarm(id);
            let Some(conn) = self.get_mut(id) else { break };
            match seen {
                Seen::Accept | Seen::AcceptAndKill => {
                    let reply = info == CtInfo::EstablishedReply;
                    if reply && conn.mark_status(CtStatus::SEEN_REPLY) {
                        conn.events.set(EventBits::REPLY);
                    }
                    if seen == Seen::AcceptAndKill {
                        self.kill(id);
                    }
                    return Ok(Some(CtRef::Conn { id, info }));
                }
                Seen::Reopen => self.kill(id),
                Seen::Invalid => break,
            }
        }
        Ok(None)
    }

    /// Kernel: `resolve_normal_ct`.
    fn resolve(
        &mut self,
        p: &Packet<'_>,
        zones: Zones,
        template: Option<&Template>,
        env: &Env<'_>,
        cx: &mut Cx<'_>,
    ) -> Result<Option<(ConnId, CtInfo)>, CtDrop> {
        let Some(tuple) = p.tuple() else {
            return Ok(None);
        };
        let found = match self.lookup(&Key::new(tuple), zones) {
            Some(found) => Some(found),
            None => self
                .init(tuple, zones, template, env, cx)?
                .map(|id| (id, Dir::Original)),
        };
        let Some((id, dir)) = found else {
            return Ok(None);
        };
        let status = self.get(id).map_or(CtStatus::default(), |c| c.status);
        let info = if dir == Dir::Reply {
            CtInfo::EstablishedReply
        } else if status.any(CtStatus::SEEN_REPLY) {
            CtInfo::Established
        } else if status.any(CtStatus::EXPECTED) {
            CtInfo::Related
        } else {
            CtInfo::New
        };
        Ok(Some((id, info)))
    }

    /// Makes a connection that is not yet in the table (kernel: `init_conntrack`).
    fn init(
        &mut self,
        tuple: CtTuple,
        zones: Zones,
        template: Option<&Template>,
        env: &Env<'_>,
        cx: &mut Cx<'_>,
    ) -> Result<Option<ConnId>, CtDrop> {
        let Some(reply) = tuple.invert() else {
            return Ok(None);
        };
        self.make_room(env.sysctl, cx.rng, env.now)?;
        let mut conn = Conn::new(tuple, reply, zones);
        if env.sysctl.acct != 0 || self.accounts {
            conn.set_acct(Some([Counters::default(); 2]));
        }
        if env.sysctl.timestamp != 0 {
            conn.set_started(Some(env.now));
        }
        let table = &self.table;
        let alive = |m: ConnId| {
            table
                .get(m)
                .is_some_and(|c| c.is_confirmed() && !c.is_dying())
        };
        if let Some(exp) = self.expects.take_match(&tuple, zones, env.now, alive) {
            conn.status.set(CtStatus::EXPECTED);
            conn.set_helper(exp.helper);
            conn.mark = self.get(exp.master).map_or(0, |m| m.mark);
            conn.set_master(exp.master, exp.nat);
            self.stats.expect_new += 1;
        } else {
            let automatic = if env.sysctl.helper != 0 {
                helper::by_port(&reply)
            } else {
                None
            };
            conn.set_helper(template.and_then(|t| t.helper).or(automatic));
            if conn.helper().is_some() {
                conn.status.set(CtStatus::HELPER);
            }
        }
        conn.set_event_mask(template.and_then(|t| t.events));
        self.add_unconfirmed(conn).map(Some)
    }
}

/// The direction of a packet.
pub(super) fn dir_of(info: CtInfo) -> Dir {
    if info.is_reply() {
        Dir::Reply
    } else {
        Dir::Original
    }
}

/// Kernel: `nf_conntrack_handle_packet`.
fn judge(conn: &mut Conn, dir: Dir, p: &Packet<'_>, env: &Env<'_>) -> Seen {
    match p.proto {
        proto::TCP => tcp::packet(conn, dir, p, env),
        proto::UDP | UDPLITE => udp::udp(conn, dir, p, env),
        proto::ICMP | proto::ICMPV6 => icmp::packet(conn, dir, p, env),
        proto::SCTP => sctp::packet(conn, dir, p, env),
        GRE => udp::gre(conn, dir, p, env),
        _ => udp::generic(conn, dir, p, env),
    }
}
