//! `chatbill_fuzz::webhooks::jose`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| chatbill_fuzz::webhooks::jose(data));
