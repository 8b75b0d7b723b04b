#![no_main]
//! See [`cartwright_fuzz::resp_replies`].

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    cartwright_fuzz::resp_replies(bytes);
});
