//! What a script answers about an id, judged by the core.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    limiter_redis::fuzzing::remembered(bytes);
});
