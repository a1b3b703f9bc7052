#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    raftkv_fuzz::frames(bytes);
});
