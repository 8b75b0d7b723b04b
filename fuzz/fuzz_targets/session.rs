#![no_main]
//! See [`cartwright_fuzz::session`].

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    cartwright_fuzz::session(bytes);
});
