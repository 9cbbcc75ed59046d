//! Keeps out what the order does not select, before any body is fetched: by the day with the server's search, by the second with INTERNALDATE,
//! by address and subject with header fields. It decides nothing: it says which are not taken.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::select::Selection;
use crate::cursor::UidSet;
use crate::source::{self, Day, Fields, Source};

/// Messages asked about with one command; their headers are held in memory.
pub(super) const AT_ONCE: u64 = 200;
/// A server's days begin at most so much later than UTC's …
const WEST: SignedDuration = SignedDuration::from_hours(12);
/// … or earlier.
const EAST: SignedDuration = SignedDuration::from_hours(14);

/// Those of `found` that were received before `since`. One without a date is not among them.
pub(super) async fn too_old<S: Source>(session: &mut S, found: &UidSet, since: Timestamp) -> Result<UidSet, source::Error> {
    let (Some(low), Some(high)) = (found.first(), found.last()) else { return Ok(UidSet::new()) };
    let (mut old, mut doubtful) = (UidSet::new(), found.clone());
    if found.len() > AT_ONCE
        && let Some((before, after)) = days(since)
    {
        old = session.list_day(low, high, Day::Before(before)).await?.intersection(found);
        let young = session.list_day(low, high, Day::Since(after)).await?;
        doubtful = found.difference(&old).difference(&young);
    }
    while !doubtful.is_empty() {
        let some = doubtful.take_highest(AT_ONCE);
        doubtful = doubtful.difference(&some);
        let headings = session.headings(&some, Fields::Date).await?;
        for heading in headings {
            if heading.internal_date.is_some_and(|date| date < since) {
                old.insert(heading.uid);
            }
        }
    }
    Ok(old)
}

/// Those of `unknown` that their header does not select.
pub(super) async fn not_selected<S: Source>(session: &mut S, unknown: &UidSet, selection: &Selection) -> Result<UidSet, source::Error> {
    let mut others = UidSet::new();
    for heading in session.headings(unknown, Fields::Addressing).await? {
        if heading.header.is_some_and(|header| !selection.takes(&header)) {
            others.insert(heading.uid);
        }
    }
    Ok(others)
}

/// What was received before the first day was received before `since` in any zone, what was received since the second, after it.
fn days(since: Timestamp) -> Option<(jiff::civil::Date, jiff::civil::Date)> {
    let day = |time: Timestamp| TimeZone::UTC.to_datetime(time).date();
    let before = day(since.checked_sub(WEST).ok()?);
    let after = day(since.checked_add(EAST).ok()?).tomorrow().ok()?;
    Some((before, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_days_are_on_the_right_side_of_the_time_in_every_zone() {
        for since in
            ["2026-11-25T00:00:00Z", "2026-11-25T11:59:59Z", "2026-11-25T12:00:00Z", "2026-11-25T23:59:59Z", "2026-03-01T09:59:59Z"]
        {
            let since: Timestamp = since.parse().unwrap();
            let (before, after) = days(since).unwrap();
            for hours in -12..=14 {
                let zone = TimeZone::fixed(jiff::tz::offset(hours));
                let midnight = |day: jiff::civil::Date| zone.to_timestamp(day.to_datetime(jiff::civil::Time::midnight())).unwrap();
                assert!(midnight(before) <= since && since <= midnight(after), "{since} {hours}");
            }
            assert!(before.until(after).unwrap().get_days() <= 3, "few are left to ask for");
        }
    }
}
