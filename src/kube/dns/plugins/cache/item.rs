//! One kept reply, and what kind of reply may be kept: `item.go`, `pkg/response/typify.go`.

use core::time::Duration;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;

use super::super::super::corefile::Version;
use super::super::super::message::{Reply, Request};
use super::answers;
use crate::base::Instant;

/// What a reply says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// There is something.
    Success,
    /// There is something, in a reply that bounds no time: a delegation, an empty reply without SOA.
    Unbounded,
    /// There is nothing, and the SOA says for how long.
    Denial,
    /// The server failed.
    Failure,
    /// Not kept.
    No,
}

impl Kind {
    pub(super) fn is_kept(self) -> bool {
        self != Kind::No
    }
}

/// `response.Typify` and `key` of cache.go.
pub(super) fn classify(reply: &Reply, version: Version) -> Kind {
    if matches!(reply.question.kind, RecordType::AXFR | RecordType::IXFR) {
        return Kind::No;
    }
    let soa = reply
        .authority
        .iter()
        .any(|r| r.record_type() == RecordType::SOA);
    match reply.rcode {
        ResponseCode::NoError if !reply.answer.is_empty() => match version {
            // Since 1.14 a chain of CNAMEs that leads nowhere is a denial.
            Version::V1_14 if !answers(reply) => {
                if soa {
                    Kind::Denial
                } else {
                    Kind::No
                }
            }
            _ => Kind::Success,
        },
        ResponseCode::NXDomain if !reply.answer.is_empty() => Kind::No,
        ResponseCode::NoError if soa => Kind::Denial,
        ResponseCode::NXDomain => {
            if soa {
                Kind::Denial
            } else {
                Kind::No
            }
        }
        ResponseCode::ServFail | ResponseCode::NotImp => Kind::Failure,
        ResponseCode::NoError => Kind::Unbounded,
        _ => Kind::No,
    }
}

/// The least TTL of all records, 3600 at most; 5 where there is none (`dnsutil.MinimalTTL`).
pub(super) fn least_ttl(reply: &Reply, kind: Kind) -> u32 {
    let delegation = kind == Kind::Unbounded
        && reply
            .authority
            .iter()
            .any(|r| r.record_type() == RecordType::NS);
    if matches!(kind, Kind::No | Kind::Failure) || delegation {
        return 5;
    }
    reply
        .records()
        .map(|r| r.ttl)
        .min()
        .map_or(5, |ttl| ttl.min(3_600))
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Item {
    reply: Reply,
    /// Seconds it lives.
    pub ttl: u32,
    pub stored: Instant,
    /// Times it was asked for, none further apart than the window.
    pub hits: u32,
    pub last: Option<Instant>,
    pub refreshing: bool,
}

impl Item {
    pub(super) fn new(reply: &Reply, ttl: u32, now: Instant) -> Item {
        Item {
            reply: reply.clone(),
            ttl,
            stored: now,
            hits: 0,
            last: None,
            refreshing: false,
        }
    }

    pub(super) fn rcode(&self) -> ResponseCode {
        self.reply.rcode
    }

    /// Seconds it has left; none or less when it has expired.
    pub(super) fn left(&self, now: Instant) -> i64 {
        let elapsed = i64::try_from(now.since(self.stored).as_secs()).unwrap_or(i64::MAX);
        i64::from(self.ttl) - elapsed
    }

    /// Counts a hit (`freq.Update`).
    pub(super) fn hit(&mut self, now: Instant, window: Duration) {
        let within = self.last.is_some_and(|last| now.since(last) <= window);
        self.hits = if within {
            self.hits.saturating_add(1)
        } else {
            1
        };
        self.last = Some(now);
    }

    /// The reply for a query; AA is set, as resolvers were found that ignore replies without.
    pub(super) fn reply(&self, request: &Request, ttl: u32) -> Reply {
        let mut reply = self.reply.clone();
        reply.question = request.question.clone();
        reply.aa = true;
        reply.tc = false;
        reply.ad = self.reply.ad && (request.dnssec_ok() || request.ad);
        for record in reply.records_mut() {
            record.ttl = ttl;
        }
        reply
    }
}
