#![no_main]
//! See [`cartwright_fuzz::native_frames`].

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    cartwright_fuzz::native_frames(bytes);
});
