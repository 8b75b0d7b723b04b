#![no_main]
//! See [`cartwright_fuzz::log_payload`].

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    cartwright_fuzz::log_payload(bytes);
});
