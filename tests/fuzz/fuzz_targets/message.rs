//! libFuzzer's entry to `mailbox_collector_fuzz::message`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| mailbox_collector_fuzz::message(data));
