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
mod credentials;
mod doctor;
mod dovecot;
mod faults;
mod folders;
mod french;
mod hangs;
mod installed;
mod kill_phases;
mod kills;
mod mended;
mod numbering;
mod operator;
mod pages;
mod pop3;
mod pop3_operator;
mod power_loss;
mod proxied;
mod push;
mod quiet;
mod registrations;
mod scene;
mod schema;
mod secrets;
mod selecting;
mod settled;
mod support;
mod verbs;
mod volatile_disk;
mod watched;
mod wire_faults;
