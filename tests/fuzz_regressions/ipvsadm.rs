//! Any text as ipvsadm commands and as a listing.

use podpath::base::Instant;
use podpath::ipvs::{Ipvs, text};

/// No panic; what is saved is read back as the same services, and what a dump loads is listed so that it
/// loads the same again.
pub fn run(data: &[u8]) {
    let input = String::from_utf8_lossy(data);
    dump(&input);
    for listing in [false, true] {
        let (commands, _) = match listing {
            false => text::parse(&input, "fuzz"),
            true => text::parse_listing(&input, "fuzz"),
        };
        let mut vs = Ipvs::default();
        text::load(&mut vs, &commands, listing, Instant::ZERO);
        let saved = text::save(&vs);
        let (commands, findings) = text::parse(&saved, "again");
        // A listing can show what no command makes: port 0 without persistence, an address of another family.
        if listing && !findings.is_empty() {
            continue;
        }
        assert!(findings.is_empty(), "{findings:?} in\n{saved}");
        let mut again = Ipvs::default();
        let refused = text::load(&mut again, &commands, false, Instant::ZERO);
        assert!(refused.is_empty(), "{refused:?} in\n{saved}");
        assert_eq!(text::save(&again), saved);
        for words in [
            "-Ln",
            "-Lnc",
            "-Ln --stats --exact",
            "-Ln --rate",
            "-Ln --thresholds",
        ] {
            let words: Vec<&str> = words.split(' ').collect();
            if let Ok(c) = text::command(&words) {
                let _ = text::run(&mut again, &c, Instant::from_secs(3));
            }
        }
    }
}

const LISTINGS: [&str; 6] = [
    "-Lnc",
    "-Ln",
    "-Ln --stats --exact",
    "-Ln --rate --exact",
    "-Ln --thresholds",
    "-Ln --timeout",
];

fn dump(input: &str) {
    let (dump, _) = text::parse_dump(input, "fuzz");
    let mut vs = Ipvs::default();
    text::load_dump(&mut vs, &dump, true, Instant::ZERO);
    let listed = listings(&mut vs);
    let (dump, findings) = text::parse_dump(&(text::save(&vs) + &listed), "again");
    let wrong: Vec<_> = findings.iter().filter(|f| f.is_error()).collect();
    // A listing can show what no command makes: port 0 without persistence, an address of another family.
    if !wrong.is_empty() {
        return;
    }
    let mut again = Ipvs::default();
    text::load_dump(&mut again, &dump, true, Instant::ZERO);
    assert_eq!(text::save(&again), text::save(&vs));
    assert_eq!(listings(&mut again), listed);
}

fn listings(vs: &mut Ipvs) -> String {
    let mut out = String::new();
    for words in LISTINGS {
        // Where connections are known by number only, an empty table would say that there are none.
        if words == "-Lnc" && vs.conns().is_empty() {
            continue;
        }
        let words: Vec<&str> = words.split(' ').collect();
        if let Ok(c) = text::command(&words) {
            out += &text::run(vs, &c, Instant::ZERO).unwrap_or_default();
        }
    }
    out
}
