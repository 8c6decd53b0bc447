//! Any text as an ipset restore file, and lookups in what it made.

use podpath::base::Instant;
use podpath::nf::ipset::{L4, Packet, SetRef, Sets, TestFlags};

/// No panic; what is printed is read back, without errors, as what is printed again; lookups answer.
pub fn run(data: &[u8]) {
    let now = Instant::from_secs(10);
    let text = String::from_utf8_lossy(data);
    let (mut sets, _) = Sets::parse("fuzz", &text, now);
    let save = sets.save(now);
    let (again, findings) = Sets::parse("again", &save, now);
    // Ranges in a set with a mask leave what cannot be restored, in the kernel too.
    if !save.contains(" netmask ") && !save.contains(" bitmask ") {
        let errors: Vec<_> = findings.iter().filter(|f| f.is_error()).collect();
        assert!(errors.is_empty(), "{errors:?} in\n{save}");
        assert_eq!(again.save(now), save);
    }
    sets.list(false, now);
    let names: Vec<String> = sets.iter().map(|(name, _)| name.to_owned()).collect();
    for name in names {
        for (src, dst) in [("10.0.0.1", "10.0.0.2"), ("fe80::1", "2001:db8::1")] {
            let (Ok(src), Ok(dst)) = (src.parse(), dst.parse()) else {
                continue;
            };
            let l4 = L4 {
                proto: 6,
                src: 1,
                dst: 80,
            };
            let packet = Packet {
                l4: Some(l4),
                in_dev: "eth0",
                ..Packet::new(src, dst)
            };
            let set = SetRef {
                name: name.clone(),
                src: vec![true, true, false],
            };
            let _ = sets.test(&set, &packet, &TestFlags::default(), now);
            let _ = sets.add(&set, &packet, Some(3), true, now);
            let _ = sets.del(&set, &packet, now);
        }
    }
}
