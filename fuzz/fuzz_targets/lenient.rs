//! `chatbill_fuzz::readers::lenient`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| chatbill_fuzz::readers::lenient(data));
