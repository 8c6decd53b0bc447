//! When to look for connections that are over: the earliest end of each 16 neighbouring slots, and a tree of
//! minima above them.
//!
//! A life that is prolonged changes nothing here: when the old end comes, the 16 are looked at and their
//! earliest end noted anew, so that a packet costs a comparison, and each look of 16 is paid for by an end or
//! by the packet that put one off. Invariant: no connection ends before the time noted for its group.

use crate::base::limits;

/// Slots of a group, and children of an inner node.
pub(super) const GROUP: usize = 16;
/// Levels, groups first: the last is one number.
const LEVELS: usize = 6;
/// Nothing ends.
const NEVER: u64 = u64::MAX;

const _: () = assert!(limits::CT_SLOTS_MAX <= GROUP.pow(LEVELS as u32));

/// Ends of lives, in ticks.
#[derive(Clone, Debug, Default)]
pub(super) struct Alarms {
    levels: [Vec<u64>; LEVELS],
}

impl Alarms {
    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.levels.iter().map(Vec::capacity).sum::<usize>() * size_of::<u64>()
    }

    /// Something in a slot ends at `end`.
    pub fn lower(&mut self, slot: u32, end: u64) {
        let mut at = slot as usize;
        for level in &mut self.levels {
            at /= GROUP;
            if level.len() <= at {
                level.resize(at + 1, NEVER);
            }
            match level.get_mut(at) {
                Some(known) if *known > end => *known = end,
                _ => return,
            }
        }
    }

    /// Whether something may have ended.
    pub fn is_due(&self, now: u64) -> bool {
        self.levels[LEVELS - 1]
            .first()
            .is_some_and(|end| *end <= now)
    }

    /// The first group in which something may have ended.
    pub fn due(&self, now: u64) -> Option<usize> {
        self.is_due(now).then_some(())?;
        let mut at = 0;
        for level in self.levels.iter().rev().skip(1) {
            let start = at * GROUP;
            let children = level.iter().skip(start).take(GROUP);
            at = start + children.into_iter().position(|end| *end <= now)?;
        }
        Some(at)
    }

    /// A group was looked at: nothing in it ends before `end`.
    pub fn raise(&mut self, group: usize, end: Option<u64>) {
        let mut at = group;
        let mut end = end.unwrap_or(NEVER);
        for n in 0..LEVELS {
            match self.levels[n].get_mut(at) {
                Some(known) if *known != end => *known = end,
                _ => return,
            }
            at /= GROUP;
            let children = self.levels[n].iter().skip(at * GROUP).take(GROUP);
            end = children.copied().min().unwrap_or(NEVER);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn nobody_is_late(
            ends in proptest::collection::vec((0u32..300_000, 0u64..100), 1..200),
            now in 0u64..110,
        ) {
            let mut alarms = Alarms::default();
            for (slot, end) in &ends {
                alarms.lower(*slot, *end);
            }
            let mut groups = Vec::new();
            while let Some(group) = alarms.due(now) {
                let of_group = ends.iter().filter(|(slot, _)| *slot as usize / GROUP == group);
                let later = of_group.clone().map(|(_, end)| *end).filter(|end| *end > now);
                alarms.raise(group, later.min());
                groups.push(group);
            }
            let due = ends.iter().filter(|(_, end)| *end <= now);
            let mut expected: Vec<usize> = due.map(|(slot, _)| *slot as usize / GROUP).collect();
            expected.sort_unstable();
            expected.dedup();
            prop_assert_eq!(groups, expected);
            let next = ends.iter().map(|(_, end)| *end).filter(|end| *end > now).min();
            prop_assert_eq!(next.is_some_and(|end| alarms.is_due(end)), next.is_some());
            prop_assert!(!next.is_some_and(|end| alarms.is_due(end - 1)));
        }
    }
}
