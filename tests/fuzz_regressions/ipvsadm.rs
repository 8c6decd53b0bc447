//! Any text as ipvsadm commands and as a listing.

use podpath::base::Instant;
use podpath::ipvs::{Ipvs, text};

/// No panic; what is saved is read back as the same services.
pub fn run(data: &[u8]) {
    let input = String::from_utf8_lossy(data);
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
