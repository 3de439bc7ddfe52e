//! See `src/record.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| millrace_fuzz::record::run(bytes));
