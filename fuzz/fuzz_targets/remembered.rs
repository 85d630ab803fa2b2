//! A call that is remembered by its id, and operations of the core on it.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    limiter_redis::fuzzing::remembered(bytes);
});
