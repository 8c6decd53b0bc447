//! Statements that send a packet elsewhere: NAT, tproxy, dup, fwd.
//!
//! Invariant: an address has the written family's type, else the table's, else what it looks like.

use super::super::cursor::{Cursor, Read};
use super::super::expr::*;
use super::super::model::Family;
use super::super::parse_expr::literal;
use super::super::types::Type;

impl Cursor<'_> {
    fn ip_family(&mut self) -> Option<IpFamily> {
        let ahead = matches!(self.ahead(1), "to" | "prefix" | "addr" | "interval");
        match self.peek() {
            "ip" if ahead => {
                self.at += 1;
                Some(IpFamily::Ip)
            }
            "ip6" if ahead => {
                self.at += 1;
                Some(IpFamily::Ip6)
            }
            _ => None,
        }
    }

    /// The type of an address here: the written family's, the table's, or what the address looks like.
    fn addr_type(&self, family: Option<IpFamily>) -> Type {
        match (family, self.family) {
            (Some(f), _) => f.dtype(),
            (None, Family::Ip) => Type::Ipv4,
            (None, Family::Ip6) => Type::Ipv6,
            _ if self.peek() == "[" || self.peek().contains(':') => Type::Ipv6,
            _ => Type::Ipv4,
        }
    }

    /// An address or an expression that gives one, `:port` behind it.
    fn addr_port(&mut self, family: Option<IpFamily>) -> Read<(Option<Expr>, Option<Expr>)> {
        let mut addr = None;
        if self.peek() != ":" {
            let t = self.addr_type(family);
            addr = Some(if self.at_expression() {
                let key = self.expression()?;
                self.mapped(key, &[t, Type::InetService])?
            } else {
                literal(self.part(t)?)
            });
        }
        let port = if self.take(":") {
            Some(self.port()?)
        } else {
            None
        };
        Ok((addr, port))
    }

    fn port(&mut self) -> Read<Expr> {
        if self.at_expression() {
            let key = self.expression()?;
            return self.mapped(key, &[Type::InetService]);
        }
        Ok(literal(self.part(Type::InetService)?))
    }

    pub(super) fn nat(&mut self) -> Read<Stmt> {
        let kind = match self.any_word("a kind of NAT")? {
            "dnat" => NatKind::Dnat,
            "snat" => NatKind::Snat,
            "masquerade" => NatKind::Masquerade,
            _ => NatKind::Redirect,
        };
        let mut nat = Nat {
            kind,
            family: self.ip_family(),
            prefix: false,
            addr: None,
            port: None,
            random: false,
            fully_random: false,
            persistent: false,
        };
        nat.prefix = self.take("prefix");
        if self.take("addr") {
            self.expect(".")?;
            self.expect("port")?;
        }
        self.take("interval");
        let addressed = matches!(kind, NatKind::Dnat | NatKind::Snat);
        if addressed {
            self.take("to");
            (nat.addr, nat.port) = self.addr_port(nat.family)?;
        } else if self.take("to") {
            self.take(":");
            nat.port = Some(self.port()?);
        }
        loop {
            match self.peek() {
                "random" => nat.random = true,
                "fully-random" => nat.fully_random = true,
                "persistent" => nat.persistent = true,
                _ => break,
            }
            self.at += 1;
            if !self.take(",") {
                break;
            }
        }
        if addressed && nat.addr.is_none() && nat.port.is_none() {
            return self.wrong("an address");
        }
        Ok(Stmt::Nat(nat))
    }

    pub(super) fn tproxy(&mut self) -> Read<Stmt> {
        self.at += 1;
        let family = self.ip_family();
        self.expect("to")?;
        let (addr, port) = self.addr_port(family)?;
        Ok(Stmt::Tproxy(Tproxy { family, addr, port }))
    }

    fn device(&mut self) -> Read<Expr> {
        if self.at_expression() {
            let key = self.expression()?;
            return self.mapped(key, &[Type::IfIndex]);
        }
        self.right(&[Type::IfIndex])
    }

    pub(super) fn dup(&mut self) -> Read<Stmt> {
        self.at += 1;
        self.expect("to")?;
        if self.family == Family::Netdev {
            return Ok(Stmt::Dup(self.device()?, None));
        }
        let t = self.addr_type(None);
        let to = if self.at_expression() {
            let key = self.expression()?;
            self.mapped(key, &[t])?
        } else {
            self.right(&[t])?
        };
        let device = if self.take("device") {
            Some(self.device()?)
        } else {
            None
        };
        Ok(Stmt::Dup(to, device))
    }

    pub(super) fn fwd(&mut self) -> Read<Stmt> {
        self.at += 1;
        let family = self.ip_family();
        self.expect("to")?;
        let Some(f) = family else {
            return Ok(Stmt::Fwd(Fwd {
                family,
                addr: None,
                device: self.device()?,
            }));
        };
        let addr = if self.at_expression() {
            let key = self.expression()?;
            self.mapped(key, &[f.dtype()])?
        } else {
            self.right(&[f.dtype()])?
        };
        self.expect("device")?;
        Ok(Stmt::Fwd(Fwd {
            family,
            addr: Some(addr),
            device: self.device()?,
        }))
    }
}
