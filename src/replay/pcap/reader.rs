//! The streaming reader: framing of both formats, and findings with the byte they are about.
//!
//! A finding that leaves the framing whole (one packet of a pcapng cannot be used) is given in that packet's
//! place and reading goes on; one after which nothing can be found again (a cut file, a false length) is the
//! last item.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::ops::Range;
use std::sync::Arc;

use super::classic::{self, Classic};
use super::input::Input;
use super::ng::{self, Found};
use super::order::Order;
use super::sniff::{self, Format};
use super::{Interface, OwnedRecords, Record, options};
use crate::base::limits::{CAPTURE_BLOCK_MAX, CAPTURE_INTERFACES_MAX};
use crate::base::{Finding, Span};

const CUT_HELP: &str =
    "the capture was interrupted or not copied whole; the packets before this one are used";
const DAMAGED_HELP: &str =
    "the file is damaged here and cannot be read on; the packets before this one are used";
const BLOCK_HEAD: usize = 12;

/// Reads a capture packet by packet from any `Read`, which needs no buffering of its own.
pub struct CaptureReader<R> {
    file: Arc<str>,
    input: Input<R>,
    state: State,
    interfaces: Vec<Interface>,
    /// Said before anything else is read.
    pending: VecDeque<Finding>,
    /// Packets seen.
    number: u64,
    done: bool,
}

enum State {
    Classic(Classic),
    Ng(Section),
}

/// The pcapng section being read.
#[derive(Clone, Copy)]
struct Section {
    order: Order,
    index: u32,
    /// Where its interfaces start among all of the file's.
    base: u32,
}

/// A block's first bytes, and where it lies.
#[derive(Clone, Copy)]
struct BlockHead {
    kind: u32,
    len: usize,
    order: Order,
    offset: u64,
}

/// What went wrong: one packet, or all that follows.
enum Trouble {
    Packet(Finding),
    Rest(Finding),
}

impl<R: Read> CaptureReader<R> {
    /// Starts reading `read`, called `name` in findings, up to its first packet, so that
    /// [`CaptureReader::interfaces`] has those described before it.
    ///
    /// # Errors
    /// One finding when it is no capture: empty, compressed, of unknown magic, or cut within its header.
    pub fn new(name: &str, read: R) -> Result<Self, Finding> {
        let mut reader = CaptureReader {
            file: name.into(),
            input: Input::new(read),
            state: State::Ng(Section {
                order: Order::Little,
                index: 0,
                base: 0,
            }),
            interfaces: Vec::new(),
            pending: VecDeque::new(),
            number: 0,
            done: false,
        };
        reader.start().map_err(|trouble| match trouble {
            Trouble::Packet(finding) | Trouble::Rest(finding) => finding,
        })?;
        Ok(reader)
    }

    /// The interfaces described so far. A pcapng may describe more between its packets.
    pub fn interfaces(&self) -> &[Interface] {
        &self.interfaces
    }

