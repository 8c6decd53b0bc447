//! Reading expressions of several words: fib, rt, socket, osf, generators, headers and options, ipsec.
//!
//! Invariant: as of [`super`].

use super::*;

impl<'a> Cursor<'a> {
    pub(super) fn fib(&mut self) -> Read<Expr> {
        self.at += 1;
        let mut f = Fib::default();
        loop {
            let flag = match self.peek() {
                "saddr" => &mut f.saddr,
                "daddr" => &mut f.daddr,
                "mark" => &mut f.mark,
                "iif" => &mut f.iif,
                "oif" => &mut f.oif,
                _ => return self.wrong("`saddr`, `daddr`, `mark`, `iif` or `oif`"),
            };
            *flag = true;
            self.at += 1;
            if !self.take(".") {
                break;
            }
        }
        f.result = match self.peek() {
            "oif" => FibResult::Oif,
            "oifname" => FibResult::OifName,
            "type" => FibResult::Type,
            _ => return self.wrong("`oif`, `oifname` or `type`"),
        };
        self.at += 1;
        f.exists = matches!(self.peek(), "exists" | "missing")
            || matches!(self.peek(), "==" | "!=" | "eq" | "ne")
                && matches!(self.ahead(1), "exists" | "missing");
        Ok(Expr::Fib(f))
    }

    pub(super) fn rt(&mut self) -> Read<Expr> {
        let v6 = self.family == Family::Ip6;
        if let Some(f) = fields::ext(fields::EXTHDRS, "rt", self.ahead(1)) {
            self.at += 2;
            return Ok(Expr::Exthdr(f));
        }
        self.at += 1;
        let key = match (self.peek(), self.ahead(1)) {
            ("classid", _) => RtKey::ClassId,
            ("nexthop", _) if v6 => RtKey::NexthopV6,
            ("nexthop", _) => RtKey::NexthopV4,
            ("ip", "nexthop") => RtKey::NexthopV4,
            ("ip6", "nexthop") => RtKey::NexthopV6,
            ("mtu", _) => RtKey::Mtu,
            ("ipsec", _) => RtKey::Ipsec,
            _ => {
                return self.wrong(
                    "`classid`, `nexthop`, `mtu`, `ipsec` or a field of the routing header",
                );
            }
        };
        self.at += if matches!(self.peek(), "ip" | "ip6") {
            2
        } else {
            1
        };
        Ok(Expr::Rt(key))
    }

    pub(super) fn socket(&mut self) -> Read<Expr> {
        self.at += 1;
        let key = match self.peek() {
            "transparent" => SocketKey::Transparent,
            "mark" => SocketKey::Mark,
            "wildcard" => SocketKey::Wildcard,
            "cgroupv2" => {
                self.at += 1;
                self.expect("level")?;
                return Ok(Expr::Socket(SocketKey::CgroupV2(self.number("a level")?)));
            }
            _ => return self.wrong("`transparent`, `mark`, `wildcard` or `cgroupv2`"),
        };
        self.at += 1;
        Ok(Expr::Socket(key))
    }

    pub(super) fn osf(&mut self) -> Read<Expr> {
        self.at += 1;
        let mut ttl = None;
        if self.take("ttl") {
            ttl = match self.any_word("`loose` or `skip`")? {
                "loose" => Some(OsfTtl::Loose),
                "skip" => Some(OsfTtl::Skip),
                _ => return self.wrong("`loose` or `skip`"),
            };
        }
        let version = self.take("version");
        if !version {
            self.expect("name")?;
        }
        Ok(Expr::Osf { ttl, version })
    }

    pub(super) fn modulus(&mut self) -> Read<u32> {
        self.expect("mod")?;
        let n = self.number("a number above 0")?;
        if n == 0 {
            self.at -= 1;
            return self.wrong("a number above 0");
        }
        Ok(n)
    }

    pub(super) fn offset(&mut self) -> Read<u32> {
        if self.take("offset") {
            self.number("an offset")
        } else {
            Ok(0)
        }
    }

    pub(super) fn generator(&mut self) -> Read<Expr> {
        if self.take("numgen") {
            let random = self.take("random");
            if !random && !self.take("inc") {
                return self.wrong("`inc` or `random`");
            }
            let modulus = self.modulus()?;
            let offset = self.offset()?;
            return Ok(Expr::Numgen {
                random,
                modulus,
                offset,
            });
        }
        if self.take("symhash") {
            let modulus = self.modulus()?;
            let offset = self.offset()?;
            return Ok(Expr::Symhash { modulus, offset });
        }
        self.expect("jhash")?;
        let of = Box::new(self.expression()?);
        let modulus = self.modulus()?;
        let seed = if self.take("seed") {
            Some(self.number("a seed")?)
        } else {
            None
        };
        let offset = self.offset()?;
        Ok(Expr::Jhash {
            of,
            modulus,
            seed,
            offset,
        })
    }

