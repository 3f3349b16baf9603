//! Timestamps as people and programs write them. Reads no clock.

use std::{fmt, str::FromStr};

use serde::{Serialize, Serializer};
use time::{OffsetDateTime, format_description::well_known};

use super::record::{NotAWord, UtcMicros};

/// A timestamp in RFC 3339 with microseconds and `Z`: `2026-01-02T03:04:05.678901Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rfc3339(pub UtcMicros);

impl fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micro = date_time(self.0).microsecond();
        write_seconds(f, self.0)?;
        write!(f, ".{micro:06}Z")
    }
}

/// The same in whole seconds, for sentences: `2026-01-02T03:04:05Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WholeSeconds(pub UtcMicros);

impl fmt::Display for WholeSeconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_seconds(f, self.0)?;
        f.write_str("Z")
    }
}

fn write_seconds(f: &mut fmt::Formatter<'_>, at: UtcMicros) -> fmt::Result {
    let at = date_time(at);
    let (date, (hour, minute, second)) = (at.date(), at.to_hms());
    let (year, month, day) = (date.year(), u8::from(date.month()), date.day());
    write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
}

fn date_time(at: UtcMicros) -> OffsetDateTime {
    let nanos = i128::from(at.0) * 1_000;
    // Beyond the year 9999 RFC 3339 has no form; only a broken clock gets there.
    OffsetDateTime::from_unix_timestamp_nanos(nanos).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

impl FromStr for Rfc3339 {
    type Err = NotAWord;

    /// Parses any form of RFC 3339; digits finer than a microsecond are cut.
    fn from_str(text: &str) -> Result<Self, NotAWord> {
        let at = OffsetDateTime::parse(text, &well_known::Rfc3339).map_err(|_| NotAWord)?;
        let micros = i64::try_from(at.unix_timestamp_nanos().div_euclid(1_000)).map_err(|_| NotAWord)?;
        Ok(Self(UtcMicros(micros)))
    }
}

impl Serialize for Rfc3339 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_read_back() {
        let moment = Rfc3339(UtcMicros(1_767_323_045_678_901));
        assert_eq!(moment.to_string(), "2026-01-02T03:04:05.678901Z");
        assert_eq!(WholeSeconds(moment.0).to_string(), "2026-01-02T03:04:05Z");
        assert_eq!(moment.to_string().parse(), Ok(moment));
        assert_eq!("2026-01-02T04:04:05.6789019+01:00".parse(), Ok(moment));
        assert_eq!("2026-01-02".parse::<Rfc3339>(), Err(NotAWord));
    }
}
