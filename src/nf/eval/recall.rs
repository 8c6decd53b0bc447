//! What a table answered a packet, given again to packets that are alike.
//!
//! A question is what the rules asked so far may look at: addresses, protocol, destination port, mark,
//! devices
//! and the state of the connection, but not the source port, so that all connections from one pod to
//! another ask
//! the same. An answer is what the rules did: which counted, the mark they left, the verdict. It is taken
//! down
//! while the rules are asked ([`Notes`]), the second time that a question comes, and only if every rule asked
//! looks at nothing else. Nothing is decided here. Invariant: an answer holds for one state of the
//! configuration ([`crate::nf::Netfilter::recall`]) and one of the sets.

use super::chain::input;
use super::packet::Pkt;
use super::program::{Act, Cond, PTable, Test};
use super::{At, Verdict, matches_ct};
use crate::base::{DevId, limits};
use crate::nf::ct::Conntrack;
use crate::nf::ipset::Sets;
use crate::nf::matches::{self, Tcp};
use crate::nf::{Hook, Match, TableName, Target};
use crate::wire::{Frame, proto};
use core::hash::BuildHasher;
use foldhash::fast::FixedState;
use std::net::IpAddr;

/// Rules that a packet must have asked for its answer to be worth keeping.
const FEWEST: u32 = 8;
/// Answers in a row that were not worth it, after which a hook's table is not looked up any more.
const DULL: u8 = 64;

/// What rules may look at.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Question {
    state: (u64, u64),
    addrs: [IpAddr; 2],
    devs: [Option<DevId>; 2],
    mark: u32,
    /// [`matches_ct::state_bits`]
    conn: u32,
    dport: u16,
    proto: u8,
    hook: Hook,
    table: TableName,
}

impl Question {
    /// The question of a packet; `None` for one that rules may treat by more than that: a fragment, a bridged
    /// one, another protocol than those with ports.
    pub fn of(
        state: (u64, u64),
        ct: &Conntrack,
        f: &Frame,
        (at, table): (&At, TableName),
        pkt: &Pkt,
    ) -> Option<Question> {
        let proto = pkt.proto.ok()?;
        if !matches!(proto, proto::TCP | proto::UDP | proto::SCTP)
            || f.bridged.is_some()
            || !pkt.is_whole(f)
        {
            return None;
        }
        Some(Question {
            state,
            addrs: [pkt.src, pkt.dst],
            devs: [input(at), at.output],
            mark: f.mark,
            conn: matches_ct::state_bits(f.ct, ct.of(f.ct).map(|(c, _)| c)),
            dport: pkt.ports(f)?.1,
            proto,
            hook: at.hook,
            table,
        })
    }

    /// The table that is asked.
    pub fn table(&self) -> TableName {
        self.table
    }
}

/// What rules did with a packet.
#[derive(Clone, Debug)]
pub(super) struct Answered {
    question: Question,
    /// The counters of the rules and policies that counted it.
    pub counted: Box<[u32]>,
    /// Its mark afterwards.
    pub mark: u32,
    /// ACCEPT or DROP.
    pub verdict: Verdict,
}

/// What is known of a question.
pub(super) enum Known<A> {
    /// Its answer.
    Answer(A),
    /// It comes again: worth taking down.
    Again,
    /// It is new, or not worth it.
    Nothing,
}

impl<A> Known<A> {
    /// The same with what is made of the answer.
    pub fn map<B>(self, f: impl FnOnce(A) -> B) -> Known<B> {
        match self {
            Known::Answer(a) => Known::Answer(f(a)),
            Known::Again => Known::Again,
            Known::Nothing => Known::Nothing,
        }
    }
}

/// The place of a few questions.
#[derive(Clone, Debug, Default)]
struct Place {
    /// The question that came last, by hash: one that comes twice pushes out what is here.
    last: u64,
    answered: Option<Box<Answered>>,
}

/// The answers of a rule set's tables, at most [`limits::RECALL_PLACES`].
#[derive(Clone, Debug, Default)]
pub(super) struct Recall {
    places: Vec<Place>,
    /// By table and hook: how many answers in a row were not worth it.
    dull: [[u8; 5]; 5],
}

