//! Times as a cron line of five fields says them, in a time zone. Pure: no I/O, no clock; time zones are those that the program was built with.
//!
//! The line is about the clock on the wall. A time that the zone skips (summer time begins) comes as much later as was skipped; one that comes
//! twice (summer time ends) counts the first time.

use croner::Cron;
use croner::parser::{CronParser, Seconds};
use jiff::Timestamp;
use jiff::tz::{TimeZone, TimeZoneDatabase};

/// Longest line looked at, in bytes.
const LONGEST: usize = 128;
/// Times of the wall clock looked at for one: an hour that comes twice has sixty.
const CANDIDATES: usize = 2_000;

/// What is wrong with a cron line or its zone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CalendarProblem {
    /// Not five fields of the grammar.
    #[error("is not a cron line of five fields")]
    Grammar,
    /// As on 30 February.
    #[error("never comes")]
    Never,
    /// Not in the IANA database.
    #[error("is not a time zone of the IANA database")]
    Zone,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Calendar {
    line: String,
    cron: Cron,
    zone: TimeZone,
}

impl PartialEq for Calendar {
    fn eq(&self, other: &Self) -> bool {
        self.line == other.line && self.zone == other.zone
    }
}

impl Calendar {
    /// Minute, hour, day of the month, month, day of the week; `zone` is an IANA name, UTC where there is none. Where both days are restricted,
    /// either suffices, as in every cron.
    pub fn parse(line: &str, zone: Option<&str>) -> Result<Self, CalendarProblem> {
        if line.len() > LONGEST || line.split_ascii_whitespace().count() != 5 {
            return Err(CalendarProblem::Grammar);
        }
        let cron = CronParser::builder().seconds(Seconds::Disallowed).build().parse(line).map_err(|_| CalendarProblem::Grammar)?;
        let zone = match zone {
            None => TimeZone::UTC,
            Some(name) => TimeZoneDatabase::bundled().get(name).map_err(|_| CalendarProblem::Zone)?,
        };
        let calendar = Self { line: line.to_owned(), cron, zone };
        calendar.next(Timestamp::UNIX_EPOCH).ok_or(CalendarProblem::Never)?;
        Ok(calendar)
    }

    /// The first time after `now`.
    pub fn next(&self, now: Timestamp) -> Option<Timestamp> {
        // Whole seconds: what is looked for is later than that.
        let mut wall = self.zone.to_datetime(Timestamp::from_second(now.as_second()).ok()?);
        for _ in 0..CANDIDATES {
            let found = self.cron.find_next_occurrence(&wall.to_zoned(TimeZone::UTC).ok()?, false).ok()?;
            wall = found.datetime();
            let at = self.zone.to_ambiguous_timestamp(wall).compatible().ok()?;
            if at > now {
                return Some(at);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The next `count` times after `now`.
    fn times(line: &str, zone: Option<&str>, now: &str, count: usize) -> Vec<String> {
        let calendar = Calendar::parse(line, zone).unwrap();
        let mut now: Timestamp = now.parse().unwrap();
        (0..count)
            .map(|_| {
                now = calendar.next(now).unwrap();
                now.to_string()
            })
            .collect()
    }

    #[test]
    fn times_are_those_of_the_clock_on_the_wall() {
        assert_eq!(times("0 6 * * *", None, "2026-11-25T05:59:59.9Z", 2), ["2026-11-25T06:00:00Z", "2026-11-26T06:00:00Z"]);
        assert_eq!(times("0 6 * * *", None, "2026-11-25T06:00:00Z", 1), ["2026-11-26T06:00:00Z"], "strictly later");
        assert_eq!(times("0 6 * * *", None, "2026-11-25T06:00:00.5Z", 1), ["2026-11-26T06:00:00Z"]);
        let paris = Some("Europe/Paris");
        assert_eq!(times("30 8 * * MON-FRI", paris, "2026-11-27T08:00:00Z", 1), ["2026-11-30T07:30:00Z"]);
        assert_eq!(times("*/20 9-10 * 7 *", paris, "2026-07-01T08:30:00Z", 2), ["2026-07-01T08:40:00Z", "2026-07-02T07:00:00Z"]);
        assert_eq!(times("0 0 29 2 *", None, "2026-01-01T00:00:00Z", 1), ["2028-02-29T00:00:00Z"]);
    }

    #[test]
    fn a_time_that_does_not_exist_comes_once_after_the_gap() {
        // 29 March 2026: 02:00 is 03:00 in Paris.
        let paris = Some("Europe/Paris");
        assert_eq!(
            times("30 2 * * *", paris, "2026-03-28T00:00:00Z", 3),
            ["2026-03-28T01:30:00Z", "2026-03-29T01:30:00Z", "2026-03-30T00:30:00Z"]
        );
        assert_eq!(
            times("0 * * * *", paris, "2026-03-29T00:00:00Z", 3),
            ["2026-03-29T01:00:00Z", "2026-03-29T02:00:00Z", "2026-03-29T03:00:00Z"],
            "02:00, which is 03:00, and then 04:00"
        );
    }

    #[test]
    fn a_time_that_exists_twice_comes_once() {
        // 25 October 2026: 03:00 is 02:00 again in Paris.
        let paris = Some("Europe/Paris");
        assert_eq!(times("30 2 * * *", paris, "2026-10-24T12:00:00Z", 2), ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]);
        assert_eq!(times("* * * * *", paris, "2026-10-25T01:00:00Z", 1), ["2026-10-25T02:00:00Z"], "the hour had its turn");
        // Half an hour, on Lord Howe Island.
        assert_eq!(times("45 1 * * *", Some("Australia/Lord_Howe"), "2026-04-04T13:00:00Z", 1), ["2026-04-04T14:45:00Z"]);
    }

    #[test]
    fn what_is_no_cron_line_is_told() {
        for (line, zone, problem) in [
            ("", None, CalendarProblem::Grammar),
            ("@daily", None, CalendarProblem::Grammar),
            ("0 6 * *", None, CalendarProblem::Grammar),
            ("0 0 6 * * *", None, CalendarProblem::Grammar),
            ("61 * * * *", None, CalendarProblem::Grammar),
            ("0 6 * * nobody", None, CalendarProblem::Grammar),
            ("0 0 30 2 *", None, CalendarProblem::Never),
            ("0 6 * * *", Some("Paris"), CalendarProblem::Zone),
            ("0 6 * * *", Some("../etc/passwd"), CalendarProblem::Zone),
        ] {
            assert_eq!(Calendar::parse(line, zone), Err(problem), "{line} {zone:?}");
        }
    }
}
