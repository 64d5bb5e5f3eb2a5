//! The time as HTTP writes it.

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;

/// Now, as HTTP writes it (RFC 9110, 5.6.7), made once a second.
#[derive(Default)]
pub(crate) struct Date {
    second: u64,
    pub(crate) text: String,
}

impl Date {
    /// It is `now`, in milliseconds since 1970.
    pub(crate) fn update(&mut self, now: u64) {
        let second = now / 1000;
        if second != self.second {
            self.second = second;
            let time = Timestamp::from_second(i64::try_from(second).unwrap_or(0)).unwrap_or_default();
            self.text = DateTimePrinter::new().timestamp_to_rfc9110_string(&time).unwrap_or_default();
        }
    }
}
