//! Points in time: RFC 3339 with nanoseconds for programs, the local zone for people.

use std::sync::LazyLock;

use filesync_repo::Timestamp;
use jiff::tz::TimeZone;

/// `2026-11-22T16:51:00.000000000Z`. Years of more than four digits get a sign, as ISO 8601 has it.
pub fn rfc3339(time: Timestamp) -> String {
    let (days, seconds) = (time.secs().div_euclid(86_400), time.secs().rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let year = if (0..=9999).contains(&year) { format!("{year:04}") } else { format!("{year:+07}") };
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:09}Z", time.nanos())
}

/// Milliseconds since 1970, as [`rfc3339`].
pub fn of_millis(millis: u64) -> String {
    let secs = i64::try_from(millis / 1000).unwrap_or(i64::MAX);
    let nanos = u32::try_from(millis % 1000).unwrap_or(0) * 1_000_000;
    rfc3339(Timestamp::new(secs, nanos).unwrap_or_default())
}

/// As git's log: `Sun Nov 22 16:51:00 2026 +0100`.
pub fn for_log(time: Timestamp) -> String {
    local(time, "%a %b %-d %H:%M:%S %Y %z")
}

/// As `ls -l --time-style=long-iso`: `2026-11-22 16:51`.
pub fn for_listing(time: Timestamp) -> String {
    local(time, "%Y-%m-%d %H:%M")
}

/// The local zone. If no variable names one, what `/etc/localtime` says is enough: to give it its name, jiff would list
/// all zones that there are, which takes as long as looking up a commit.
static ZONE: LazyLock<TimeZone> = LazyLock::new(|| {
    let is_named = std::env::var_os("TZ").is_some();
    let bytes = if is_named { None } else { std::fs::read("/etc/localtime").ok() };
    let zone = bytes.and_then(|bytes| TimeZone::tzif("local", &bytes).ok());
    zone.unwrap_or_else(|| TimeZone::try_system().unwrap_or(TimeZone::UTC))
});

/// What a calendar of four-digit years has no place for stays in RFC 3339.
fn local(time: Timestamp, format: &str) -> String {
    match jiff::Timestamp::from_second(time.secs()) {
        Ok(instant) => instant.to_zoned(ZONE.clone()).strftime(format).to_string(),
        Err(_) => rfc3339(time),
    }
}

/// Days since 1970 to a date of the Gregorian calendar (Howard Hinnant's `civil_from_days`). An i64 of seconds
/// is some 10^14 days, far from overflow.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(secs: i64, nanos: u32) -> String {
        rfc3339(Timestamp::new(secs, nanos).unwrap())
    }

    #[test]
    fn for_programs() {
        assert_eq!(shown(0, 0), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(shown(-1, 999_999_999), "1969-12-31T23:59:59.999999999Z");
        assert_eq!(shown(951_782_400, 5), "2000-02-29T00:00:00.000000005Z");
        assert_eq!(shown(1_795_366_260, 123), "2026-11-22T16:51:00.000000123Z");
        assert_eq!(shown(4_107_542_400, 0), "2100-03-01T00:00:00.000000000Z");
        assert_eq!(shown(253_402_300_799, 0), "9999-12-31T23:59:59.000000000Z");
        assert_eq!(shown(253_402_300_800, 0), "+010000-01-01T00:00:00.000000000Z");
        assert_eq!(shown(-62_167_219_201, 0), "-000001-12-31T23:59:59.000000000Z");
    }

    #[test]
    fn the_local_zone_is_the_systems() {
        let system = TimeZone::try_system().unwrap_or(TimeZone::UTC);
        for secs in [0, 1_000_000_000, 1_795_366_260, 1_780_000_000, -3_000_000_000] {
            let instant = jiff::Timestamp::from_second(secs).unwrap();
            let expected = instant.to_zoned(system.clone()).strftime("%a %b %-d %H:%M:%S %Y %z").to_string();
            assert_eq!(for_log(Timestamp::new(secs, 0).unwrap()), expected);
        }
    }

    #[test]
    fn the_ends_of_time_are_no_trouble() {
        for secs in [i64::MIN, i64::MAX] {
            let time = Timestamp::new(secs, 999_999_999).unwrap();
            assert_eq!(for_log(time), rfc3339(time));
            assert_eq!(for_listing(time), rfc3339(time));
        }
    }

    #[test]
    fn dates_agree_with_jiff() {
        for day in (-700_000..2_900_000).step_by(97) {
            let jiff = jiff::Timestamp::from_second(day * 86_400).unwrap().strftime("%Y-%m-%d").to_string();
            let (year, month, day) = civil(day);
            assert_eq!(format!("{year:04}-{month:02}-{day:02}"), jiff);
        }
    }
}