    pub(super) fn exthdr_exists(&mut self) -> Read<Expr> {
        self.at += 1;
        match fields::ext_kind(fields::EXTHDRS, self.peek()) {
            Some((name, kind)) => {
                self.at += 1;
                Ok(Expr::ExthdrExists(name, kind))
            }
            None => self.wrong("an extension header: hbh, rt, frag, dst or mh"),
        }
    }

    /// `sid[1]` is four tokens.
    pub(super) fn ext_name(&mut self) -> Read<String> {
        let mut name = self.any_word("a field's name")?.to_owned();
        if self.take("[") {
            let n: u8 = self.number("an index")?;
            self.expect("]")?;
            name.push_str(&format!("[{n}]"));
        }
        Ok(name)
    }

    pub(super) fn exthdr(&mut self, header: &str) -> Read<Expr> {
        self.at += 1;
        let at = self.at;
        let name = self.ext_name()?;
        match fields::ext(fields::EXTHDRS, header, &name) {
            Some(f) => Ok(Expr::Exthdr(f)),
            None => {
                self.at = at;
                self.wrong(format!("a field of the {header} header"))
            }
        }
    }

    pub(super) fn option(&mut self, tcp: bool) -> Read<Expr> {
        self.at += 2;
        if tcp && self.take("@") {
            let kind = self.number("an option's number")?;
            self.expect(",")?;
            let offset = self.number("an offset in bits")?;
            self.expect(",")?;
            return Ok(Expr::TcpOptionRaw(
                kind,
                offset,
                self.number("a length in bits")?,
            ));
        }
        let table = if tcp {
            fields::TCP_OPTIONS
        } else {
            fields::IP_OPTIONS
        };
        let word = match self.peek() {
            "sack-permitted" => "sack-perm",
            "mss" => "maxseg",
            other => other,
        };
        let number: Option<u8> =
            super::super::types::number(word).and_then(|n| u8::try_from(n).ok());
        let known = fields::ext_kind(table, word);
        let exists = |c: &Cursor<'_>| matches!(c.ahead(1), "exists" | "missing");
        if let (true, Some(kind)) = (tcp, number.or(known.map(|k| k.1)))
            && (exists(self) || number.is_some())
        {
            self.at += 1;
            return Ok(Expr::TcpOptionExists(kind));
        }
        let Some((header, kind)) = known else {
            return self.wrong("an option's name");
        };
        if exists(self) {
            self.at += 1;
            return Ok(Expr::IpOptionExists(header, kind));
        }
        self.at += 1;
        match fields::ext(table, header, self.peek()) {
            Some(f) => {
                self.at += 1;
                Ok(if tcp {
                    Expr::TcpOption(f)
                } else {
                    Expr::IpOption(f)
                })
            }
            None => self.wrong(format!("a field of the option {header}")),
        }
    }

    pub(super) fn chunk(&mut self) -> Read<Expr> {
        self.at += 2;
        let Some((header, kind)) = fields::ext_kind(fields::SCTP_CHUNKS, self.peek()) else {
            return self.wrong("an SCTP chunk's name");
        };
        self.at += 1;
        if matches!(self.peek(), "exists" | "missing") {
            return Ok(Expr::SctpChunkExists(header, kind));
        }
        match fields::ext(fields::SCTP_CHUNKS, header, self.peek()) {
            Some(f) => {
                self.at += 1;
                Ok(Expr::SctpChunk(f))
            }
            None => self.wrong(format!("a field of the chunk {header}")),
        }
    }

    pub(super) fn ipsec(&mut self) -> Read<Expr> {
        self.at += 1;
        let out = self.take("out");
        if !out {
            self.expect("in")?;
        }
        let spnum = if self.take("spnum") {
            self.number("a number")?
        } else {
            0
        };
        let key = match (self.peek(), self.ahead(1)) {
            ("reqid", _) => IpsecKey::Reqid,
            ("spi", _) => IpsecKey::Spi,
            ("ip", "saddr") => IpsecKey::Ip4Saddr,
            ("ip", "daddr") => IpsecKey::Ip4Daddr,
            ("ip6", "saddr") => IpsecKey::Ip6Saddr,
            ("ip6", "daddr") => IpsecKey::Ip6Daddr,
            _ => {
                return self
                    .wrong("`reqid`, `spi`, `ip saddr`, `ip daddr`, `ip6 saddr` or `ip6 daddr`");
            }
        };
        self.at += if matches!(self.peek(), "ip" | "ip6") {
            2
        } else {
            1
        };
        Ok(Expr::Ipsec { out, spnum, key })
    }
}
