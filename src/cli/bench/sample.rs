//! One delivered frame of every measured batch, held against what its walk left: a wrong byte ends the
//! measurement.
//!
//! Which frame it is was drawn when the ring was made, and so was what has to come of it: looking costs a
//! comparison of one frame for each batch. Invariant: a frame with two lengths of a flow differs in nothing
//! that is expected.

use super::traffic::resolves;
use crate::fast::{Batch, Fate};
use crate::net::PortAt;
use crate::sim::fast::FastPath;
use crate::wire::Frame;
use anyhow::bail;

/// One frame of a batch, and what has to come of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sample {
    /// Its place in the batch.
    pub at: usize,
    /// Where it has to arrive.
    pub port: PortAt,
    /// As what.
    pub frame: Vec<u8>,
}

impl Sample {
    /// Whether a frame that arrived is the one.
    fn is(&self, port: PortAt, head: &[u8], rest: &[u8]) -> bool {
        let cut = head.len().min(self.frame.len());
        let (first, second) = self.frame.split_at(cut);
        port == self.port && first == head && second == rest
    }

    /// Looks at what came of a batch; `out` are the frames that walks left.
    pub fn check(
        &self,
        fast: &FastPath,
        batch: &Batch<'_>,
        out: &[(PortAt, Frame)],
    ) -> anyhow::Result<()> {
        let right = match batch.fates[self.at] {
            Fate::Sent(port) => {
                let frame = batch.frames[self.at];
                let head = &batch.heads[self.at].0;
                let cut = head.len().min(frame.len());
                let to = fast.port_at(port);
                to.is_some_and(|to| self.is(to, &head[..cut], &frame[cut..]))
            }
            Fate::Walked(n) => {
                let before = batch.fates[..self.at].iter().map(|f| match f {
                    Fate::Walked(n) => *n as usize,
                    _ => 0,
                });
                let of_it = out.iter().skip(before.sum()).take(n as usize);
                let mut of_it = of_it.filter(|(_, f)| !resolves(f.data()));
                of_it.any(|(to, f)| self.is(*to, f.data(), &[]))
            }
            Fate::Waiting => false,
        };
        if !right {
            bail!(
                "frame {} of a batch was not delivered as its walk left it: {:02x?} became {:?}, {:02x?}; expected {:?}",
                self.at,
                batch.frames[self.at],
                batch.fates[self.at],
                batch.sent(self.at),
                self
            );
        }
        Ok(())
    }
}
