//! libFuzzer's entry to `mailbox_collector_fuzz::session`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| mailbox_collector_fuzz::session(data));
