//! `chatbill_fuzz::webhooks::signed` of the sender in `CHATBILL_FUZZ_SENDER`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| chatbill_fuzz::webhooks::signed(
    chatbill_fuzz::senders::selected(),
    data
));
