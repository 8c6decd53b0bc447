//! The yardstick of `podpath bench dns`: what a server on hickory-proto alone does for a query at the least.
//!
//! The query is decoded and the reply, which is there as a message already, is encoded. Decides nothing and
//! answers nobody.

use hickory_proto::op::Message;

/// Replies as messages.
#[derive(Clone, Debug)]
pub struct Baseline(Vec<Message>);

impl Baseline {
    /// From replies in octets; none where one is no message.
    pub fn new<'a>(replies: impl IntoIterator<Item = &'a [u8]>) -> Option<Baseline> {
        let messages = replies.into_iter().map(|r| Message::from_vec(r).ok());
        messages.collect::<Option<Vec<Message>>>().map(Baseline)
    }

    /// Decodes a query and encodes the reply of this place; octets of the reply.
    pub fn answer(&self, place: usize, query: &[u8]) -> Option<usize> {
        let asked = Message::from_vec(query).ok()?;
        std::hint::black_box(&asked);
        let reply = self.0.get(place)?.to_vec().ok()?;
        Some(std::hint::black_box(reply).len())
    }
}
