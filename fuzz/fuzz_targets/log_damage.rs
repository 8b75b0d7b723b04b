#![no_main]
//! See [`cartwright_fuzz::log_damage`].

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    cartwright_fuzz::log_damage(bytes);
});
