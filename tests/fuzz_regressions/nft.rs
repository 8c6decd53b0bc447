//! Any text as an nftables listing, as a script on what it made, and as JSON.

use podpath::nf::nft::{Ruleset, Script};

/// No panic; what is printed is printed again the same after it was read.
pub fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (mut set, findings) = Ruleset::parse("fuzz", &text);
    let listing = set.to_text();
    let (again, _) = Ruleset::parse("again", &listing);
    if findings.is_empty() {
        assert_eq!(again.to_text(), listing);
    }
    let (script, _) = Script::parse("script", &text, &set);
    let _ = set.apply(&script);
    let json = set.to_json().to_string();
    let _ = Ruleset::parse_json("json", &json).0.to_text();
    let _ = Ruleset::parse_json("json", &text).0.to_text();
}
