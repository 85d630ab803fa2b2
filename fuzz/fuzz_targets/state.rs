//! Bytes that parse into a state can be decided on.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    limiter_redis::fuzzing::state(bytes);
});
