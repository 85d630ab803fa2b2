//! The history of a key, of days that have ended, as a server might answer it.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    limiter_redis::fuzzing::days(bytes);
});
