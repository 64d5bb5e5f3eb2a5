//! How often a function may be called. Pure: `now` is an argument.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

/// So many calls in such a time, as `"100/s"`, `"5/min"` or `"1/10s"`. As many may come at once after a quiet time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    calls: u32,
    per: Duration,
}

impl Rate {
    /// `calls` in each `per`; both must be more than nothing.
    pub fn new(calls: u32, per: Duration) -> Option<Self> {
        (calls > 0 && !per.is_zero()).then_some(Rate { calls, per })
    }
}

/// A text is no [`Rate`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoRate(String);

impl fmt::Display for NoRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected a rate such as 100/s, found {:?}", self.0)
    }
}

impl std::error::Error for NoRate {}

impl FromStr for Rate {
    type Err = NoRate;

    fn from_str(text: &str) -> Result<Self, NoRate> {
        Rate::read(text).ok_or_else(|| NoRate(text.to_owned()))
    }
}

impl Rate {
    fn read(text: &str) -> Option<Self> {
        let (calls, per) = text.split_once('/')?;
        let per = per.trim();
        // "s" is one second.
        let per =
            if per.starts_with(|first: char| first.is_ascii_digit()) { per.to_owned() } else { format!("1{per}") };
        let per = humantime::parse_duration(&per).ok()?;
        Rate::new(calls.trim().parse().ok()?, per)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.calls, humantime::format_duration(self.per))
    }
}

/// A token bucket: each call takes a token, and tokens come back evenly.
#[derive(Debug)]
pub(crate) struct Bucket {
    tokens: f64,
    since: Instant,
}

impl Bucket {
    /// A full bucket.
    pub(crate) fn full(rate: Rate, now: Instant) -> Self {
        Bucket { tokens: f64::from(rate.calls), since: now }
    }

    /// Takes a token, if there is one.
    pub(crate) fn take(&mut self, rate: Rate, now: Instant) -> bool {
        let most = f64::from(rate.calls);
        let elapsed = now.saturating_duration_since(self.since);
        self.tokens = (self.tokens + elapsed.as_secs_f64() / rate.per.as_secs_f64() * most).min(most);
        self.since = now;
        let is_there = self.tokens >= 1.0;
        if is_there {
            self.tokens -= 1.0;
        }
        is_there
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn rate(text: &str) -> Rate {
        text.parse().expect("a rate")
    }

    #[test]
    fn a_rate_is_a_number_of_calls_in_a_time() {
        assert_eq!(rate("100/s"), Rate { calls: 100, per: Duration::from_secs(1) });
        assert_eq!(rate("5 / min").to_string(), "5/1m");
        assert_eq!(rate("1/10s").to_string(), "1/10s");
        for wrong in ["", "5", "/s", "0/s", "5/", "5/0s", "-1/s", "5/parsec", "5/s/s"] {
            assert!(wrong.parse::<Rate>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn tokens_come_back_evenly_and_never_more_than_the_bucket_holds() {
        let (rate, start) = (rate("2/s"), Instant::now());
        let after = |milliseconds| start + Duration::from_millis(milliseconds);
        let mut bucket = Bucket::full(rate, start);
        let mut take = |milliseconds| bucket.take(rate, after(milliseconds));
        assert_eq!([take(0), take(0), take(0)], [true, true, false]);
        assert_eq!([take(499), take(501), take(502)], [false, true, false]);
        assert_eq!([take(60_000), take(60_000), take(60_000)], [true, true, false]);
    }
}
