//! Tests of the whole: one binary, so that everything is linked once. Each module says what it is about; `support` starts the real parts.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::string_slice,
    clippy::indexing_slicing,
    reason = "a test may panic and say what it measured; clippy's own exception covers only the test functions themselves"
)]

mod architecture;
mod bad_input;
mod chart;
mod collect;
mod control_plane;
mod doctor;
mod dovecot;
mod faults;
mod french;
mod hangs;
mod installed;
mod kills;
mod mended;
mod operator;
mod pages;
mod pop3;
mod pop3_operator;
mod power_loss;
mod push;
mod quiet;
mod scene;
mod schema;
mod secrets;
mod settled;
mod support;
mod volatile_disk;
mod watched;
mod wire_faults;
