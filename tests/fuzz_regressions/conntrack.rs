//! Any text as a listing, as events and as statistics of `conntrack`.

use podpath::base::Instant;
use podpath::nf::ct::Conntrack;
use podpath::nf::ct::text::{Style, list, parse, parse_events, parse_stats};

/// No panic; what was read prints as text that is read as the same, and lives in a table.
pub fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (dump, _) = parse("fuzz", &text);
    let printed = dump.to_text();
    let (again, findings) = parse("again", &printed);
    assert!(findings.is_empty(), "{findings:?} in\n{printed}");
    assert_eq!(again.to_text(), printed);
    let now = Instant::from_secs(1);
    let mut ct = Conntrack::default();
    for (_, entry) in &dump.entries {
        ct.insert(entry.to_conn(now), now);
    }
    for style in [Style::Plain, Style::Extended, Style::Proc] {
        for entry in list(&ct, now, style) {
            let line = entry.to_string();
            let (read, findings) = parse("table", &line);
            assert!(findings.is_empty(), "{findings:?} in\n{line}");
            assert_eq!(read.to_text().trim_end(), line);
        }
    }
    let (events, _) = parse_events("fuzz", &text);
    for (_, event) in &events {
        let line = event.to_string();
        let (read, findings) = parse_events("again", &line);
        assert!(findings.is_empty(), "{findings:?} in\n{line}");
        assert_eq!(read[0].1.to_string(), line);
    }
    let _ = parse_stats("fuzz", &text);
}
