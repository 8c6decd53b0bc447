//! One frame carried at once as far as this moment takes it: what the fast path compiles.
//!
//! Cables without properties are crossed on the spot; whatever waits, is delayed or lost goes the world's
//! usual way. Invariant: the frame meets the same hooks, counters and drops as through the event queue.

use crate::base::NsId;
use crate::net::PortAt;
use crate::path::{Observer, Output};
use crate::sim::cable::Cabled;
use crate::sim::world::World;
use crate::wire::Frame;
use smallvec::SmallVec;
use std::collections::VecDeque;

/// What came of a frame.
#[derive(Debug, Default)]
pub(super) struct Carried {
    /// Frames that reached an edge, with the port they would be received by, in order.
    pub out: SmallVec<[(PortAt, Frame); 2]>,
    /// Something went another way than straight on: into the queue, to a socket, onto a cable with
    /// properties.
    pub strayed: bool,
    /// Namespaces it walked through, in order, some of them twice.
    pub spaces: SmallVec<[NsId; 8]>,
}

impl World {
    /// [`World::carry`] by tables that may give an answer again ([`crate::nf::Netfilter::recall`]).
    pub(super) fn carry_recalling<O: Observer>(
        &mut self,
        at: PortAt,
        f: Frame,
        edge: impl Fn(NsId) -> bool,
        obs: &mut O,
    ) -> Carried {
        let (changes, learned) = self.version();
        // Neither ever becomes less: the sum tells states apart.
        self.shared.recall = Some(changes + learned);
        let carried = self.carry(at, f, edge, obs);
        self.shared.recall = None;
        carried
    }

    /// A frame arrives at `at` and goes on until it reaches a namespace for which `edge` holds.
    pub(super) fn carry<O: Observer>(
        &mut self,
        at: PortAt,
        mut f: Frame,
        edge: impl Fn(NsId) -> bool,
        obs: &mut O,
    ) -> Carried {
        self.adopt(&mut f);
        let mut c = Carried::default();
        let (mut next, mut todo) = (Some((at, f)), VecDeque::new());
        while let Some((at, f)) = next.take().or_else(|| todo.pop_front()) {
            c.spaces.push(at.ns);
            let mut left = self.walk_out(at.ns, obs, |w| {
                w.from_backlog(&f);
                w.receive(at.dev, f);
            });
            // One frame after another is the rule: it needs no queue.
            let mut go_on = |at, f| match next.is_none() && todo.is_empty() {
                true => next = Some((at, f)),
                false => todo.push_back((at, f)),
            };
            for o in left.drain(..) {
                match o {
                    Output::Wire { from, to, frame } => {
                        match self.cabled(from, to, frame, obs) {
                            Cabled::Plain(frame) if edge(to.ns) => c.out.push((to, frame)),
                            Cabled::Plain(frame) => go_on(to, frame),
                            Cabled::Later(frame, latency) => {
                                c.strayed = true;
                                self.push_at(latency, to, frame, obs);
                            }
                            Cabled::Lost => c.strayed = true,
                        };
                    }
                    Output::Backlog { at, frame } => go_on(at, frame),
                    socket @ Output::Socket { .. } => {
                        c.strayed = true;
                        self.hand_on(socket, obs);
                    }
                }
            }
            self.give_back(left);
        }
        c
    }
}
