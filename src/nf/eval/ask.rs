//! A condition of a rule is asked: in its short form, or as the match it was written as.
//!
//! Both are one definition: where the short form is more than a comparison it calls the match's own function.
//! Invariant: a short form has no effect but for `--mode random`, which draws.

use super::chain::{Answer, Env, input, name as dev_name};
use super::index::has_effect;
use super::matches_ipvs;
use super::program::{Cond, PTable, Test, name_bits};
use super::state::Slot;
use crate::nf::field::Is;
use crate::nf::matches::{Tcp, Udp};
use crate::nf::value::{PortRange, Protocol};
use crate::nf::{Match, record};
use crate::wire::Frame;
use std::net::IpAddr;

/// Whether a condition is not understood.
pub(super) fn is_unknown(c: &Cond) -> bool {
    matches!(&c.m, Match::Unknown { name, .. } if name != matches_ipvs::NAME)
}

impl PTable {
    /// Whether asking a condition can change anything; what is not understood changes nothing.
    pub(super) fn has_effect(&self, test: &Test) -> bool {
        match test {
            Test::Cond(n) => {
                let cond = self.conds.get(*n as usize);
                cond.is_some_and(|c| has_effect(&c.m) && !is_unknown(c))
            }
            // It draws.
            Test::Random { .. } => true,
            _ => false,
        }
    }
}

impl Env<'_, '_> {
    /// Asks a condition in its short form: as [`Env::ask`] would its match.
    #[inline(always)]
    pub(super) fn short(
        &mut self,
        f: &mut Frame,
        test: &Test,
        (table, devs): (&PTable, &mut Option<[u128; 2]>),
    ) -> Answer {
        let within = |a: IpAddr, addr, mask| match a {
            IpAddr::V4(a) => a.to_bits() & mask == addr,
            IpAddr::V6(_) => false,
        };
        let (ns, at) = (self.ns, self.at);
        let mut name = |n: u32, dev: usize| {
            let names = devs.get_or_insert_with(|| {
                [input(at), at.output].map(|dev| name_bits(dev_name(ns, dev)))
            });
            let name = table.names.get(n as usize);
            name.is_some_and(|name| names[dev] & name.mask == name.bits)
        };
        match *test {
            Test::Src4 { addr, mask, not } => (within(self.pkt.src, addr, mask) != not).into(),
            Test::Dst4 { addr, mask, not } => (within(self.pkt.dst, addr, mask) != not).into(),
            Test::Proto { proto, not } => {
                let value = Protocol(proto);
                self.protocol(&Is { not, value })
            }
            Test::In { name: n, not } => (name(n, 0) != not).into(),
            Test::Out { name: n, not } => (name(n, 1) != not).into(),
            Test::TcpDst { min, max, not } => {
                let value = PortRange { min, max };
                let dport = Some(Is { not, value });
                self.tcp(
                    f,
                    &Tcp {
                        dport,
                        ..Tcp::default()
                    },
                )
            }
            Test::UdpDst { min, max, not } => {
                let value = PortRange { min, max };
                let dport = Some(Is { not, value });
                self.udp(
                    f,
                    &Udp {
                        dport,
                        ..Udp::default()
                    },
                )
            }
            Test::Mark { value, mask, not } => ((f.mark & mask == value) != not).into(),
            Test::Random { chance, not } => {
                self.varies();
                self.random(f, chance, not)
            }
            Test::Cond(_) => Answer::Unknown,
        }
    }

    /// Asks one match.
    pub(super) fn ask(&mut self, f: &mut Frame, cond: &Cond, slots: &mut [Slot]) -> Answer {
        if self.nf.record.is_some() && !record::steady(&cond.m, &self.nf.sets) {
            self.varies();
        }
        let slot = slots.get_mut(cond.slot as usize);
        match &cond.m {
            Match::Source(is) => (is.value.contains(self.pkt.src) != is.not).into(),
            Match::Destination(is) => (is.value.contains(self.pkt.dst) != is.not).into(),
            Match::InInterface(is) => (is.value.matches(self.in_dev()) != is.not).into(),
            Match::OutInterface(is) => (is.value.matches(self.out_dev()) != is.not).into(),
            Match::Protocol(is) => self.protocol(is),
            Match::Fragment(is) => ((self.pkt.fragoff != 0) != is.not).into(),
            Match::Tcp(m) => self.tcp(f, m),
            Match::Udp(m) => self.udp(f, m),
            Match::Sctp(m) => self.sctp(f, m),
            Match::Icmp(m) => self.icmp(f, m.kind.map(|k| (k.not, k.value.kind, k.value.code))),
            Match::Icmp6(m) => self.icmp(f, m.kind.map(|k| (k.not, k.value.kind, k.value.code))),
            Match::Multiport(m) => self.multiport(f, m),
            Match::AddrType(m) => self.addrtype(m).into(),
            Match::Conntrack(m) => self.conntrack(f, m).into(),
            Match::State(m) => self.state(f, m).into(),
            Match::Comment(_) => Answer::Yes,
            Match::Mark(m) => self.mark(f, m).into(),
            Match::Connmark(m) => self.connmark(f, m).into(),
            Match::Set(m) => self.set(f, m),
            Match::Statistic(m) => self.statistic(f, m, slot),
            Match::Recent(m) => self.recent(f, m),
            Match::Limit(m) => self.limit(m, slot).into(),
            Match::Hashlimit(m) => self.hashlimit(f, m),
            Match::Physdev(m) => self.physdev(f, m).into(),
            Match::Mac(m) => self.mac(f, m).into(),
            Match::IpRange(m) => self.iprange(m).into(),
            Match::Rpfilter(m) => self.rpfilter(f, m).into(),
            Match::Socket(m) => self.socket(f, m).into(),
            Match::Owner(m) => self.owner(f, m).into(),
            Match::Length(m) => self.length(f, m).into(),
            Match::Ttl(m) => self.ttl(f, (m.eq, m.lt, m.gt)).into(),
            Match::Hl(m) => self.ttl(f, (m.eq, m.lt, m.gt)).into(),
            Match::Tos(m) => self.tos(f, m).into(),
            Match::Dscp(m) => self.dscp(f, m).into(),
            Match::U32(m) => self.u32(f, m).into(),
            Match::String(m) => self.string(f, m).into(),
            Match::Time(m) => self.time(m).into(),
            Match::Pkttype(m) => self.pkttype(f, m).into(),
            Match::Nfacct(m) => self.nfacct(m).into(),
            Match::Ecn(m) => self.ecn(f, m).into(),
            Match::Cpu(m) => self.cpu(m).into(),
            Match::Helper(m) => self.helper(f, m).into(),
            Match::Realm(m) => self.realm(m).into(),
            Match::Connlimit(m) => self.connlimit(f, m, slot),
            Match::Connbytes(m) => self.connbytes(f, m).into(),
            Match::Connlabel(m) => self.connlabel(f, m),
            Match::Unknown { name, args } if name == matches_ipvs::NAME => self.ipvs(f, args),
            Match::Unknown { .. } => Answer::Unknown,
        }
    }
}
