//! Any text as an iptables-save or ip6tables-save dump.

use podpath::nf::{Family, RuleSet};

/// No panic, the text comes back, and the save form is read without loss.
pub fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    for family in [Family::V4, Family::V6] {
        let (set, _) = RuleSet::parse("fuzz", &text, family);
        assert_eq!(set.to_text(), text);
        let save = set.to_save(true);
        let (again, findings) = RuleSet::parse("again", &save, family);
        assert!(findings.is_empty(), "{findings:?} in\n{save}");
        assert_eq!(again.canonical(), set.canonical());
    }
}
