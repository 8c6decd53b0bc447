//! `cache`: keeps replies, what is and what is not (`plugin/cache`).
//!
//! The TTL of an entry is the least of its records between the configured bounds, and from the first reply on
//! every record carries it; later replies carry what is left in whole seconds. `prefetch` renews what is
//! asked often, `serve_stale` gives what has expired. Entries over the capacity push out a random one:
//! CoreDNS drops one of the full shard. Invariant: what is given was stored for the same name, type, class,
//! DO and CD.

mod item;
mod setup;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{DNSClass, Name, RecordType};
use indexmap::IndexMap;

use super::super::corefile::Version;
use super::super::engine::{Ctx, Frame, Job, Keep, Step};
use super::super::message::{Ended, Reply, Request, Transport};
use super::super::names;
use crate::base::Instant;
use item::{Item, Kind, classify, least_ttl};
use setup::Settings;

/// What an entry is kept under.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Key {
    /// The name in lower case, as on the wire.
    pub name: Vec<u8>,
    /// Type.
    pub kind: u16,
    /// Class.
    pub class: u16,
    /// DNSSEC OK.
    pub dnssec_ok: bool,
    /// Checking disabled.
    pub cd: bool,
}

impl Key {
    /// The key of a request.
    pub fn of(request: &Request) -> Key {
        let mut name = Vec::with_capacity(64);
        for label in request.name().iter() {
            name.push(u8::try_from(label.len()).unwrap_or(63));
            name.extend(label.iter().map(u8::to_ascii_lowercase));
        }
        name.push(0);
        Key {
            name,
            kind: request.question.kind.into(),
            class: request.question.class.into(),
            dnssec_ok: request.dnssec_ok(),
            cd: request.cd,
        }
    }
}

type Store = IndexMap<Key, Item, foldhash::fast::FixedState>;

/// See the module.
#[derive(Clone, Debug)]
pub struct Cache {
    settings: Settings,
    success: Store,
    denial: Store,
}

/// Why a query goes on behind the cache.
#[derive(Clone, Debug)]
enum Purpose {
    /// Nothing was kept.
    Miss,
    /// A refresh in the background.
    Refresh { hits: u32 },
    /// What is kept has expired and is given if the refresh fails.
    Verify(Box<Reply>),
}

/// A query whose reply will be kept.
#[derive(Clone, Debug)]
pub struct Fill {
    key: Key,
    request: Request,
    purpose: Purpose,
    server: usize,
    plugin: usize,
}

impl Fill {
    /// Whose it is: server and plugin.
    pub(in super::super) fn place(&self) -> (usize, usize) {
        (self.server, self.plugin)
    }
}

impl Cache {
    pub(super) fn read(
        line: &super::super::corefile::Line,
        reader: &mut super::super::config::Reader<'_>,
    ) -> Cache {
        Cache {
            settings: Settings::read(line, reader),
            success: Store::default(),
            denial: Store::default(),
        }
    }

