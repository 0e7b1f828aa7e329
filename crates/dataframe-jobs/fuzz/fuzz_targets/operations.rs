//! Feeds the crate any bytes. It must not panic, and must read back what it writes.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../bodies.rs"]
#[expect(dead_code, reason = "the other target runs the other body")]
mod bodies;

fuzz_target!(|bytes: &[u8]| {
    bodies::operations(bytes);
});
