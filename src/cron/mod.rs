//! Cron: what is due when, and what holds for it. All pure but for [`Crontabs`], which reads files; `now` is an argument.

#[cfg(test)]
mod debian;
mod fields;
mod files;
mod lines;
mod plan;
mod policies;
mod schedule;
mod table;

pub use files::{Crontabs, FileFault, Loaded};
pub use lines::with_user;
pub use plan::{Absence, Decision, Due, Plan, missed};
pub use policies::{Catchup, OnFailure, Overlap, Policies, Zone};
pub use schedule::{Firing, Schedule, ScheduleFault};
pub use table::{Action, Command, Entry, Reading, Table, TableFault};
