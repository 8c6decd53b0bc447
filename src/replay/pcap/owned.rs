//! Records that own their bytes, and a whole capture in memory: for small files and tests.

use std::borrow::Cow;
use std::io::Read;

use super::{CaptureReader, Direction, Interface, Record};
use crate::base::Finding;

/// A [`Record`] that owns what it holds; the fields are the same.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OwnedRecord {
    /// See [`Record::number`].
    pub number: u64,
    /// See [`Record::interface`].
    pub interface: u32,
    /// See [`Record::time_ns`].
    pub time_ns: Option<u64>,
    /// See [`Record::data`].
    pub data: Vec<u8>,
    /// See [`Record::orig_len`].
    pub orig_len: u32,
    /// See [`Record::direction`].
    pub direction: Option<Direction>,
    /// See [`Record::comment`].
    pub comment: Option<String>,
}

impl OwnedRecord {
    /// The same record, borrowed: what the writers take.
    pub fn as_record(&self) -> Record<'_> {
        Record {
            number: self.number,
            interface: self.interface,
            time_ns: self.time_ns,
            data: &self.data,
            orig_len: self.orig_len,
            direction: self.direction,
            comment: self.comment.as_deref().map(Cow::Borrowed),
        }
    }
}

impl From<Record<'_>> for OwnedRecord {
    fn from(record: Record<'_>) -> Self {
        OwnedRecord {
            number: record.number,
            interface: record.interface,
            time_ns: record.time_ns,
            data: record.data.to_vec(),
            orig_len: record.orig_len,
            direction: record.direction,
            comment: record.comment.map(Cow::into_owned),
        }
    }
}

/// The packets of a reader as an iterator of owned values; findings come as [`CaptureReader::next`] gives
/// them.
pub struct OwnedRecords<R> {
    reader: CaptureReader<R>,
}

impl<R: Read> OwnedRecords<R> {
    pub(super) fn new(reader: CaptureReader<R>) -> Self {
        OwnedRecords { reader }
    }

    /// The interfaces described so far.
    pub fn interfaces(&self) -> &[Interface] {
        self.reader.interfaces()
    }
}

impl<R: Read> Iterator for OwnedRecords<R> {
    type Item = Result<OwnedRecord, Finding>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.reader.next()?.map(OwnedRecord::from))
    }
}

/// A whole capture.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Capture {
    /// Its interfaces, over all sections.
    pub interfaces: Vec<Interface>,
    /// Its packets, in the file's order.
    pub records: Vec<OwnedRecord>,
}

/// Reads all of `read`, called `name` in findings: everything that could be used, and what could not. Holds
/// the whole capture in memory.
pub fn read_all(name: &str, read: impl Read) -> (Capture, Vec<Finding>) {
    let mut capture = Capture::default();
    let mut findings = Vec::new();
    match CaptureReader::new(name, read) {
        Ok(mut reader) => {
            while let Some(item) = reader.next() {
                match item {
                    Ok(record) => capture.records.push(record.into()),
                    Err(finding) => findings.push(finding),
                }
            }
            capture.interfaces = reader.interfaces().to_vec();
        }
        Err(finding) => findings.push(finding),
    }
    (capture, findings)
}
