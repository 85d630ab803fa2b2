//! A provider's answer, cut into pieces.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = limiter::__private::fuzzing::answer(bytes);
});