    /// Entries of both kinds.
    pub fn len(&self) -> usize {
        self.success.len() + self.denial.len()
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn serve(&mut self, job: &mut Job, ctx: &mut Ctx<'_>) -> Step {
        if names::longest(&self.settings.zones, job.request.name()).is_none() {
            return Step::Next;
        }
        let key = Key::of(&job.request);
        let (now, version) = (ctx.now, ctx.version);
        let Some(denial) = self.find(&key, now, version) else {
            job.decide(ctx, "cache", || "miss".to_owned());
            self.fill(job, ctx, key, Purpose::Miss);
            return Step::Next;
        };
        let store = if denial {
            &mut self.denial
        } else {
            &mut self.success
        };
        let Some(item) = store.get_mut(&key) else {
            return Step::Next;
        };
        let left = item.left(now);
        let reply = item.reply(&job.request, self.settings.shown(left, item.ttl));
        if left <= 0 {
            job.keep = Keep::No;
            job.decide(ctx, "cache", || {
                format!("expired {} s ago, served stale", -left)
            });
            if self.settings.verify {
                self.fill(job, ctx, key, Purpose::Verify(Box::new(reply)));
                return Step::Next;
            }
            if !std::mem::replace(&mut item.refreshing, true) {
                let hits = item.hits;
                refresh(job, ctx, key, hits);
            }
            return Step::Done(Ended::reply(reply));
        }
        job.decide(ctx, "cache", || format!("hit, {left} s left"));
        if let Some(prefetch) = self.settings.prefetch {
            job.keep = Keep::No;
            item.hit(now, prefetch.every);
            let threshold = (u64::from(prefetch.percent) * u64::from(item.ttl)).div_ceil(100);
            let due =
                item.hits >= prefetch.amount && u64::try_from(left).is_ok_and(|l| l <= threshold);
            if due && !std::mem::replace(&mut item.refreshing, true) {
                let hits = item.hits;
                job.decide(ctx, "cache", || {
                    "asked often: refreshed in the background".to_owned()
                });
                refresh(job, ctx, key, hits);
            }
        }
        let whole = job
            .client
            .as_ref()
            .is_some_and(|c| c.question == job.request.question);
        let passive = |f: &Frame| matches!(f, Frame::Errors(_) | Frame::Loadbalance);
        let plain = job.frames.iter().all(|e| passive(&e.frame)) && !self.settings.keep_ttl;
        job.keep = match job.keep {
            Keep::Steady if whole && plain => Keep::Aging {
                stored: item.stored,
                ttl: item.ttl,
            },
            _ => Keep::No,
        };
        Step::Done(Ended::reply(reply))
    }

    /// Whether an entry that may be given is among denials (true) or successes.
    fn find(&self, key: &Key, now: Instant, version: Version) -> Option<bool> {
        let stale =
            i64::try_from(self.settings.stale.map_or(0, |d| d.as_secs())).unwrap_or(i64::MAX);
        let usable = |item: &&Item| item.left(now) > 0 || -item.left(now) < stale;
        let (denied, known) = (
            self.denial.get(key).filter(usable),
            self.success.get(key).filter(usable),
        );
        let failed = denied.is_some_and(|d| d.rcode() == ResponseCode::ServFail);
        match (denied, known) {
            // Since 1.14 a kept failure does not hide a kept answer.
            (Some(_), Some(_)) if failed && version >= Version::V1_14 => Some(false),
            (Some(_), _) => Some(true),
            (None, Some(_)) => Some(false),
            (None, None) => None,
        }
    }

    fn fill(&self, job: &mut Job, ctx: &Ctx<'_>, key: Key, purpose: Purpose) {
        let request = job.request.clone();
        job.push(Frame::Cache(Fill {
            key,
            request,
            purpose,
            server: ctx.server,
            plugin: ctx.plugin,
        }));
    }

    /// A reply has come from behind.
    pub(in super::super) fn resume(
        &mut self,
        fill: Fill,
        ended: Ended,
        job: &mut Job,
        ctx: &mut Ctx<'_>,
    ) -> Step {
        let mut reply = match ended {
            Ended::Written(reply) => reply,
            other => return self.without(fill, other),
        };
        let fresh = matches!(reply.rcode, ResponseCode::NoError | ResponseCode::NXDomain);
        if let Purpose::Verify(_) = &fill.purpose
            && (!fresh || reply.tc || !reply.question.matches(&fill.request.question))
        {
            return self.without(fill, Ended::Written(reply));
        }
        let kind = classify(&reply, ctx.version);
        let settings = &self.settings;
        let found = least_ttl(&reply, kind);
        let ttl = match kind {
            Kind::Denial => found.max(settings.denial.least).min(settings.denial.most),
            Kind::Failure => settings.failure,
            _ => found.max(settings.success.least).min(settings.success.most),
        };
        for record in reply.records_mut() {
            record.ttl = ttl;
        }
        let except = match kind {
            Kind::Success | Kind::Unbounded => &settings.success.except,
            _ => &settings.denial.except,
        };
        let keeps = kind.is_kept()
            && !reply.tc
            && ttl > 0
            && names::longest(except, &reply.question.name).is_none();
        if keeps && reply.question.matches(&fill.request.question) {
            job.keep = Keep::No;
            self.store(&fill, &reply, kind, ttl, ctx);
        } else if let Purpose::Refresh { .. } = fill.purpose {
            self.refreshed(&fill.key);
        }
        Step::Done(Ended::Written(reply))
    }

    fn store(&mut self, fill: &Fill, reply: &Reply, kind: Kind, ttl: u32, ctx: &mut Ctx<'_>) {
        let mut item = Item::new(reply, ttl, ctx.now);
        if let Purpose::Refresh { hits } = fill.purpose {
            (item.hits, item.last) = (hits, Some(ctx.now));
            if kind == Kind::Success {
                self.denial.swap_remove(&fill.key);
            }
        }
        let (store, capacity) = match kind {
            Kind::Denial | Kind::Failure => (&mut self.denial, self.settings.denial.capacity),
            _ => (&mut self.success, self.settings.success.capacity),
        };
        if store.len() >= capacity && !store.contains_key(&fill.key) {
            let out = ctx
                .io
                .rng
                .below(u64::try_from(store.len()).unwrap_or(u64::MAX));
            if let Some((gone, _)) = store.swap_remove_index(usize::try_from(out).unwrap_or(0)) {
                ctx.io.touched.push(gone);
            }
        }
        ctx.io.touched.push(fill.key.clone());
        store.insert(fill.key.clone(), item);
    }

    /// No reply that could be kept.
    fn without(&mut self, fill: Fill, ended: Ended) -> Step {
        self.refreshed(&fill.key);
        match fill.purpose {
            Purpose::Verify(stale) => Step::Done(Ended::Written(stale)),
            _ => Step::Done(ended),
        }
    }

    fn refreshed(&mut self, key: &Key) {
        for store in [&mut self.denial, &mut self.success] {
            if let Some(item) = store.get_mut(key) {
                item.refreshing = false;
            }
        }
    }
}

/// Begins a query of the cache's own: over TCP, from behind the cache.
fn refresh(job: &Job, ctx: &mut Ctx<'_>, key: Key, hits: u32) {
    let mut request = job.request.clone();
    request.transport = Transport::Tcp;
    let id = ctx.io.number();
    let mut own = Job::new(id, request.clone(), false);
    (own.server, own.at) = (ctx.server, ctx.plugin + 1);
    own.push(Frame::Cache(Fill {
        key,
        request,
        purpose: Purpose::Refresh { hits },
        server: ctx.server,
        plugin: ctx.plugin,
    }));
    ctx.io.spawned.push_back(own);
}

/// Whether records answer the question: the chain of CNAMEs from its name ends in the type asked for.
fn answers(reply: &Reply) -> bool {
    let question = &reply.question;
    let mut name: &Name = &question.name;
    for _ in 0..=reply.answer.len() {
        let here = |kind: RecordType| {
            reply
                .answer
                .iter()
                .find(move |r| r.record_type() == kind && r.name == *name)
        };
        let any = question.kind == RecordType::ANY && reply.answer.iter().any(|r| r.name == *name);
        if any || here(question.kind).is_some() {
            return true;
        }
        match here(RecordType::CNAME).map(|r| &r.data) {
            Some(hickory_proto::rr::RData::CNAME(target)) => name = &target.0,
            _ => return false,
        }
    }
    false
}

/// The class of Internet data.
pub const IN: DNSClass = DNSClass::IN;
