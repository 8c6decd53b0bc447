//! The observer that keeps frames as tcpdump would: at chosen devices, with time and direction.

use crate::base::{DevId, FrameId, Instant, NsId};
use crate::path::{Direction, Disposition, Observer, Place};
use crate::wire::Frame;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

/// One captured frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Captured {
    /// When.
    pub time: Instant,
    /// Where.
    pub ns: NsId,
    /// At which device.
    pub dev: DevId,
    /// Which way.
    pub dir: Direction,
    /// Which frame.
    pub frame: FrameId,
    /// The frame it descends from.
    pub root: FrameId,
    /// The bytes, link header first (none on layer-3 devices).
    pub data: Bytes,
}

/// Keeps what passes the devices it was told of (all, unless told).
#[derive(Clone, Debug, Default)]
pub struct Captures {
    only: Option<BTreeSet<(NsId, DevId)>>,
    frames: Vec<Captured>,
    ends: BTreeMap<FrameId, (String, Disposition)>,
}

impl Captures {
    /// Captures at every device.
    pub fn all() -> Self {
        Captures::default()
    }

    /// Captures at these devices.
    pub fn at(devices: impl IntoIterator<Item = (NsId, DevId)>) -> Self {
        Captures {
            only: Some(devices.into_iter().collect()),
            ..Captures::default()
        }
    }

    /// What was captured, in the order it happened.
    pub fn frames(&self) -> &[Captured] {
        &self.frames
    }

    /// How each frame ended: the namespace's name and the disposition.
    pub fn ends(&self) -> &BTreeMap<FrameId, (String, Disposition)> {
        &self.ends
    }

    /// Takes the frames and starts anew.
    pub fn take(&mut self) -> Vec<Captured> {
        std::mem::take(&mut self.frames)
    }
}

impl Observer for Captures {
    const TRACING: bool = false;
    fn tap(&mut self, at: Place<'_>, dir: Direction, frame: &Frame) {
        let Some(dev) = at.dev else { return };
        if self
            .only
            .as_ref()
            .is_none_or(|o| o.contains(&(at.ns.id, dev)))
        {
            self.frames.push(Captured {
                time: at.now,
                ns: at.ns.id,
                dev,
                dir,
                frame: frame.id,
                root: frame.root,
                data: Bytes::copy_from_slice(frame.data()),
            });
        }
    }
    fn end(&mut self, at: Place<'_>, frame: &Frame, how: &Disposition) {
        self.ends
            .insert(frame.id, (at.ns.name.clone(), how.clone()));
    }
}
