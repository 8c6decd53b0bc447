//! One delivered frame of every measured batch, held against what its walk left: a wrong byte ends the
//! measurement.
//!
//! Which frame it is was drawn when the ring was made, and so was what has to come of it: looking costs a
//! comparison of one frame for each batch. Invariant: a ring's frames do not change, so neither does what
//! has to come of them.

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
    fn is(&self, port: PortAt, frame: &[u8]) -> bool {
        port == self.port && frame == self.frame
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
                let to = fast.port_at(port);
                to.is_some_and(|to| self.is(to, &batch.sent(self.at)))
            }
            Fate::Walked(n) => {
                let before = batch.fates[..self.at].iter().map(|f| match f {
                    Fate::Walked(n) => *n as usize,
                    _ => 0,
                });
                let of_it = out.iter().skip(before.sum()).take(n as usize);
                let mut of_it = of_it.filter(|(_, f)| !resolves(f.data()));
                of_it.any(|(to, f)| self.is(*to, f.data()))
            }
            Fate::Waiting => false,
        };
        if !right {
            bail!(
                "frame {} of a batch was not delivered as its walk left it: {:02x?} became {:?}, {:02x?}; \
                 expected {:?}",
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

#[cfg(test)]
mod tests {
    use crate::cli::bench::drive::Scene;
    use crate::cli::bench::plan::tests::plan;
    use crate::cli::bench::ring::Ring;
    use crate::cli::bench::tally::Until;

    /// Any byte of any shape: the head, the end of the payload; or another port.
    #[test]
    fn a_wrong_byte_or_port_ends_the_measurement() {
        let mut scene = Scene::new(plan("mix", &[]), 32, 1).expect("a scene");
        scene.open(0..32, &mut |_| Ok(())).expect("open");
        let mut ring = Ring::new(&mut scene, 32, 1 << 19).expect("a ring");
        let until = Until::Frames(ring.len() as u64);
        let whole = scene.repetition(&mut ring, until).expect("as it was");
        assert!(
            whole.sampled > 0 && whole.arrived == whole.sent,
            "{whole:?}"
        );
        for spoil in 0..3 {
            let all = ring.expected_mut().iter_mut();
            let sample = all.filter_map(|e| e.sample.as_mut()).nth(spoil);
            let sample = sample.expect("a sample");
            let was = sample.clone();
            match spoil {
                0 => sample.frame[30] ^= 1,
                1 => *sample.frame.last_mut().expect("a payload") ^= 1,
                _ => sample.port.dev.0 += 1,
            }
            let wrong = scene.repetition(&mut ring, until).expect_err("spoilt");
            assert!(
                wrong
                    .to_string()
                    .contains("not delivered as its walk left it"),
                "{wrong}"
            );
            let all = ring.expected_mut().iter_mut();
            *all.filter_map(|e| e.sample.as_mut())
                .nth(spoil)
                .expect("it") = was;
        }
        scene.repetition(&mut ring, until).expect("as it was again");
    }

    #[test]
    fn a_lost_frame_ends_the_measurement() {
        let mut scene = Scene::new(plan("service", &["--odd", "10"]), 32, 1).expect("a scene");
        scene.open(0..32, &mut |_| Ok(())).expect("open");
        let mut ring = Ring::new(&mut scene, 32, 1 << 16).expect("a ring");
        let until = Until::Frames(ring.len() as u64);
        let whole = scene.repetition(&mut ring, until).expect("as it was");
        // What came in fragments goes on in fragments; it and what has options is walked.
        assert!(
            whole.arrived == whole.sent && whole.hits < whole.sent / 10 * 9,
            "{whole:?}"
        );
        ring.expected_mut()[1].frames += 1;
        let wrong = scene
            .repetition(&mut ring, until)
            .expect_err("one is missing");
        assert!(
            wrong.to_string().contains("frames of a batch arrived"),
            "{wrong}"
        );
    }
}
