//! Cron: what is due when. The schedule is pure; `now` is an argument.

mod fields;
mod policies;
mod schedule;
mod table;

pub use policies::{Catchup, OnFailure, Overlap, Policies, Zone};
pub use schedule::{Firing, Schedule, ScheduleFault};
pub use table::{Action, Command, Entry, Reading, Table, TableFault};