fn hash(q: &Question) -> u64 {
    FixedState::default().hash_one(q)
}

impl Recall {
    /// Whether questions of that table and hook are worth asking.
    pub fn is_worth(&self, table: TableName, hook: Hook) -> bool {
        self.dull[table as usize][hook as usize] < DULL
    }

    /// What is known of a question.
    pub fn ask(&mut self, q: &Question) -> Known<&Answered> {
        let hash = hash(q);
        if self.places.is_empty() {
            self.places = vec![Place::default(); limits::RECALL_PLACES];
        }
        let at = hash as usize % limits::RECALL_PLACES;
        let Some(place) = self.places.get_mut(at) else {
            return Known::Nothing;
        };
        match &place.answered {
            Some(a) if a.question == *q => {
                self.dull[q.table as usize][q.hook as usize] = 0;
                Known::Answer(a)
            }
            _ if core::mem::replace(&mut place.last, hash) == hash => Known::Again,
            _ => Known::Nothing,
        }
    }

    /// Keeps what was taken down of an answer, if that can be and is worth it.
    pub fn keep(&mut self, q: Question, notes: Notes, mark: u32, verdict: Verdict) {
        let plain = matches!(verdict, Verdict::Accept | Verdict::Drop(_));
        if notes.differs || !plain || notes.asked < FEWEST {
            let dull = &mut self.dull[q.table as usize][q.hook as usize];
            *dull = dull.saturating_add(1);
            return;
        }
        let at = hash(&q) as usize % limits::RECALL_PLACES;
        if let Some(place) = self.places.get_mut(at) {
            place.answered = Some(Box::new(Answered {
                question: q,
                counted: notes.counted.into(),
                mark,
                verdict,
            }));
        }
    }
}

/// An answer while the rules are asked.
#[derive(Debug, Default)]
pub(super) struct Notes {
    /// Counters of the rules and policies that counted the packet.
    pub counted: Vec<u32>,
    asked: u32,
    /// A rule looked at more than the question says, or did more than an answer can repeat.
    differs: bool,
}

impl Notes {
    /// A rule is asked.
    pub fn rule(&mut self) {
        self.asked += 1;
    }

    /// One of its conditions is.
    pub fn test(&mut self, table: &PTable, test: &Test, sets: &Sets) {
        self.differs |= !looks_no_further(table, test, sets);
    }

    /// It acts.
    pub fn act(&mut self, table: &PTable, act: Act) {
        self.differs |= match act {
            Act::Ext(n) => !matches!(table.targets.get(n as usize), Some(Target::Mark(_))),
            Act::Nat(_) | Act::Unknown => true,
            _ => false,
        };
    }
}

/// Whether a condition looks at nothing that is not in the question, and changes nothing.
fn looks_no_further(table: &PTable, test: &Test, sets: &Sets) -> bool {
    match test {
        Test::Random { .. } => false,
        Test::Cond(n) => table.conds.get(*n as usize).is_some_and(|c| cond(c, sets)),
        _ => true,
    }
}

fn cond(c: &Cond, sets: &Sets) -> bool {
    match &c.m {
        Match::Source(_) | Match::Destination(_) | Match::Protocol(_) => true,
        Match::InInterface(_) | Match::OutInterface(_) | Match::Comment(_) => true,
        Match::Fragment(_) | Match::IpRange(_) | Match::Mark(_) | Match::State(_) => true,
        Match::Tcp(t) => {
            let Tcp { dport, .. } = **t;
            let alone = Tcp {
                dport,
                ..Tcp::default()
            };
            **t == alone
        }
        Match::Udp(u) => u.sport.is_none(),
        Match::Multiport(m) => m.ports.is_none() && m.sports.is_none(),
        Match::Conntrack(c) => {
            let state = c.state;
            let alone = matches::Conntrack {
                state,
                ..matches::Conntrack::default()
            };
            **c == alone
        }
        Match::Set(s) => s
            .set
            .as_ref()
            .is_some_and(|s| sets.is_plain(&s.value) && sets.asks_no_source_port(&s.value)),
        _ => false,
    }
}
