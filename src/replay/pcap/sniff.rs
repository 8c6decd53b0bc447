//! What a file is, by its first four bytes; and for what it is not, a message that names them.

use super::order::Order;

/// A capture format we read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Format {
    /// pcap, with nanosecond fractions or microsecond ones.
    Classic { order: Order, nanos: bool },
    /// pcapng.
    Ng,
}

/// Why a file is no capture: (message, help).
pub(super) type Refusal = (String, String);

/// The format that `start` (all of the file, if it has fewer than four bytes) begins.
pub(super) fn sniff(start: &[u8]) -> Result<Format, Refusal> {
    if start.is_empty() {
        let help = "a capture without packets still has a header: was the capturing program killed at once?";
        return Err((
            "the file is empty, a pcap or pcapng header was expected".to_owned(),
            help.to_owned(),
        ));
    }
    let classic = |order, nanos| Ok(Format::Classic { order, nanos });
    match start {
        [0x0a, 0x0d, 0x0d, 0x0a, ..] => Ok(Format::Ng),
        [0xa1, 0xb2, 0xc3, 0xd4, ..] => classic(Order::Big, false),
        [0xd4, 0xc3, 0xb2, 0xa1, ..] => classic(Order::Little, false),
        [0xa1, 0xb2, 0x3c, 0x4d, ..] => classic(Order::Big, true),
        [0x4d, 0x3c, 0xb2, 0xa1, ..] => classic(Order::Little, true),
        [0xa1, 0xb2, 0xcd, 0x34, ..] | [0x34, 0xcd, 0xb2, 0xa1, ..] => Err((
            "byte 0: a pcap of the \"modified\" kind (magic a1b2cd34), its packet headers have no standard"
                .to_owned(),
            "convert it: editcap -F pcap IN OUT".to_owned(),
        )),
        [0x1f, 0x8b, ..] => Err(compressed("gzip", "gunzip")),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Err(compressed("zstd", "unzstd")),
        [0x04, 0x22, 0x4d, 0x18, ..] => Err(compressed("lz4", "unlz4")),
        [0xfd, b'7', b'z', b'X', ..] => Err(compressed("xz", "unxz")),
        [b'B', b'Z', b'h', ..] => Err(compressed("bzip2", "bunzip2")),
        _ => Err(unknown(start)),
    }
}

fn compressed(how: &str, tool: &str) -> Refusal {
    (
        format!("the file is compressed: {tool} first"),
        format!("it starts with the magic of {how}"),
    )
}

fn unknown(start: &[u8]) -> Refusal {
    if start.len() < 4 {
        let message = format!(
            "the file ends after {} bytes, a pcap or pcapng header was expected",
            start.len()
        );
        return (message, "the capture was not copied whole".to_owned());
    }
    let magic = start.get(..4).unwrap_or(start);
    let hex: Vec<String> = magic.iter().map(|b| format!("{b:02x}")).collect();
    let printable = magic.iter().all(|b| b.is_ascii_graphic() || *b == b' ');
    let text = if printable {
        format!(" ({:?})", String::from_utf8_lossy(magic))
    } else {
        String::new()
    };
    let message = format!(
        "byte 0: not a capture: it starts with {}{text}; pcap starts with a1b2c3d4 or a1b23c4d \
         (in either byte order), pcapng with 0a0d0d0a",
        hex.join(" "),
    );
    (
        message,
        "give a file written by tcpdump, tshark or dumpcap".to_owned(),
    )
}
