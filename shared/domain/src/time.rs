//! Time as the domain sees it: whole milliseconds since the Unix epoch, always given by a [`crate::ports::Clock`].

use serde::{Deserialize, Serialize};

/// Milliseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Millis(i64);

impl Millis {
    /// From milliseconds since the epoch.
    #[must_use]
    pub const fn new(milliseconds: i64) -> Self {
        Self(milliseconds)
    }

    /// From whole seconds since the epoch, as most vendors write time.
    #[must_use]
    pub const fn from_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1000))
    }

    /// Milliseconds since the epoch.
    #[must_use]
    pub const fn get(self) -> i64 {
        self.0
    }

    /// Whole seconds since the epoch, rounded down.
    #[must_use]
    pub const fn seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// This moment and some seconds (may be negative).
    #[must_use]
    pub const fn plus_seconds(self, seconds: i64) -> Self {
        Self(self.0.saturating_add(seconds.saturating_mul(1000)))
    }

    /// This moment and some milliseconds (may be negative).
    #[must_use]
    pub const fn plus(self, milliseconds: i64) -> Self {
        Self(self.0.saturating_add(milliseconds))
    }

    /// Whole seconds from `earlier` to this moment; negative when `earlier` is later.
    #[must_use]
    pub const fn seconds_since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0).div_euclid(1000)
    }

    /// RFC 3339 in UTC with seconds, for people and for the API.
    #[must_use]
    pub fn rfc3339(self) -> String {
        ::time::OffsetDateTime::from_unix_timestamp(self.seconds())
            .ok()
            .and_then(|t| {
                t.format(&::time::format_description::well_known::Rfc3339)
                    .ok()
            })
            .unwrap_or_else(|| self.0.to_string())
    }

    /// Reads RFC 3339, with any offset and with fractions of a second.
    #[must_use]
    pub fn from_rfc3339(text: &str) -> Option<Self> {
        let time =
            ::time::OffsetDateTime::parse(text, &::time::format_description::well_known::Rfc3339)
                .ok()?;
        let milliseconds = time.unix_timestamp_nanos().checked_div(1_000_000)?;
        i64::try_from(milliseconds).ok().map(Self)
    }

    /// Date and time in India (UTC+05:30) as printed on a receipt: `22 Nov 2026, 14:05`.
    #[must_use]
    pub fn india(self) -> String {
        let format = ::time::macros::format_description!(
            "[day padding:none] [month repr:short] [year], [hour]:[minute]"
        );
        ::time::OffsetDateTime::from_unix_timestamp(self.seconds())
            .ok()
            .and_then(|t| {
                t.to_offset(::time::macros::offset!(+5:30))
                    .format(&format)
                    .ok()
            })
            .unwrap_or_else(|| self.0.to_string())
    }
}

/// A calendar day in India. Bills are counted by the day a shop lived them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(::time::Date);

impl Day {
    /// The day in India (UTC+05:30) that this moment is in.
    #[must_use]
    pub fn of(moment: Millis) -> Self {
        let utc = ::time::OffsetDateTime::from_unix_timestamp(moment.seconds())
            .unwrap_or(::time::OffsetDateTime::UNIX_EPOCH);
        Self(utc.to_offset(::time::macros::offset!(+5:30)).date())
    }

    /// Reads `2026-11-22` and nothing else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let dashes = text.bytes().enumerate().all(|(at, byte)| match at {
            4 | 7 => byte == b'-',
            _ => byte.is_ascii_digit(),
        });
        if text.len() != 10 || !dashes {
            return None;
        }
        let mut parts = text.split('-');
        let year = parts.next()?.parse::<i32>().ok()?;
        let month = ::time::Month::try_from(parts.next()?.parse::<u8>().ok()?).ok()?;
        let day = parts.next()?.parse::<u8>().ok()?;
        ::time::Date::from_calendar_date(year, month, day)
            .ok()
            .map(Self)
    }
}

/// As [`Day::parse`] reads it.
impl std::fmt::Display for Day {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (year, month, day) = self.0.to_calendar_date();
        write!(f, "{year:04}-{:02}-{day:02}", u8::from(month))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_utc_and_indian_time() {
        let t = Millis::from_seconds(1_772_129_215);
        assert_eq!(t.rfc3339(), "2026-02-26T18:06:55Z");
        assert_eq!(t.india(), "26 Feb 2026, 23:36");
    }

    #[test]
    fn reads_times_of_any_offset() {
        for text in [
            "2026-02-26T18:06:55Z",
            "2026-02-26T18:06:55.000Z",
            "2026-02-26T23:36:55.000+05:30",
        ] {
            assert_eq!(
                Millis::from_rfc3339(text),
                Some(Millis::from_seconds(1_772_129_215)),
                "{text}"
            );
        }
        for bad in [
            "",
            "1772129215",
            "2026-02-26 18:06:55",
            "2026-02-30T00:00:00Z",
        ] {
            assert_eq!(Millis::from_rfc3339(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_day_ends_at_midnight_in_india() {
        for (utc, day) in [
            ("2026-11-21T18:29:59Z", "2026-11-21"),
            ("2026-11-21T18:30:00Z", "2026-11-22"),
            ("2026-11-22T18:29:59Z", "2026-11-22"),
            ("2026-12-31T18:30:00Z", "2027-01-01"),
        ] {
            let day_of = Day::of(Millis::from_rfc3339(utc).unwrap());
            assert_eq!(day_of.to_string(), day, "{utc}");
            assert_eq!(Day::parse(day), Some(day_of));
        }
        for bad in [
            "",
            "2026-2-03",
            "2026-02-30",
            "2026-13-01",
            "22-11-2026",
            "2026/11/22",
            "2026-11-22 ",
            "+026-11-22",
            "２０２６-1-2",
        ] {
            assert_eq!(Day::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn seconds_round_down_also_before_the_epoch() {
        assert_eq!(Millis::new(-1).seconds(), -1);
        assert_eq!(Millis::new(1999).seconds(), 1);
    }
}
