//! `chatbill_fuzz::webhooks::forged` of the sender in `CHATBILL_FUZZ_SENDER`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| chatbill_fuzz::webhooks::forged(
    chatbill_fuzz::senders::selected(),
    data
));
