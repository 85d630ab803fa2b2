//! The three hashes of a key, read as state and record.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    limiter_redis::fuzzing::record(bytes);
});
