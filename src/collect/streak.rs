//! Whether what a sink refuses is about the messages or about the sink: five refusals in a row, or ten among the last fifty answers, are about
//! the sink, and then no further message is blamed. Pure: no I/O, no clock.

use std::collections::VecDeque;

/// So many refusals in a row …
pub(super) const IN_A_ROW: u32 = 5;
/// … or more than this share of …
const REFUSED: usize = 10;
/// … this many answers are about the sink.
const ANSWERS: usize = 50;

/// A sink's last answers; kept from drain to drain.
#[derive(Debug, Default)]
pub(super) struct Streak {
    in_a_row: u32,
    /// `true`: refused.
    answers: VecDeque<bool>,
}

/// Whom a refusal is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum About {
    /// The message: one try of it is counted.
    Message,
    /// The message, and now the sink as well: nothing more should be offered for a while.
    Both,
    /// The sink.
    Sink,
}

impl Streak {
    /// What was remembered of refusals before this process: a sink that refuses everything must not have five new messages at each restart.
    pub(super) fn remember(&mut self, refusals: usize) {
        if self.answers.is_empty() {
            self.in_a_row = self.in_a_row.max(u32::try_from(refusals).unwrap_or(u32::MAX));
        }
    }

    pub(super) fn accepted(&mut self) {
        self.in_a_row = 0;
        self.note(false);
    }

    /// `suspect`: this very message was refused before. Its try counts whatever the sink does with others, and says nothing new of the sink.
    pub(super) fn refused(&mut self, suspect: bool) -> About {
        if suspect {
            return About::Message;
        }
        let before = self.is_about_the_sink();
        self.in_a_row = self.in_a_row.saturating_add(1);
        self.note(true);
        match (before, self.is_about_the_sink()) {
            (true, _) => About::Sink,
            (false, true) => About::Both,
            (false, false) => About::Message,
        }
    }

    fn note(&mut self, refused: bool) {
        if self.answers.len() >= ANSWERS {
            self.answers.pop_front();
        }
        self.answers.push_back(refused);
    }

    /// Whether the refusals of late are the sink's fault.
    pub(super) fn is_about_the_sink(&self) -> bool {
        let refused = self.answers.iter().filter(|refused| **refused).count();
        self.in_a_row >= IN_A_ROW || self.answers.len() >= ANSWERS && refused >= REFUSED
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `a`ccepted, `r`efused, `s`uspect refused; the answers are `m`essage, `b`oth, sin`k`, `.` for accepted.
    fn play(answers: &str) -> String {
        let mut streak = Streak::default();
        let play = |answer| match answer {
            'a' => {
                streak.accepted();
                '.'
            }
            refused => match streak.refused(refused == 's') {
                About::Message => 'm',
                About::Both => 'b',
                About::Sink => 'k',
            },
        };
        answers.chars().map(play).collect()
    }

    #[test]
    fn the_fifth_refusal_in_a_row_is_about_the_sink_and_one_acceptance_ends_the_row() {
        for (answers, expected) in [
            ("rrrrrrr", "mmmmbkk"),
            ("rrrrarrrr", "mmmm.mmmm"),
            // Those that were refused before go on being counted, so that they end in quarantine; no others do.
            ("rrrrrsrs", "mmmmbmkm"),
            ("ssssssr", "mmmmmmm"),
            ("rrrrrar", "mmmmb.m"),
        ] {
            assert_eq!(play(answers), expected, "{answers}");
        }
    }

    #[test]
    fn a_fifth_of_fifty_answers_is_about_the_sink() {
        let answers = "aaaar".repeat(11);
        assert_eq!(play(&answers), "....m".repeat(9) + "....b" + "....k");
        assert_eq!(play(&"aaaaaar".repeat(20)), "......m".repeat(20));
    }

    #[test]
    fn what_was_refused_before_a_restart_is_remembered_until_something_is_accepted() {
        let mut streak = Streak::default();
        streak.remember(5);
        assert_eq!(streak.refused(false), About::Sink);
        assert_eq!(streak.refused(true), About::Message);
        streak.accepted();
        streak.remember(5);
        assert_eq!(streak.refused(false), About::Message);
    }
}
