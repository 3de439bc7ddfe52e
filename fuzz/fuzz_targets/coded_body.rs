//! See `src/coded_body.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| millrace_fuzz::coded_body::run(bytes));
