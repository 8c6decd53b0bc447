//! The observer that keeps everything, in order.

use crate::base::{DevId, FrameId, Instant, NsId, limits};
use crate::path::observer::{Direction, Observer, Place, Step};
use crate::path::reason::Disposition;
use crate::wire::{Frame, print};

/// What one event of a trace was.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum EventKind {
    /// Seen at a device.
    Tap(Direction),
    /// Something was done.
    Step(Step),
    /// The way ended.
    End(Disposition),
}

/// One event of a trace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event {
    /// When.
    pub time: Instant,
    /// In which namespace.
    pub ns: NsId,
    /// Its name.
    pub ns_name: String,
    /// At which device.
    pub dev: Option<DevId>,
    /// Its name, empty without one.
    pub dev_name: String,
    /// Which frame.
    pub frame: FrameId,
    /// The frame it descends from, in the end.
    pub root: FrameId,
    /// The frame it was copied from or answers.
    pub parent: Option<FrameId>,
    /// What happened.
    pub kind: EventKind,
    /// The frame in one line; empty for steps.
    pub summary: String,
}

/// Keeps the events of every walk it watches, up to a cap.
#[derive(Clone, Debug, Default)]
pub struct TraceBuilder {
    events: Vec<Event>,
    left_out: u64,
}

impl TraceBuilder {
    /// The events in order.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// How many events the cap left out.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Takes the events and starts anew.
    pub fn take(&mut self) -> Vec<Event> {
        self.left_out = 0;
        std::mem::take(&mut self.events)
    }

    fn push(&mut self, at: Place<'_>, frame: &Frame, kind: EventKind, summary: String) {
        if self.events.len() >= limits::TRACE_STEPS_MAX {
            self.left_out += 1;
            return;
        }
        self.events.push(Event {
            time: at.now,
            ns: at.ns.id,
            ns_name: at.ns.name.clone(),
            dev: at.dev,
            dev_name: at.dev_name().to_owned(),
            frame: frame.id,
            root: frame.root,
            parent: frame.parent,
            kind,
            summary,
        });
    }
}

impl Observer for TraceBuilder {
    const TRACING: bool = true;
    fn tap(&mut self, at: Place<'_>, dir: Direction, frame: &Frame) {
        self.push(at, frame, EventKind::Tap(dir), print::summary(frame));
    }
    fn step(&mut self, at: Place<'_>, frame: &Frame, step: Step) {
        self.push(at, frame, EventKind::Step(step), String::new());
    }
    fn end(&mut self, at: Place<'_>, frame: &Frame, how: &Disposition) {
        self.push(
            at,
            frame,
            EventKind::End(how.clone()),
            print::summary(frame),
        );
    }
}
