//! NAT statements: from expressions to a range.
//!
//! As nft_nat.c, nft_masq.c, nft_redir.c. Invariant: they end the base chain: accept if the mapping was
//! made, drop if it could not be.

use super::super::expr::{IpFamily, NatKind};
use super::program::PNat;
use super::run::{After, Parts, Stop, Walk};
use super::stmt::{address, ends};
use crate::nf::Family;
use crate::nf::eval::Verdict;
use crate::nf::nat::{Manip, Nat, NatTarget, netmap};
use crate::nf::target::{Masquerade, PortSpan, Redirect, Target};
use crate::nf::value::Range;
use crate::wire::{CtRef, Frame};

impl Walk<'_, '_, '_> {
    pub(super) fn nat(&mut self, n: &PNat, f: &mut Frame) -> Result<After, Stop> {
        let v4 = self.env.pkt.family == Family::V4;
        let mut values = match &n.addr {
            Some(e) => self.parts(e, f)?,
            None => Parts::new(),
        };
        // A map may give the port with the address.
        let mut port = (values.len() > 1).then(|| values.remove(1));
        if let Some(e) = &n.port {
            port = self.parts(e, f)?.into_iter().next();
        }
        // What is read is read for packets of both families (numbers are counted on); `nft_nat_inet_eval`
        // then lets those of the other one go on.
        if n.family.is_some_and(|x| (x == IpFamily::Ip) != v4) {
            return Ok(After::Next);
        }
        let bits = if v4 { 32 } else { 128 };
        let addrs = values.first().and_then(|p| ends(p, bits));
        let addrs = addrs.map(|(a, b)| (address(a, v4), address(b, v4)));
        let ports = port
            .and_then(|p| ends(&p, 16))
            .map(|(a, b)| (a as u16, b as u16));
        let CtRef::Conn { id, .. } = f.ct else {
            return Ok(After::Done(Verdict::Accept));
        };
        let range = NatTarget {
            addrs,
            ports,
            base: None,
            random: n.random,
            random_fully: n.fully_random,
            persistent: n.persistent,
            netmap: n.prefix,
        };
        let span = ports.map(|(min, max)| PortSpan(Range { min, max }));
        let rule = self.env.rule;
        let mut nat = Nat {
            ct: &mut self.env.nf.ct,
            forced: &self.env.nf.forced,
            rule: Some(rule),
        };
        let (ns, at) = (self.env.ns, self.env.at);
        let done = match n.kind {
            NatKind::Dnat => nat.setup(id, &netmap(&range, Manip::Dst, f), Manip::Dst, self.env.cx),
            NatKind::Snat => nat.setup(id, &netmap(&range, Manip::Src, f), Manip::Src, self.env.cx),
            NatKind::Masquerade => {
                let t = Target::Masquerade(Box::new(Masquerade {
                    ports: span,
                    random: n.random,
                    random_fully: n.fully_random,
                }));
                nat.target(ns, f, at, &t, self.env.cx)
            }
            NatKind::Redirect => {
                let t = Target::Redirect(Box::new(Redirect {
                    ports: span,
                    random: n.random || n.fully_random,
                }));
                nat.target(ns, f, at, &t, self.env.cx)
            }
        };
        Ok(After::Done(match done {
            Ok(()) => Verdict::Accept,
            Err(_) => Verdict::Drop(rule),
        }))
    }
}
