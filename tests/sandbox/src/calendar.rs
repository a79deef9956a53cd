//! Dates as the vendors write them.

/// Seconds by which Indian time is ahead of UTC.
pub(crate) const INDIA: i64 = 19_800;

/// 31 December 9999: a clock moved further stands still there.
const END: i64 = 253_402_300_799;

/// `YYYY-MM-DD` and `HH:MM:SS` of a Unix time, `ahead` seconds east of Greenwich.
pub(crate) fn date_and_time(seconds: i64, ahead: i64) -> (String, String) {
    let seconds = seconds.saturating_add(ahead).clamp(0, END);
    let mut days = seconds.div_euclid(86_400);
    let of_day = seconds.rem_euclid(86_400);
    let mut year = 1970_i64;
    while days >= days_in_year(year) {
        days = days.saturating_sub(days_in_year(year));
        year = year.saturating_add(1);
    }
    let mut month = 1_i64;
    while days >= days_in_month(year, month) {
        days = days.saturating_sub(days_in_month(year, month));
        month = month.saturating_add(1);
    }
    let day = days.saturating_add(1);
    (
        format!("{year:04}-{month:02}-{day:02}"),
        format!(
            "{:02}:{:02}:{:02}",
            of_day.div_euclid(3600),
            of_day.rem_euclid(3600).div_euclid(60),
            of_day.rem_euclid(60)
        ),
    )
}

fn is_leap(year: i64) -> bool {
    year.rem_euclid(4) == 0 && (year.rem_euclid(100) != 0 || year.rem_euclid(400) == 0)
}

fn days_in_year(year: i64) -> i64 {
    if is_leap(year) { 366 } else { 365 }
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_moments_are_written_rightly() {
        let written = |seconds, ahead| {
            let (date, time) = date_and_time(seconds, ahead);
            format!("{date} {time}")
        };
        assert_eq!(written(0, 0), "1970-01-01 00:00:00");
        assert_eq!(written(951_782_400, 0), "2000-02-29 00:00:00");
        assert_eq!(written(1_714_047_651, 0), "2024-04-25 12:20:51");
        assert_eq!(written(1_735_669_799, INDIA), "2024-12-31 23:59:59");
        assert_eq!(written(1_735_669_800, INDIA), "2025-01-01 00:00:00");
        assert_eq!(written(i64::MAX, 0), "9999-12-31 23:59:59");
    }
}
