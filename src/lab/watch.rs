//! Watching one client's packets while the lab goes on: the events of its frames, and where they ended.
//!
//! What [`Lab::trace`] does for a probe, for a talk that the caller plays. Invariant: only frames of the
//! clients watched are kept, and watching changes nothing.

use super::client::ClientRef;
use super::hop::{Ends, Hop};
use super::player::{Call, PlayerId};
use super::world::Lab;
use crate::base::{Instant, limits};
use crate::path::{Event, Observer, Tee, TraceBuilder};
use std::collections::BTreeSet;

/// A client's frames.
#[derive(Debug, Default)]
pub struct Watch {
    own: BTreeSet<ClientRef>,
    ends: Ends,
    builder: TraceBuilder,
    /// The events of the client's frames so far, up to [`limits::TRACE_STEPS_MAX`].
    pub events: Vec<Event>,
}

impl Watch {
    /// Watches a client.
    pub fn new(client: ClientRef) -> Self {
        Watch {
            own: BTreeSet::from([client]),
            ..Watch::default()
        }
    }

    /// Where it was decided what an ended client saw.
    pub fn hop(&self, lab: &Lab, client: ClientRef) -> Option<Hop> {
        self.ends.decisive(lab, client, lab.client(client)?)
    }

    fn sort(&mut self, lab: &Lab) {
        self.ends.sort(lab, &self.own);
        let mine = |e: &Event| lab.client_of(e.root).is_some_and(|c| self.own.contains(&c));
        let room = limits::TRACE_STEPS_MAX.saturating_sub(self.events.len());
        let new = self.builder.take();
        self.events.extend(new.into_iter().filter(mine).take(room));
    }
}

impl Lab {
    /// [`Lab::step`], watched.
    pub fn step_watched<O: Observer>(
        &mut self,
        until: Instant,
        watch: &mut Watch,
        obs: &mut O,
    ) -> bool {
        let mut both = Tee(&mut watch.builder, &mut *obs);
        let went = self.step(until, &mut Tee(&mut watch.ends, &mut both));
        watch.sort(self);
        went
    }

    /// [`Lab::perform`], watched.
    pub fn perform_watched<O: Observer>(
        &mut self,
        id: PlayerId,
        calls: Vec<Call>,
        watch: &mut Watch,
        obs: &mut O,
    ) {
        let mut both = Tee(&mut watch.builder, &mut *obs);
        self.perform(id, calls, &mut Tee(&mut watch.ends, &mut both));
        watch.sort(self);
    }
}
