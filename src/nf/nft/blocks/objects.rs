//! Objects: counters, quotas, limits, helpers, timeouts, expectations, synproxies, secmarks.
//!
//! Invariant: an object is complete or not there.

use super::*;

impl Cursor<'_> {
    /// An object's name and body.
    pub(in crate::nf::nft) fn object(&mut self, kind: ObjectKind) -> Read<Object> {
        let name = self.name("an object's name")?.into();
        let mut comment = None;
        let mut raw = RawObject::default();
        let mut handle = 0;
        if self.peek() == "{" {
            handle = self.body(|c, _| {
                if c.take("comment") {
                    comment = Some(c.quoted("a text in quotes")?.into());
                    return Ok(());
                }
                raw.statement(c, kind)
            })?;
        } else if !self.ended() {
            raw.statement(self, kind)?;
        }
        match raw.finish(kind) {
            Some(body) => Ok(Object {
                name,
                handle,
                comment,
                body,
            }),
            None => self.wrong(format!("a complete {} before this", kind.as_str())),
        }
    }
}

/// An object while its statements are read.
#[derive(Default)]
struct RawObject {
    counters: Counters,
    quota: Option<super::super::expr::Quota>,
    limit: Option<super::super::expr::Limit>,
    helper: Option<Box<str>>,
    protocol: Option<u8>,
    l3: Option<Family>,
    policy: Vec<(Box<str>, u32)>,
    dport: u16,
    timeout: u64,
    size: u8,
    synproxy: super::super::expr::Synproxy,
    context: Option<Box<str>>,
}

impl RawObject {
    fn statement(&mut self, c: &mut Cursor<'_>, kind: ObjectKind) -> Read<()> {
        match kind {
            ObjectKind::Counter => self.counters = c.counters()?,
            ObjectKind::Quota => self.quota = Some(c.quota()?),
            ObjectKind::Limit => self.limit = Some(c.limit()?),
            ObjectKind::Synproxy => {
                if !c.synproxy_option(&mut self.synproxy)? {
                    return c.wrong("mss, wscale, timestamp or sack-perm");
                }
                while c.synproxy_option(&mut self.synproxy)? {}
            }
            ObjectKind::Secmark => self.context = Some(c.any_word("a security context")?.into()),
            ObjectKind::CtHelper | ObjectKind::CtTimeout | ObjectKind::CtExpect => {
                return self.ct(c);
            }
        }
        Ok(())
    }

    fn protocol(&mut self, c: &mut Cursor<'_>) -> Read<()> {
        let n = c.value(Type::InetProto)?.num();
        self.protocol = n.and_then(|n| u8::try_from(n).ok());
        Ok(())
    }

    fn ct(&mut self, c: &mut Cursor<'_>) -> Read<()> {
        let word = c.any_word("type, protocol, l3proto, policy, dport, timeout or size")?;
        match word {
            "type" => {
                self.helper = Some(c.any_word("a helper's name")?.into());
                c.expect("protocol")?;
                self.protocol(c)?;
            }
            "protocol" => self.protocol(c)?,
            "l3proto" => {
                let Some(f) = Family::parse(c.peek()) else {
                    return c.wrong("ip, ip6 or inet");
                };
                self.l3 = Some(f);
                c.at += 1;
            }
            "dport" => self.dport = c.number("a port")?,
            "timeout" => self.timeout = c.time()?,
            "size" => self.size = c.number("a number")?,
            "policy" => {
                c.expect("=")?;
                c.expect("{")?;
                loop {
                    c.newlines();
                    if c.take("}") {
                        break;
                    }
                    let state = c.any_word("a state")?.into();
                    c.expect(":")?;
                    let seconds = u32::try_from(c.time()? / 1000).unwrap_or(u32::MAX);
                    self.policy.push((state, seconds));
                    c.newlines();
                    c.take(",");
                }
            }
            _ => {
                c.at -= 1;
                return c.wrong("type, protocol, l3proto, policy, dport, timeout or size");
            }
        }
        Ok(())
    }

    fn finish(self, kind: ObjectKind) -> Option<ObjectBody> {
        Some(match kind {
            ObjectKind::Counter => ObjectBody::Counter(self.counters),
            ObjectKind::Quota => ObjectBody::Quota(self.quota?),
            ObjectKind::Limit => ObjectBody::Limit(self.limit?),
            ObjectKind::Synproxy => ObjectBody::Synproxy(self.synproxy),
            ObjectKind::Secmark => ObjectBody::Secmark(self.context?),
            ObjectKind::CtHelper => ObjectBody::CtHelper {
                helper: self.helper?,
                protocol: self.protocol?,
                l3: self.l3,
            },
            ObjectKind::CtTimeout => ObjectBody::CtTimeout {
                protocol: self.protocol?,
                l3: self.l3,
                policy: self.policy,
            },
            ObjectKind::CtExpect => ObjectBody::CtExpect {
                protocol: self.protocol?,
                dport: self.dport,
                timeout: self.timeout,
                size: self.size,
                l3: self.l3,
            },
        })
    }
}
