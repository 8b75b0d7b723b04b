#![no_main]
//! See [`cartwright_fuzz::manifest`].

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    cartwright_fuzz::manifest(bytes);
});
