//! What tshark makes of the files we write. Without tshark it says loudly that it did not look.

use std::process::Command;

use podpath::replay::pcap::{Direction, Interface, LinkType, PcapWriter, PcapngWriter, Record};

const FRAME: [u8; 60] = {
    let mut f = [0; 60];
    (f[5], f[11], f[12], f[13]) = (2, 1, 0x88, 0xb5);
    f
};

/// The fields tshark prints for `file`, or None without tshark.
fn tshark(name: &str, file: &[u8], fields: &[&str]) -> Option<String> {
    let path = std::env::temp_dir().join(format!("podpath-{}-{name}", std::process::id()));
    std::fs::write(&path, file).unwrap();
    let mut command = Command::new("tshark");
    command.args(["-n", "-T", "fields", "-r"]).arg(&path);
    for field in fields {
        command.args(["-e", field]);
    }
    let output = command.output();
    std::fs::remove_file(&path).unwrap();
    match output {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(
                output.status.success() && !said.contains("cut short") && !said.contains("damaged"),
                "{said}"
            );
            Some(String::from_utf8(output.stdout).unwrap())
        }
        Err(_) => {
            eprintln!("\n*** SKIPPED: tshark not installed: {name} was not looked at ***\n");
            None
        }
    }
}

#[test]
fn tshark_shows_comments_names_directions_and_times() {
    let mut writer = PcapngWriter::new(Vec::new(), "podpath test").unwrap();
    let eth0 = writer
        .add_interface(&Interface::new("n1/eth0", LinkType::Ethernet))
        .unwrap();
    let tunl0 = writer
        .add_interface(&Interface::new("n1/tunl0", LinkType::Raw))
        .unwrap();
    let mut first = Record::new(eth0, 1_700_000_000_123_456_789, &FRAME);
    first.comment = Some("dropped: no route — PP0401".into());
    first.direction = Some(Direction::In);
    writer.write(&first).unwrap();
    let mut second = Record::new(tunl0, 1_700_000_001_000_000_001, &[0x45, 0, 0, 20]);
    second.direction = Some(Direction::Out);
    second.orig_len = 1_400;
    writer.write(&second).unwrap();
    let fields = [
        "frame.comment",
        "frame.interface_name",
        "frame.packet_flags_direction",
        "frame.time_epoch",
        "frame.cap_len",
        "frame.len",
    ];
    let Some(shown) = tshark("comments.pcapng", &writer.finish().unwrap(), &fields) else {
        return;
    };
    let lines: Vec<Vec<&str>> = shown
        .lines()
        .map(|line| line.split('\t').collect())
        .collect();
    // tshark 4.0 prints the flags' bits in hexadecimal, others in decimal.
    let number = |s: &str| u32::from_str_radix(s.trim_start_matches("0x"), 16).unwrap();
    assert_eq!(lines[0][..2], ["dropped: no route — PP0401", "n1/eth0"]);
    assert_eq!(
        (number(lines[0][2]), lines[0][3]),
        (1, "1700000000.123456789")
    );
    assert_eq!(lines[1][..2], ["", "n1/tunl0"]);
    assert_eq!(
        (number(lines[1][2]), &lines[1][3..]),
        (2, &["1700000001.000000001", "4", "1400"][..])
    );
}

#[test]
fn tshark_reads_our_plain_pcap() {
    let mut writer = PcapWriter::new(Vec::new(), LinkType::Ethernet).unwrap();
    let mut record = Record::new(0, 1_700_000_000_123_456_789, &FRAME);
    record.orig_len = 1_514;
    writer.write(&record).unwrap();
    let fields = ["frame.time_epoch", "frame.cap_len", "frame.len", "eth.src"];
    let Some(shown) = tshark("plain.pcap", &writer.finish().unwrap(), &fields) else {
        return;
    };
    assert_eq!(
        shown.trim_end(),
        "1700000000.123456789\t60\t1514\t00:00:00:00:00:01"
    );
}
