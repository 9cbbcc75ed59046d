//! libFuzzer's entry to `mailbox_collector_fuzz::message`.
#![no_main]
#![expect(unsafe_code, reason = "the entry that libFuzzer links to")]
libfuzzer_sys::fuzz_target!(|data: &[u8]| mailbox_collector_fuzz::message(data));
