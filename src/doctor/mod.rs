//! The set-up doctor: goes through the steps of a set-up in order and says of each whether it was done ([`examine`]), and writes the guide for
//! somebody who begins ([`onboard`]). It looks only: the mailbox is opened read-only, no cursor is read or written, a sink is asked no more than
//! whether it would take mail. What a failure means is decided in `diagnosis`.

mod checklist;
mod evidence;
mod examine;
pub mod onboard;
mod script;

pub use checklist::{Checklist, Line, State, Verdict};
pub use evidence::Evidence;
pub use examine::{Refused, Sinks, examine, refused};
