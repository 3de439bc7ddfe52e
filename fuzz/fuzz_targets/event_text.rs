//! See `src/event_text.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| millrace_fuzz::event_text::run(bytes));
