//! Locks, and what is done with one under which a thread has panicked: it is taken as it is.
//!
//! Nothing of what others wrote runs under a lock of ours. So who panics under one is a thread of ours, and that ends its daemon
//! (`thread::Threads`). What it has left half done is not used for long, and what is in flight is not settled by it; but the daemon has to be
//! closed, asked how it ended and dropped, in a process that may go on. That must not panic in turn.

use std::sync::{LockResult, PoisonError};

/// What is under a lock, whoever has panicked there.
pub(crate) trait Unpoisoned<T> {
    /// It, as it is.
    fn unpoisoned(self) -> T;
}

impl<T> Unpoisoned<T> for LockResult<T> {
    fn unpoisoned(self) -> T {
        self.unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn a_lock_under_which_somebody_has_panicked_opens_as_before() {
        let mutex = Mutex::new(1);
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            *mutex.lock().unpoisoned() += 1;
            let _held = mutex.lock().unpoisoned();
            resume_unwind(Box::new("without a message among those of the tests"));
        }));
        assert!(panicked.is_err());
        assert_eq!(*mutex.lock().unpoisoned(), 2);
    }
}
