//! `chatbill_fuzz::readers::upi`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| chatbill_fuzz::readers::upi(data));