    /// The next packet, lent until the next call. None at the end.
    ///
    /// # Errors
    /// A finding in place of a packet that cannot be used, and one as the last item where the file is cut or
    /// damaged. A warning may follow a packet of which some options could not be read.
    #[allow(clippy::should_implement_trait)] // It lends; `owned` is the iterator.
    pub fn next(&mut self) -> Option<Result<Record<'_>, Finding>> {
        let step = self.step()?;
        Some(step.map(|(found, head, len)| self.lend(found, head, len)))
    }

    /// The next packets that are at hand whole, lent together until the next call: `places` says where each
    /// one's bytes are in what is given. At most `most` (at least one); of a pcapng one by one.
    ///
    /// # Errors
    /// As [`CaptureReader::next`].
    pub fn next_many(
        &mut self,
        most: usize,
        places: &mut Vec<Range<usize>>,
    ) -> Option<Result<&[u8], Finding>> {
        places.clear();
        let (found, head, len) = match self.step()? {
            Ok(found) => found,
            Err(finding) => return Some(Err(finding)),
        };
        let from = self.input.consume(len).start + head;
        places.push(from + found.data.start..from + found.data.end);
        self.rest_at_hand(most, places);
        Some(Ok(self.input.window()))
    }

    /// Adds the packets of a pcap file that lie whole behind the one before.
    fn rest_at_hand(&mut self, most: usize, places: &mut Vec<Range<usize>>) {
        let State::Classic(classic) = &self.state else {
            return;
        };
        while places.len() < most {
            let Some(head) = classic.packet_head(self.input.bytes()) else {
                return;
            };
            let len = classic::PACKET_HEADER + head.kept;
            // What is wrong with one is said when it is the first.
            if head.kept > classic.frame_max || len > self.input.bytes().len() {
                return;
            }
            let at = self.input.consume(len);
            places.push(at.start + classic::PACKET_HEADER..at.end);
            self.number += 1;
        }
    }

    /// The packets as owned values, for `for` loops and adapters.
    pub fn owned(self) -> OwnedRecords<R> {
        OwnedRecords::new(self)
    }

    fn start(&mut self) -> Result<(), Trouble> {
        self.have(4)?;
        let format = sniff::sniff(self.input.bytes())
            .map_err(|(message, help)| self.rest(message, &help))?;
        match format {
            Format::Classic { order, nanos } => {
                self.need(classic::FILE_HEADER, "the pcap header")?;
                let (classic, interface) =
                    Classic::new(order, nanos, self.input.bytes()).map_err(|message| {
                        self.rest(message, "write it again with tcpdump or editcap -F pcap")
                    })?;
                self.input.consume(classic::FILE_HEADER);
                self.interfaces.push(interface);
                self.state = State::Classic(classic);
            }
            Format::Ng => {
                let Some(head) = self.block_head()? else {
                    return Ok(());
                };
                self.section_header(head)?;
                self.state = State::Ng(Section {
                    index: 0,
                    ..self.section()
                });
                // Trouble between the header and the first packet is told in that packet's place.
                if let Err(trouble) = self.next_packet_block() {
                    self.note(trouble);
                }
            }
        }
        Ok(())
    }

    /// The next packet: what was found, its bytes before the body, and all of them; or a finding. None at
    /// the end.
    fn step(&mut self) -> Option<Result<(Found, usize, usize), Finding>> {
        if let Some(finding) = self.pending.pop_front() {
            return Some(Err(finding));
        }
        if self.done {
            return None;
        }
        let step = match &self.state {
            State::Classic(_) => self.classic_packet(),
            State::Ng(_) => self.ng_packet(),
        };
        match step {
            Ok(Some(found)) => return Some(Ok(found)),
            Ok(None) => self.done = true,
            Err(trouble) => self.note(trouble),
        }
        self.pending.pop_front().map(Err)
    }

    /// Queues what went wrong behind what is waiting to be said.
    fn note(&mut self, trouble: Trouble) {
        match trouble {
            Trouble::Packet(finding) => self.pending.push_back(finding),
            Trouble::Rest(finding) => {
                self.pending.push_back(finding);
                self.done = true;
            }
        }
    }

    /// Lends `found`, whose `len` bytes are at hand and are used up by this; `head` of them come before the
    /// body.
    fn lend(&mut self, found: Found, head: usize, len: usize) -> Record<'_> {
        let order = match &self.state {
            State::Ng(section) => section.order,
            State::Classic(_) => Order::Little,
        };
        if found.options_damaged {
            let what = format!("an option of packet {}", self.number);
            self.pending
                .push_back(self.bad_option(self.input.offset(), &what));
        }
        let block = self.input.consume(len);
        let body = self.input.at(block).get(head..).unwrap_or_default();
        let options = body.get(found.options).unwrap_or_default();
        Record {
            number: self.number,
            interface: found.interface,
            time_ns: found.time_ns,
            data: body.get(found.data).unwrap_or_default(),
            orig_len: found.orig_len,
            direction: found.direction,
            comment: options::comments(order, options),
        }
    }

    /// The next packet of a pcap file: what was found, bytes before its data, bytes in all.
    fn classic_packet(&mut self) -> Result<Option<(Found, usize, usize)>, Trouble> {
        if !self.have(1)? {
            return Ok(None);
        }
        self.number += 1;
        self.need_packet(classic::PACKET_HEADER)?;
        let State::Classic(classic) = &self.state else {
            return Ok(None);
        };
        let Some(head) = classic.packet_head(self.input.bytes()) else {
            return Ok(None);
        };
        if head.kept > classic.frame_max {
            let message = format!(
                "byte {}: packet {} claims {} bytes, at most {} can be",
                self.input.offset(),
                self.number,
                head.kept,
                classic.frame_max,
            );
            return Err(self.rest(message, DAMAGED_HELP));
        }
        let len = classic::PACKET_HEADER + head.kept;
        self.need_packet(len)?;
        let found = Found {
            interface: 0,
            time_ns: Some(head.time_ns),
            data: 0..head.kept,
            orig_len: head.orig_len,
            direction: None,
            options: 0..0,
            options_damaged: false,
        };
        Ok(Some((found, classic::PACKET_HEADER, len)))
    }

    /// The next packet of a pcapng file, as [`Self::classic_packet`] has it.
    fn ng_packet(&mut self) -> Result<Option<(Found, usize, usize)>, Trouble> {
        let Some(head) = self.next_packet_block()? else {
            return Ok(None);
        };
        self.number += 1;
        if head.len > CAPTURE_BLOCK_MAX {
            self.skip_block(head)?;
            let message = format!(
                "byte {}: packet {} is left out: its block has {} bytes, at most {CAPTURE_BLOCK_MAX} \
                 are taken",
                head.offset, self.number, head.len,
            );
            return Err(Trouble::Packet(
                self.error(message, "leave it out with editcap"),
            ));
        }
        self.load(head)?;
        let section = self.section();
        let body = self.body(head);
        let found = match head.kind {
            ng::SIMPLE_PACKET => {
                ng::simple_packet(head.order, body, &self.interfaces, section.base)
            }
            kind => ng::packet(head.order, kind, body, &self.interfaces, section.base),
        };
        match found {
            Ok(found) => Ok(Some((found, 8, head.len))),
            Err(why) => {
                self.input.consume(head.len);
                let message = format!(
                    "byte {}: packet {} is left out: {why}",
                    head.offset, self.number
                );
                Err(Trouble::Packet(
                    self.error(message, "the packets around it are used"),
                ))
            }
        }
    }

    /// Reads on up to a packet's block, taking in sections and interfaces and passing over what is not used.
    fn next_packet_block(&mut self) -> Result<Option<BlockHead>, Trouble> {
        loop {
            let Some(head) = self.block_head()? else {
                return Ok(None);
            };
            match head.kind {
                ng::SECTION => self.section_header(head)?,
                ng::INTERFACE => self.interface_block(head)?,
                ng::PACKET | ng::SIMPLE_PACKET | ng::ENHANCED_PACKET => return Ok(Some(head)),
                _ => self.skip_block(head)?,
            }
        }
    }

    /// Looks at the next block's head without using it up. None at the end of the file.
    fn block_head(&mut self) -> Result<Option<BlockHead>, Trouble> {
        if !self.have(1)? {
            return Ok(None);
        }
        self.need(BLOCK_HEAD, "a block's type, length and first word")?;
        let offset = self.input.offset();
        let start = self.input.bytes();
        let mut order = self.section().order;
        if Order::Little.u32(start, 0) == Some(ng::SECTION) {
            let Some(named) = ng::section_order(start) else {
                let found = Order::Big.u32(start, 8).unwrap_or_default();
                let message = format!(
                    "byte {}: a section header's byte-order magic is 1a2b3c4d or 4d3c2b1a, {found:08x} \
                     was there",
                    offset + 8,
                );
                return Err(self.rest(message, DAMAGED_HELP));
            };
            order = named;
        }
        let kind = order.u32(start, 0).unwrap_or_default();
        let len = order.u32(start, 4).unwrap_or_default();
        match usize::try_from(len) {
            Ok(len) if len >= BLOCK_HEAD && len % 4 == 0 => Ok(Some(BlockHead {
                kind,
                len,
                order,
                offset,
            })),
            _ => {
                let message = format!(
                    "byte {}: a block's length is 12 or more and a multiple of 4, {len} was there",
                    offset + 4,
                );
                Err(self.rest(message, DAMAGED_HELP))
            }
        }
    }

    /// Gets all of a block at hand and checks that both its lengths agree.
    fn load(&mut self, head: BlockHead) -> Result<(), Trouble> {
        match head.kind {
            ng::PACKET | ng::SIMPLE_PACKET | ng::ENHANCED_PACKET => self.need_packet(head.len)?,
            ng::SECTION | ng::INTERFACE if head.len > CAPTURE_BLOCK_MAX => {
                let message = format!(
                    "byte {}: {} claims {} bytes, at most {CAPTURE_BLOCK_MAX} can be",
                    head.offset,
                    block_name(head.kind),
                    head.len,
                );
                return Err(self.rest(message, DAMAGED_HELP));
            }
            kind => self.need(head.len, &block_name(kind))?,
        }
        let trailer = head
            .order
            .u32(self.input.bytes(), head.len - 4)
            .unwrap_or_default();
        self.check_trailer(head, trailer)
    }

    /// A loaded block's body.
    fn body(&self, head: BlockHead) -> &[u8] {
        self.input.bytes().get(8..head.len - 4).unwrap_or_default()
    }

    fn check_trailer(&self, head: BlockHead, trailer: u32) -> Result<(), Trouble> {
        if usize::try_from(trailer) == Ok(head.len) {
            return Ok(());
        }
        let message = format!(
            "byte {}: {} has the length {} at its start and {trailer} at its end",
            head.offset,
            block_name(head.kind),
            head.len,
        );
        Err(self.rest(message, DAMAGED_HELP))
    }

    fn skip_block(&mut self, head: BlockHead) -> Result<(), Trouble> {
        let inner = head.len as u64 - 4;
        if !self.input.skip(inner).map_err(|e| self.unreadable(&e))? {
            let there = self.input.offset() - head.offset;
            return Err(self.cut(head.offset, &block_name(head.kind), head.len as u64, there));
        }
        if !self.have(4)? {
            let there = inner + self.input.bytes().len() as u64;
            return Err(self.cut(head.offset, &block_name(head.kind), head.len as u64, there));
        }
        let trailer = head.order.u32(self.input.bytes(), 0).unwrap_or_default();
        self.input.consume(4);
        self.check_trailer(head, trailer)
    }

    fn section_header(&mut self, head: BlockHead) -> Result<(), Trouble> {
        self.load(head)?;
        if let Err(why) = ng::check_section(head.order, self.body(head)) {
            return Err(self.rest(
                format!("byte {}: {why}", head.offset),
                "write it again with editcap",
            ));
        }
        self.input.consume(head.len);
        let base = u32::try_from(self.interfaces.len()).unwrap_or(u32::MAX);
        let index = self.section().index.saturating_add(1);
        self.state = State::Ng(Section {
            order: head.order,
            index,
            base,
        });
        Ok(())
    }

    fn interface_block(&mut self, head: BlockHead) -> Result<(), Trouble> {
        self.load(head)?;
        let described = ng::interface(head.order, self.section().index, self.body(head));
        let Some((interface, damaged)) = described else {
            let message = format!(
                "byte {}: an interface description has 8 bytes before its options",
                head.offset
            );
            return Err(self.rest(message, DAMAGED_HELP));
        };
        if self.interfaces.len() >= CAPTURE_INTERFACES_MAX {
            let message = format!(
                "byte {}: more than {CAPTURE_INTERFACES_MAX} interfaces",
                head.offset
            );
            return Err(self.rest(message, DAMAGED_HELP));
        }
        if damaged {
            let what = format!("an option of interface {}", self.interfaces.len());
            self.pending.push_back(self.bad_option(head.offset, &what));
        }
        self.interfaces.push(interface);
        self.input.consume(head.len);
        Ok(())
    }

    fn section(&self) -> Section {
        match &self.state {
            State::Ng(section) => *section,
            State::Classic(_) => Section {
                order: Order::Little,
                index: 0,
                base: 0,
            },
        }
    }

    fn have(&mut self, want: usize) -> Result<bool, Trouble> {
        self.input.have(want).map_err(|e| self.unreadable(&e))
    }

    /// `want` bytes at hand, or the finding that the file is cut inside `what`.
    fn need(&mut self, want: usize, what: &str) -> Result<(), Trouble> {
        if self.have(want)? {
            return Ok(());
        }
        Err(self.cut(
            self.input.offset(),
            what,
            want as u64,
            self.input.bytes().len() as u64,
        ))
    }

    /// As `need`, without making the packet's name up before it is wanted.
    fn need_packet(&mut self, want: usize) -> Result<(), Trouble> {
        if self.have(want)? {
            return Ok(());
        }
        let what = format!("packet {}", self.number);
        Err(self.cut(
            self.input.offset(),
            &what,
            want as u64,
            self.input.bytes().len() as u64,
        ))
    }

    fn cut(&self, offset: u64, what: &str, want: u64, there: u64) -> Trouble {
        let message = format!(
            "byte {offset}: the file ends inside {what}: {want} bytes were expected, {there} are there"
        );
        self.rest(message, CUT_HELP)
    }

    fn unreadable(&self, error: &io::Error) -> Trouble {
        let at = self.input.offset() + self.input.bytes().len() as u64;
        self.rest(
            format!("byte {at}: it could not be read: {error}"),
            CUT_HELP,
        )
    }

    fn rest(&self, message: String, help: &str) -> Trouble {
        Trouble::Rest(self.error(message, help))
    }

    fn error(&self, message: String, help: &str) -> Finding {
        Finding::error(Span::new(Arc::clone(&self.file), 0, 0), message, help)
    }

    fn bad_option(&self, offset: u64, what: &str) -> Finding {
        let message = format!("byte {offset}: {what} reaches past its block and is left out");
        Finding::warning(
            Span::new(Arc::clone(&self.file), 0, 0),
            message,
            "all before that option is used",
        )
    }
}

fn block_name(kind: u32) -> String {
    match kind {
        ng::SECTION => "a section header".to_owned(),
        ng::INTERFACE => "an interface description".to_owned(),
        ng::PACKET | ng::SIMPLE_PACKET | ng::ENHANCED_PACKET => "a packet's block".to_owned(),
        other => format!("a block of type {other:#010x}"),
    }
}
