//! Fuzz target `dns`: its body is shared with tests/fuzz_regressions.rs.
#![no_main]

#[path = "../../tests/fuzz_regressions/dns.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::run(data));
