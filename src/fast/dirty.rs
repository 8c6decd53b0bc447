//! Which entries were hit since their counters were last written back.
//!
//! A list while they are few against the table, then the word that the table is to be looked through: room is
//! bounded, and looking through it costs no more for each hit than the list would. Invariant: an entry with
//! hits is in the list, or `over` is set.

/// Numbers of entries, or that there are too many.
#[derive(Debug)]
pub struct Dirty {
    list: Vec<u32>,
    over: bool,
}

impl Dirty {
    /// For a table of so many entries.
    pub fn new(entries: usize) -> Dirty {
        Dirty {
            list: Vec::with_capacity((entries / 16).max(4096)),
            over: false,
        }
    }

    /// An entry was hit for the first time.
    #[inline(always)]
    pub fn add(&mut self, n: u32) {
        match self.list.len() < self.list.capacity() {
            true => self.list.push(n),
            false => self.over = true,
        }
    }

    /// Whether none was.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Takes the list to be worked off, and whether it is not the whole of it; [`Dirty::give_back`] follows.
    pub fn take(&mut self) -> (Vec<u32>, bool) {
        let over = std::mem::take(&mut self.over);
        (std::mem::take(&mut self.list), over)
    }

    /// Gives the room of the list back.
    pub fn give_back(&mut self, mut list: Vec<u32>) {
        list.clear();
        self.list = list;
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.list.capacity() * size_of::<u32>()
    }
}
