//! Unix seconds as the texts that mail and Entra use, always in UTC. Pure: no I/O, no clock.

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];

struct Civil {
    year: i64,
    month: i64,
    day: i64,
    seconds: i64,
    weekday: &'static str,
}

/// `17-Jul-2026 02:44:25 +0000` (RFC 9051, `date-time`; a one-digit day is padded with a space).
pub(crate) fn internal_date(unix: i64) -> String {
    let date = civil(unix);
    format!("{:>2}-{}-{} {} +0000", date.day, month(date.month), date.year, clock(date.seconds))
}

/// `Fri, 17 Jul 2026 02:44:25 +0000` (RFC 5322).
pub(crate) fn header_date(unix: i64) -> String {
    let date = civil(unix);
    format!("{}, {} {} {} {} +0000", date.weekday, date.day, month(date.month), date.year, clock(date.seconds))
}

/// `2026-07-17 02:44:25Z`, as in Entra's error bodies.
pub(crate) fn entra_date(unix: i64) -> String {
    let date = civil(unix);
    format!("{}-{:02}-{:02} {}Z", date.year, date.month, date.day, clock(date.seconds))
}

/// The day number since 1970 of an IMAP `date` (`1-Feb-2026`), for SEARCH.
pub(crate) fn day_of_search_date(text: &str) -> Option<i64> {
    let mut parts = text.split('-');
    let (day, name, year) = (parts.next()?.trim().parse::<i64>().ok()?, parts.next()?, parts.next()?.parse::<i64>().ok()?);
    let month = MONTHS.iter().position(|known| known.eq_ignore_ascii_case(name))? as i64 + 1;
    if parts.next().is_some() || !(1..=31).contains(&day) || !(1970..=9999).contains(&year) {
        return None;
    }
    Some(days_from_civil(year, month, day))
}

fn month(number: i64) -> &'static str {
    usize::try_from(number - 1).ok().and_then(|index| MONTHS.get(index)).copied().unwrap_or("Jan")
}

fn clock(seconds: i64) -> String {
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// Days to year, month, day in the proleptic Gregorian calendar, by eras of 400 years that begin in March.
fn civil(unix: i64) -> Civil {
    let days = unix.div_euclid(86_400);
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let weekday = usize::try_from(days.rem_euclid(7)).ok().and_then(|index| WEEKDAYS.get(index)).copied().unwrap_or("Thu");
    Civil {
        year: year_of_era + era * 400 + i64::from(month <= 2),
        month,
        day: day_of_year - (153 * march_month + 2) / 5 + 1,
        seconds: unix.rem_euclid(86_400),
        weekday,
    }
}

fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let march_month = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * march_month + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_written_as_mail_and_entra_write_them() {
        assert_eq!(internal_date(1_784_256_265), "17-Jul-2026 02:44:25 +0000");
        assert_eq!(internal_date(0), " 1-Jan-1970 00:00:00 +0000");
        assert_eq!(header_date(1_709_164_800), "Thu, 29 Feb 2024 00:00:00 +0000");
        assert_eq!(entra_date(1_767_348_672), "2026-01-02 10:11:12Z");
    }

    #[test]
    fn a_search_date_is_the_day_it_names() {
        assert_eq!(day_of_search_date("1-Jan-1970"), Some(0));
        assert_eq!(day_of_search_date("29-feb-2024"), Some(1_709_164_800 / 86_400));
        assert_eq!(day_of_search_date("yesterday"), None);
    }
}
