//! Any bytes through the capture reader and `link::to_ethernet`, and what was read back out through the writer.

use podpath::replay::pcap::{PcapngWriter, link, read_all};

/// No panic; what was read can be written, and reads back whole.
pub fn run(data: &[u8]) {
    let (capture, _) = read_all("fuzz", data);
    let mut writer = PcapngWriter::new(Vec::new(), "fuzz").expect("a Vec takes all");
    for interface in &capture.interfaces {
        writer.add_interface(interface).expect("a Vec takes all");
    }
    for record in &capture.records {
        let link = capture.interfaces[record.interface as usize].link;
        let _ = link::to_ethernet(link, &record.data, record.orig_len);
        writer
            .write(&record.as_record())
            .expect("what was read can be written");
    }
    let (again, findings) = read_all("fuzz", &writer.finish().expect("a Vec takes all")[..]);
    assert!(findings.is_empty() && again.records.len() == capture.records.len());
}
