#![no_main]
//! See [`cartwright_fuzz::checkpoint_part`].

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    cartwright_fuzz::checkpoint_part(bytes);
});
