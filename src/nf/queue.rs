//! Programs that read netfilter queues (NFQUEUE, nft `queue`): what they answer for a packet.
//!
//! The program answers at once, as if no other packet overtook the queued one. A queue that nobody reads is
//! the rule's own affair (`bypass` or not). Invariant: a reader changes nothing of the packet.

use core::fmt;

/// What a program answers (kernel: `nfqnl_recv_verdict`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// NF_ACCEPT: the packet goes on to the next hook operation.
    Accept {
        /// Labels that its connection gets (`NFQA_CT`, `CTA_LABELS`), bit N is label N.
        labels: u128,
    },
    /// NF_DROP.
    Drop,
}

/// A program behind a queue.
pub trait Reader: fmt::Debug + Send + Sync {
    /// Its answer for a packet, from the network header on.
    fn answer(&self, packet: &[u8]) -> Answer;
}
