//! The reply of a script, explained as decisions.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    limiter_redis::fuzzing::reply(bytes);
});
