//! `-m ipvs`: properties of IPVS's connection (kernel: xt_ipvs.c, `ipvs_mt`; options: libxt_ipvs.c).
//!
//! The text model keeps the match's words as they stand; they are read here. What is not an option of the
//! match stays undecided. Invariant: a packet that IPVS did not touch has no property but that.

use super::chain::{Answer, Env};
use crate::ipvs::Forward;
use crate::ipvs::conn::Conn;
use crate::wire::{CtRef, Frame, IpHeader, proto};
use ipnetwork::IpNetwork;

/// The name that rules give it.
pub(super) const NAME: &str = "ipvs";

impl Env<'_, '_> {
    /// `ipvs_mt`
    pub(super) fn ipvs(&self, f: &Frame, args: &[String]) -> Answer {
        let mut words = args.iter().map(String::as_str);
        let conn = || {
            let p = IpHeader::parse_lax(f.l3()).ok()?;
            let (sport, dport) = p.ports(f.l3())?;
            let conns = self.ns.ipvs()?.conns();
            // The packet is a request behind its translation: from the client to the real server.
            let id = conns.find_out(p.proto, p.dst, dport, p.src, sport)?;
            conns.get(id)
        };
        let mut all = true;
        while let Some(mut word) = words.next() {
            let not = word == "!";
            if not {
                word = words.next().unwrap_or_default();
            }
            if word == "--ipvs" {
                all &= f.ipvs != not;
                continue;
            }
            let Some(value) = words.next() else {
                return Answer::Unknown;
            };
            let Some(is) = self.property(word, value, f, &conn) else {
                return Answer::Unknown;
            };
            // Without a connection nothing is asked of it, negated or not.
            all &= is.is_some_and(|is| f.ipvs && is != not);
        }
        all.into()
    }

    /// Whether an option holds; inside nothing: the packet has no connection. Nothing: no such option.
    fn property<'c>(
        &self,
        word: &str,
        value: &str,
        f: &Frame,
        conn: &dyn Fn() -> Option<&'c Conn>,
    ) -> Option<Option<bool>> {
        Some(match word {
            "--vproto" => {
                let wanted = match value {
                    "tcp" => proto::TCP,
                    "udp" => proto::UDP,
                    "sctp" => proto::SCTP,
                    number => number.parse().ok()?,
                };
                let same = |h: IpHeader| h.proto == wanted;
                conn().and(IpHeader::parse_lax(f.l3()).ok().map(same))
            }
            "--vaddr" => {
                let net: IpNetwork = value.parse().ok()?;
                conn().map(|c| net.contains(c.key.vaddr))
            }
            "--vport" => {
                let port: u16 = value.parse().ok()?;
                conn().map(|c| c.key.vport == port)
            }
            "--vportctl" => {
                let port: u16 = value.parse().ok()?;
                let vs = self.ns.ipvs();
                let control = |c: &Conn| vs?.conns().get(c.control?);
                conn().map(|c| control(c).is_some_and(|t| t.key.vport == port))
            }
            "--vdir" => {
                let reply = match value {
                    "ORIGINAL" => false,
                    "REPLY" => true,
                    _ => return None,
                };
                let CtRef::Conn { info, .. } = f.ct else {
                    return Some(None);
                };
                conn().map(|_| info.is_reply() == reply)
            }
            "--vmethod" => {
                let is = |fwd: Forward| match value {
                    "MASQ" => Some(fwd == Forward::Masq),
                    "IPIP" => Some(matches!(fwd, Forward::Tunnel(..))),
                    "GATE" => Some(fwd == Forward::Droute),
                    _ => None,
                };
                is(Forward::Masq)?;
                conn().and_then(|c| is(c.fwd))
            }
            _ => return None,
        })
    }
}
